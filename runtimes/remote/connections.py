"""A conversation with the agent on a device, over the system's own ssh."""

import json
import os
import queue
import shlex
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from edgefold.errors import DeviceError
from edgefold.runtimes.agent.messages import PROTOCOL, Channel
from edgefold.runtimes.host_errors import error_of
from edgefold.runtimes.remote.addresses import Address
from edgefold.runtimes.remote.bundling import STARTER, Bundle, bundle_agent
from edgefold.runtimes.remote.ssh_failures import explain_break, explain_start

SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlPath=none",  # one connection serves the whole run, and ends with it
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "RequestTTY=no",
)
HELLO_WITHIN_S = 60.0
SILENT_AFTER_S = 60.0
"""The agent beats every 2 s; a device whose cores are all taken may be late."""
CLOSE_WITHIN_S = 5.0


def ssh_command(address: Address) -> list[str]:
    """The command that starts the agent; settings of the user's own ssh_config (jump hosts, keys) hold beside ours.

    The environment variable EDGEFOLD_SSH_CONFIG names another ssh_config.
    """
    config = os.environ.get("EDGEFOLD_SSH_CONFIG")
    return [
        "ssh",
        *(["-F", config] if config else []),
        *(word for option in SSH_OPTIONS for word in ("-o", option)),
        *(["-l", address.user] if address.user else []),
        *(["-p", str(address.port)] if address.port else []),
        address.host,
        shlex.join(["exec", address.python, "-c", STARTER]),
    ]


class Connection:
    """An agent on a device; use it in a `with` statement.

    Raises:
        DeviceError: the device cannot be reached, does not let us in, or has no Python that fits.
    """

    def __init__(self, address: Address, bundle: Bundle | None = None) -> None:
        self.address = address
        self._bundle = bundle or bundle_agent()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 — closed in close()
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._noise: list[str] = []
        try:
            # A session of its own: Ctrl-C is for us, who then close the connection in order.
            self._ssh = subprocess.Popen(
                ssh_command(address),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise DeviceError("There is no program ssh on this machine; install OpenSSH's client.") from None
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        self._channel = Channel(self._ssh.stdout, self._ssh.stdin)
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        command: str,
        payload: bytes = b"",
        *,
        doing: str,
        within_s: float = 60.0,
        samples: list[dict[str, str]] | None = None,
        **fields: Any,
    ) -> Any:
        """A request's result.

        Args:
            payload: bytes that go with the request.
            doing: words for an error message, as in "measuring".
            within_s: how long the answer may take.
            samples: what the device's monitor says meanwhile is added to this.

        Raises:
            EdgefoldError: what the agent refused, of the fitting kind.
            DeviceError: the connection broke, the agent died, or the answer took too long.
        """
        try:
            self._channel.say({"command": command, **fields}, payload)
        except OSError:
            raise self._broken(doing) from None
        deadline = time.monotonic() + within_s
        while True:
            message = self._next(doing, min(SILENT_AFTER_S, deadline - time.monotonic()))
            if "error" in message:
                error = message["error"]
                raise error_of(error["kind"], f"{self.address}: {error['message']}")
            if "result" in message:
                return message["result"]
            if "sample" in message and samples is not None:
                samples.append(message["sample"])
            if time.monotonic() >= deadline:
                raise DeviceError(f"{self.address} was not done with {doing} within {within_s:g} s; it was stopped.")

    def close(self) -> None:
        """The agent leaves when its stdin ends; ssh that does not end by itself is ended."""
        assert self._ssh.stdin is not None
        with suppress(OSError):
            self._ssh.stdin.close()
        try:
            self._ssh.wait(CLOSE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        self._said.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _greet(self) -> None:
        """Send the agent; it must answer, and as the one that was sent."""
        assert self._ssh.stdin is not None
        try:
            self._ssh.stdin.write(self._bundle.preamble)
            self._ssh.stdin.flush()
        except OSError:
            raise self._not_started() from None
        try:
            message = self._messages.get(timeout=HELLO_WITHIN_S)
        except queue.Empty:
            raise self._not_started() from None
        if message is None:
            raise self._not_started()
        hello = message.get("hello", {})
        expected = {"protocol": PROTOCOL, "version": self._bundle.version, "sha256": self._bundle.sha256}
        for name, value in expected.items():
            if hello.get(name) != value:
                raise DeviceError(
                    f"The agent on {self.address} has {name} {hello.get(name)}, this edgefold {value}; they do not fit "
                    "together. Run the same command with one version of edgefold only."
                )

    def _listen(self) -> None:
        """Every message of the agent; lines before its first, such as a login script's, are noise."""
        assert self._ssh.stdout is not None
        for line in self._ssh.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                self._messages.put(message)
            else:
                self._noise.append(line.decode(errors="replace"))
        self._messages.put(None)

    def _next(self, doing: str, within_s: float) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=max(within_s, 0.01))
        except queue.Empty:
            raise self._broken(doing) from None
        if message is None:
            raise self._broken(doing)
        return message

    def _not_started(self) -> DeviceError:
        return DeviceError(explain_start(self.address, self._status(), "".join(self._noise[-5:]) + self._stderr()))

    def _broken(self, doing: str) -> DeviceError:
        return DeviceError(explain_break(self.address, doing, self._status(), self._stderr()))

    def _status(self) -> int | None:
        try:
            return self._ssh.wait(CLOSE_WITHIN_S)
        except subprocess.TimeoutExpired:
            return None

    def _stderr(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")
