"""register_edgefold: edgefold among the backends of transformers.exporters, which has backends from version 5.23 on.

register_edgefold()
exported = AutoHfExporter.from_config({"export_format": "edgefold"}).export(model, inputs, {"precision": "fp16"})
exported(**inputs)                          # the model's own outputs, computed by our session
exported.save_pretrained("out/student")     # an artifact, which ExportedModel.from_pretrained opens as well
"""

from importlib import import_module
from importlib.metadata import version

from edgefold.errors import InputError

FIRST = "5.23"


def register_edgefold() -> None:
    """Let transformers find the format "edgefold". A second call changes nothing.

    Raises:
        InputError: this transformers knows no backends of others.
    """
    try:
        register = import_module("transformers.exporters.auto").register_backend
    except (ImportError, AttributeError):
        raise InputError(
            f"transformers {version('transformers')} has no register_backend in transformers.exporters; it is there "
            f"from {FIRST} on: pip install 'transformers>={FIRST},<6'. Or call edgefold.exporters.export_onnx."
        ) from None
    from edgefold.integrations.session_runner import SessionRunner
    from edgefold.integrations.transformers_exporter import FORMAT, EdgefoldExporter

    if FORMAT not in import_module("transformers.exporters.auto").EXPORT_BACKENDS:
        register(EdgefoldExporter, SessionRunner)
