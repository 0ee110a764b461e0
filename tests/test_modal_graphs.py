"""A traced module trains as the module that it was traced from."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import edgefold as ef
from edgefold.graphs.modal_graphs import FLAGS, ModalGraph

pytestmark = pytest.mark.filterwarnings("ignore")


class Norms(nn.Module):
    """Norms with running statistics, one that has none and takes those of its input in either mode, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.3)
        self.instance = nn.InstanceNorm2d(8, track_running_stats=True, affine=True)
        self.always, self.drop, self.out = nn.InstanceNorm2d(8), nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.instance(torch.relu(self.norm(self.conv(x))))
        return self.out(self.drop((self.always(x) * x).mean((2, 3))))


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def both(tmp_path: Path, pixels: Tensor) -> tuple[nn.Module, GraphModule]:
    """A module, and the graph of it that a folder keeps."""
    torch.manual_seed(1)
    module = Norms().eval()
    for norm in (module.norm, module.instance):
        norm.running_mean, norm.running_var = torch.randn(8), torch.rand(8) + 0.5
    ef.save_student(module, tmp_path / "saved", inputs={"x": pixels[:2]})
    graph = ef.load_student(tmp_path / "saved")
    assert isinstance(graph, ModalGraph)
    return module, graph


def outputs(module: nn.Module, pixels: Tensor) -> Tensor:
    torch.manual_seed(2)  # of the dropout
    found: Tensor = module(x=pixels)
    return found


@pytest.mark.parametrize("steps", [1, 3])
def test_training_goes_as_in_the_module(both: tuple[nn.Module, GraphModule], pixels: Tensor, steps: int) -> None:
    module, graph = both
    for model in both:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.train()
        for step in range(steps):
            optimizer.zero_grad()
            outputs(model, pixels * (1 + step)).square().sum().backward()
            optimizer.step()
        model.eval()
    torch.testing.assert_close(outputs(graph, pixels), outputs(module, pixels))
    state = graph.state_dict()
    for name, tensor in module.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(state[name], tensor)
    assert not torch.equal(state["norm.running_mean"], torch.zeros(8))


def test_evaluation_comes_back_and_what_is_always_on_stays(both: tuple[nn.Module, GraphModule], pixels: Tensor) -> None:
    module, graph = both
    before = outputs(graph, pixels)
    statistics = graph.state_dict()["norm.running_var"].clone()
    graph.eval().train().eval()
    torch.testing.assert_close(outputs(graph, pixels), before)
    torch.testing.assert_close(graph.state_dict()["norm.running_var"], statistics)
    torch.testing.assert_close(before, outputs(module, pixels))
    flags = [node.args[FLAGS[node.target]] for node in graph.graph.nodes if node.target in FLAGS]
    assert flags == [False, False, True, False]


def test_a_copy_has_a_mode_of_its_own(both: tuple[nn.Module, GraphModule], pixels: Tensor) -> None:
    _, graph = both
    before = outputs(graph, pixels)
    copied = copy.deepcopy(graph).train()
    torch.testing.assert_close(outputs(graph, pixels), before)
    assert not torch.allclose(outputs(copied, pixels), before)


def test_another_process_gets_it_with_its_mode(both: tuple[nn.Module, GraphModule], pixels: Tensor) -> None:
    _, graph = both
    before = outputs(graph, pixels)
    sent = pickle.loads(pickle.dumps(graph.train()))
    assert sent.training
    assert graph.training
    torch.testing.assert_close(outputs(sent, pixels), outputs(graph, pixels))
    state = {name: tensor for name, tensor in graph.eval().state_dict().items() if "num_batches" not in name}
    sent.eval().load_state_dict(state)
    torch.testing.assert_close(outputs(sent, pixels), outputs(graph, pixels))
    assert outputs(graph, pixels).shape == before.shape


def test_a_graph_in_training_is_saved_as_in_evaluation(
    both: tuple[nn.Module, GraphModule], pixels: Tensor, tmp_path: Path
) -> None:
    _, graph = both
    before = outputs(graph, pixels)
    ef.save_student(graph.train(), tmp_path / "again")
    assert graph.training
    assert all(n.args[FLAGS[n.target]] for n in graph.graph.nodes if n.target in FLAGS)
    torch.testing.assert_close(outputs(ef.load_student(tmp_path / "again"), pixels), before)


def test_a_student_whose_literals_were_rewritten_takes_the_statistics_of_the_batch(pixels: Tensor) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(7, 12), nn.BatchNorm1d(12), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.norm(self.first(x)).view(-1, 12)))

    torch.manual_seed(0)
    rows = torch.randn(16, 7)
    plan = ef.Plan([ef.Select("units", 6)])
    student = ef.build_student(Viewed().eval(), plan, {"x": rows}, calibration=[{"x": rows}])
    assert isinstance(student.module, ModalGraph)
    before = {name: buffer.clone() for name, buffer in student.module.named_buffers() if "running" in name}
    student.train()(x=rows + 3)
    changed = [name for name, buffer in student.module.named_buffers() if "running" in name]
    assert changed
    assert all(not torch.equal(student.module.get_buffer(name), before[name]) for name in changed)
    kept = student.module.get_buffer(changed[0]).clone()
    student.eval()(x=rows + 9)
    assert torch.equal(student.module.get_buffer(changed[0]), kept)


def test_statistics_that_were_the_mean_of_all_batches_move_too(tmp_path: Path, pixels: Tensor) -> None:
    module = Norms().eval()
    module.norm.momentum = None
    ef.save_student(module, tmp_path / "saved", inputs={"x": pixels[:2]})
    graph = ef.load_student(tmp_path / "saved")
    before = graph.state_dict()["norm.running_mean"].clone()
    graph.train()(x=pixels)
    assert not torch.equal(graph.state_dict()["norm.running_mean"], before)
