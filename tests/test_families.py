"""Any architecture: traced without a table of names, made smaller along all it allows, folded exactly."""

import copy
from typing import Any

import pytest
import torch
from families import FAMILIES, make
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student


def halved(graph: DimensionGraph, *names: str) -> list[Any]:
    """Every free dimension (of the families named) at half its size."""
    return [
        (Project if d.kind == "linear" else Select)(d.name, max(1, d.size // 2))
        for d in graph
        if d.kind != "fixed" and (not names or d.name.split(".")[0] in names)
    ]


def first_output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return next(leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor))


def perturb(module: nn.Module) -> None:
    """Training will have moved everything."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


KINDS = {
    "bert": {"vocab": "fixed", "hidden": "linear", "ffn": "permutation", "heads": "heads", "output": "fixed"},
    "bert_masked_lm": {"vocab": "fixed", "units": "permutation", "heads": "heads"},  # a gelu before the tied table
    "roberta": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "distilbert": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "albert": {"hidden": "linear", "linear": "linear", "ffn": "permutation", "heads": "heads"},
    "electra": {"hidden": "linear", "linear": "linear", "heads": "heads"},
    "gpt2": {"vocab": "fixed", "hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "llama": {"hidden": "linear", "ffn": "permutation", "heads": "heads", "queries": "heads"},
    "mistral": {"hidden": "linear", "ffn": "permutation", "heads": "heads", "queries": "heads"},
    "t5": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "bart": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "marian": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "vit": {"hidden": "linear", "ffn": "permutation", "heads": "heads"},
    "resnet": {"channels": "permutation"},
    "perceptron": {"hidden": "linear", "linear": "linear", "ffn": "permutation"},
    "unet": {"channels": "permutation", "hidden": "linear", "kernel": "fixed"},
    "recommender": {"hidden": "linear", "linear": "linear", "units": "permutation", "vocab": "fixed", "table": "fixed"},
    "tagger": {"hidden": "linear", "units": "permutation"},
    "fused": {"hidden": "linear", "heads": "heads", "ffn": "permutation"},
    "experts": {"hidden": "linear", "units": "permutation"},
    "literals": {"hidden": "linear", "heads": "heads"},
    "gated": {"units": "permutation", "vocab": "fixed"},
    "relative": {"hidden": "linear", "linear": "linear", "vocab": "fixed"},
    "pooled": {"hidden": "linear", "heads": "heads", "head_dim": "permutation", "ffn": "permutation"},
}
"""Family -> for some families of its dimensions the kind that each of them has."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_halved_along_all_it_allows_and_folds_exactly(name: str) -> None:
    model, inputs = make(name)
    graph = trace(model, inputs)
    for family, kind in KINDS[name].items():
        assert {d.kind for d in graph.match(family)} == {kind}, family
    student = build_student(model, Plan(halved(graph)), inputs, [inputs], "all", graph=graph)
    perturb(student)
    plain = fold(student)
    expected = first_output(student, inputs)
    assert (first_output(plain, inputs) - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert torch.isfinite(expected).all()
    before, after = (sum(p.numel() for p in module.parameters()) for module in (model, plain))
    assert after < 0.75 * before
    assert not [type(m) for m in plain.modules() if type(m).__module__.startswith("edgefold")]


UNIFORM = {
    "bert": ("hidden", "heads", "ffn"),
    "roberta": ("hidden", "heads", "ffn"),
    "distilbert": ("hidden", "heads", "ffn"),
    "albert": ("hidden", "linear", "heads", "ffn"),
    "electra": ("hidden", "linear", "heads", "ffn"),
    "llama": ("hidden", "heads", "ffn"),
    "t5": ("hidden", "heads", "ffn"),
    "vit": ("hidden", "heads", "ffn"),
}
THIRDS = {"hidden": 8, "linear": 4, "heads": 1, "ffn": 16}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_plans_are_described_by_the_configuration(name: str) -> None:
    """One third of the width and of the heads: head size stays, so the configuration alone says it all."""
    model, inputs = make(name)
    plan = Plan([(Project if f in ("hidden", "linear") else Select)(f, THIRDS[f]) for f in UNIFORM[name]])
    student = build_student(model, plan, inputs, [inputs])
    assert student.structure.is_uniform
    assert not isinstance(student.module, GraphModule)


@pytest.mark.parametrize("family", ["hidden", "heads", "head_dim", "value_dim"])
def test_sizes_written_as_literals_are_rewritten_in_the_traced_graph(family: str) -> None:
    model, inputs = make("literals")
    graph = trace(model, inputs)
    student = build_student(model, Plan(halved(graph, family)), inputs, [inputs], graph=graph)
    assert isinstance(student.module, GraphModule)
    other = {"x": torch.randn(2, 9, 6, dtype=torch.float64)}
    expected = first_output(student, other)
    assert expected.shape == (2, 9, 2)
    assert torch.equal(first_output(fold(student), other), expected)


def test_more_heads_than_there_are_groups_of_queries_are_refused() -> None:
    model, inputs = make("llama")
    message = r"does not fit heads\.0 of size 3; choose 1 <= size <= 3\..*groups of query heads.*is queries\.0"
    with pytest.raises(InputError, match=message):
        build_student(model, Plan([Select("heads", 6)]), inputs, [inputs])


def test_an_unknown_dimension_is_refused_with_the_nearest_name() -> None:
    model, inputs = make("perceptron")
    with pytest.raises(InputError, match=r"No dimension matches 'hiden'; this model has .*Did you mean hidden\?"):
        build_student(model, Plan([Project("hiden", 6)]), inputs, [inputs])


DEAD = [
    ("literals", "heads.0", {"o.weight": 1}),
    ("literals", "head_dim.0", {"q.weight": 0, "q.bias": 0}),
    ("fused", "ffn.0", {"down": 0}),
    ("perceptron", "ffn.0", {"back.weight": 1}),
    ("unet", "channels.5", {"leave.weight": 1}),
    ("recommender", "units.1", {"second.weight": 1}),
    ("experts", "units.1", {"down": 1}),
    ("pooled", "heads.1", {"encoder.layers.1.self_attn.out_proj.weight": 1}),
    ("pooled", "heads.2", {"pooling.out_proj.weight": 1}),
    ("tagger", "units.0", {"lstm.weight_hh_l0": 1, "lstm.weight_hh_l0_reverse": 1, "lstm.weight_ih_l1": 1}),
]


@pytest.mark.parametrize(("name", "dimension", "readers"), DEAD, ids=lambda value: str(value) if value else "")
def test_coordinates_that_nobody_reads_are_selected_away_without_a_trace(
    name: str, dimension: str, readers: dict[str, int]
) -> None:
    """The strongest law of the smaller module: at its new sizes it computes what the teacher does."""
    from edgefold.resizing.layouts import copies

    model, inputs = make(name)
    graph = trace(model, inputs)
    size = graph[dimension].size
    dead = torch.randperm(size, generator=torch.Generator().manual_seed(3))[: size // 2]
    if name == "tagger":
        more = [member for member in graph[dimension].members if "weight" in member.parameter and member.axis == 1]
        readers = {member.parameter: 1 for member in more}
    with torch.no_grad():
        for parameter, axis in readers.items():
            places = copies(graph.layouts[parameter][axis], dimension)[dead].reshape(-1)
            dict(model.named_parameters())[parameter].index_fill_(axis, places, 0)
    student = build_student(model, Plan([Select(dimension, size - size // 2)]), inputs, [inputs], graph=graph)
    torch.testing.assert_close(first_output(student, inputs), first_output(model, inputs), rtol=1e-10, atol=1e-10)


def test_a_low_rank_stream_is_projected_without_a_trace() -> None:
    """Fused parameters, sums of blocks, several readers: activations of rank 6 fit into 6 coordinates."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.pair = nn.Linear(6, 16, bias=False), nn.Parameter(torch.randn(32, 16))
            self.back, self.out = nn.Linear(12, 16, bias=False), nn.Linear(40, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.inner(x)
            left, right = (h @ self.pair.T).split([20, 12], dim=-1)
            h = h + self.inner(torch.tanh(right)[..., :6])
            return self.out(torch.cat([h, left, x[..., :4]], -1))

    torch.manual_seed(0)
    model, inputs = Stream().double().eval(), {"x": torch.randn(64, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    assert (graph["hidden"].kind, graph["hidden"].size) == ("linear", 16)
    student = build_student(model, Plan([Project("hidden", 6)]), inputs, [inputs], graph=graph)
    torch.testing.assert_close(first_output(student, inputs), first_output(model, inputs), rtol=1e-9, atol=1e-9)


def test_an_operator_without_a_rule_is_named_with_its_place() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.fft.fft(self.inner(x)).real)

    model, inputs = Odd(), {"x": torch.randn(3, 4)}
    graph = trace(model, inputs)
    dimension = next(d for d in graph if d.size == 8)
    assert dimension.kind == "fixed"
    assert "no rule for fft" in dimension.reason
    assert "test_families.py" in dimension.reason
    with pytest.raises(InputError, match=r"is fixed \(.*no rule for fft"):
        build_student(model, Plan([Select(dimension.name, 4)]), inputs, [inputs], graph=graph)


def test_a_traced_student_with_weights_of_its_own_is_copied_and_folded() -> None:
    """Raw parameters stand at the root of a traced graph, which fx copies by name."""
    model, inputs = make("fused")
    graph = trace(model, inputs)
    student = build_student(model, Plan(halved(graph, "value_dim")), inputs, [inputs], "all", graph=graph)
    assert isinstance(student.module, GraphModule)
    perturb(student)
    expected = first_output(student, inputs)
    twin = copy.deepcopy(student)
    assert twin.state_dict().keys() == student.state_dict().keys()
    assert torch.equal(first_output(twin, inputs), expected)
    torch.testing.assert_close(first_output(fold(student), inputs), expected, rtol=0, atol=1e-12)
