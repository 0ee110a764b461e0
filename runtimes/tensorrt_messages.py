"""What TensorRT says when it refuses: it keeps the first logger of a process for all that follows, so there is one."""

from functools import cache
from typing import Any


class Messages:
    """A logger of TensorRT's, and the errors that it was told."""

    def __init__(self, logger: Any, told: list[str]) -> None:
        self.logger = logger
        self._told = told

    def take(self) -> str:
        """The first error since this was last asked for; empty where there was none."""
        first = next(iter(self._told), "")
        self._told.clear()
        return first


@cache
def listen(trt: Any) -> Messages:
    """The process's messages of that TensorRT module; an older logger of the same module may keep them to itself."""
    told: list[str] = []

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                told.append(message.strip())

    return Messages(Listener(), told)
