"""What every section of a recipe has in common: immutable, no unknown keys, paths that start at the recipe's folder."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

Count = Annotated[int, Field(strict=True, ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Part of a recipe: immutable, and no key but the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def resolve_path(value: Path, info: ValidationInfo) -> Path:
    """The absolute path; a relative one starts at the recipe's folder, which the validation's context names."""
    folder = info.context["folder"] if info.context else Path.cwd()
    return Path(os.path.abspath(Path(folder, value.expanduser())))


RecipePath = Annotated[Path, AfterValidator(resolve_path)]
