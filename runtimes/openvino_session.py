"""A session on OpenVINO's CPU plugin, in the precision that the artifact says and no other."""

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact, TensorSpec
from edgefold.errors import InputError
from edgefold.runtimes.agent.openvino_models import describe_openvino, infer, last_line, open_openvino
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.host_errors import error_of
from edgefold.runtimes.local_sessions import LocalSession
from edgefold.runtimes.sessions import Arrays


class OpenVinoSession(LocalSession):
    """See `open_session`."""

    runtime = "openvino"

    def __init__(self, artifact: Artifact, *, device: str, threads: int, spinning: bool) -> None:
        if threads < 1:
            raise InputError(f"threads={threads} must be at least 1.")
        super().__init__(artifact, device)
        self._names = [spec.name for spec in self.outputs]
        options: Any = {"precision": artifact.precision, "device": device, "threads": threads, "spinning": spinning}
        started = time.perf_counter()
        try:
            self._compiled: Any = open_openvino(str(artifact.model_path), self.label, **options)
        except Refused as refused:
            raise error_of(refused.kind, refused.message) from refused.__cause__
        self._request: Any = self._compiled.create_infer_request()
        self.load_s = time.perf_counter() - started
        try:
            _check_specs(self.label, artifact.inputs, self._compiled.inputs, "input")
            _check_specs(self.label, artifact.outputs, self._compiled.outputs, "output")
        except BaseException:
            self.close()
            raise
        self._settings = describe_openvino(self._compiled)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._request is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        try:
            return dict(zip(self._names, infer(self._request, self._names, feeds), strict=True))
        except RuntimeError as error:
            shapes = {name: value.shape for name, value in feeds.items()}
            raise InputError(f"{self.label} does not run on {shapes}: {last_line(error)}") from error

    def close(self) -> None:
        self._request = self._compiled = None


def _check_specs(label: str, specs: tuple[TensorSpec, ...], ports: Any, kind: str) -> None:
    """The graph's own names and types against those of artifact.json."""
    types = {name: port.element_type.to_dtype().name for port in ports for name in port.names}
    for spec in specs:
        if types.get(spec.name) != spec.dtype:
            raise InputError(
                f"artifact.json says that {label} has the {kind} {spec.name} of {spec.dtype}; OpenVINO finds "
                f"{types.get(spec.name, f'only {sorted(types)}')}. Export the student again."
            )
