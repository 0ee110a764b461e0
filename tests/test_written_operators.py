"""What torch has no ONNX for is written with what it has: the same numbers, and a graph at any batch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefold.checkpoints import load_student, save_student
from edgefold.exporters import export_onnx
from edgefold.exporters.graph_parts import GraphPart, convert_part
from edgefold.exporters.written_operators import WRITTEN

aten = torch.ops.aten
Rule = Callable[[Tensor], Tensor]
RULES: dict[str, Rule] = {
    "median": lambda x: x.median(1, keepdim=True)[0] + x.median(-1)[0].unsqueeze(-1),
    "kthvalue": lambda x: x.kthvalue(2, 1)[0] + x.kthvalue(3, -1)[0].mean(),
    "cdist": lambda x: torch.cdist(x, x.flip(1)) + torch.cdist(x, 2 * x, p=1.0),
    "hypot": lambda x: torch.hypot(x, x.flip(1)),
    "rrelu": lambda x: functional.rrelu(x, 0.1, 0.2),
}


class Ruled(nn.Module):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.rule = nn.Linear(8, 6), rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self.enter(x))


@pytest.mark.parametrize("name", RULES)
def test_a_model_with_it_is_exported(name: str, tmp_path: Path) -> None:
    """The gate of the export holds the graph against torch, at other batches too; so it does for a traced module."""
    model, inputs = Ruled(RULES[name]).eval(), {"x": torch.randn(4, 5, 8)}
    assert export_onnx(model, inputs, tmp_path / "onnx").inputs[0].shape == ("batch", 5, 8)
    opened = load_student(save_student(model, tmp_path / "saved", inputs=inputs))
    assert export_onnx(opened, inputs, tmp_path / "again").inputs[0].shape == ("batch", 5, 8)


def test_so_is_a_part_of_a_generator() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(8, 6, batch_first=True)

        def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            states = self.rnn(inputs["x"])[0]
            return {"y": torch.cdist(states, states.median(1, keepdim=True)[0])}

    axes = {"x": {0: "batch", 1: "sequence"}, "y": {0: "batch", 1: "sequence"}}
    graph = convert_part(GraphPart("encoder", Part().eval(), {"x": torch.randn(4, 5, 8)}, ("y",), axes), 20)
    assert [node.op_type for node in graph.graph].count("GRU") == 1
    assert graph.graph.inputs[0].shape == onnx_ir.Shape(["batch", "sequence", 8])


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("keepdim", [False, True])
def test_order_statistics_come_with_their_places(size: int, keepdim: bool) -> None:
    x = torch.randn(3, size, 2)
    for operator, more in ((aten.median.dim, ()), (aten.kthvalue.default, (2,))):
        for found, expected in zip(
            WRITTEN[operator](x, *more, 1, keepdim), operator(x, *more, 1, keepdim), strict=True
        ):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("p", [1.0, 2.0, float("inf")])
def test_distances_of_points_that_are_close_keep_their_digits(p: float) -> None:
    a = torch.randn(2, 5, 3) + 1000
    b = a[:, :4] + 1e-2
    exact = torch.cdist(a.double(), b.double(), p=p, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(WRITTEN[torch.cdist](a, b, p).double(), exact, rtol=1e-5, atol=0)
