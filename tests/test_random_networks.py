"""The laws of any architecture on networks that a seed draws; NETWORKS=100:200 asks for other seeds."""

import os
import re
from pathlib import Path

import pytest
import torch
from random_networks import Network, network
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import Dimension, DimensionGraph, trace
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.resizing.layouts import axis_names, coordinates, copies, layout_names, resized_shape
from edgefold.student_building import build_student

FEW = (3, 6, 7, 8, 100, 102, 105, 106, 107, 108, 109, 110)
"""Networks to which each of the laws has something to say."""
SEEDS = range(*map(int, os.environ["NETWORKS"].split(":"))) if "NETWORKS" in os.environ else FEW
LEAVE_ZEROS = re.compile(
    "linear|conv[12]d|matmul|batch_norm|lstm|gru|add|sub|mul|mean|amax|where|gt|lt|relu|tanh|gelu|silu|sigmoid|softplus|"
    "elu|sin|prelu|dropout|max_pool2d|avg_pool2d|upsample_nearest2d|transpose|permute|view|reshape|flatten|clone|"
    "contiguous|unsqueeze|expand|cat|split|chunk|getitem|slice"
)
"""Operators along which a coordinate that no parameter reads is as if it were not there."""


def output(module: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(**inputs)
    return found


def assert_same(found: Tensor, expected: Tensor, within: float, said: object) -> None:
    assert found.shape == expected.shape, said
    assert (found - expected).abs().max() <= within * expected.abs().max().clamp_min(1e-6), said


def free(graph: DimensionGraph) -> list[Dimension]:
    return [each for each in graph if each.kind != "fixed" and each.size > 1]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_free_dimension_may_be_permuted(seed: int) -> None:
    """Whatever is no fixed dimension: its coordinates in another order in all parameters change nothing."""
    model = network(seed)
    inputs = model.examples()
    expected, state = output(model, inputs), {name: value.clone() for name, value in model.state_dict().items()}
    graph, values = trace(model, inputs), tensors(model)
    for dimension in free(graph):
        order = torch.randperm(dimension.size, generator=torch.Generator().manual_seed(1))
        for name, layout in graph.layouts.items():
            for place, axis in enumerate(layout):
                if dimension.name in axis_names(axis):
                    found, index = copies(axis, dimension.name), torch.arange(values[name].shape[place])
                    index[found.reshape(-1)] = found[order].reshape(-1)
                    with torch.no_grad():
                        values[name].copy_(values[name].index_select(place, index))
        assert_same(output(model, inputs), expected, 1e-9, f"{dimension.name} of {model}")
        model.load_state_dict(state)


def halved(model: Network, graph: DimensionGraph) -> Plan:
    chosen = free(graph)
    if not chosen:
        pytest.skip(f"nothing is free in {model}")
    return Plan([(Project if d.kind == "linear" else Select)(d.name, d.size // 2) for d in chosen])


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_are_built_folded_saved_and_trained(seed: int, tmp_path: Path) -> None:
    model = network(seed)
    inputs, others = model.examples(), model.examples(5, 1)
    graph = trace(model, inputs)
    plan = halved(model, graph)
    student = build_student(model, plan, inputs, [inputs], "all", graph=graph).eval()
    plain = fold(student)
    for each in (inputs, others):
        assert_same(output(plain, each), output(student, each), 1e-9, model)
    sizes = {name: size for step in plan.steps for name, size in [(step.dimension, step.size)]}  # type: ignore[union-attr]
    for name, value in tensors(plain).items():
        if name in graph.layouts:
            assert tuple(value.shape) == resized_shape(graph.layouts[name], sizes), f"{name} of {model}"
    save_student(plain, tmp_path / "student", inputs=inputs)
    assert_same(output(load_student(tmp_path / "student"), others), output(plain, others), 1e-9, model)
    trained = build_student(model, plan, inputs, [inputs], graph=graph).train()
    trained(**others).square().sum().backward()
    slopes = [parameter.grad for parameter in trained.parameters() if parameter.grad is not None]
    assert slopes, model
    assert all(bool(torch.isfinite(each).all()) for each in slopes), model


@pytest.mark.parametrize("seed", SEEDS)
def test_a_selection_leaves_out_what_is_dead(seed: int) -> None:
    """What no parameter reads any more goes first, and with it goes nothing."""
    model = network(seed)
    inputs = model.examples()
    graph, values = trace(model, inputs), dict(model.named_parameters())
    chosen = [each for each in free(graph) if each.kind == "permutation" and only_parameters_read(graph, each)]
    plan = Plan([Select(each.name, each.size // 2) for each in chosen])
    with torch.no_grad():
        for dimension in chosen:
            order = torch.randperm(dimension.size, generator=torch.Generator().manual_seed(2))
            dead = order[dimension.size // 2 :]
            for name, value in values.items():
                for place, axis in enumerate(graph.layouts.get(name, ())):
                    if dimension.name in axis_names(axis):
                        value.index_fill_(place, torch.isin(coordinates(axis, dimension.name), dead).nonzero()[:, 0], 0)
    if not chosen:
        pytest.skip(f"no dimension of {model} is read by parameters alone")
    student = build_student(model, plan, inputs, [inputs], start="pca")
    assert_same(output(fold(student), inputs), output(model, inputs), 1e-9, model)


def only_parameters_read(graph: DimensionGraph, dimension: Dimension) -> bool:
    """Whether all that happens along a dimension lets what is dead in it be as if it were not there."""
    names = {str(node.target): node for node in graph.module.graph.nodes if node.op == "get_attr"}
    owners = {node for name, node in names.items() if dimension.name in layout_names(graph.layouts.get(name, ()))}
    for node in graph.module.graph.nodes:
        reads = [
            each for each in node.all_input_nodes if dimension.name in layout_names(graph.node_layouts.get(each, ()))
        ]
        if node.op != "call_function" or not reads:
            continue
        name = getattr(node.target, "_opname", getattr(node.target, "__name__", ""))
        ends = dimension.name not in layout_names(graph.node_layouts.get(node, ()))
        if not LEAVE_ZEROS.fullmatch(name) or (ends and node not in graph.tuple_layouts and not owners & set(reads)):
            return False
    return True
