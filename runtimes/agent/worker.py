"""The agent's working process: it opens models and runs them, and does nothing else while it measures."""

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
    """Do what the agent asks for until it is gone."""
    channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    opened = OpenedModel()
    jobs: dict[str, Callable[[dict[str, Any]], Any]] = {
        "measure": lambda request: measure(request, lambda phase: channel.say({"phase": phase})),
        "open": opened.open,
        "run": opened.run,
    }
    while (heard := channel.hear()) is not None:
        job = heard[0]["job"]
        if job == "measure":  # the last request; the agent's end must be noticed while it is done
            threading.Thread(target=_leave_with_the_agent, daemon=True).start()
        try:
            channel.say({"result": jobs[job](heard[0])})
        except Refused as refused:
            channel.say({"error": {"kind": refused.kind, "message": refused.message}})
        if job == "measure":
            return


class OpenedModel:
    """A model that stays open from one run to the next."""

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Open it.

        Args:
            request: path, label, outputs (names), device, threads, spinning.
        """
        self._models, self._arrays = _import_runtime()
        options = {"threads": request["threads"], "spinning": request["spinning"]}
        started = time.perf_counter()
        self._session = self._models.open_onnx(request["path"], request["label"], device=request["device"], **options)
        load_s = time.perf_counter() - started
        self._label, self._outputs = request["label"], request["outputs"]
        return {"load_s": load_s, "settings": self._models.describe_onnx(self._session, **options)}

    def run(self, request: dict[str, Any]) -> dict[str, str]:
        """Outputs for inputs, both as `encode_arrays` makes them."""
        inputs = self._arrays.decode_arrays(request["inputs"])
        try:
            found = self._session.run(self._outputs, inputs)
        except Exception as error:  # onnxruntime's own classes share no base
            shapes = {name: value.shape for name, value in inputs.items()}
            message = f"{self._label} does not run on {shapes}: {self._models.first_line(error)}"
            raise Refused("input", message) from error
        outputs: dict[str, str] = self._arrays.encode_arrays(dict(zip(self._outputs, found)))
        return outputs


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
