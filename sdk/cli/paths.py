"""Paths given on the command line, checked before anything heavy is imported."""

import zipfile
from pathlib import Path

from edgefold.errors import InputError
from edgefold.staging import check_place


def check_model_folder(path: Path, role: str = "model") -> Path:
    """The folder of a Hugging Face checkpoint or of a student.

    Raises:
        InputError: there is no such folder, or it holds neither.
    """
    _check_folder(path, role)
    if (path / "artifact.json").is_file():
        raise InputError(f"The {role} {path} is an exported artifact; give the folder it was exported from.")
    if not any((path / name).is_file() for name in ("config.json", "edgefold.json")):
        raise InputError(f"The {role} {path} has no config.json; give the folder of a checkpoint or of a student.")
    return path


def check_artifact(path: Path, role: str = "artifact") -> Path:
    """The folder that `edgefold export` wrote, or the file that `edgefold pack` made of it.

    Raises:
        InputError: there is neither, or it is no artifact.
    """
    if path.is_file():
        if not is_packed(path):
            raise InputError(
                f"The {role} {path} is a file that `edgefold pack` did not write, or is cut off; copy it again, or "
                "give a folder."
            )
        return path
    _check_folder(path, role)
    if not (path / "artifact.json").is_file():
        raise InputError(f"The {role} {path} has no artifact.json; give the folder that `edgefold export` wrote.")
    return path


def is_packed(path: Path) -> bool:
    """Whether that is a file with an artifact in it; only its table of contents is read."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "artifact.json" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def check_file(path: Path, role: str) -> Path:
    """An existing file.

    Raises:
        InputError: there is none.
    """
    if not path.is_file():
        raise InputError(f"The {role} {path} {'is a folder' if path.is_dir() else 'does not exist'}; give a file.")
    return path


def check_output_file(path: Path) -> Path:
    """A file to be written; one that stands there is replaced.

    Raises:
        InputError: it is a folder, or cannot be made there.
    """
    if path.is_dir():
        raise InputError(f"The output {path} is a folder; give the name of a file.")
    check_place(path)
    return path


def _check_folder(path: Path, role: str) -> None:
    if not path.is_dir():
        raise InputError(f"The {role} {path} {'is a file' if path.exists() else 'does not exist'}; give a folder.")
