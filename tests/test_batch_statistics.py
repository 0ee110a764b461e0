"""Batch norms after a start: evaluation computes what it did, and training the same up to the chance of a batch."""

import pytest
import torch
from torch import Tensor, nn

import edgefold as ef
from edgefold.dimensions import trace
from edgefold.starts.batch_statistics import settle_batch_norms

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    """Batch norms of images and of rows; one is used twice, and one has neither scale nor shift."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.second, self.twice = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12, eps=1e-3)
        self.bare, self.last, self.out = nn.BatchNorm1d(12, affine=False), nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.twice(self.second(self.twice(x)))).mean((2, 3))
        return self.out(self.last(self.bare(x)))


class Named(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean, module.running_var = torch.randn(12), torch.rand(12) * 3 + 0.2
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.eval()


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": 2 + 3 * torch.randn(rows, 3, 6, 6, generator=generator)} for rows in (16, 7)]


def load(module: nn.Module, values: dict[str, Tensor]) -> None:
    state = module.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)


def test_evaluation_stays_and_statistics_are_those_measured(net: nn.Module, batches: list[dict[str, Tensor]]) -> None:
    before = [net(**batch) for batch in batches]
    seen: dict[nn.Module, list[Tensor]] = {}
    for module in (net.norm, net.last):
        module.register_forward_pre_hook(lambda m, args: seen.setdefault(m, []).append(args[0]))
    settled = settle_batch_norms(trace(net, {"x": batches[0]["x"][:2]}).module, net, batches)
    seen.clear()
    for batch in batches:
        net(**batch)
    load(net, settled)
    for batch, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(net(**batch), expected, rtol=1e-4, atol=1e-4)
    for module, values in seen.items():
        found = torch.cat([value.transpose(0, 1).flatten(1) for value in values[:2]], 1)
        torch.testing.assert_close(module.running_mean, found.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module.running_var, found.var(1), rtol=1e-4, atol=1e-5)
    assert not [name for name in settled if name.startswith("bare")]
    assert len(settled) == 3 * 4


def test_what_must_stay_stays(net: nn.Module, batches: list[dict[str, Tensor]]) -> None:
    graph = trace(net, {"x": batches[0]["x"][:2]}).module
    settled = settle_batch_norms(graph, net, batches, fixed=("norm.weight",))
    assert not [name for name in settled if name.startswith("norm.")]
    assert [name for name in settled if name.startswith("last.")]


def test_a_built_student_trains_from_what_it_evaluates(net: nn.Module) -> None:
    """A large batch in training mode gives what evaluation does, where norms with the teacher's statistics do not."""
    pixels = torch.randn(256, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    net = nn.Sequential(
        net.first, net.norm, nn.ReLU(), net.second, net.twice, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.out
    )
    net = Named(net)
    student = ef.build_student(net, ef.Plan([ef.Select("channels*", 8)]), {"x": pixels[:2]}, [{"x": pixels}])
    with torch.no_grad():
        expected, found = student.eval()(x=pixels), student.train()(x=pixels)
    assert float((found - expected).norm() / (expected - expected.mean(0)).norm()) < 0.02
