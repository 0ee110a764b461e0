"""The agent: one file in Python 3.8, the standard library and numpy alone, that answers until its host is gone."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefold.artifacts import Artifact
from edgefold.runtimes.agent.arrays import decode_arrays, encode_arrays
from edgefold.runtimes.agent.messages import PROTOCOL, Channel
from edgefold.runtimes.remote.bundling import STARTER, bundle_agent

ROOT = Path(__file__).parents[1]
BESIDE = "edgefold.openvino_modules"
"""What the agent imports of ours that is not its own."""
MODULES = [*sorted((ROOT / "runtimes" / "agent").glob("*.py")), ROOT / "sdk" / "openvino_modules.py"]
ALLOWED = {*sys.stdlib_module_names, "numpy", "onnxruntime"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_the_one_file_is_python_3_8() -> None:
    tree = ast.parse(bundle_agent().source, feature_version=(3, 8))
    assert len(tree.body) > 5


def test_python_3_8_is_not_python_3_10() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("match x:\n    case 1: pass", feature_version=(3, 8))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_need_the_standard_library_and_what_measures(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            assert module.split(".")[0] in ALLOWED or module == BESIDE or module.startswith("edgefold.runtimes.agent")


def test_one_text_for_the_same_sources() -> None:
    assert bundle_agent() == bundle_agent()
    assert bundle_agent().preamble.startswith(f"{len(bundle_agent().source)} {bundle_agent().sha256}\n".encode())


def test_no_shell_finds_anything_in_the_starter() -> None:
    assert not set(STARTER) & set("'$`!\\\n")


def start(store: Path, python: str = sys.executable, source: bytes | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "EDGEFOLD_DEVICE_STORE": str(store)}
    process = subprocess.Popen(
        [python, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    process.stdin.write(source if source is not None else bundle_agent().preamble)
    process.stdin.flush()
    return process


class Talk:
    """A host of few words."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._channel = Channel(process.stdout, process.stdin)
        self.hello = self._next()["hello"]

    def ask(self, command: str, payload: bytes = b"", **fields: Any) -> dict[str, Any]:
        self._channel.say({"command": command, **fields}, payload)
        while "beat" in (message := self._next()):
            pass
        return message

    def _next(self) -> dict[str, Any]:
        heard = self._channel.hear()
        assert heard is not None
        return heard[0]


@contextmanager
def talking(store: Path, python: str = sys.executable) -> Iterator[Talk]:
    process = start(store, python)
    try:
        yield Talk(process)
    finally:
        process.communicate(timeout=20)


def send(talk: Talk, artifact: Artifact) -> dict[str, Any]:
    files = {}
    for name in artifact.model_files:
        sha256 = artifact.files[name].sha256
        content = (artifact.folder / name).read_bytes()
        assert talk.ask("look_up", sha256=sha256) == {"result": 0}
        assert talk.ask("put", content, sha256=sha256, offset=0, unpacked_bytes=None) == {"result": len(content)}
        assert talk.ask("finish", sha256=sha256) == {"result": None}
        assert talk.ask("look_up", sha256=sha256) == {"result": None}
        files[name] = sha256
    facts = {"runtime": "onnxruntime", "precision": artifact.precision, "outputs": ["logits"]}
    return {"files": files, "model_file": artifact.model_file, **facts}


def request(artifact: Artifact, model: dict[str, Any], **fields: Any) -> dict[str, Any]:
    inputs = {spec.name: np.ones((2, 4), np.int64) for spec in artifact.inputs}
    return {
        "models": {"a": model, "b": model},
        "inputs": encode_arrays(inputs),
        "device": "cpu",
        "threads": 1,
        "spinning": False,
        "cores": [],
        "concurrency": 1,
        "procedure": {"warmup_s": 0.0, "min_duration_s": 0.0, "min_runs": 5, "block_s": 0.0},
        "limit_s": 60.0,
        "energy_s": 0.0,
        **fields,
    }


def test_it_says_who_it_is_and_leaves_when_its_host_does(tmp_path: Path) -> None:
    with talking(tmp_path) as talk:
        expected = {"protocol": PROTOCOL, "version": bundle_agent().version, "sha256": bundle_agent().sha256}
        assert {name: talk.hello[name] for name in expected} == expected
    assert talk.process.returncode == 0


def test_a_model_goes_there_and_raw_times_come_back(tmp_path: Path, make_artifact: Any) -> None:
    artifact = make_artifact(tmp_path / "a", external=True)
    with talking(tmp_path / "device") as talk:
        assert talk.ask("lock", wait_s=0) == {"result": None}
        found = talk.ask("measure", **request(artifact, send(talk, artifact)))["result"]
    for label in "ab":
        record = found["records"][label]
        assert len(record["times_s"]) == len(record["cpu_times_s"]) == 5
        assert record["blocks"] == [0, 1, 2, 3, 4]
        assert found["settings"][label]["providers"] == ["CPUExecutionProvider"]
        assert found["load_s"][label] > 0
    assert found["before"]["taken_at"] <= found["after"]["taken_at"]
    assert not list((tmp_path / "device" / "runs").glob("*"))


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"device": "cuda"}, "device", "no CUDAExecutionProvider"),
        ({"device": "npu"}, "input", "no device 'npu'"),
        ({"inputs": encode_arrays({"input_ids": np.ones((2, 7))})}, "input", r"does not run on {'input_ids': (2, 7)}"),
        ({"limit_s": 0.01}, "device", "took longer than 0.01 s and was stopped"),
        ({"cores": [4096]}, "input", "Cores 4096 were asked for; this process may use "),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, make_artifact: Any, fields: dict[str, Any], kind: str, message: str
) -> None:
    artifact = make_artifact(tmp_path / "a")
    with talking(tmp_path / "device") as talk:
        talk.ask("lock", wait_s=0)
        error = talk.ask("measure", **request(artifact, send(talk, artifact), **fields))["error"]
    assert error["kind"] == kind
    assert message in error["message"]


def test_what_changes_something_needs_the_lock(tmp_path: Path) -> None:
    with talking(tmp_path) as talk:
        for command in ("look_up", "put", "finish", "measure", "weigh", "open", "run", "clear"):
            assert f"{command} needs the device's lock" in talk.ask(command)["error"]["message"]
        assert "knows no 'format'" in talk.ask("format")["error"]["message"]
        assert len(talk.ask("probe")["result"]["cores"]) >= 1


def test_a_damaged_agent_does_not_run(tmp_path: Path) -> None:
    preamble = bundle_agent().preamble
    process = start(tmp_path, source=preamble[:-1] + bytes([preamble[-1] ^ 1]))
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr == b"edgefold-agent: it arrived corrupt\n"


def test_it_runs_as_a_file_as_well(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_bytes(bundle_agent().source)
    done = subprocess.run(
        [sys.executable, tmp_path / "agent.py"],
        input=b'{"command": "probe"}\n',
        capture_output=True,
        check=True,
        env={**os.environ, "EDGEFOLD_DEVICE_STORE": str(tmp_path)},
    )
    assert json.loads(done.stdout.splitlines()[0])["hello"]["protocol"] == PROTOCOL


def find_python_3_8() -> str | None:
    """A Python 3.8 that runs; version managers put a name on the path that may lead nowhere."""
    roots = [Path(os.environ["PYENV_ROOT"])] if "PYENV_ROOT" in os.environ else [Path.home() / ".pyenv"]
    managed = [str(path) for root in roots for path in root.glob("versions/3.8*/bin/python3.8")]
    for python in filter(None, [shutil.which("python3.8"), *managed]):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


def test_python_3_8_itself_runs_it(tmp_path: Path, make_artifact: Any) -> None:
    python = find_python_3_8()
    if python is None:
        pytest.skip("no Python 3.8 on this machine")
    artifact = make_artifact(tmp_path / "a")
    with talking(tmp_path / "device", python) as talk:
        assert talk.hello["python"].startswith("3.8.")
        assert talk.ask("lock", wait_s=0) == {"result": None}
        assert "Python 3.8." in talk.ask("probe")["result"]["system"]
        answer = talk.ask("measure", **request(artifact, send(talk, artifact)))
    if "error" in answer:  # that Python may have no runtime, and then says so
        assert "cannot import onnxruntime" in answer["error"]["message"]
    else:
        assert len(answer["result"]["records"]["a"]["times_s"]) == 5


def test_arrays_survive_the_journey() -> None:
    arrays = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.array(1.5, np.float16), "c": np.ones((0, 2))}
    found = decode_arrays(json.loads(json.dumps(encode_arrays(arrays))))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_pickles_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        encode_arrays({"a": np.array([object()])})
