"""build_engine writes an artifact or nothing; and TensorRT-RTX compiles what this project exports, on the CPU.

Nothing is computed there, and no latency is told: without a GPU an engine cannot be opened.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
from onnx import TensorProto, helper
from tiny_graphs import conv_net, decoder, encoder, model_of, one_node, product, save_as_artifact, value

from edgefold.artifacts import Part, write_artifact
from edgefold.errors import EdgefoldError, InputError
from edgefold.exporters import build_engine, lint_onnx
from edgefold.exporters.tensorrt import building, engines
from edgefold.exporters.tensorrt.build_requests import BuildFacts, BuildRequest
from edgefold.nvidia_driver import Gpu

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT-RTX comes for Linux on x86-64 alone"
)
COMPILE = """
import json, sys
from pathlib import Path
from edgefold.errors import EdgefoldError
from edgefold.exporters.tensorrt.building import build
from edgefold.exporters.tensorrt.build_requests import BuildRequest

said = {}
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    shapes = json.loads(path.with_suffix(".json").read_text())
    try:
        facts = build(BuildRequest(str(path), (path.stem,), str(path.with_suffix(".engine")), sys.argv[2], (shapes,)))
        said[path.stem] = ["built", facts.precisions]
    except EdgefoldError as error:
        said[path.stem] = ["refused", str(error)]
print(json.dumps(said))
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds run in this process with the double, on a GPU."""
    trt = make_tensorrt("10.3", FakeCuda())
    monkeypatch.setattr(building, "import_tensorrt", lambda: trt)
    monkeypatch.setattr(building, "read_gpu", lambda: Gpu("Orin", "8.7", "12.6"))

    def run(request: BuildRequest, log: Path, timeout_s: float) -> BuildFacts:
        log.write_text("(Sparsity) Found 3 layer(s) eligible\n(Sparsity) Chose 2 layer(s) using sparse\n")
        return building.build(request)

    monkeypatch.setattr(engines, "run_build", run)


@pytest.mark.usefixtures("here")
def test_an_engine_is_an_artifact_with_what_stood_beside_the_graph(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "tokenizer.json").write_text("{}")
    source = save_as_artifact(encoder(quantized=True), tmp_path / "onnx", "int8", lineage={"teacher": "t"})
    built = build_engine(source, tmp_path / "engine", cache=tmp_path / "cache", sparse=True)
    assert (built.format, built.precision, built.target) == ("tensorrt", "int8", "TensorRT 10.3.0")
    assert sorted(built.files) == ["model.build.log", "model.engine", "tokenizer.json"]
    assert (built.inputs, built.outputs) == (source.inputs, source.outputs)
    facts = built.lineage["engine"]["model"]
    assert built.lineage["teacher"] == "t"
    assert facts["layers"]["precisions"]["int8"] == 9
    assert facts["sparsity"] == {"eligible": 3, "chosen": 2}
    sizes = [[1, 1], [1, 128], [8, 512]]
    assert facts["profiles"] == [{"input_ids": sizes, "attention_mask": sizes}]


@pytest.mark.usefixtures("here")
def test_every_part_becomes_an_engine(tmp_path: Path) -> None:
    source = save_as_artifact(product(), tmp_path / "onnx")
    onnx.save(product(), tmp_path / "onnx" / "decoder_model.onnx")
    ends: Any = {"inputs": source.inputs, "outputs": source.outputs}
    parts = {name: Part(model_file=file, **ends) for name, file in (("a", "model.onnx"), ("b", "decoder_model.onnx"))}
    facts: Any = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    source = write_artifact(tmp_path / "onnx", **facts, **ends, parts=parts)
    built = build_engine(source, tmp_path / "engine", cache=tmp_path / "cache")
    assert {name: part.model_file for name, part in built.parts.items()} == {
        "a": "model.engine",
        "b": "decoder_model.engine",
    }
    assert set(built.lineage["engine"]) == {"a", "b"}


@pytest.mark.usefixtures("here")
def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    source = save_as_artifact(one_node("Det"), tmp_path / "onnx")
    with pytest.raises(InputError, match=r"node the_Det \(Det\)"):
        build_engine(source, tmp_path / "out" / "engine", cache=tmp_path / "cache")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="no dynamic dimension 'rows'"):
        build_engine(source, tmp_path / "engine", profiles=[{"rows": (1, 2, 3)}])
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "mine").write_text("")
    with pytest.raises(InputError, match="exists and is not empty"):
        build_engine(source, tmp_path / "engine")


@pytest.mark.usefixtures("here")
def test_an_engine_is_not_built_from_an_engine(tmp_path: Path) -> None:
    built = build_engine(save_as_artifact(product(), tmp_path / "onnx"), tmp_path / "engine", cache=tmp_path / "cache")
    with pytest.raises(InputError, match="holds tensorrt; an engine is built from an onnx artifact"):
        build_engine(built, tmp_path / "again")


@needs_rtx
def test_tensorrt_rtx_builds_an_engine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEFOLD_TENSORRT", "tensorrt_rtx_bindings")
    source = save_as_artifact(encoder(), tmp_path / "onnx")
    settings: Any = {"cache": tmp_path / "cache", "compute_capabilities": ["8.6"]}
    built = build_engine(source, tmp_path / "engine", **settings)
    facts = built.lineage["engine"]["model"]
    assert facts["tensorrt"].startswith("TensorRT-RTX 1.")
    assert (facts["precisions"], facts["layers"], facts["from_cache"]) == (["fp32"], None, False)
    again = build_engine(source, tmp_path / "again", **settings)
    assert again.lineage["engine"]["model"]["from_cache"]
    assert again.files["model.engine"] == built.files["model.engine"]
    with pytest.raises(InputError, match=r"does not compile for compute capability 8.7; it does for 7.5, 8.0"):
        build_engine(source, tmp_path / "orin", cache=tmp_path / "cache", compute_capabilities=["8.7"])
    spoilt = save_as_artifact(one_node("Det"), tmp_path / "spoilt")
    with pytest.raises(InputError, match=r"does not take model.onnx: node the_Det \(Det\)"):
        build_engine(spoilt, tmp_path / "never", cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, onnx.ModelProto]], dict[str, Any]]:
    """What TensorRT-RTX said of models, all in one process."""

    def run(models: dict[str, onnx.ModelProto]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("models")
        for name, model in models.items():
            onnx.save(model, folder / f"{name}.onnx")
            (folder / f"{name}.json").write_text(json.dumps(_shapes(model)))
        command = [sys.executable, "-c", COMPILE, str(folder), str(folder / "cache")]
        environment = {"EDGEFOLD_TENSORRT": "tensorrt_rtx_bindings"}
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        answers = {name: lint_onnx(folder / f"{name}.onnx", "tensorrt-rtx") for name in models}
        said = json.loads(result.stdout.splitlines()[-1])
        return {name: (*said[name], [c.node for c in answers[name][0].refused]) for name in models}

    return run


@needs_rtx
def test_tensorrt_rtx_compiles_every_family_and_precision(compiled: Callable[..., Any]) -> None:
    models = {
        "fp32": encoder(),
        "fp16": encoder(np.float16),
        "int8": encoder(quantized=True),
        "int8-fp16": encoder(np.float16, quantized=True),
        "decoder": decoder(),
        "convolutions": conv_net(),
    }
    assert compiled(models) == {
        "fp32": ("built", ["fp32"], []),
        "fp16": ("built", ["fp16"], []),
        "int8": ("built", ["fp32", "int8"], []),
        "int8-fp16": ("built", ["fp32", "fp16", "int8"], []),
        "decoder": ("built", ["fp32"], []),
        "convolutions": ("built", ["fp32"], []),
    }


@needs_rtx
def test_the_linter_refuses_what_the_compiler_refuses(compiled: Callable[..., Any]) -> None:
    operators = (
        "Det",
        "NonZero",
        "BitwiseNot",
        "Unique",
        "Hardmax",
        "Mish",
        "Gelu",
        "Erf",
        "Softmax",
        "DynamicQuantizeLinear",
    )
    models = {operator: one_node(operator, opset=22) for operator in operators}
    models |= {
        "foreign": one_node("FusedGelu", domain="com.microsoft"),
        "opset 26": product(opset=26),
        "opset 8": product(opset=8),
        "IR 14": product(ir_version=14),
        "float64": product(kind=np.float64),
        "int16": one_node("Identity", TensorProto.INT16),
        "string": one_node("Identity", TensorProto.STRING),
        "packed": packed_product(),
        "table": table("Gather"),
        "bias": table("DequantizeLinear"),
    }
    said = compiled(models)
    assert {name: bool(nodes) for name, (_, _, nodes) in said.items()} == {
        name: verdict == "refused" for name, (verdict, _, _) in said.items()
    }
    for operator in ("Det", "NonZero", "BitwiseNot", "Unique", "DynamicQuantizeLinear"):
        _, message, nodes = said[operator]
        assert nodes == [f"the_{operator}"]
        assert f"node the_{operator} ({operator})" in message
    assert said["Det"][1].endswith("does not take Det.onnx: node the_Det (Det): is not supported.")


def packed_product() -> onnx.ModelProto:
    """x: (batch, 32) times a weight of 4 bits, (8, 32) in one block for each row."""
    sizes = {"K": 32, "N": 8, "bits": 4, "block_size": 32}
    domain = "com.microsoft"
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], name="packed", domain=domain, **sizes)
    constants = {"w": np.full((8, 1, 16), 0x99, np.uint8), "s": np.ones((8, 1), np.float32)}
    return model_of([node], [value("x", ("batch", 32))], [value("y", ("batch", 8))], constants)


def table(operator: str) -> onnx.ModelProto:
    """A table of int8 that is looked up before it is dequantized, or int32 that is."""
    if operator == "Gather":
        nodes = [helper.make_node("Gather", ["w", "ids"], ["q"], name="look_up")]
        nodes += [helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    else:
        nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["t"], name="look_up")]
        nodes += [helper.make_node("Gather", ["t", "ids"], ["y"])]
    kind = np.int8 if operator == "Gather" else np.int32
    constants = {"w": np.ones((4, 8), kind), "s": np.array(0.1, np.float32)}
    return model_of(nodes, [value("ids", ("batch",), TensorProto.INT64)], [value("y", ("batch", 8))], constants)


def _shapes(model: onnx.ModelProto) -> dict[str, list[list[int]]]:
    def sizes(value: onnx.ValueInfoProto, size: int) -> list[int]:
        return [size if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim]

    return {value.name: [sizes(value, 1), sizes(value, 4), sizes(value, 8)] for value in model.graph.input}


def test_a_build_that_gave_up_says_what_the_log_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEFOLD_TENSORRT", "fake_tensorrt")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("FAKE_TENSORRT", "8.6")
    monkeypatch.setenv("FAKE_END", "nothing")
    source = save_as_artifact(product(), tmp_path / "onnx")
    with pytest.raises(EdgefoldError, match=r"took the graph and built no engine from it\. Its log ends: .*as told"):
        build_engine(source, tmp_path / "engine", cache=tmp_path / "cache")
    assert not (tmp_path / "engine").exists()
