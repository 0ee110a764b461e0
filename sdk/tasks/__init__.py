"""What models are asked to do: one task a file, and the table that a recipe's `task` is looked up in."""
