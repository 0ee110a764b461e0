"""A device over SSH, for real: an sshd on the loopback, and every way in which it can fail."""

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import SSHD, Loopback, loopback
from typer.testing import CliRunner

from edgefold.artifacts import Artifact, write_artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, EdgefoldError, InputError
from edgefold.reports import Report, paired_ratio
from edgefold.runtimes import benchmark, benchmark_artifacts, open_session, read_device_state, read_remote_state
from edgefold.runtimes.remote import uploading
from edgefold.runtimes.remote.addresses import parse_address
from edgefold.runtimes.remote.bundling import Bundle, bundle_agent
from edgefold.runtimes.remote.connections import Connection
from edgefold.runtimes.remote.measurement import benchmark_on_device

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd here; .ci/run installs it (package openssh-server)")

SEQUENCE = 20_000
PROCEDURE = {"warmup_s": 0.0, "min_duration_s": 0.0, "min_runs": 5, "block_s": 0.0}
INPUTS = {name: np.ones((2, SEQUENCE), np.int64) for name in ("input_ids", "attention_mask")}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("loopback")) as device:
        yield device


@pytest.fixture
def device(shared: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """The device with an empty store, with which the next run has to be fine."""
    shutil.rmtree(shared.store, ignore_errors=True)
    shared.write_known_host(shared.folder / "host_key.pub")
    monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(shared.folder / "ssh_config"))
    yield shared
    assert shared.wait_until_empty() == {}


@pytest.fixture
def artifact(make_artifact: Callable[..., Artifact], tmp_path: Path) -> Artifact:
    """240 kB of weights."""
    return make_artifact(tmp_path / "a", sequence=SEQUENCE)


def measure(device: Loopback, artifact: Artifact, address: str | None = None, **options: Any) -> dict[str, Report]:
    procedure = {**PROCEDURE, **options.pop("procedure", {})}
    return benchmark_on_device(
        {"a": artifact},
        INPUTS,
        device=address or device.address(),
        threads=1,
        spinning=False,
        procedure=procedure,
        **options,
    )


class Attempt(threading.Thread):
    """A measurement that is about to be disturbed, and what it raised."""

    def __init__(self, device: Loopback, artifact: Artifact) -> None:
        super().__init__()
        self.error: EdgefoldError | None = None
        self._device, self._artifact = device, artifact
        self.start()

    def run(self) -> None:
        try:
            measure(self._device, self._artifact, procedure={"min_duration_s": 600.0})
        except EdgefoldError as error:
            self.error = error

    def wait_for(self, mark: str) -> int:
        """The id of the device's process with this in its command line, once there is one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for process, command in self._device.processes().items():
                if mark in command:
                    return process
            time.sleep(0.05)
        raise AssertionError(self._device.processes())

    def end(self) -> str:
        self.join(60)
        assert isinstance(self.error, DeviceError), self.error
        return str(self.error)


AGENT, WORKER = "-c import sys", "agent.py work"


def ssh_client(device: Loopback) -> int:
    """The process id of this machine's ssh that talks to the device."""
    mark = f"-p\0{device.port}\0".encode()
    (found,) = (
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if (folder / "cmdline").read_bytes().startswith(b"ssh\0") and mark in (folder / "cmdline").read_bytes()
    )
    return found


def assert_the_next_run_is_fine(device: Loopback, artifact: Artifact) -> None:
    assert device.wait_until_empty() == {}
    assert len(measure(device, artifact)["a"].times_s) == 5
    assert device.runs() == []


def test_the_device_says_what_it_is(device: Loopback) -> None:
    state, here = read_remote_state(device.address()), read_device_state()
    same = ("processor", "instruction_sets", "cores", "governor", "cpu_limit", "system", "versions")
    assert [getattr(state, name) for name in same] == [getattr(here, name) for name in same]


def test_two_artifacts_are_measured_in_turns_there(device: Loopback, artifact: Artifact) -> None:
    reports = benchmark_artifacts(
        {"a": artifact, "b": artifact}, INPUTS, device=device.address(), min_duration_s=0.2, block_s=0.01
    )
    a, b = reports.values()
    assert set(a.blocks) == set(b.blocks)
    assert paired_ratio(a, b).basis == "cpu"
    assert 0.7 < paired_ratio(a, b).value < 1.4  # one model under two names
    assert a.address == device.address().partition(sys.executable)[0]
    assert (a.device, a.runtime, a.batch_size) == ("cpu", "onnxruntime", 2)
    assert f"onnxruntime on cpu of {a.address}, fp32" in str(a)
    assert a.settings["threads"] == 1
    assert a.before.system == read_device_state().system
    assert Report.model_validate_json(a.model_dump_json()) == a


def test_a_model_is_sent_once(device: Loopback, artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = count_pieces(monkeypatch)
    measure(device, artifact)
    assert sum(sent) == artifact.size_bytes
    sent.clear()
    measure(device, artifact)
    assert sent == []


def count_pieces(monkeypatch: pytest.MonkeyPatch, kill_after: int | None = None) -> list[int]:
    """Sizes of the pieces sent, of 4,000 bytes at most; ssh is killed after so many."""
    sent: list[int] = []
    ask = Connection.ask

    def counting(self: Connection, command: str, payload: bytes = b"", **fields: Any) -> Any:
        if command == "put":
            sent.append(len(payload))
            if len(sent) == kill_after:
                os.kill(self._ssh.pid, signal.SIGKILL)
                self._ssh.wait()
        return ask(self, command, payload, **fields)

    monkeypatch.setattr(uploading, "PIECE_BYTES", 4000)
    monkeypatch.setattr(Connection, "ask", counting)
    return sent


def test_a_connection_dropped_in_upload_is_resumed(device: Loopback, artifact: Artifact) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_pieces(patch, kill_after=10)
        with pytest.raises(DeviceError, match=r"lost its connection .*while sending model\.onnx.*run the same command"):
            measure(device, artifact)
    assert device.wait_until_empty() == {}
    (part,) = (device.store / "store").glob("*.part")
    assert part.stat().st_size == 9 * 4000
    with pytest.MonkeyPatch.context() as patch:
        sent = count_pieces(patch)
        assert_the_next_run_is_fine(device, artifact)
    assert sum(sent) == artifact.size_bytes - 9 * 4000


@pytest.mark.parametrize(
    ("side", "said"), [("here", "ssh here was ended by signal 9"), ("there", "closed by remote host")]
)
def test_a_connection_dropped_in_bench_leaves_nothing_running(
    device: Loopback, artifact: Artifact, side: str, said: str
) -> None:
    attempt = Attempt(device, artifact)
    attempt.wait_for(WORKER)
    if side == "here":
        os.kill(ssh_client(device), signal.SIGKILL)
    else:
        device.drop_connections()
    assert "lost its connection (" in attempt.end()
    assert said in str(attempt.error)
    assert "while measuring" in str(attempt.error)
    assert device.wait_until_empty() == {}
    assert device.runs() == []
    assert_the_next_run_is_fine(device, artifact)


def test_a_killed_agent_takes_its_worker_with_it(device: Loopback, artifact: Artifact) -> None:
    attempt = Attempt(device, artifact)
    attempt.wait_for(WORKER)
    os.kill(attempt.wait_for(AGENT), signal.SIGKILL)
    assert "the agent was killed there" in attempt.end()
    assert device.wait_until_empty() == {}
    assert_the_next_run_is_fine(device, artifact)


def test_a_killed_worker_is_told_apart(device: Loopback, artifact: Artifact) -> None:
    attempt = Attempt(device, artifact)
    os.kill(attempt.wait_for(WORKER), signal.SIGKILL)
    assert "measuring process on the device ended by signal 9" in attempt.end()
    assert "memory ran out" in str(attempt.error)
    assert_the_next_run_is_fine(device, artifact)


def test_measuring_has_a_time_limit(device: Loopback, artifact: Artifact) -> None:
    with pytest.raises(DeviceError, match=r"took longer than 0\.5 s and was stopped"):
        measure(device, artifact, procedure={"min_duration_s": 600.0}, limit_s=0.5)
    assert_the_next_run_is_fine(device, artifact)


def test_an_upload_that_arrives_corrupt(device: Loopback, artifact: Artifact) -> None:
    content = artifact.model_path.read_bytes()
    artifact.model_path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DeviceError, match=r"arrived corrupt: its SHA-256 is .*Run the same command again"):
        measure(device, artifact)
    assert not list((device.store / "store").iterdir())
    artifact.model_path.write_bytes(content)
    assert_the_next_run_is_fine(device, artifact)


def test_what_lies_in_the_store_is_verified_too(device: Loopback, artifact: Artifact) -> None:
    measure(device, artifact)
    (stored,) = (device.store / "store").iterdir()
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert_the_next_run_is_fine(device, artifact)


def test_a_full_disk(device: Loopback, artifact: Artifact) -> None:
    (device.store / "store").mkdir(parents=True)
    part = device.store / "store" / f"{artifact.files['model.onnx'].sha256}.part"
    part.symlink_to("/dev/full")  # the kernel's own ENOSPC
    with pytest.raises(DeviceError, match=r"no space for the model \(No space left on device\).*Free some there"):
        measure(device, artifact)
    assert_the_next_run_is_fine(device, artifact)


def test_a_limit_on_the_size_of_files(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    with loopback(tmp_path / "limited", before=limit) as limited:
        monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(limited.folder / "ssh_config"))
        with pytest.raises(DeviceError, match=r"no space for the model \(File too large\)"):
            measure(limited, artifact)
        assert limited.wait_until_empty() == {}
        assert not list((limited.store / "store").iterdir())


def test_two_clients_at_once(device: Loopback, artifact: Artifact) -> None:
    with Connection(parse_address(device.address())) as first:
        first.ask("lock", doing="waiting", wait_s=0)
        with pytest.raises(
            DeviceError, match=r"Another client is measuring.*from 127\.0\.0\.1, since .* within 0\.3 s"
        ):
            measure(device, artifact, wait_s=0.3)
        assert read_remote_state(device.address()).cores >= 1  # asking disturbs nobody much
        threading.Timer(1.0, first.close).start()
        assert len(measure(device, artifact, wait_s=30.0)["a"].times_s) == 5


def test_a_host_key_that_has_changed(device: Loopback) -> None:
    device.write_known_host(device.folder / "user_key.pub")
    with pytest.raises(DeviceError, match=r"host key is not the one known.*ssh-keygen -R"):
        read_remote_state(device.address())


def test_a_host_key_that_is_not_known(device: Loopback) -> None:
    (device.folder / "known_hosts").write_text("")
    with pytest.raises(DeviceError, match=r"host key is not known yet: connect once by hand"):
        read_remote_state(device.address())


def test_a_key_that_is_refused(device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (device.folder / "ssh_config").read_text().replace("user_key", "host_key")
    (tmp_path / "ssh_config").write_text(settings)
    monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(tmp_path / "ssh_config"))
    with pytest.raises(DeviceError, match=r"refuses the key: put your public key there with ssh-copy-id"):
        read_remote_state(device.address())


def test_nothing_listens_there_and_no_such_host(device: Loopback) -> None:
    with pytest.raises(DeviceError, match="nothing listens at that port"):
        read_remote_state("ssh://u@127.0.0.1:1")
    with pytest.raises(DeviceError, match=r"no such host name.*ssh said: \S"):
        read_remote_state("ssh://u@nowhere.invalid")


def test_no_python(device: Loopback) -> None:
    with pytest.raises(DeviceError, match=r"has no Python at /nowhere/python3 .*install Python 3\.8 or newer"):
        read_remote_state(device.address("/nowhere/python3"))


def write_program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_no_onnxruntime(device: Loopback, artifact: Artifact) -> None:
    venv.create(device.folder / "bare", with_pip=False)
    python = str(device.folder / "bare" / "bin" / "python3")
    with pytest.raises(
        DeviceError, match=rf"{python} on the device cannot import onnxruntime .*{python} -m pip install"
    ):
        measure(device, artifact, device.address(python))
    assert_the_next_run_is_fine(device, artifact)


def test_a_python_that_prints_first_and_one_that_is_too_old(device: Loopback) -> None:
    chatty = write_program(device.folder / "chatty", f'echo "Welcome to {{"; echo 17; exec {sys.executable} "$@"')
    assert read_remote_state(device.address(chatty)).cores >= 1
    old = write_program(device.folder / "old", 'echo "edgefold-agent: Python 3.6.9 is too old" >&2; exit 1')
    with pytest.raises(DeviceError, match=r"cannot run the agent: Python 3\.6\.9 is too old"):
        read_remote_state(device.address(old))
    strange = write_program(device.folder / "strange", 'echo "this account is closed"; exit 5')
    with pytest.raises(DeviceError, match=r"ssh ended with status 5\. It said: this account is closed"):
        read_remote_state(device.address(strange))


def test_an_agent_of_another_version(device: Loopback) -> None:
    other = Bundle(bundle_agent().source, "9.9")
    with pytest.raises(DeviceError, match=r"has version \S+, this edgefold 9\.9; they do not fit"):
        Connection(parse_address(device.address()), other)


def test_inputs_and_artifacts_that_do_not_fit_are_refused_before_anything_is_sent(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="takes input_ids, attention_mask; got x"):
        benchmark_artifacts({"a": artifact}, {"x": np.ones(1)}, device="ssh://nowhere.invalid")
    with pytest.raises(InputError, match="at least one artifact"):
        benchmark_artifacts({}, INPUTS, device="ssh://nowhere.invalid")


def test_bench_on_the_command_line(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "b").folder
    arguments = ["bench", str(folder), "--against", str(folder), "--seconds", "0.05", "--device", device.address()]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["ratio"]["basis"] == "cpu"
    assert {report["address"] for report in document["reports"]} == {device.address().partition(sys.executable)[0]}
    result = CliRunner().invoke(app, [*arguments[:-1], "ssh://u@127.0.0.1:1"])
    assert result.exit_code == 4
    assert result.stderr.startswith("edgefold: ssh://u@127.0.0.1:1 cannot be reached: nothing listens")
    assert result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, [*arguments[:-1], "ssh://u:secret@h"])
    assert result.exit_code == 2
    assert "is no address of the form" in result.stderr


BOARD = """#!/usr/bin/env python3
# A tegrastats that knows when the measuring process works: its power follows that process's share of a core.
import os, sys, time
from pathlib import Path

def ticks():
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"agent.py\\0work" in (folder / "cmdline").read_bytes() and MARK in (folder / "environ").read_bytes():
                total += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            pass
    return total

MARK = b"EDGEFOLD_DEVICE_STORE=" + os.environ["EDGEFOLD_DEVICE_STORE"].encode()
interval = int(sys.argv[sys.argv.index("--interval") + 1]) / 1000
last = ticks()
while True:
    time.sleep(interval)
    now = ticks()
    busy = now > last
    last = now
    power = 9000 if busy else 3000
    print(f"RAM 1/2MB (lfb 1x4MB) CPU [5%@1500] cpu@40C VDD_IN {power}mW/1mW VDD_SOC 100mW/100mW", flush=True)
"""


def test_a_board_that_tells_its_power(
    make_artifact: Callable[..., Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tegrastats").write_text(BOARD)
    (programs / "tegrastats").chmod(0o755)
    artifact = make_artifact(tmp_path / "a", sequence=SEQUENCE)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with loopback(tmp_path / "jetson", path=path) as jetson:
        monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(jetson.folder / "ssh_config"))
        reports = benchmark_artifacts(
            {"a": artifact, "b": artifact}, INPUTS, device=jetson.address(), min_duration_s=0.01, energy_s=3.0
        )
        assert jetson.wait_until_empty() == {}
    for report in reports.values():
        power = report.power
        assert power is not None
        assert power.rails == ("VDD_IN",)
        assert max(power.idle_w) == 3.0
        assert max(power.load_w) == 9.0
        assert power.seconds >= 3.0
        assert 0 < power.net_j < power.gross_j <= 9.0 * power.seconds / power.runs
        assert power.throttled is False
        assert "energy" in str(report)
        assert report.summary()["energy_j"] == power.gross_j
        assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_device_without_a_monitor_has_no_power(device: Loopback, artifact: Artifact) -> None:
    assert measure(device, artifact, energy_s=0.5)["a"].power is None


def small_feeds(rows: int = 2, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 9, (rows, 4)) for name in ("input_ids", "attention_mask")}


def test_a_session_there_computes_what_one_here_does(
    device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "b", external=True)
    with open_session(artifact, device=device.address()) as there, open_session(artifact) as here:
        for rows in (1, 3):
            feeds = small_feeds(rows, seed=rows)
            np.testing.assert_array_equal(there.run(feeds)["logits"], here.run(feeds)["logits"], strict=True)
        with pytest.raises(InputError, match=r"input_ids must have the shape \(batch, 4\)"):
            there.run({name: array[:, :2] for name, array in small_feeds().items()})
        assert there.run(small_feeds())["logits"].shape == (2, 3)  # a refusal ends nothing
        names = ("label", "runtime", "device", "precision", "model_sha256", "inputs", "outputs")
        assert [getattr(there, name) for name in names] == [getattr(here, name) for name in names]
        assert there.settings() == here.settings()
        assert there.load_s > 0
    with pytest.raises(InputError, match="session of b is closed"):
        there.run(small_feeds())
    assert device.wait_until_empty() == {}
    assert device.runs() == []


def test_the_network_is_not_measured(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    with (
        open_session(make_artifact(tmp_path / "b"), device=device.address()) as there,
        pytest.raises(InputError, match=r"b is open on ssh://.*would be those of the network.*benchmark_artifacts"),
    ):
        benchmark(there, small_feeds())


def test_a_session_whose_process_dies(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    with open_session(artifact, device=device.address()) as there:
        (worker,) = (process for process, command in device.processes().items() if WORKER in command)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(DeviceError, match="ended by signal 9"):
            there.run(small_feeds())
    with open_session(artifact, device=device.address()) as there:
        assert there.run(small_feeds())["logits"].shape == (2, 3)


def test_a_model_that_does_not_open_there(
    device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "b")
    artifact.model_path.write_bytes(b"not a graph")
    names = ("format", "precision", "target", "model_file", "inputs", "outputs")
    broken = write_artifact(artifact.folder, **{name: getattr(artifact, name) for name in names})
    with pytest.raises(InputError, match="onnxruntime cannot open"):
        open_session(broken, device=device.address())
    assert device.wait_until_empty() == {}


def test_verify_on_the_command_line(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "b").folder
    result = CliRunner().invoke(
        app, ["verify", str(folder), "--against", str(folder), "--device", device.address(), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["outputs"]["logits"]["max_error"] == 0.0


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_doctor_looks_at_devices(device: Loopback, artifact: Artifact) -> None:
    measure(device, artifact)
    status, document = doctor("--device", device.address(), "--clear")
    assert status == 0
    found = {finding["what"]: finding for finding in document["devices"][device.address()]}
    assert found["connection"]["found"] == read_device_state().system
    assert found["store"]["found"] == "emptied"
    assert not list((device.store / "store").iterdir())
    assert found["onnxruntime"]["works"]
    assert found["processor"]["found"].startswith(read_device_state().processor)


def test_doctor_exits_4_where_a_device_cannot_be_reached(device: Loopback) -> None:
    status, document = doctor("--device", device.address(), "--device", "ssh://u@127.0.0.1:1")
    assert status == 4
    (only,) = document["devices"]["ssh://u@127.0.0.1:1"]
    assert (only["what"], only["works"]) == ("connection", False)
    assert "nothing listens at that port" in only["advice"]
    assert document["devices"][device.address()][0]["works"]
    text = CliRunner().invoke(app, ["doctor", "--device", "ssh://u@127.0.0.1:1"]).stdout
    assert "nothing listens" in " ".join(text.split())


def test_doctor_tells_a_device_without_a_runtime(device: Loopback) -> None:
    venv.create(device.folder / "empty", with_pip=False)
    address = device.address(str(device.folder / "empty" / "bin" / "python3"))
    status, document = doctor("--device", address)
    (runtime,) = [finding for finding in document["devices"][address] if finding["what"] == "onnxruntime"]
    assert status == 0
    assert (runtime["found"], runtime["works"]) == ("not installed", False)
    assert "pip install onnxruntime" in runtime["advice"]


@pytest.mark.parametrize("arguments", [["--device", "jetson"], ["--device", "ssh://a b"], ["--clear"]])
def test_doctor_refuses_what_is_no_address(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert "ssh://user@host" in result.stderr
