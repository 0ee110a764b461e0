"""Jobs: a recipe carried out stage by stage, resumable at any kill."""
