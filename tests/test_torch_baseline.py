"""A torch baseline is a session: it computes what the module computes, on a copy, and says how."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgefold.artifacts import TensorSpec
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes import benchmark, open_torch_baseline

INPUTS = (TensorSpec(name="x", dtype="float32", shape=("batch", 4)),)
OUTPUTS = tuple(TensorSpec(name=name, dtype="float32", shape=("batch", 3)) for name in ("logits", "probabilities"))
FEEDS = {"x": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}


class Classifier(nn.Module):
    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        self.form, self.linear, self.dropout = form, nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        logits = self.dropout(self.linear(x))
        found = {"probabilities": logits.softmax(-1), "logits": logits}
        return found if self.form == "dict" else (logits, found["probabilities"], x)


def expected(module: Classifier) -> np.ndarray:
    with torch.no_grad():
        return module.linear(torch.from_numpy(FEEDS["x"])).numpy()


@pytest.mark.parametrize("form", ["dict", "tuple"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("bf16", 0.05), ("fp16", 0.01)])  # 24, 8 and 11 bits
def test_it_computes_what_the_module_computes(form: str, dtype: Any, tolerance: float) -> None:
    module = Classifier(form)
    with open_torch_baseline(module, INPUTS, OUTPUTS, dtype=dtype) as session:
        found = session.run(FEEDS)
        assert list(found) == ["logits", "probabilities"]
        assert {value.dtype.name for value in found.values()} == {"float32"}
        np.testing.assert_allclose(found["logits"], expected(module), atol=tolerance)
        assert (session.runtime, session.precision, session.gpu_s) == ("torch", dtype, None)
        assert session.settings()["compiled"] is False
    assert module.training
    assert module.linear.weight.dtype == torch.float32


def test_threads_and_tf32_are_put_back() -> None:
    before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    seen = []

    class Watching(Classifier):
        def forward(self, x: Tensor) -> Any:
            seen.append((torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32))
            return super().forward(x)

    with open_torch_baseline(Watching(), INPUTS, OUTPUTS, threads=2, tf32=True) as session:
        session.run(FEEDS)
        assert (session.settings()["threads"], session.settings()["tf32"]) == (2, True)
    assert seen == [(2, True)]
    assert before == (torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32)


def test_it_is_measured_as_all_sessions_are() -> None:
    with open_torch_baseline(Classifier(), INPUTS, OUTPUTS, label="eager") as session:
        report = benchmark(session, FEEDS, warmup_s=0.001, min_duration_s=0.001, min_runs=3)
    assert (report.label, report.runtime, report.batch_size) == ("eager", "torch", 5)
    assert report.gpu_p50_s is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"is on cpu or cuda in fp32, bf16, fp16; got device='npu' and dtype='fp32'"):
        open_torch_baseline(Classifier(), INPUTS, OUTPUTS, device="npu")
    with pytest.raises(InputError, match="threads=0 must be at least 1"):
        open_torch_baseline(Classifier(), INPUTS, OUTPUTS, threads=0)
    wrong = (TensorSpec(name="scores", dtype="float32", shape=("batch", 3)),)
    session = open_torch_baseline(Classifier(), INPUTS, wrong)
    with pytest.raises(InputError, match="torch returns probabilities, logits; its specs want scores as well"):
        session.run(FEEDS)
    with pytest.raises(InputError, match="The model takes x; got y"):
        session.run({"y": FEEDS["x"]})
    session.close()
    with pytest.raises(InputError, match="The session of torch is closed"):
        session.run(FEEDS)
    wide = (TensorSpec(name="x", dtype="float32", shape=("batch", "width")),)
    with pytest.raises(InputError, match=r"torch does not run on {'x': \(5, 7\)}: .*shapes cannot be multiplied"):
        open_torch_baseline(Classifier(), wide, OUTPUTS).run({"x": np.ones((5, 7), np.float32)})
    more = (*OUTPUTS, *OUTPUTS)
    with pytest.raises(InputError, match="returns 3 values; its specs name 4"):
        open_torch_baseline(Classifier("tuple"), INPUTS, more).run(FEEDS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="sees no GPU here"):
        open_torch_baseline(Classifier(), INPUTS, OUTPUTS, device="cuda")
