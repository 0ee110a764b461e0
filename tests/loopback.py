"""A device made of this machine: an sshd of our own on a free port of the loopback, with keys made for it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
GONE_WITHIN_S = 30.0


class Loopback:
    """An ordinary process that listens on 127.0.0.1; each may have its own limits and programs.

    Args:
        folder: keys, settings, logs and the device's store go here.
        path: the PATH of programs on the device.
        before: run in sshd's process before it starts, as in a resource limit for all of the device.
    """

    def __init__(self, folder: Path, path: str | None = None, before: Callable[[], None] | None = None) -> None:
        self.folder, self.store = folder, folder / "device"
        folder.mkdir(parents=True, exist_ok=True)
        self._make_key("host_key")
        self._make_key("user_key")
        self.port = _free_port()
        self.write_known_host(folder / "host_key.pub")
        (folder / "ssh_config").write_text(
            f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
            "GlobalKnownHostsFile /dev/null\n"
        )
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"SetEnv EDGEFOLD_DEVICE_STORE={self.store} PATH={path or os.environ['PATH']} OMP_NUM_THREADS=1\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", 0o755, exist_ok=True)  # where root's sshd separates privileges
        assert SSHD is not None
        with (folder / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log, preexec_fn=before
            )
        self._wait_until_it_listens()

    def address(self, python: str = sys.executable) -> str:
        """With the Python that these tests run under, which has numpy and onnxruntime."""
        return f"ssh://{_user()}@127.0.0.1:{self.port}{python}"

    def write_known_host(self, public_key: Path) -> None:
        """Let clients expect this key."""
        kind, key, *_ = public_key.read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def processes(self) -> dict[int, str]:
        """Process id -> command line of all that runs on the device."""
        mark = f"EDGEFOLD_DEVICE_STORE={self.store}\0".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def wait_until_empty(self) -> dict[int, str]:
        """What still runs after the time that the device has to tidy up."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def drop_connections(self) -> None:
        """Kill the processes of sshd that serve connections; what they had started is left to itself."""
        parents = {self._sshd.pid}
        for _ in range(3):  # sshd, its privileged half, the half that runs as the user
            parents |= {child for parent in parents for child in _children(parent) if _is_sshd(child)}
        for process in sorted(parents - {self._sshd.pid}, reverse=True):
            os.kill(process, signal.SIGKILL)

    def runs(self) -> list[Path]:
        """Folders of runs that were not tidied up."""
        return sorted((self.store / "runs").glob("*"))

    def stop(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self._sshd.terminate()
        self._sshd.wait()

    def _make_key(self, name: str) -> None:
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)

    def _wait_until_it_listens(self) -> None:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._sshd.poll() is None, (self.folder / "sshd.log").read_text()
                time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text())


@contextmanager
def loopback(folder: Path, path: str | None = None, before: Callable[[], None] | None = None) -> Iterator[Loopback]:
    """A device for the time of a block."""
    device = Loopback(folder, path, before)
    try:
        yield device
    finally:
        device.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def _is_sshd(process: int) -> bool:
    return Path(f"/proc/{process}/comm").read_text().startswith("sshd")
