"""Attention over any number of leading axes is exported, and computes what torch does; its student too."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgefold.dimensions import trace
from edgefold.exporters import export_onnx
from edgefold.exporters.onnx_tracing import OperatorForms
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student


class Attention(nn.Module):
    """(rows, 5, 8) to attention over `rank` axes, under the last axes of a mask."""

    def __init__(self, rank: int, mask_rank: int = 0, is_causal: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rank, self.mask_rank, self.is_causal = rank, mask_rank, is_causal
        self.query, self.key, self.value = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        projected = [self._shaped(layer(x)) for layer in (self.query, self.key, self.value)]
        return functional.scaled_dot_product_attention(
            *projected, attn_mask=self._mask(x), is_causal=self.is_causal, scale=0.3
        )

    def _shaped(self, x: Tensor) -> Tensor:
        if self.rank == 2:
            return x[0]
        for _ in range(self.rank - 3):
            x = torch.stack([x, 2 * x], dim=1)
        return x

    def _mask(self, x: Tensor) -> Tensor | None:
        if not self.mask_rank:
            return None
        seen = x[:, :, 0] > x[:, :1, 0] - 2
        mask = seen[:, None] | torch.eye(5, dtype=torch.bool)
        for _ in range(self.mask_rank - 3):
            mask = mask[:, None]
        return mask[0] if self.mask_rank == 2 else mask


@pytest.mark.parametrize(
    ("rank", "mask_rank", "is_causal"),
    [(2, 0, False), (3, 0, False), (3, 2, False), (3, 3, False), (3, 0, True), (5, 5, False), (6, 2, False)],
)
def test_attention_of_another_rank_is_that_of_four_axes(rank: int, mask_rank: int, is_causal: bool) -> None:
    model, x = Attention(rank, mask_rank, is_causal).double(), torch.randn(4, 5, 8, dtype=torch.float64)
    seen: list[int] = []

    class Watch(TorchFunctionMode):
        """Which ranks torch itself is asked for."""

        def __torch_function__(self, func: object, types: object, args: tuple = (), kwargs: object = None) -> object:
            if func is functional.scaled_dot_product_attention:
                seen.append(args[0].dim())
            return func(*args, **(kwargs or {}))  # type: ignore[operator]

    expected = model(x)
    with Watch(), OperatorForms():
        found = model(x)
    torch.testing.assert_close(found, expected)
    assert seen == [4]


@pytest.mark.parametrize(("rank", "mask_rank"), [(3, 3), (5, 2)])
def test_it_is_exported_at_any_batch_and_so_is_its_student(rank: int, mask_rank: int, tmp_path: Path) -> None:
    model, inputs = Attention(rank, mask_rank).eval(), {"x": torch.randn(4, 5, 8)}
    assert export_onnx(model, inputs, tmp_path / "whole").inputs[0].shape[0] == "batch"
    (units,) = [d.name for d in trace(model, inputs).dimensions if d.kind != "fixed"]
    plain = fold(build_student(model, Plan([Select(units, 8)]), inputs, [inputs], "all"))
    assert plain.query.out_features == 8
    assert export_onnx(plain, inputs, tmp_path / "student").lineage["parity"]["fp32"] < 1e-5
