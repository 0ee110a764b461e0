"""quiet, and the place in forward where a trace ended: what torch.export tells its own developers is not for users."""

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
