"""Sending an artifact's model to a device: every file once, in pieces, packed, resumed and verified."""

from typing import Any

from edgefold.artifacts import Artifact
from edgefold.runtimes.agent.packing import pack
from edgefold.runtimes.remote.connections import Connection

PIECE_BYTES = 4 << 20


def send_model(connection: Connection, artifact: Artifact, runtime: str) -> dict[str, Any]:
    """See to it that the model file and its external data are on the device; what the agent opens them by.

    Raises:
        DeviceError: the disk is full, a file arrived corrupt, or the connection broke.
    """
    files = {name: artifact.files[name] for name in artifact.model_files}
    for name, record in files.items():
        doing = f"sending {name}"
        here = connection.ask("look_up", doing=doing, sha256=record.sha256, within_s=600)
        if here is None:
            continue
        with (artifact.folder / name).open("rb") as file:
            file.seek(here)
            while here < record.size_bytes and (piece := file.read(PIECE_BYTES)):
                packed, size = pack(piece)
                asked = {"sha256": record.sha256, "offset": here, "unpacked_bytes": size}
                here = connection.ask("put", packed, doing=doing, within_s=300, **asked)
        connection.ask("finish", doing=doing, sha256=record.sha256, within_s=600)
    return {
        "files": {name: record.sha256 for name, record in files.items()},
        "model_file": artifact.model_file,
        "runtime": runtime,
        "precision": artifact.precision,
        "outputs": [spec.name for spec in artifact.outputs],
    }
