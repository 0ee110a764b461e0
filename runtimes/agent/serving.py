"""The agent: it answers requests until its host is gone, and leaves nothing running behind."""

from __future__ import annotations

import hashlib
import os
import platform
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from edgefold.runtimes.agent.facts import read_facts
from edgefold.runtimes.agent.locking import lock_device
from edgefold.runtimes.agent.messages import BEAT_S, PROTOCOL, Channel
from edgefold.runtimes.agent.packing import unpack
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.agent.sampling import Sampler, sampling
from edgefold.runtimes.agent.store import Store
from edgefold.runtimes.agent.supervising import Supervisor
from edgefold.runtimes.agent.worker import work

IDLE_LIMIT_S = 300.0
"""A host that has asked for nothing for so long is gone, though the connection may not have noticed."""


def main(source: bytes, version: str) -> None:
    """Run as the agent, or as its measuring process.

    Args:
        source: this program's own text.
        version: of the edgefold that sent it.
    """
    if sys.argv[1:] == ["work"]:
        work()
        return
    Agent(source, Channel(sys.stdin.buffer, sys.stdout.buffer), _root()).serve(version)


def _root() -> Path:
    """The agent's folder on the device."""
    chosen = os.environ.get("EDGEFOLD_DEVICE_STORE")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(chosen or os.path.join(cache, "edgefold", "device"))


class Agent:
    """One client's requests, in the order in which they come."""

    def __init__(self, source: bytes, channel: Channel, root: Path) -> None:
        self._source, self._channel, self._root = source, channel, root
        self._store = Store(root / "store")
        self._run = root / "runs" / str(os.getpid())
        self._requests: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
        self._supervisor: Supervisor | None = None
        self._sampler: Sampler | None = None

    def serve(self, version: str) -> None:
        """Answer until the host closes its end, is silent for too long, or a signal ends it."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._leave())
        hello = {
            "protocol": PROTOCOL,
            "version": version,
            "sha256": hashlib.sha256(self._source).hexdigest(),
            "python": platform.python_version(),
            "pid": os.getpid(),
        }
        self._channel.say({"hello": hello})
        for task in (self._listen, self._beat):
            threading.Thread(target=task, daemon=True).start()
        while True:
            try:
                request, payload = self._requests.get(timeout=IDLE_LIMIT_S)
            except queue.Empty:
                self._leave()
            self._channel.say(self._answer(request, payload))

    def _answer(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        name = request.get("command")
        free: dict[str, Callable[[], Any]] = {"probe": read_facts, "lock": lambda: self._take_lock(request["wait_s"])}
        locked: dict[str, Callable[[Supervisor], Any]] = {
            "look_up": lambda supervisor: self._store.look_up(request["sha256"]),
            "put": lambda supervisor: self._store.put(
                request["sha256"], request["offset"], unpack(payload, request["unpacked_bytes"])
            ),
            "finish": lambda supervisor: self._store.finish(request["sha256"]),
            "measure": lambda supervisor: self._measure(supervisor, request),
            "weigh": lambda supervisor: self._weigh(supervisor, request),
            "open": lambda supervisor: self._open(supervisor, request),
            "run": lambda supervisor: supervisor.ask({**request, "job": "run"}, request["limit_s"]),
            "clear": lambda supervisor: self._store.trim(0),
        }
        try:
            if name in free:
                return {"result": free[name]()}
            if name not in locked:
                raise Refused("failed", f"The agent knows no {name!r}; it knows {', '.join([*free, *locked])}.")
            if self._supervisor is None:
                raise Refused("failed", f"{name} needs the device's lock; ask for lock first.")
            return {"result": locked[name](self._supervisor)}
        except Refused as refused:
            return {"error": {"kind": refused.kind, "message": refused.message}}
        except OSError as error:
            return {"error": {"kind": "device", "message": f"The agent met {error}; mend that on the device."}}
        except Exception as error:
            return {"error": {"kind": "failed", "message": f"The agent failed in {name}: {error!r}"}}

    def _take_lock(self, wait_s: float) -> None:
        """Only one client gets on from here; what dead ones left is removed."""
        self._supervisor = Supervisor(lock_device(self._root / "lock", wait_s))
        shutil.rmtree(self._root / "runs", ignore_errors=True)
        self._store.trim()

    def _measure(self, supervisor: Supervisor, request: dict[str, Any]) -> Any:
        """Let a process of its own measure, so that it alone has its memory, its CPU time and its crashes.

        Args:
            request: models (label -> {files: name -> SHA-256, model_file, runtime, precision, outputs}), limit_s,
                energy_s (of each window in which the board's power is read, where it can be), and what
                `worker.measure` takes.
        """
        try:
            models = self._start(supervisor, request["models"])
            with sampling(self._channel.say, wanted=request["energy_s"] > 0) as self._sampler:
                energy_s = request["energy_s"] if self._sampler else 0.0
                work = {**request, "job": "measure", "models": models, "energy_s": energy_s}
                return supervisor.ask(work, request["limit_s"], self._enter)
        finally:
            self._end(supervisor)

    def _weigh(self, supervisor: Supervisor, request: dict[str, Any]) -> Any:
        """Let a process of its own open and run one model, and tell its memory; see `worker.weigh_model`."""
        try:
            models = self._start(supervisor, {"model": request["model"]})
            return supervisor.ask({**request, "job": "weigh", **models}, request["limit_s"])
        finally:
            self._end(supervisor)

    def _end(self, supervisor: Supervisor) -> None:
        supervisor.kill()
        shutil.rmtree(self._run, ignore_errors=True)

    def _open(self, supervisor: Supervisor, request: dict[str, Any]) -> Any:
        """Open one model for `run`; it stays open until the agent leaves, or another is opened or measured."""
        supervisor.kill()
        models = self._start(supervisor, {"model": request["model"]})
        return supervisor.ask({**request, "job": "open", **models}, request["limit_s"])

    def _start(self, supervisor: Supervisor, wanted: dict[str, Any]) -> dict[str, Any]:
        """Lay out models and start the process that opens them; each with the path of its model file."""
        models = {}
        for number, (label, model) in enumerate(wanted.items()):
            folder = self._run / str(number)
            self._store.assemble(model["files"], folder)
            models[label] = {**model, "path": str(folder / model["model_file"])}
        program = self._run / "agent.py"
        program.write_bytes(self._source)
        supervisor.start(program)
        return models

    def _enter(self, phase: str) -> None:
        if self._sampler is not None:
            self._sampler.phase = phase

    def _listen(self) -> None:
        while True:
            try:
                heard = self._channel.hear()
            except ValueError:
                heard = None  # not our protocol: whoever speaks here is not our host
            if heard is None:
                self._leave()
            else:
                self._requests.put(heard)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            try:
                self._channel.say({"beat": time.monotonic()})
            except OSError:
                self._leave()

    def _leave(self) -> NoReturn:
        """End the processes, remove this run's folder, and be gone; the lock goes with the process."""
        for child in (self._supervisor, self._sampler):
            if child is not None:
                child.kill()
        shutil.rmtree(self._run, ignore_errors=True)
        os._exit(0)
