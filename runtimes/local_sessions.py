"""What every session on this machine takes from its artifact, and that leaving its block closes it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.runtimes.sessions import Arrays, FeedChecks

Own = TypeVar("Own", bound="LocalSession")


class LocalSession(ABC):
    """A `Session` but for how it is opened, run and closed."""

    def __init__(self, artifact: Artifact, device: str) -> None:
        self.label = artifact.folder.name
        self.device = device
        self.precision = artifact.precision
        self.model_sha256 = artifact.files[artifact.model_file].sha256
        self.inputs, self.outputs = artifact.inputs, artifact.outputs
        self.generation = artifact.generation
        self._check = FeedChecks(self.inputs)
        self._settings: dict[str, Any] = {}
        self.gpu_s: float | None = None
        """Seconds of the last run's kernels alone, by two CUDA events; None where nothing tells it."""

    @abstractmethod
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the runtime holds."""

    def settings(self) -> dict[str, Any]:
        return self._settings

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
