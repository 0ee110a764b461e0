"""export_onnx: onnx(x) = torch(x) at every batch and sequence, or nothing is written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold import Plan, Project, build_student, fold
from edgefold.artifacts import Artifact, load_artifact
from edgefold.errors import GateError, InputError
from edgefold.exporters import export_onnx

Inputs = dict[str, Tensor]
Make = Callable[..., Any]
TOLERANCE = 1e-4


def run(artifact: Artifact, inputs: Inputs) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(str(artifact.model_path), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    found: list[np.ndarray[Any, Any]] = session.run(None, {n: v.numpy() for n, v in inputs.items() if n in wanted})
    return found


class Bag(nn.Module):
    """The masked mean of embeddings, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, sequence) x 2 -> (batch, 3)."""
        weight = mask.unsqueeze(-1).float()
        mean: Tensor = self.head((self.table(ids) * weight).sum(1) / weight.sum(1).clamp(min=1))
        return mean


class Sum(Bag):
    """Takes inputs that are named like the dynamic dimensions."""

    def forward(self, batch: Tensor, sequence: Tensor) -> Tensor:
        return super().forward(batch, sequence)


class Pair(nn.Module):
    """Two outputs of one input of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x), self.right(x)


def ids_and_mask(rows: int = 2, length: int = 6, names: tuple[str, str] = ("ids", "mask")) -> Inputs:
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, 50, (rows, length), generator=generator)
    return {names[0]: ids, names[1]: (torch.rand(rows, length, generator=generator) > 0.3).long()}


def assert_equal(model: nn.Module, artifact: Artifact, inputs: Inputs) -> None:
    with torch.no_grad():
        expected = model(**inputs).numpy()
    np.testing.assert_allclose(run(artifact, inputs)[0], expected, rtol=0, atol=TOLERANCE)


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


@pytest.mark.parametrize(("change", "told"), [("double", "torch.float64 on cpu"), ("meta", "torch.float32 on meta")])
def test_other_precisions_and_devices_are_refused(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(InputError, match=f"table.weight is {told}; .* call model.float..\\.cpu.. first"):
        export_onnx(Bag().double() if change == "double" else Bag().to("meta"), ids_and_mask(), tmp_path / "out")


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


class Frozen(Bag):
    """Multiplies by the number of rows as Python knew it while tracing."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows = torch.tensor(float(len(ids.tolist()))) if not torch.compiler.is_compiling() else torch.tensor(2.0)
        return super().forward(ids, mask) * rows


class NotANumber(Bag):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return super().forward(ids, mask) / (mask.sum(1, keepdim=True) * 0)


class Baked(Bag):
    """Gives its output the shape of the example as Python knew it while tracing."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows = 2 if torch.compiler.is_compiling() else len(ids)
        return super().forward(ids, mask)[torch.arange(rows)].reshape(rows, 3)


def test_a_graph_that_depends_on_the_example_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        GateError, match=r"differs from torch by up to .* of the largest output, more than 1e-04; nothing"
    ):
        export_onnx(Frozen(), ids_and_mask(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", [1e-2, 1e6])
def test_errors_count_in_units_of_the_largest_output(scale: float, tmp_path: Path) -> None:
    """A millimetre in a kilometre is rounding, and as much of a centimetre is none."""

    class Scaled(Bag):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return scale * super().forward(ids, mask)

    class ScaledAndShifted(Scaled):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return super().forward(ids, mask) * (1.001 if torch.compiler.is_compiling() else 1.0)

    assert export_onnx(Scaled(), ids_and_mask(), tmp_path / "out").lineage["parity"]["fp32"] < 1e-5
    with pytest.raises(GateError, match="differs from torch by up to"):
        export_onnx(ScaledAndShifted(), ids_and_mask(), tmp_path / "other")


def test_a_model_that_makes_much_of_rounding_is_judged_by_its_own(tmp_path: Path) -> None:
    """What is left when two orders of one sum cancel: torch in float32 is itself that far from float64."""

    class Cancelling(Bag):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.wide = nn.Parameter(torch.randn(3, 512, generator=generator))
            self.back = nn.Parameter(torch.randn(512, 3, generator=generator))

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            y = super().forward(ids, mask)
            h = y @ self.wide
            return y + 60 * (h @ self.back - (h[:, 200:] @ self.back[200:] + h[:, :200] @ self.back[:200]))

    class Wrong(Cancelling):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return super().forward(ids, mask) + (0.5 if torch.compiler.is_compiling() else 0.0)

    path = tmp_path / "out"
    parity = export_onnx(Cancelling(), ids_and_mask(), path).lineage["parity"]["fp32"]
    assert parity > 1e-4
    with pytest.raises(GateError, match="differs from torch by up to"):
        export_onnx(Wrong(), ids_and_mask(), tmp_path / "other")


def test_a_graph_that_fails_at_other_sizes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"ONNX Runtime does not run .* at other sizes|differs from torch by up to inf"):
        export_onnx(Baked(), ids_and_mask(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_length_needs_axes_of_its_own(tmp_path: Path) -> None:
    """It cannot be asked at other lengths, so that the default axes, by which matrices of ids have any, do not fit."""

    class OneLength(Bag):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            if not torch.compiler.is_compiling() and ids.shape[1] != 6:
                raise ValueError("six tokens, please")
            return super().forward(ids, mask)

    with pytest.raises(GateError, match=r"does not run in torch .* six tokens, please Say with dynamic_axes which"):
        export_onnx(OneLength(), ids_and_mask(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    fixed = {"ids": {0: "batch"}, "mask": {0: "batch"}}
    export_onnx(OneLength(), ids_and_mask(), tmp_path / "out", dynamic_axes=fixed)


def test_an_operator_without_onnx_is_named(tmp_path: Path) -> None:
    class Complex(Bag):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            y = super().forward(ids, mask)
            return torch.linalg.eigvals(y[:, :, None] * y[:, None, :]).real

    with pytest.raises(InputError, match=r"Complex cannot be exported to ONNX: No ONNX function found for .*eig"):
        export_onnx(Complex(), ids_and_mask(), tmp_path / "out")


def test_what_is_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The model itself gives NaN or infinity in torch.*Check its weights"):
        export_onnx(NotANumber(), ids_and_mask(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_nothing_passes_keeps_what_stood_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = export_onnx(Bag(), ids_and_mask(), out)
    with pytest.raises(GateError, match="differs from torch"):
        export_onnx(Bag(), ids_and_mask(), out, tolerance=-1.0, overwrite=True)
    assert load_artifact(out) == first
    assert list(tmp_path.iterdir()) == [out]


def test_an_existing_folder_is_refused_unless_overwriting(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        export_onnx(Bag(), ids_and_mask(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    export_onnx(Bag(), ids_and_mask(), tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact.json", "model.onnx"]


class Untraceable(Bag):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return super().forward(ids, mask) if ids.sum() > 3 else super().forward(ids, mask) * 2


def test_a_module_that_cannot_be_exported_says_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Untraceable cannot be exported to ONNX: "):
        export_onnx(Untraceable(), ids_and_mask(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "precision='fp8' is not known; choose one of fp32, fp16, int8, weight-int8, int4"),
        ({"precision": "int8"}, "Static int8 needs calibration=batches"),
        ({"target": "npu"}, "target='npu' is not known; choose one of cpu-x86, cpu-x86-vnni"),
    ],
)
def test_options_that_are_not_known_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(Bag(), ids_and_mask(), tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": torch.ones(2, 6).long(), "mask": torch.ones(3, 6).long()}, "disagree on batch: mask has 3"),
        ({"ids": torch.ones(2, 6).long(), "mask": torch.ones(2, 5).long()}, "disagree on sequence: mask has 5"),
        ({"ids": torch.tensor(1), "mask": torch.ones(2, 6).long()}, "ids is a scalar"),
    ],
)
def test_examples_that_are_no_batch_are_refused(tmp_path: Path, inputs: Inputs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(Bag(), inputs, tmp_path / "out")
