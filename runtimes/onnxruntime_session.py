"""A session on ONNX Runtime: CPU, or CUDA where it is present."""

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import InputError
from edgefold.runtimes.agent.onnx_models import describe_onnx, first_line, open_onnx
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.host_errors import error_of
from edgefold.runtimes.local_sessions import LocalSession
from edgefold.runtimes.sessions import Arrays


class OnnxRuntimeSession(LocalSession):
    """See `open_session`."""

    runtime = "onnxruntime"

    def __init__(self, artifact: Artifact, *, device: str, threads: int, spinning: bool) -> None:
        if threads < 1:
            raise InputError(f"threads={threads} must be at least 1.")
        super().__init__(artifact, device)
        self._names = [spec.name for spec in self.outputs]
        started = time.perf_counter()
        try:
            self._session: Any = open_onnx(
                str(artifact.model_path), self.label, device=device, threads=threads, spinning=spinning
            )
        except Refused as refused:
            raise error_of(refused.kind, refused.message) from refused.__cause__
        self.load_s = time.perf_counter() - started
        self._settings = describe_onnx(self._session, threads=threads, spinning=spinning)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._session is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        try:
            return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        except Exception as error:  # onnxruntime's own classes share no base
            shapes = {name: value.shape for name, value in feeds.items()}
            raise InputError(f"{self.label} does not run on {shapes}: {first_line(error)}") from error

    def close(self) -> None:
        self._session = None
