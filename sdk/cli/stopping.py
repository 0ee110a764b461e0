"""SIGTERM and SIGHUP end a command as Ctrl-C does: through its `finally` blocks, so that nothing half-written stays."""

import signal
from types import FrameType
from typing import NoReturn


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end; its exit status is 128 + number, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def heed_signals() -> None:
    """Raise `Stopped` on signals that would kill this process at once; one that is ignored (nohup) stays ignored."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)
