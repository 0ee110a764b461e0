"""Weights that a graph computes of its parameters alone are constants in the artifact: int8 takes them along."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import trace
from edgefold.exporters import export_onnx
from edgefold.exporters.computed_weights import store_computed
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student

Wrap = Callable[[nn.Module], nn.Module]
X = {"x": torch.randn(2, 6, 16)}


class Wrapped(nn.Module):
    """A linear layer and a convolution with weights that are computed, larger than what exporters fold unasked."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.mix, self.leave = (
            nn.Linear(16, 192),
            wrap(nn.Conv1d(192, 512, 3, padding=1)),
            nn.Linear(512, 2),
        )
        self.enter = wrap(self.enter)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(self.enter(x).relu().transpose(1, 2)).relu()
        return self.leave(mixed.transpose(1, 2))  # type: ignore[no-any-return]


def operators(folder: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(next(folder.glob("*.onnx"))).graph.node)


def hooked_weight_norm(module: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(module)


@pytest.mark.parametrize(
    "wrap",
    [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal, hooked_weight_norm],
)
def test_the_graph_is_that_of_plain_weights(wrap: Wrap, tmp_path: Path) -> None:
    plain, wrapped = Wrapped(lambda module: module).eval(), Wrapped(wrap).eval()
    export_onnx(plain, X, tmp_path / "plain", precision="int8", quantization="dynamic")
    export_onnx(wrapped, X, tmp_path / "wrapped", precision="int8", quantization="dynamic")
    assert operators(tmp_path / "wrapped") == operators(tmp_path / "plain")
    assert wrapped(**X).requires_grad  # nothing of the export is left in the module


def test_so_is_that_of_a_traced_module(tmp_path: Path) -> None:
    wrapped = Wrapped(parametrizations.weight_norm).eval()
    opened = load_student(save_student(wrapped, tmp_path / "saved", inputs=X))
    export_onnx(opened, X, tmp_path / "onnx")
    assert operators(tmp_path / "onnx").keys() == {"MatMul", "Add", "Relu", "Transpose", "Conv"}


def test_a_module_is_built_folded_and_exported_in_the_state_that_training_leaves_it_in(tmp_path: Path) -> None:
    """Weight norm by hooks leaves a weight with a history in its module, which torch does not copy."""
    model = Wrapped(hooked_weight_norm)
    model(**X).sum().backward()
    units = next(d.name for d in trace(model, X).dimensions if d.size == 192)
    student = build_student(model, Plan([Select(units, 96)]), X, [X], "all").train()
    student(**X).sum().backward()
    plain = fold(student.eval())
    torch.testing.assert_close(plain(**X), student(**X))
    assert export_onnx(plain, X, tmp_path / "onnx").lineage["parity"]["fp32"] < 1e-5


GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
computed (float[batch, 3] x) => (float[batch, 3] y)
<float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3] s = {1, 2, 3}, float[3, 3] scaled, float[3, 3] t>
{
    scaled = Mul(w, s)
    h = MatMul(x, scaled)
    LAST
}"""


@pytest.mark.parametrize(
    ("last", "stored"),
    [
        ("y = Relu(h)", 1),
        ("y = MatMul(h, w)", 0),  # w would stay, and its product would come on top
        ("y = Add(h, s)", 0),
        ("t = Transpose <perm = [1, 0]> (scaled)  y = MatMul(h, t)", 0),  # two results in place of one parameter
    ],
)
def test_no_graph_grows(last: str, stored: int) -> None:
    model = onnx_ir.from_onnx_text(GRAPH.replace("LAST", last))
    assert store_computed(model) == stored
    assert [node.op_type for node in model.graph].count("Mul") == 1 - stored
    assert ("w" in model.graph.initializers) == (not stored)
