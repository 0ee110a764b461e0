"""export_onnx: onnx(x) = torch(x) at every batch and sequence, or nothing is written."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_exports import TOLERANCE, Bag, Pair, Sum, assert_equal, ids_and_mask, run
from torch import Tensor, nn

from edgefold import Plan, Project, build_student, fold
from edgefold.artifacts import Artifact, load_artifact
from edgefold.errors import InputError
from edgefold.exporters import export_onnx, versions

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_onnx(Bag(), ids_and_mask(), tmp_path_factory.mktemp("bag") / "out")


SIZES = [(1, 1), (1, 6), (2, 1), (5, 3), (3, 17)]


@pytest.mark.parametrize(("rows", "length"), SIZES)
def test_a_plain_module_takes_every_batch_and_sequence(bag: Artifact, rows: int, length: int) -> None:
    assert_equal(Bag(), bag, ids_and_mask(rows, length))


def test_an_artifact_says_what_it_takes_and_how_it_was_made(bag: Artifact) -> None:
    assert load_artifact(bag.folder) == bag
    assert [(spec.name, spec.dtype, spec.shape) for spec in bag.inputs] == [
        ("ids", "int64", ("batch", "sequence")),
        ("mask", "int64", ("batch", "sequence")),
    ]
    assert [(spec.name, spec.dtype, spec.shape) for spec in bag.outputs] == [("output", "float32", ("batch", 3))]
    assert 0 <= bag.lineage["parity"]["fp32"] <= TOLERANCE
    assert set(bag.lineage["versions"]) == {"edgefold", "torch", "onnx", "onnxruntime"}


def test_versions_are_told_where_onnxruntime_is_its_build_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(versions, "version", found)
    expected = {"edgefold": "1.2", "torch": "1.2", "onnx": "1.2", "onnxruntime": onnxruntime.__version__}
    assert versions.exporting_versions() == expected


@pytest.mark.parametrize("opset", [18, 20])
def test_the_opset_is_the_one_that_was_asked_for(tmp_path: Path, opset: int) -> None:
    artifact = export_onnx(Bag(), ids_and_mask(), tmp_path / "out", opset=opset)
    model = onnx.load(artifact.model_path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset == artifact.lineage["opset"]
    assert model.ir_version <= 10


@pytest.fixture
def bert(make_bert: Make) -> nn.Module:
    model: nn.Module = make_bert(num_hidden_layers=1).float()
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_transformer_takes_every_batch_and_sequence_with_padding(
    bert: Any, text_batch: Make, tmp_path: Path, attention: str
) -> None:
    bert.set_attn_implementation(attention)
    artifact = export_onnx(bert, text_batch(), tmp_path / "out", lineage={"teacher": "tiny"})
    for rows, length in ((1, 5), (4, 9), (7, 20)):
        batch = text_batch(rows, length, seed=rows)
        with torch.no_grad():
            expected = bert(**batch).logits.numpy()
        np.testing.assert_allclose(run(artifact, batch)[0], expected, rtol=0, atol=TOLERANCE)
    assert bert.config._attn_implementation == attention
    assert [spec.name for spec in artifact.outputs] == ["logits"]
    assert all(spec.shape == ("batch", "sequence") for spec in artifact.inputs)
    assert artifact.lineage["teacher"] == "tiny"


def test_a_model_that_is_another_one_for_very_short_rows_is_exported_for_all(text_batch: Make, tmp_path: Path) -> None:
    """MobileBERT reads each token beside its neighbours: a row but its first token must not be one token alone."""
    from transformers import MobileBertConfig, MobileBertModel

    narrow = dict.fromkeys(("embedding_size", "true_hidden_size", "intra_bottleneck_size", "hidden_size"), 16)
    depth = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_feedforward_networks": 1, "intermediate_size": 16}
    model = MobileBertModel(MobileBertConfig(vocab_size=101, max_position_embeddings=32, **narrow, **depth)).eval()
    artifact = export_onnx(model, text_batch(), tmp_path / "out")
    for rows, length in ((1, 2), (4, 9), (3, 32)):
        batch = text_batch(rows, length, seed=rows)
        with torch.no_grad():
            expected = model(**batch).last_hidden_state.numpy()
        np.testing.assert_allclose(run(artifact, batch)[0], expected, rtol=0, atol=TOLERANCE)


def test_a_folded_student_is_exported_and_an_unfolded_one_refused(
    make_bert: Make, text_batch: Make, tmp_path: Path
) -> None:
    teacher = make_bert(num_hidden_layers=1).float()
    plan = Plan([Project("hidden", 16)])
    student = build_student(teacher, plan, text_batch(), calibration=[text_batch(seed=1)]).eval()
    with pytest.raises(InputError, match=r"call edgefold\.fold\(student\) first"):
        export_onnx(student, text_batch(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plain = fold(student)
    artifact = export_onnx(plain, text_batch(), tmp_path / "out")
    with torch.no_grad():
        expected = plain(**text_batch(3, 11)).logits.numpy()
    np.testing.assert_allclose(run(artifact, text_batch(3, 11))[0], expected, rtol=0, atol=TOLERANCE)


def test_one_tensor_given_for_two_inputs_does_not_tie_them(tmp_path: Path) -> None:
    ones = torch.ones(2, 6, dtype=torch.long)
    artifact = export_onnx(Bag(), {"ids": ones, "mask": ones}, tmp_path / "out")
    assert [spec.name for spec in artifact.inputs] == ["ids", "mask"]
    assert_equal(Bag(), artifact, ids_and_mask(3, 5))


def test_an_example_of_one_row_and_one_token_fixes_no_size(tmp_path: Path) -> None:
    artifact = export_onnx(Bag(), ids_and_mask(1, 1), tmp_path / "out")
    for rows, length in SIZES:
        assert_equal(Bag(), artifact, ids_and_mask(rows, length))


def test_inputs_may_be_called_batch_and_sequence(tmp_path: Path) -> None:
    names = ("batch", "sequence")
    artifact = export_onnx(Sum(), ids_and_mask(names=names), tmp_path / "out")
    assert [spec.name for spec in artifact.inputs] == ["batch", "sequence"]
    for rows, length in SIZES:
        assert_equal(Sum(), artifact, ids_and_mask(rows, length, names))


def test_several_outputs_are_numbered_and_floats_have_a_dynamic_batch_only(tmp_path: Path) -> None:
    model = Pair()
    artifact = export_onnx(model, {"x": torch.randn(2, 4)}, tmp_path / "out")
    assert [spec.name for spec in artifact.outputs] == ["output_0", "output_1"]
    assert artifact.inputs[0].shape == ("batch", 4)
    x = torch.randn(5, 4)
    with torch.no_grad():
        for found, expected in zip(run(artifact, {"x": x}), model(x), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=TOLERANCE)


class Named(nn.Module):
    """A dictionary of outputs, one of them named like an operator, one nested."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 8)

    def forward(self, ids: Tensor) -> dict[str, Any]:
        embedding = self.embedding(ids)
        return {"embedding": embedding, "moments": (embedding.mean(1), embedding.std(1, unbiased=False))}


def test_outputs_named_like_operators_and_nested_outputs_make_a_valid_model(tmp_path: Path) -> None:
    inputs = {"ids": torch.arange(12).reshape(2, 6)}
    artifact = export_onnx(Named(), inputs, tmp_path / "out")
    assert [spec.name for spec in artifact.outputs] == ["output_0", "output_1", "output_2"]
    assert [spec.shape for spec in artifact.outputs] == [("batch", "sequence", 8), ("batch", 8), ("batch", 8)]
    outputs = Named()(**inputs)
    expected = [outputs["embedding"], *outputs["moments"]]
    for found, value in zip(run(artifact, inputs), expected, strict=True):
        np.testing.assert_allclose(found, value.detach().numpy(), rtol=0, atol=TOLERANCE)


def test_importing_exporters_imports_neither_torch_nor_onnx() -> None:
    code = "import sys, edgefold.exporters; print(sorted({'torch', 'onnx', 'onnxruntime'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_exporting_changes_neither_model_nor_example(bert: Any, text_batch: Make, tmp_path: Path) -> None:
    bert.train()
    inputs = text_batch()
    before = {name: value.clone() for name, value in (bert.state_dict() | inputs).items()}
    export_onnx(bert, inputs, tmp_path / "out")
    assert bert.training
    after = bert.state_dict() | inputs
    assert all(torch.equal(value, after[name]) for name, value in before.items())
