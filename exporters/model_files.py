"""load_model: an ONNX file with its weights, refused where they lie outside its folder or are not all there."""

from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from edgefold.errors import InputError

AGAIN = "export the student again"


def load_model(path: Path) -> onnx.ModelProto:
    """The model at `path`, weights beside it included.

    Raises:
        InputError: no ONNX model, or external data that is missing, too short, or outside the folder of the model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's own class, whose module has no types
        raise InputError(f"{path} is no ONNX model, or is cut off; {AGAIN}.") from None
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            _check_external(path, tensor)
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"The weights beside {path} cannot be read: {str(error).splitlines()[0]}; {AGAIN}.") from error
    return model


def _check_external(path: Path, tensor: onnx.TensorProto) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = path.parent / location
    if not location or not file.resolve().is_relative_to(path.parent.resolve()):
        raise InputError(
            f"{path} has the weight {tensor.name} in {location!r}, outside its folder; do not use this model."
        )
    if not file.is_file():
        raise InputError(f"{path} has the weight {tensor.name} in {location}, which is missing; copy it, or {AGAIN}.")
    end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    if file.stat().st_size < end:
        raise InputError(
            f"{file} ends after {file.stat().st_size} bytes, where {tensor.name} needs {end}; it was cut off: copy it "
            f"again, or {AGAIN}."
        )
