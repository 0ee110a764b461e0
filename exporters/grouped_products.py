"""ONNX for products of rows in groups, one matrix for each group, which mixtures of experts compute."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18
from torch import nn
from torch.fx import GraphModule

op: Any = opset18
FALLBACK = "transformers.grouped_mm_fallback.default"


def translations(model: nn.Module) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operator -> its ONNX, of those in a traced graph that the exporter knows nothing of."""
    nodes = model.graph.nodes if isinstance(model, GraphModule) else ()
    known = (str(torch.ops.aten._grouped_mm.default), FALLBACK)
    return {node.target: grouped_product for node in nodes if str(node.target) in known}


def grouped_product(x: Any, weight: Any, offs: Any) -> Any:
    """y_i = x_i W_g for the rows offs[g - 1] <= i < offs[g].

    A product for each group, of the rows that are in it: a weight gathered for each row would need rows * in * out
    numbers. Rows are gathered and not sliced, as optimizers compare every slice of a value with every other.

    Args:
        x: (rows, in).
        weight: (groups, in, out), of a known number of groups.
        offs: (groups,), where each group ends, as int32.
    """
    ends = op.Cast(offs, to=7)
    begin = op.Constant(value_int=0)
    products = []
    for group in range(weight.shape[0]):
        index = op.Constant(value_int=group)
        end = op.Gather(ends, index)
        rows = op.Range(begin, end, op.Constant(value_int=1))
        products.append(op.MatMul(op.Gather(x, rows), op.Gather(weight, index)))
        begin = end
    return op.Concat(*products, axis=0)
