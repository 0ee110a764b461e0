"""Recurrent taggers in int8: size, agreement with fp32 and the ratio of processor time, in turns, one thread.

make bench ARGS="-k recurrent"
"""

import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.exporters import export_onnx
from edgefold.runtimes import open_session

ROUNDS, LENGTH, VOCABULARY = 60, 64, 5000


class Tagger(nn.Module):
    """Two layers, both ways, 128 -> 2 x 256."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 128)
        self.rnn = kind(128, 256, batch_first=True, bidirectional=True, num_layers=2)
        self.head = nn.Linear(512, 9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.table(ids))[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_in_int8(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger(kind).eval()
    ids = torch.randint(VOCABULARY, (4, LENGTH))

    def exported(precision: str) -> Artifact:
        return export_onnx(model, {"ids": ids}, tmp_path / precision, precision=precision, quantization="dynamic")  # type: ignore[arg-type]

    artifacts = {precision: exported(precision) for precision in ("fp32", "int8")}
    times: dict[str, list[float]] = {name: [] for name in artifacts}
    found: dict[str, np.ndarray] = {}
    with open_session(artifacts["fp32"], threads=1) as whole, open_session(artifacts["int8"], threads=1) as small:
        sessions = {"fp32": whole, "int8": small}
        for name, session in sessions.items():
            found[name] = session.run({"ids": ids.numpy()})["output"]
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                begun = time.process_time()
                session.run({"ids": ids[:1].numpy()})
                times[name].append(time.process_time() - begun)
    off = np.abs(found["int8"] - found["fp32"]).max() / np.abs(found["fp32"]).max()
    same = (found["int8"].argmax(-1) == found["fp32"].argmax(-1)).mean()
    ratio = median(a / b for a, b in zip(times["fp32"], times["int8"], strict=True))
    sizes = ", ".join(f"{name} {artifact.size_bytes / 1e6:.1f} MB" for name, artifact in artifacts.items())
    print(f"\n{kind.__name__}: {sizes}; {ratio:.2f} x, same class {same:.1%}, largest difference {off:.1%}")
    assert same > 0.9
