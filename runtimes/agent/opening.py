"""Opening a model on a device, in whichever runtime was asked for; each is imported only then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from edgefold.runtimes.agent.refusals import Refused

MODULES = {"onnxruntime": "onnx_models", "openvino": "openvino_models"}
"""Runtime -> the module beside this one that opens models in it."""

USUAL = "onnxruntime"


@dataclass(frozen=True)
class OpenedModel:
    """A model that runs."""

    run: Callable[[Mapping[str, Any]], Sequence[Any]]
    """Arrays by name -> the outputs, in the order in which they were asked for; raises Refused."""
    load_s: float
    settings: dict[str, Any]
    """All that decides about speed."""


def import_runtime(runtime: str) -> Any:
    """What opens models in that runtime.

    Raises:
        Refused: it cannot be imported here.
    """
    try:
        return import_module(f"{__name__.rpartition('.')[0]}.{MODULES[runtime]}")
    except (ImportError, OSError) as error:  # OSError: a library of the runtime's own is missing
        other = "" if runtime == USUAL else f", or choose the runtime {USUAL}"
        raise Refused(
            "device",
            f"{sys.executable} on the device cannot import {runtime} ({error}); install it there with: "
            f"{sys.executable} -m pip install {runtime}{other}. Where it is in an environment of its own, name that "
            "environment's interpreter in the address, as in ssh://user@host/home/user/venv/bin/python3.",
        ) from error


def open_model(label: str, model: Mapping[str, Any], *, device: str, threads: int, spinning: bool) -> OpenedModel:
    """Open one.

    Args:
        model: path, runtime, precision, outputs (names).

    Raises:
        Refused: a runtime that is not here, a model that it does not open, or no thread to run it in.
    """
    if threads < 1:
        raise Refused("input", f"threads={threads} must be at least 1.")
    module = import_runtime(model["runtime"])
    options: dict[str, Any] = {"device": device, "threads": threads, "spinning": spinning}
    started = time.perf_counter()
    if model["runtime"] == "openvino":
        compiled = module.open_openvino(model["path"], label, precision=model["precision"], **options)
        run = partial(module.infer, compiled.create_infer_request(), model["outputs"])
        say, describe = module.last_line, partial(module.describe_openvino, compiled)
    else:
        session = module.open_onnx(model["path"], label, **options)
        run = partial(session.run, model["outputs"])
        say, describe = module.first_line, partial(module.describe_onnx, session, threads=threads, spinning=spinning)
    load_s = time.perf_counter() - started
    return OpenedModel(_explained(run, label, say), load_s, describe())


def _explained(
    run: Callable[[Mapping[str, Any]], Sequence[Any]], label: str, say: Callable[[Exception], str]
) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """The run, whose failure is told with the shapes that it was given."""

    def run_or_refuse(feeds: Mapping[str, Any]) -> Sequence[Any]:
        try:
            return run(feeds)
        except Exception as error:  # onnxruntime's own classes share no base
            shapes = {name: value.shape for name, value in feeds.items()}
            raise Refused("input", f"{label} does not run on {shapes}: {say(error)}") from error

    return run_or_refuse
