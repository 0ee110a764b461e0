"""Sessions: an artifact's function in numpy, and a refusal with names and numbers for all that does not fit."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_graphs import model_of, value

from edgefold.artifacts import Artifact, TensorSpec, write_artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes import open_session
from edgefold.runtimes.sessions import check_feeds

SPECS = (
    TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence")),
    TensorSpec(name="mask", dtype="int64", shape=("batch", "sequence")),
    TensorSpec(name="pixels", dtype="float32", shape=("batch", 3)),
)
Make = Callable[..., Artifact]


def feeds(batch: int = 2, sequence: int = 4, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 9, (batch, sequence)) for name in ("input_ids", "attention_mask")}


def rewrite(artifact: Artifact, **fields: Any) -> Artifact:
    """State the folder's files anew after a change, so that only the change is at fault."""
    names = ("format", "precision", "target", "model_file", "inputs", "outputs")
    given = {name: getattr(artifact, name) for name in names}
    return write_artifact(artifact.folder, **{**given, **fields})


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_computes_what_the_graph_says(
    make_artifact: Make, tmp_path: Path, external: bool, batch: int, threads: int
) -> None:
    artifact = make_artifact(tmp_path / "a", external=external)
    graph = onnx.load(artifact.model_path).graph
    weight = onnx.numpy_helper.to_array(graph.initializer[0])
    given = feeds(batch)
    with open_session(artifact, threads=threads) as session:
        found = session.run(given)
    assert list(found) == ["logits"]
    expected = (given["input_ids"] * given["attention_mask"]).astype(np.float32) @ weight
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-5, atol=1e-5)  # float32 sums


def test_a_session_says_what_it_is(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    with open_session(tmp_path / "a", threads=2, spinning=True) as session:
        assert (session.label, session.runtime, session.device, session.precision) == (
            "a",
            "onnxruntime",
            "cpu",
            "fp32",
        )
        assert (session.inputs, session.outputs) == (artifact.inputs, artifact.outputs)
        assert session.model_sha256 == artifact.files["model.onnx"].sha256
        assert session.load_s > 0
        settings = session.settings()
    assert (settings["threads"], settings["spinning"]) == (2, True)
    assert settings["providers"] == ["CPUExecutionProvider"]
    assert settings["version"] == onnxruntime.__version__


def test_a_folder_and_its_artifact_open_alike(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    with open_session(artifact) as one, open_session(str(tmp_path / "a")) as two:
        np.testing.assert_array_equal(one.run(feeds())["logits"], two.run(feeds())["logits"])


def test_a_session_may_be_run_again_after_a_refusal(make_artifact: Make, tmp_path: Path) -> None:
    with open_session(make_artifact(tmp_path / "a")) as session:
        with pytest.raises(InputError):
            session.run({})
        assert session.run(feeds())["logits"].shape == (2, 3)


def test_a_closed_session_is_refused(make_artifact: Make, tmp_path: Path) -> None:
    with open_session(make_artifact(tmp_path / "a")) as session:
        pass
    with pytest.raises(InputError, match="session of a is closed"):
        session.run(feeds())
    session.close()  # twice is no error


def good() -> dict[str, Any]:
    return {
        "ids": np.ones((2, 5), np.int64),
        "mask": np.ones((2, 5), np.int64),
        "pixels": np.ones((2, 3), np.float32),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, r"takes ids, mask, pixels; got ids, pixels\."),
        ({"tokens": np.ones(1)}, r"takes ids, mask, pixels; got ids, mask, pixels, tokens"),
        ({"ids": np.ones((2, 5), np.int32)}, r"Input ids must be an array of int64; got int32\."),
        ({"pixels": np.ones((2, 3))}, r"Input pixels must be an array of float32; got float64\."),
        ({"ids": [[1] * 5] * 2}, r"Input ids must be an array of int64; got list\."),
        ({"pixels": np.ones((2, 4), np.float32)}, r"pixels must have the shape \(batch, 3\); got \(2, 4\)\."),
        ({"ids": np.ones(5, np.int64)}, r"ids must have the shape \(batch, sequence\); got \(5\)\."),
        ({"mask": np.ones((2, 6), np.int64)}, r"sequence is 5 in ids and 6 in mask; make them equal\."),
        ({"pixels": np.ones((3, 3), np.float32)}, r"batch is 2 in ids and 3 in pixels; make them equal\."),
    ],
)
def test_feeds_that_do_not_fit_are_refused_with_what_came(change: Mapping[str, Any], message: str) -> None:
    check_feeds(SPECS, good())
    given = {name: value for name, value in {**good(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        check_feeds(SPECS, given)


def test_no_feeds_at_all() -> None:
    with pytest.raises(InputError, match="got nothing"):
        check_feeds(SPECS, {})


def test_sizes_that_the_graph_refuses_although_the_specs_allow_them(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    loose = [spec.model_copy(update={"shape": ("batch", "sequence")}) for spec in artifact.inputs]
    with (
        open_session(rewrite(artifact, inputs=loose)) as session,
        pytest.raises(InputError, match=r"a does not run on .*\(2, 7\)"),
    ):
        session.run(feeds(sequence=7))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a" * 40])
def test_a_file_that_is_no_model(make_artifact: Make, tmp_path: Path, content: bytes) -> None:
    artifact = make_artifact(tmp_path / "a")
    artifact.model_path.write_bytes(content)
    with pytest.raises(InputError, match=r"onnxruntime cannot open .*model\.onnx: \S"):
        open_session(rewrite(artifact))


def test_a_graph_that_is_newer_than_the_runtime(make_artifact: Make, tmp_path: Path) -> None:
    """Of bfloat16 onnxruntime has no Round yet."""
    artifact = make_artifact(tmp_path / "a")
    ends = [[value(name, ("batch", 8), onnx.TensorProto.BFLOAT16)] for name in "xy"]
    onnx.save(model_of([onnx.helper.make_node("Round", ["x"], ["y"])], *ends, opset=22), artifact.model_path)
    advice = f"this onnxruntime is {onnxruntime.__version__}: install a newer one .*, or export with --opset 20"
    with pytest.raises(InputError, match=rf"Could not find an implementation for Round.*; {advice}"):
        open_session(rewrite(artifact))


def test_a_cut_model_is_refused_by_its_checksum(make_artifact: Make, tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "a").model_path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.onnx is corrupt"):
        open_session(tmp_path / "a")


def test_missing_weights_beside_the_graph_are_named(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a", external=True)
    (tmp_path / "a" / "model.onnx_data").unlink()
    with pytest.raises(InputError, match=r"model\.onnx_data is missing"):
        open_session(tmp_path / "a")
    with pytest.raises(InputError, match=r"cannot open .*model\.onnx_data"):
        open_session(rewrite(artifact))  # a manifest that does not know of them either


def test_names_that_are_not_known_are_told(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    with pytest.raises(InputError, match="no runtime 'tvm'; choose one of onnxruntime"):
        open_session(artifact, runtime="tvm")
    with pytest.raises(InputError, match="no device 'npu' for onnxruntime; choose one of cpu, cuda"):
        open_session(artifact, device="npu")
    with pytest.raises(InputError, match="threads=0 must be at least 1"):
        open_session(artifact, threads=0)
    with pytest.raises(InputError, match=r"onnxruntime opens onnx; .* holds tensorrt"):
        open_session(rewrite(artifact, format="tensorrt"))


def test_a_device_that_this_onnxruntime_cannot_use(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"has no CUDAExecutionProvider \(it has CPUExecutionProvider"):
        open_session(make_artifact(tmp_path / "a"), device="cuda")


def test_a_silent_fall_back_to_the_cpu_is_refused(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FallenBack:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    with pytest.raises(DeviceError, match="fell back from CUDAExecutionProvider to CPUExecutionProvider"):
        open_session(make_artifact(tmp_path / "a"), device="cuda")


class Subgraph:
    """As onnxruntime tells which nodes an execution provider was given."""

    def __init__(self, provider: str, *operators: str) -> None:
        self.ep_name = provider
        self._operators = operators

    def get_nodes(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(op_type=operator) for operator in self._operators]


def pretend_cuda(monkeypatch: pytest.MonkeyPatch, *subgraphs: Subgraph) -> None:
    class Pretended:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> tuple[Subgraph, ...]:
            return subgraphs

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretended)


def test_matrix_products_left_on_the_cpu_are_a_fall_back_too(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = [Subgraph("CPUExecutionProvider", name) for name in ("MatMulInteger", "Shape", "MatMulInteger", "Gemm")]
    pretend_cuda(monkeypatch, Subgraph("CUDAExecutionProvider", "Add"), *cpu)
    with pytest.raises(DeviceError, match="a would run 1 Gemm, 2 MatMulInteger on CPUExecutionProvider although CUDA"):
        open_session(make_artifact(tmp_path / "a"), device="cuda")


def test_shapes_computed_on_the_cpu_are_none(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_cuda(
        monkeypatch,
        Subgraph("CUDAExecutionProvider", "MatMul", "Add"),
        Subgraph("CPUExecutionProvider", "Shape", "Gather"),
    )
    with open_session(make_artifact(tmp_path / "a"), device="cuda") as session:
        assert session.settings()["nodes"] == {"CUDAExecutionProvider": 2, "CPUExecutionProvider": 2}


def test_a_session_says_who_computes_how_many_nodes(make_artifact: Make, tmp_path: Path) -> None:
    with open_session(make_artifact(tmp_path / "a")) as session:
        nodes = session.settings()["nodes"]
    assert set(nodes) <= {"CPUExecutionProvider"}  # an older onnxruntime does not tell


def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime_session", "agent.onnx_models"):
        monkeypatch.delitem(sys.modules, f"edgefold.runtimes.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"onnxruntime cannot be imported.*pip install 'edgefold\[onnxruntime\]'"):
        open_session(make_artifact(tmp_path / "a"))


def test_a_failed_run_is_told_once(make_artifact: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = make_artifact(tmp_path / "a")
    loose = [spec.model_copy(update={"shape": ("batch", "sequence")}) for spec in artifact.inputs]
    with open_session(rewrite(artifact, inputs=loose)) as session, pytest.raises(InputError):
        session.run(feeds(sequence=7))
    assert capfd.readouterr().err == ""


SUMS = (
    TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence")),
    TensorSpec(name="mask", dtype="int64", shape=("batch", "past + sequence")),
    TensorSpec(name="key", dtype="float32", shape=("batch", 2, "past", 4)),
)


@pytest.mark.parametrize(("past", "mask", "fits"), [(0, 3, True), (5, 8, True), (5, 3, False), (5, 9, False)])
def test_a_dimension_that_is_a_sum_must_be_that_sum(past: int, mask: int, fits: bool) -> None:
    ids, key = np.ones((2, 3), np.int64), np.ones((2, 2, past, 4), np.float32)
    given = {"ids": ids, "mask": np.ones((2, mask), np.int64), "key": key}
    if fits:
        check_feeds(SUMS, given)
        return
    told = rf"past \+ sequence is {mask} in mask; the other inputs have past 5 \+ sequence 3"
    with pytest.raises(InputError, match=told):
        check_feeds(SUMS, given)
