"""The folder that transformers.js opens: where its files stand, what they are called, and that we open it as well."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefold.artifacts import Artifact, Generation, Part, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters import write_transformers_js
from edgefold.runtimes import open_session

Make = Callable[..., Any]
FEEDS = {name: np.arange(1, 9, dtype=np.int64).reshape(2, 4) for name in ("input_ids", "attention_mask")}


@pytest.fixture
def make(make_artifact: Make, tmp_path: Path) -> Make:
    """A factory of artifacts with a configuration and a tokenizer, in any precision."""

    def of(name: str, precision: str = "fp32", external: bool = False, **more: Any) -> Artifact:
        made = make_artifact(tmp_path / name, external=external)
        (made.folder / "config.json").write_text('{"model_type": "bert"}')
        (made.folder / "tokenizer.json").write_text("{}")
        known = {field: getattr(made, field) for field in ("format", "target", "model_file", "inputs", "outputs")}
        return write_artifact(made.folder, precision=precision, **{**known, "lineage": {"from": name}, **more})

    return of


def settings(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.folder / "config.json").read_text())
    assert found["model_type"] == "bert"
    told: dict[str, Any] = found["transformers.js_config"]
    return told


def run(artifact: Artifact) -> Any:
    with open_session(artifact) as session:
        return session.run(FEEDS)["logits"]


def test_every_precision_stands_under_its_name_and_the_first_is_the_artifact(make: Make, tmp_path: Path) -> None:
    names = {"int8": "q", "fp32": "f", "fp16": "h", "weight-int8": "w", "int4": "4"}
    sources = [make(name, precision) for precision, name in names.items()]
    laid = write_transformers_js(sources, tmp_path / "web")
    graphs = [f"onnx/model{end}.onnx" for end in ("", "_fp16", "_int8", "_q4", "_quantized")]
    assert sorted(laid.files) == ["config.json", *graphs, "tokenizer.json"]
    assert (laid.precision, laid.model_file, laid.lineage) == ("int8", "onnx/model_quantized.onnx", {"from": "q"})
    assert laid.model_files == ("onnx/model_quantized.onnx",)
    assert settings(laid) == {"dtype": "q8"}
    np.testing.assert_array_equal(run(load_artifact(laid.folder)), run(sources[0]))


def test_weights_beside_a_graph_follow_it(make: Make, tmp_path: Path) -> None:
    source = make("source", "int8", external=True)
    laid = write_transformers_js([source.folder], tmp_path / "web")
    assert {"onnx/model_quantized.onnx", "onnx/model_quantized.onnx_data"} == set(laid.model_files)
    assert settings(laid) == {"dtype": "q8", "use_external_data_format": {"model_quantized.onnx": 1}}
    np.testing.assert_array_equal(run(laid), run(source))


def test_the_batch_is_called_as_transformers_js_calls_it(make: Make, tmp_path: Path) -> None:
    laid = write_transformers_js([make("source")], tmp_path / "web")
    graph = onnx.load(laid.model_path).graph
    sizes = [value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)]
    assert sizes == ["batch_size"] * 3
    assert laid.inputs[0].shape == ("batch", 4)


def test_a_cache_in_fp16_is_told(make: Make, tmp_path: Path) -> None:
    laid = write_transformers_js([make("source", "fp16", generation=Generation(layers=2))], tmp_path / "web")
    assert settings(laid) == {"dtype": "fp16", "kv_cache_dtype": {"fp16": "float16"}}
    assert laid.generation == Generation(layers=2)


def test_a_folder_can_be_laid_out_in_its_own_place_and_again(make: Make) -> None:
    source = make("source")
    expected = run(source)
    for _ in range(2):
        laid = write_transformers_js([source.folder], source.folder, overwrite=True)
        assert sorted(laid.files) == ["config.json", "onnx/model.onnx", "tokenizer.json"]
        np.testing.assert_array_equal(run(laid), expected)


def test_what_cannot_be_laid_out_is_refused(make: Make, tmp_path: Path, make_artifact: Make) -> None:
    source = make("source")
    part = {"encoder": Part(model_file="model.onnx", inputs=source.inputs, outputs=source.outputs)}
    cases = [
        ([], "There is no artifact to lay out"),
        ([source, make("again")], "Each precision can be there once; got fp32, fp32"),
        ([make_artifact(tmp_path / "plain")], r"plain has no config\.json, by which transformers\.js knows a model"),
        ([make("sequence", parts=part)], r"has the parts encoder; of several graphs transformers\.js opens an enc"),
        ([make("engine", format="tensorrt")], "holds an engine of tensorrt; transformers.js opens ONNX"),
    ]
    for given, message in cases:
        with pytest.raises(InputError, match=message):
            write_transformers_js(given, tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_weights_in_another_file_are_refused(make: Make, tmp_path: Path) -> None:
    source = make("source", external=True)
    model = onnx.load(source.model_path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "elsewhere"
    source.model_path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"has weights in elsewhere, not model\.onnx_data; export it again"):
        write_transformers_js([source], tmp_path / "web")
    assert not (tmp_path / "web").exists()
