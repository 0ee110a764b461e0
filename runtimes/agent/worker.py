"""The measuring process of the agent: it opens the models and does nothing else while it measures."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from edgefold.runtimes.agent.facts import read_facts
from edgefold.runtimes.agent.measuring import measure_in_turns
from edgefold.runtimes.agent.messages import Channel
from edgefold.runtimes.agent.refusals import Refused


def work() -> None:
    """Read one request from stdin, do it, and say the result; leave when the agent is gone."""
    channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    heard = channel.hear()
    if heard is None:
        return
    threading.Thread(target=_leave_with_the_agent, daemon=True).start()
    try:
        channel.say({"result": measure(heard[0], lambda phase: channel.say({"phase": phase}))})
    except Refused as refused:
        channel.say({"error": {"kind": refused.kind, "message": refused.message}})


def measure(request: dict[str, Any], enter: Callable[[str], None]) -> dict[str, Any]:
    """Measure models in turns on the same inputs; where power is read, idle before and run each alone after.

    Args:
        request: models (label -> path of its model file), inputs, outputs (label -> names), device, threads,
            spinning, energy_s (0 where no power is read), and the procedure's settings.
        enter: told the name of each phase as it begins.

    Raises:
        Refused: a runtime that is not here, or a model that cannot be opened or run.
    """
    onnx_models, arrays = _import_runtime()
    inputs = arrays.decode_arrays(request["inputs"])
    options = {"threads": request["threads"], "spinning": request["spinning"]}
    sessions, load_s = {}, {}
    before = read_facts()
    for label, path in request["models"].items():
        started = time.perf_counter()
        sessions[label] = onnx_models.open_onnx(path, label, device=request["device"], **options)
        load_s[label] = time.perf_counter() - started
    runs = {label: partial(session.run, request["outputs"][label], inputs) for label, session in sessions.items()}
    energy_s = request["energy_s"]
    enter("idle")
    time.sleep(energy_s)
    enter("turns")
    try:
        records = measure_in_turns(runs, **request["procedure"])
    except Exception as error:  # onnxruntime's own classes share no base
        shapes = {name: value.shape for name, value in inputs.items()}
        raise Refused("input", f"A model does not run on {shapes}: {onnx_models.first_line(error)}") from error
    windows = _run_alone(runs, energy_s, enter) if energy_s else {}
    enter("end")
    after = read_facts()
    return {
        "windows": windows,
        "records": {label: asdict(record) for label, record in records.items()},
        "load_s": load_s,
        "settings": {label: onnx_models.describe_onnx(session, **options) for label, session in sessions.items()},
        "before": before,
        "after": after,
    }


def _run_alone(
    runs: Mapping[str, Callable[[], object]], seconds: float, enter: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Each model back to back for so long: how often it ran, and how long that really took."""
    windows = {}
    for label, run in runs.items():
        enter(f"load {label}")
        started, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            run()
            count += 1
        windows[label] = {"runs": count, "seconds": elapsed}
    return windows


def _import_runtime() -> tuple[Any, Any]:
    try:
        from edgefold.runtimes.agent import arrays, onnx_models
    except (ImportError, OSError) as error:  # OSError: a library of the runtime's own is missing
        raise Refused(
            "device",
            f"{sys.executable} on the device cannot import onnxruntime ({error}); install it there with: "
            f"{sys.executable} -m pip install onnxruntime. Where it is in an environment of its own, name that "
            "environment's interpreter in the address, as in ssh://user@host/home/user/venv/bin/python3.",
        ) from error
    return onnx_models, arrays


def _leave_with_the_agent() -> None:
    """The agent holds the other end of stdin; it ends with it, and so must this process."""
    sys.stdin.buffer.read()
    os._exit(1)
