"""`--layout transformers.js`: what cannot be laid out so is refused before anything is exported."""

from pathlib import Path

from edgefold.artifacts import MANIFEST
from edgefold.cli.paths import check_model_folder
from edgefold.errors import InputError


def check_layout(kind: str, student: Path) -> None:
    """
    Raises:
        InputError: an engine, an artifact instead of a model, or a model without a configuration.
    """
    if kind != "onnx":
        raise InputError(f"transformers.js opens ONNX; --layout transformers.js does not go with --format {kind}.")
    if (student / MANIFEST).is_file():
        raise InputError(
            f"{student} is an artifact; in Python edgefold.exporters.write_transformers_js([{str(student)!r}], out) "
            "lays it out, several precisions of a model together."
        )
    if not (check_model_folder(student, "student") / "config.json").is_file():
        raise InputError(f"{student} has no config.json, by which transformers.js knows a model; give a transformer.")
