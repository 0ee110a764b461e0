"""export_onnx refuses what does not compute what torch does, and what it does not know; nothing is written then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_exports import Bag, Inputs, ids_and_mask
from torch import Tensor, nn

from edgefold.artifacts import load_artifact
from edgefold.errors import GateError, InputError
from edgefold.exporters import export_onnx

Make = Callable[..., Any]


@pytest.mark.parametrize(("change", "told"), [("double", "torch.float64 on cpu"), ("meta", "torch.float32 on meta")])
def test_other_precisions_and_devices_are_refused(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(InputError, match=f"table.weight is {told}; .* call model.float..\\.cpu.. first"):
        export_onnx(Bag().double() if change == "double" else Bag().to("meta"), ids_and_mask(), tmp_path / "out")


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


def test_a_model_of_one_length_keeps_it_and_one_of_some_lengths_needs_axes_of_its_own(tmp_path: Path) -> None:
    """What runs at five, six and seven tokens and not at three would be asked for three by the default axes."""

    class OfLengths(Bag):
        least, most = 6, 6

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            if not torch.compiler.is_compiling() and not self.least <= ids.shape[1] <= self.most:
                raise ValueError("some tokens more or less, please")
            return super().forward(ids, mask)

    class OfSomeLengths(OfLengths):
        least, most = 5, 7

    artifact = export_onnx(OfLengths(), ids_and_mask(), tmp_path / "one")
    assert [each.shape for each in artifact.inputs] == [("batch", 6)] * 2
    with pytest.raises(GateError, match=r"does not run in torch .* less, please Say with dynamic_axes which"):
        export_onnx(OfSomeLengths(), ids_and_mask(), tmp_path / "some")
    assert [each.name for each in tmp_path.iterdir()] == ["one"]
    fixed = {"ids": {0: "batch"}, "mask": {0: "batch"}}
    export_onnx(OfSomeLengths(), ids_and_mask(), tmp_path / "some", dynamic_axes=fixed)


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
