"""Recurrent layers become ONNX's own operators, of any length, and compute what torch computes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.errors import InputError
from edgefold.exporters import export_onnx


class Reader(nn.Module):
    """Tokens through a recurrent layer: a class for each, and the last state."""

    def __init__(self, kind: type[nn.RNNBase], **how: Any) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(30, 6), kind(6, 5, **how)
        self.head = nn.Linear(10 if self.rnn.bidirectional else 5, 3)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.table(ids)
        outputs, last = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))
        return self.head(outputs), (last[1] if isinstance(last, tuple) else last).transpose(0, 1)


def ids(rows: int, length: int) -> Tensor:
    return torch.randint(30, (rows, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (nn.LSTM, {"batch_first": True, "bidirectional": True, "num_layers": 2}),
        (nn.LSTM, {"bias": False}),
        (nn.GRU, {"batch_first": True, "bidirectional": True}),
        (nn.GRU, {"num_layers": 3, "dropout": 0.5}),
        (nn.RNN, {"batch_first": True, "nonlinearity": "relu", "bidirectional": True}),
        (nn.RNN, {"bias": False, "num_layers": 2}),
    ],
)
def test_it_is_one_operator_for_each_layer_and_computes_the_same(
    kind: type[nn.RNNBase], how: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Reader(kind, **how).eval()
    artifact = export_onnx(model, {"ids": ids(2, 7)}, tmp_path / "out")
    path = artifact.folder / artifact.model_file
    graph = onnx.load(path).graph
    layers = [node for node in graph.node if node.op_type == kind.__name__]
    assert len(layers) == model.rnn.num_layers
    constants = {value.name for value in graph.initializer}
    assert all(name in constants for node in layers for name in node.input[1:4] if name), "weights are computed anew"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, length in ((1, 3), (5, 11)):
        with torch.no_grad():
            expected = model(ids(rows, length))
        for found, wanted in zip(session.run(None, {"ids": ids(rows, length).numpy()}), expected, strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_a_traced_student_is_exported_like_its_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Reader(nn.GRU, batch_first=True, bidirectional=True).eval(), {"ids": ids(2, 7)}
    save_student(model, tmp_path / "student", inputs=inputs)
    artifact = export_onnx(load_student(tmp_path / "student"), inputs, tmp_path / "out")
    kinds = Counter(node.op_type for node in onnx.load(artifact.folder / artifact.model_file).graph.node)
    assert kinds["GRU"] == 1
    assert "sequence" in artifact.inputs[0].shape


def test_a_projected_lstm_is_refused(tmp_path: Path) -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 6, proj_size=3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    with pytest.raises(InputError, match="ONNX has no LSTM with a projection; leave proj_size out"):
        export_onnx(Projected().eval(), {"x": torch.randn(2, 5, 4)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Tagger(nn.Module):
    """With weights that are larger than what exporters fold unasked."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(30, 32), nn.LSTM(32, 260, batch_first=True, bidirectional=True)
        self.head = nn.Linear(520, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.table(ids))[0])


def test_int8_with_scales_of_run_time_takes_the_weights_of_an_lstm_along(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Tagger().eval(), {"ids": ids(4, 9)}
    paths = []
    for precision in ("fp32", "int8"):
        artifact = export_onnx(model, inputs, tmp_path / precision, precision=precision, quantization="dynamic")
        paths.append(artifact.folder / artifact.model_file)
    whole, small = (path.stat().st_size for path in paths)
    assert small < 0.4 * whole
    assert "DynamicQuantizeLSTM" in {node.op_type for node in onnx.load(paths[1]).graph.node}
    session = onnxruntime.InferenceSession(paths[1], providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(ids(3, 20)).numpy()
    (found,) = session.run(None, {"ids": ids(3, 20).numpy()})
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
