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

from edgefold.runtimes.agent.concurrent_runs import measure_concurrently
from edgefold.runtimes.agent.core_binding import bind, check_cores
from edgefold.runtimes.agent.facts import read_facts
from edgefold.runtimes.agent.measuring import measure_in_turns
from edgefold.runtimes.agent.memory import weigh
from edgefold.runtimes.agent.messages import Channel
from edgefold.runtimes.agent.opening import OpenedModel, import_runtime, open_model
from edgefold.runtimes.agent.refusals import Refused

LAST = ("measure", "weigh")
"""Jobs after which the process ends, so that the next has one that has done nothing before."""


def work() -> None:
    """Do what the agent asks for until it is gone."""
    channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    kept = KeptModel()
    jobs: dict[str, Callable[[dict[str, Any]], Any]] = {
        "measure": lambda request: measure(request, lambda phase: channel.say({"phase": phase})),
        "weigh": weigh_model,
        "open": kept.open,
        "run": kept.run,
    }
    while (heard := channel.hear()) is not None:
        job = heard[0]["job"]
        if job in LAST:  # the agent's end must be noticed while it is done
            threading.Thread(target=_leave_with_the_agent, daemon=True).start()
        try:
            channel.say({"result": jobs[job](heard[0])})
        except Refused as refused:
            channel.say({"error": {"kind": refused.kind, "message": refused.message}})
        if job in LAST:
            return


class KeptModel:
    """A model that stays open from one run to the next."""

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Open it.

        Args:
            request: label, model and the options of `open_model`.
        """
        self._opened = open_model(request["label"], request["model"], **_options(request))
        self._outputs = request["model"]["outputs"]
        return {"load_s": self._opened.load_s, "settings": self._opened.settings}

    def run(self, request: dict[str, Any]) -> dict[str, str]:
        """Outputs for inputs, both as `encode_arrays` makes them."""
        from edgefold.runtimes.agent.arrays import decode_arrays, encode_arrays

        return encode_arrays(dict(zip(self._outputs, self._opened.run(decode_arrays(request["inputs"])))))


def weigh_model(request: dict[str, Any]) -> dict[str, int] | None:
    """The memory of one model, in this process that has done nothing else.

    Args:
        request: label, model and the options of `open_model`, inputs, cores.

    Raises:
        Refused: as `measure`.
    """
    _stay_on(request["cores"])
    import_runtime(request["model"]["runtime"])
    inputs = _inputs(request)
    return weigh(
        lambda: open_model(request["label"], request["model"], **_options(request)), lambda opened: opened.run(inputs)
    )


def measure(request: dict[str, Any], enter: Callable[[str], None]) -> dict[str, Any]:
    """Measure models in turns on the same inputs; where power is read, idle before and run each alone after.

    Args:
        request: models (label -> what `open_model` takes) and its options, inputs, cores ([] for all), concurrency
            (copies of each model that run at the same time), energy_s (0 where no power is read), and the procedure's
            settings.
        enter: told the name of each phase as it begins.

    Raises:
        Refused: a runtime or cores that are not here, or a model that cannot be opened or run.
    """
    _stay_on(request["cores"])
    for model in request["models"].values():
        import_runtime(model["runtime"])
    inputs = _inputs(request)
    before = read_facts()
    opened: dict[str, list[OpenedModel]] = {
        label: [open_model(label, model, **_options(request)) for _ in range(request["concurrency"])]
        for label, model in request["models"].items()
    }
    runs = {label: [partial(copy.run, inputs) for copy in copies] for label, copies in opened.items()}
    energy_s = request["energy_s"]
    enter("idle")
    time.sleep(energy_s)
    enter("turns")
    first = {label: copies[0] for label, copies in runs.items()}
    if request["concurrency"] == 1:
        records = measure_in_turns(first, **request["procedure"])
    else:
        timing = {name: value for name, value in request["procedure"].items() if name != "block_s"}
        records = measure_concurrently(runs, **timing)
    windows = _run_alone(first, energy_s, enter) if energy_s else {}
    enter("end")
    return {
        "windows": windows,
        "records": {label: asdict(record) for label, record in records.items()},
        "load_s": {label: copies[0].load_s for label, copies in opened.items()},
        "settings": {label: copies[0].settings for label, copies in opened.items()},
        "before": before,
        "after": read_facts(),
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


def _stay_on(cores: list[int]) -> None:
    """Before a runtime starts threads, which inherit it."""
    if cores:
        check_cores(cores)
        bind(cores)


def _options(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: request[name] for name in ("device", "threads", "spinning")}


def _inputs(request: Mapping[str, Any]) -> dict[str, Any]:
    """Imported late: a device without numpy is told so as one without the runtime is."""
    from edgefold.runtimes.agent.arrays import decode_arrays

    return decode_arrays(request["inputs"])


def _leave_with_the_agent() -> None:
    """The agent holds the other end of stdin; it ends with it, and so must this process."""
    sys.stdin.buffer.read()
    os._exit(1)
