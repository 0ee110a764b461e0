"""What died is cut out, nothing else is, and the function stays."""

import logging
from collections.abc import Callable
from itertools import cycle
from typing import Any

import families
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.dead_coordinates import find_dead_coordinates, may_have_died, remove_dead_coordinates, same_function
from edgefold.dimensions import DimensionGraph, trace
from edgefold.folding import fold
from edgefold.plans import Bottleneck, Plan
from edgefold.resizing.layouts import axis_names, copies
from edgefold.student_building import build_student

DEAD = {
    "bert": {"ffn.0": [0, 3, 7, 39], "ffn.1": [5], "heads.0": [1]},
    "gpt2": {"ffn.0": [0, 3, 95], "ffn.1": [5], "heads.1": [2]},
    "llama": {"ffn.0": [0, 3, 39], "ffn.1": [5], "heads.0": [1]},
    "unet": {"channels.2": [1], "channels.5": [0, 4, 9]},
    "perceptron": {"linear.0": [0, 11], "ffn.0": [1, 2, 31], "hidden": [4]},
    "resnet": {"channels.1": [2], "channels.3": [0, 2]},
}


def kill(model: nn.Module, graph: DimensionGraph, name: str, coordinates: list[int], which: str) -> None:
    """Zero the slices of readers, of writers (what is no reader), or of all, at some coordinates."""
    parameters = dict(model.named_parameters())
    readers = {(read.parameter, read.parameter_axis) for read in graph.reads}
    with torch.no_grad():
        for member in graph[name].members:
            is_reader = (member.parameter, member.axis) in readers
            if member.parameter in parameters and (which == "all" or is_reader == (which == "readers")):
                places = copies(graph.layouts[member.parameter][member.axis], name)[coordinates].flatten()
                parameters[member.parameter].movedim(member.axis, 0)[places] = 0


def tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def assert_same(one: nn.Module, other: nn.Module, inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for a, b in zip(tensors(one(**inputs)), tensors(other(**inputs)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DEAD)
def test_what_died_is_cut_out_of_the_folded_student(name: str) -> None:
    """Unread, never written, or both: in turn."""
    teacher, inputs = families.make(name)
    student = build_student(teacher, Plan([]), inputs, [inputs], graph=families.graph_of(name))
    graph, ways = trace(student.module, inputs), cycle(("readers", "writers", "all"))
    for dimension, coordinates in DEAD[name].items():
        for coordinate in coordinates:
            kill(student.module, graph, dimension, [coordinate], next(ways))
    plain = fold(student, multiple_of=1)
    assert_same(plain, student, inputs)
    found = trace(plain, inputs)
    for dimension in graph:
        lost = len(DEAD[name].get(dimension.name, ()))
        assert found[dimension.name].size == dimension.size - lost, dimension.name
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in student.module.parameters())


def test_the_class_stays_though_layers_differ() -> None:
    """Numbers of heads are attributes of each layer's own; no traced graph is needed for them."""
    teacher, inputs = families.make("bert")
    student = build_student(teacher, Plan([]), inputs, [inputs])
    for dimension, coordinates in DEAD["bert"].items():
        kill(student.module, trace(student.module, inputs), dimension, coordinates, "all")
    plain: Any = fold(student, multiple_of=1)
    assert type(plain) is type(teacher)
    assert [layer.attention.self.num_attention_heads for layer in plain.bert.encoder.layer] == [2, 3]
    assert [layer.intermediate.dense.out_features for layer in plain.bert.encoder.layer] == [36, 39]


def test_sizes_stay_multiples() -> None:
    teacher, inputs = families.make("bert")
    student = build_student(teacher, Plan([]), inputs, [inputs])
    graph = trace(student.module, inputs)
    kill(student.module, graph, "ffn.0", [1, 2, 5, 6, 9, 10, 11, 12, 30, 31], "all")
    kill(student.module, graph, "ffn.1", [1, 2, 5], "all")
    plain: Any = fold(student)
    first, second = (layer.intermediate.dense for layer in plain.bert.encoder.layer)
    assert (first.out_features, second.out_features) == (32, 40)
    assert int((first.weight == 0).all(1).sum()) == 2
    assert_same(plain, student, inputs)
    assert fold(student, remove_dead=False).bert.encoder.layer[0].intermediate.dense.out_features == 40
    student.inputs = None
    assert fold(student).bert.encoder.layer[0].intermediate.dense.out_features == 40


def test_a_dimension_that_died_whole_keeps_something() -> None:
    teacher, inputs = families.make("bert")
    student = build_student(teacher, Plan([]), inputs, [inputs])
    graph = trace(student.module, inputs)
    kill(student.module, graph, "ffn.0", list(range(40)), "all")
    kill(student.module, graph, "heads.0", [0, 1, 2], "all")
    plain: Any = fold(student)
    assert plain.bert.encoder.layer[0].intermediate.dense.out_features == 8
    assert plain.bert.encoder.layer[0].attention.self.num_attention_heads == 1
    assert_same(plain, student, inputs)


class Sigmoid(nn.Module):
    """A unit without input still speaks, a mean counts what is silent, and a norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 8), nn.Linear(8, 3)
        self.counted, self.normed, self.norm, self.last = (
            nn.Linear(6, 10),
            nn.Linear(6, 12),
            nn.LayerNorm(12),
            nn.Linear(12, 3),
        )
        self.weighed = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        counted = torch.relu(self.counted(x))
        out = self.outer(torch.sigmoid(self.inner(x))) + self.last(self.norm(self.normed(x)))
        return out + counted.mean(-1, keepdim=True) + self.weighed(counted)


@pytest.mark.parametrize("which", ["readers", "writers", "all"])
def test_what_only_looks_dead_stays(which: str) -> None:
    torch.manual_seed(0)
    model, inputs = Sigmoid().double().eval(), {"x": torch.randn(5, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    of = {
        name: next(d.name for d in graph if any(m.parameter == f"{name}.weight" and m.axis == 0 for m in d.members))
        for name in ("inner", "counted", "normed")
    }
    for dimension in of.values():
        kill(model, graph, dimension, [1, 2], which)
    dead = find_dead_coordinates(model, graph, inputs)
    assert of["normed"] not in dead
    assert (of["inner"] in dead) == (which != "writers")
    assert (of["counted"] in dead) == (which != "readers")  # by its slices alone: the mean is not asked
    smaller = remove_dead_coordinates(model, inputs, 1)
    assert_same(smaller, model, inputs)
    assert smaller.inner.out_features == (8 if which == "writers" else 6)
    assert smaller.counted.out_features == 10
    assert smaller.normed.out_features == 12


def test_a_rectifier_that_happens_to_be_silent_is_not_dead() -> None:
    """Its reader is zero in one output only through a second matrix; the examples never wake it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 2)).double().eval()
    inputs = {"input": torch.rand(3, 4, dtype=torch.float64)}
    with torch.no_grad():
        model[0].weight[2] = -1.0
        model[0].bias[2] = 0.0
    assert find_dead_coordinates(model, trace(model, inputs), inputs) == {}
    assert not may_have_died(model)
    assert remove_dead_coordinates(model, inputs) is model


def test_padding_rows_and_fresh_bottlenecks_are_no_sign_of_death(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    model = make_bert()
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[0] = 0
    student = build_student(model, Plan([Bottleneck(16)]), text_batch(), [text_batch(8)])
    assert not may_have_died(student.module)
    with torch.no_grad():
        student.module.bert.encoder.layer[0].intermediate.dense.weight[:8] = 0
        student.module.bert.encoder.layer[0].intermediate.dense.bias[:8] = 0
    plain: Any = fold(student)
    assert plain.bert.encoder.layer[0].intermediate.dense.out_features == 32
    assert plain.bert.encoder.layer[0].bottleneck.down.out_features == 16
    assert_same(plain, student, text_batch())


def test_what_cannot_be_rebuilt_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Literal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(6, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.inner(x))
            return self.out(h) * h.shape[-1]

    torch.manual_seed(0)
    model, inputs = Literal().double().eval(), {"x": torch.randn(5, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    (name,) = (d.name for d in graph if d.kind == "permutation")
    kill(model, graph, name, [0, 1, 2], "all")
    with caplog.at_level(logging.INFO, logger="edgefold.dead_coordinates"):
        assert remove_dead_coordinates(model, inputs, 1) is model
    assert "without them the function is another one" in caplog.text


def test_functions_are_compared_by_their_outputs() -> None:
    x = {"input": torch.randn(4, 3)}
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    assert same_function(one, one, x)
    assert not same_function(one, other, x)
    assert not same_function(one, nn.Linear(3, 1), x)
    assert axis_names(trace(nn.Linear(3, 2), x).layouts["weight"][1])
