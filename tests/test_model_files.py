"""Models with weights beside them: read whole, or refused where those are missing, cut off or elsewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefold.artifacts import Artifact, load_artifact, write_artifact
from edgefold.errors import EdgefoldError, InputError
from edgefold.exporters import quantize_onnx
from edgefold.exporters.model_files import load_model
from edgefold.runtimes import open_session

TEXT = '<ir_version: 10, opset_import: ["" : 20]> a (float[n, 4] x) => (float[n, 4] y) { y = MatMul(x, w) }'


def save(folder: Path) -> Path:
    """A product whose weight lies in model.onnx_data."""
    folder.mkdir()
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    return path


def as_artifact(folder: Path) -> Artifact:
    facts = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    return write_artifact(folder, **facts, inputs=[], outputs=[])  # type: ignore[arg-type]


def move_outside(path: Path) -> None:
    """The weight in a file that is really there, one folder up."""
    (path.parent / "model.onnx_data").rename(path.parents[1] / "secret")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../secret"
    onnx.save(model, path)


def test_weights_beside_the_graph_are_read(tmp_path: Path) -> None:
    (weight,) = load_model(save(tmp_path / "a")).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(weight), np.eye(4))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: (path.parent / "model.onnx_data").unlink(), "in model.onnx_data, which is missing"),
    "cut off": (
        lambda path: (path.parent / "model.onnx_data").write_bytes(b"abc"),
        "ends after 3 bytes, where w needs 64; it was cut off",
    ),
    "outside": (move_outside, "has the weight w in '../secret', outside its folder; do not use this model"),
    "no model": (lambda path: path.write_bytes(b"\xff\xffno model"), "is no ONNX model, or is cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    path = save(tmp_path / "a")
    spoil(path)
    with pytest.raises(InputError, match=message):
        load_model(path)


def test_an_artifact_that_reads_outside_its_folder_is_neither_converted_nor_run(tmp_path: Path) -> None:
    """The checksums are right: whoever made it meant it."""
    path = save(tmp_path / "a")
    move_outside(path)
    artifact = as_artifact(path.parent)
    with pytest.raises(InputError, match="outside its folder; do not use this model"):
        quantize_onnx(artifact, tmp_path / "out", quantization="dynamic")
    with pytest.raises(EdgefoldError, match=r"model\.onnx"), open_session(artifact):
        pass
    assert not (tmp_path / "out").exists()


def test_corrupt_weights_beside_the_graph_are_refused(tmp_path: Path) -> None:
    artifact = as_artifact(save(tmp_path / "a").parent)
    data = artifact.folder / "model.onnx_data"
    data.write_bytes(b"\x01" + data.read_bytes()[1:])
    with pytest.raises(InputError, match=r"model\.onnx_data is corrupt"):
        load_artifact(artifact.folder)
