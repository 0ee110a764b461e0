"""Where two thin products win over a dense one, in torch and in ONNX Runtime: what `WINNING_SHARE` rests on.

Processor time of one layer on 128 tokens, one thread, variants interleaved; ratio to dense at shares of the rank
out * in / (out + in) at which both cost the same.
"""

import io
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold.thin_products import WINNING_SHARE

SHARES = (0.25, 0.5, WINNING_SHARE, 0.9, 1.0)
SECONDS = 0.6


def torch_call(layer: nn.Module, x: Tensor) -> Callable[[], Any]:
    return lambda: layer(x)


def onnx_call(layer: nn.Module, x: Tensor) -> Callable[[], Any]:
    file = io.BytesIO()
    program: Any = torch.onnx.export(layer, (x,), opset_version=20, dynamo=True, verbose=False)
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def medians(calls: list[Callable[[], Any]]) -> list[float]:
    """Processor seconds of each, in turn until the time is up."""
    times: list[list[float]] = [[] for _ in calls]
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        for call, found in zip(calls, times, strict=True):
            begun = time.process_time()
            for _ in range(3):
                call()
            found.append(time.process_time() - begun)
    return [median(found) for found in times]


@pytest.mark.parametrize(
    ("out_features", "in_features"), [(128, 128), (384, 384), (384, 1536), (1536, 384), (768, 768), (128, 512)]
)
def test_where_a_pair_wins(out_features: int, in_features: int) -> None:
    torch.set_num_threads(1)
    equal = out_features * in_features / (out_features + in_features)
    ranks = [max(1, int(share * equal)) for share in SHARES]
    x = torch.randn(128, in_features)
    dense: nn.Module = nn.Linear(in_features, out_features).eval()
    pairs = [
        nn.Sequential(nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features)).eval() for rank in ranks
    ]
    with torch.no_grad():
        for name, make in (("torch", torch_call), ("ONNX Runtime", onnx_call)):
            reference, *found = medians([make(layer, x) for layer in (dense, *pairs)])
            row = "  ".join(f"{share:.2f}: {t / reference:.2f}" for share, t in zip(SHARES, found, strict=True))
            print(f"\n({out_features}, {in_features}) {name:12}  {row}", end="")
            assert found[SHARES.index(WINNING_SHARE)] < 1.1 * reference
