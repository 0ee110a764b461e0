"""A replay in stretches computes what forward computes, under the weights of the moment, and keeps little."""

import torch
from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.graphs.replay import Replay


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu_(self.a(x)))


def replay() -> tuple[nn.Module, list[dict[str, Tensor]], Replay, list[torch.fx.Node]]:
    torch.manual_seed(0)
    model = Two().double().eval()
    batches = [{"x": torch.randn(n, 4, dtype=torch.float64)} for n in (3, 6)]
    graph = trace(model, batches[0])
    a, b = (read.node for read in graph.reads)
    return model, batches, Replay(graph.module, batches, held=[a]), [a, b]


def test_stretches_compute_what_forward_computes() -> None:
    model, batches, run, (a, b) = replay()
    run.run_through(a)
    for i, batch in enumerate(batches):
        torch.testing.assert_close(run.value(i, a), model.a(**{"input": batch["x"]}), rtol=0, atol=0)
        run.run_until(b)
        torch.testing.assert_close(run.attempt(i, [b]), model(**batch), rtol=0, atol=0)


def test_a_held_value_survives_an_operator_that_writes_into_it() -> None:
    model, batches, run, (a, b) = replay()
    run.run_until(b)
    torch.testing.assert_close(run.value(0, a), model.a(batches[0]["x"]), rtol=0, atol=0)


def test_values_are_freed_after_their_last_use() -> None:
    _, _, run, (a, b) = replay()
    run.run_until(b)
    activations = [name for name in run._runs[0].env if name.op == "call_function"]
    assert len(activations) == 1  # what b reads
    run.release(a)
    assert not run._runs[0].held


def test_changed_weights_count_and_the_model_keeps_its_own() -> None:
    model, batches, run, (_, b) = replay()
    before = model(**batches[0])
    run.weights["b.weight"].zero_()
    run.run_until(b)
    torch.testing.assert_close(run.attempt(0, [b]), model.b.bias.expand(3, 3), rtol=0, atol=0)
    torch.testing.assert_close(model(**batches[0]), before, rtol=0, atol=0)
