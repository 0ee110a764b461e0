"""bench and verify on the command line, with an artifact made by hand: neither needs torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from typer.testing import CliRunner, Result

from edgefold.artifacts import Artifact, TensorSpec, write_artifact
from edgefold.cli.application import app
from edgefold.reports import Report

SPECS = tuple(
    TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in ("input_ids", "attention_mask")
)


def make_artifact(folder: Path, shift: float = 0.0, precision: str = "fp32") -> Artifact:
    """logits = mean over the sequence of table[input_ids] * mask, plus (shift, -shift, -shift)."""
    table = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceMean", ["kept", "one"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "shift"], ["logits"]),
    ]
    constants = {
        "table": table,
        "last": np.array([2]),
        "one": np.array([1]),
        "shift": np.array([shift, -shift, -shift], np.float32),
    }
    size: list[str | int] = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(spec.name, TensorProto.INT64, size) for spec in SPECS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    output = TensorSpec(name="logits", dtype="float32", shape=("batch", 3))
    facts = {"format": "onnx", "precision": precision, "target": None, "model_file": "model.onnx"}
    return write_artifact(folder, **facts, inputs=SPECS, outputs=[output])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    make_artifact(folder / "one")
    make_artifact(folder / "same")
    make_artifact(folder / "near", shift=5e-5)
    make_artifact(folder / "off", shift=0.01)
    make_artifact(folder / "int8", shift=0.01, precision="int8")
    make_artifact(folder / "wrong-int8", shift=100.0, precision="int8")
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_bench_measures_one(folder: Path) -> None:
    result = invoke("bench", folder / "one", "--seconds", 0.01, "--sequence", 16)
    assert result.exit_code == 0, result.stderr
    for heading in ("p50 ms", "samples/s", "Batch 1, 16 tokens, onnxruntime on cpu, 1 thread(s)"):
        assert heading in result.stdout


def test_bench_compares_two_and_keeps_every_time(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    given = ("--against", folder / "same", "--seconds", 0.05, "--batch", 2, "--out", out, "--json")
    document = json.loads(invoke("bench", folder / "one", *given).stdout)
    assert document == json.loads(out.read_text())
    assert document["ratio"]["low"] <= document["ratio"]["value"] <= document["ratio"]["high"]
    first = document["reports"][0]
    assert (first["label"], first["batch_size"], first["shapes"]["input_ids"]) == (str(folder / "one"), 2, [2, 128])
    assert first["p50_s"] in first["times_s"]
    raw = {key: value for key, value in first.items() if key in Report.model_fields}
    assert Report.model_validate(raw).p50_s == first["p50_s"]


def test_bench_by_batch_concurrently_and_offline(folder: Path) -> None:
    given = ("--seconds", 0.01, "--sequence", 16, "--json")
    by_batch = json.loads(
        invoke("bench", folder / "one", "--against", folder / "off", "--batches", "1,4", *given).stdout
    )
    assert [report["batch_size"] for report in by_batch["reports"]] == [1, 1, 4, 4]
    assert list(by_batch["ratio_by_batch"]) == ["1", "4"]
    offline = json.loads(invoke("bench", folder / "one", "--scenario", "offline", "--concurrency", 2, *given).stdout)
    reports = [Report.model_validate(report) for report in offline["reports"]]
    assert [report.batch_size for report in reports] == [1, 2, 4, 8]
    assert {report.concurrency for report in reports} == {2}
    assert offline["offline"] == {str(folder / "one"): max(report.throughput for report in reports)}


@pytest.mark.parametrize("batches", ["", "0,1", "1,x", "2,2", "1;2"])
def test_batches_that_are_no_numbers_are_refused(folder: Path, batches: str) -> None:
    result = invoke("bench", folder / "one", "--batches", batches)
    assert result.exit_code == 2
    assert f"--batches takes different numbers from 1 on, as in 1,2,4,8, and no --batch; got {batches!r}" in (
        result.stderr
    )


def test_bench_tells_memory_and_what_loadgen_found(folder: Path) -> None:
    pytest.importorskip("mlperf_loadgen")
    result = invoke("bench", folder / "one", "--memory", "--loadgen", "--seconds", 0.05, "--sequence", 16)
    assert result.exit_code == 0, result.stderr
    assert "MB at its peak" in result.stdout
    assert "LoadGen SingleStream: p50 " in result.stdout


def test_openvino_by_its_name_and_its_precision(folder: Path) -> None:
    measured = invoke("bench", folder / "one", "--runtime", "openvino", "--seconds", 0.01, "--sequence", 16)
    assert measured.exit_code == 0, measured.stderr
    assert "openvino on cpu, 1 thread(s), computed in f32" in measured.stdout
    verified = invoke("verify", folder / "one", "--against", folder / "same", "--runtime", "openvino", "--json")
    assert verified.exit_code == 0, verified.stderr
    assert json.loads(verified.stdout)["runtime"] == "openvino"


def test_bench_stays_on_the_cores_that_are_named(folder: Path) -> None:
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    given = ("--seconds", 0.01, "--sequence", 16)
    measured = json.loads(invoke("bench", folder / "one", "--cores", core, *given, "--json").stdout)["reports"][0]
    assert (measured["before"]["affinity"], measured["before"]["cores"]) == ([core], 1)
    assert os.sched_getaffinity(0) == allowed
    assert "Cores 4096 were asked for; this process may use " in invoke(
        "bench", folder / "one", "--cores", 4096, *given
    ).stderr.replace("\n", " ")
    assert "--cores takes numbers" in invoke("bench", folder / "one", "--cores", "a").stderr


def test_bench_against_itself(folder: Path) -> None:
    result = invoke("bench", folder / "one", "--against", folder / "one", "--seconds", 0.02, "--json")
    labels = [report["label"] for report in json.loads(result.stdout)["reports"]]
    assert labels == [f"{folder / 'one'} (1)", f"{folder / 'one'} (2)"]


def test_bench_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'matplotlib'): sys.modules[name] = None\n"
        f"sys.argv = ['edgefold', 'bench', {str(folder / 'one')!r}, '--seconds', '0.01']\n"
        "from edgefold.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_device_that_is_not_there(folder: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    result = invoke("bench", folder / "one", "--device", "cuda")
    assert result.exit_code == 4
    assert "CUDAExecutionProvider" in result.stderr


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_a_flipped_byte_and_a_missing_file_are_refused(tmp_path: Path, command: str) -> None:
    model = make_artifact(tmp_path / "artifact").model_path
    rest = ["--against", tmp_path / "artifact"] if command == "verify" else []
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    result = invoke(command, tmp_path / "artifact", *rest)
    assert result.exit_code == 2
    assert "model.onnx is corrupt" in result.stderr
    model.unlink()
    result = invoke(command, tmp_path / "artifact", *rest)
    assert result.exit_code == 2
    assert "model.onnx is missing" in result.stderr


@pytest.mark.parametrize(
    ("name", "options", "status"),
    [
        ("same", [], 0),
        ("near", [], 0),
        ("off", [], 3),
        ("off", ["--tolerance", 0.1], 0),
        ("off", ["--tolerance", 0.1, "--agreement", 1.0], 0),
        ("int8", [], 0),
        ("int8", ["--tolerance", 1e-4], 3),
        ("wrong-int8", [], 3),
    ],
)
def test_verify_lets_through_what_its_gate_allows(folder: Path, name: str, options: list[object], status: int) -> None:
    result = invoke("verify", folder / name, "--against", folder / "one", *options, "--json")
    assert result.exit_code == status, result.stderr
    document = json.loads(result.stdout)
    assert document["passed"] is (status == 0)
    assert document["outputs"]["logits"]["max_error"] >= 0


def test_verify_says_what_was_compared(folder: Path) -> None:
    text = " ".join(invoke("verify", folder / "off", "--against", folder / "one").stdout.split())  # titles are wrapped
    assert "Gate MISSED: largest error at most 0.0001" in text
    assert "3 made-up batches" in text


def test_verify_on_texts_needs_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a film\n")
    result = invoke("verify", folder / "one", "--against", folder / "one", "--data", tmp_path / "texts.txt")
    assert result.exit_code == 2
    assert "has no tokenizer" in result.stderr


def test_compare_and_report_take_what_bench_wrote(folder: Path, tmp_path: Path) -> None:
    here, again = tmp_path / "here.json", tmp_path / "again.json"
    given = ("--seconds", 0.02, "--sequence", 16)
    invoke("bench", folder / "one", "--against", folder / "off", *given, "--out", here)
    invoke("bench", folder / "one", *given, "--out", again)
    found = json.loads(invoke("compare", here, again, "--json").stdout)["comparisons"]
    assert [comparison["kind"] for comparison in found] == ["paired", "cautious"]
    assert found[0]["ratio"] == json.loads(here.read_text())["ratio"]
    assert invoke("compare", again).exit_code == 2
    result = invoke("report", here, again, "--out", tmp_path / "page.html")
    assert "3 measurements are on the page" in result.stdout.replace("\n", " ")
    assert "2 models on 1 machine, 3 measurements" in (tmp_path / "page.html").read_text()
