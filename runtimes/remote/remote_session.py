"""A session on a device over SSH: arrays go there, outputs come back."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import InputError
from edgefold.runtimes.agent.arrays import decode_arrays, encode_arrays
from edgefold.runtimes.remote.addresses import parse_address
from edgefold.runtimes.remote.connections import Connection
from edgefold.runtimes.remote.measurement import WAIT_S
from edgefold.runtimes.remote.uploading import send_model
from edgefold.runtimes.sessions import Arrays, check_feeds

LIMIT_S = 600.0
"""The longest that opening a model, or one run, may take."""


class RemoteSession:
    """See `open_session`; the device is this session's alone until it is closed."""

    device = "cpu"

    def __init__(self, artifact: Artifact, *, device: str, runtime: str, threads: int, spinning: bool) -> None:
        self.label = artifact.folder.name
        self.runtime = runtime
        self.address = str(parse_address(device))
        self.precision = artifact.precision
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self.model_sha256 = artifact.files[artifact.model_file].sha256
        self._connection: Connection | None = Connection(parse_address(device))
        try:
            opened = self._open(self._connection, artifact, threads, spinning)
        except BaseException:
            self.close()
            raise
        self.load_s: float = opened["load_s"]
        self._settings: dict[str, Any] = opened["settings"]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._connection is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        check_feeds(self.inputs, feeds)
        found = self._connection.ask(
            "run", doing=f"running {self.label}", inputs=encode_arrays(feeds), limit_s=LIMIT_S, within_s=LIMIT_S + 60
        )
        return decode_arrays(found)

    def settings(self) -> dict[str, Any]:
        return self._settings

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "RemoteSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, connection: Connection, artifact: Artifact, threads: int, spinning: bool) -> Any:
        connection.ask("lock", doing="waiting for the device", wait_s=WAIT_S, within_s=WAIT_S + 60)
        return connection.ask(
            "open",
            doing=f"opening {self.label}",
            model=send_model(connection, artifact, self.runtime),
            label=self.label,
            device=self.device,
            threads=threads,
            spinning=spinning,
            limit_s=LIMIT_S,
            within_s=LIMIT_S + 60,
        )
