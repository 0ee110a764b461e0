"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

ShowProgress = Callable[[str, int, int, Mapping[str, float]], None]
"""progress(stage, done, total, figures of the moment)"""
SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown_progress() -> Iterator[ShowProgress]:
    """Yield a callable that shows how far each stage has come."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description:<12}"), TextColumn("{task.fields[figures]}")
    columns = (text[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True), text[1])
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, figures="")
            bars.update(tasks[stage], completed=done, total=total, figures=format_figures(figures))

        yield show


class PlainLines:
    """A line when a stage begins and ends, and every few seconds between."""

    def __init__(self) -> None:
        self._stage = ""
        self._last_s = 0.0

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        if stage == self._stage and done != total and now - self._last_s < SECONDS_BETWEEN_LINES:
            return
        self._stage, self._last_s = stage, now
        print(f"{stage}: {done} of {total} {format_figures(figures)}".rstrip(), file=sys.stderr, flush=True)


def format_figures(figures: Mapping[str, float]) -> str:
    """{"eval_accuracy": .84615} -> "eval accuracy 0.846" """
    return "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
