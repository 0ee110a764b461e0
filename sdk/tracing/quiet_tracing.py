"""What torch.export tells its own developers, kept from users: its prints, its steps; and where in forward it ended."""

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

LOGGERS = ("torch.onnx", "onnxscript", "torch.export", "torch.fx", "transformers.exporters", "onnx_ir")
LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent)


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's and the exporters' own log lines below errors, and without what they print."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_cause(error: BaseException) -> str:
    """The first line of what an exporter's error came of, which says more than the step that it was in."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def raised_in(error: BaseException) -> str:
    """The innermost frame that is neither of torch nor ours, as " (file.py:12: its line)"; nothing if there is none."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(library) for library in LIBRARIES)
    ]
    if not frames or not frames[-1].line:
        return ""
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line})"
