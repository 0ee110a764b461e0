"""Laws of shared layers: one set of parameters applied again and again, counted once, kept by fold and save."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import DropLayers, LowRank, Plan, Project, Select, ShareLayers
from edgefold.structure.layer_sharing import shared_names, with_every_name
from edgefold.student_building import build_student
from edgefold.students import MODES

X = {"x": torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))}


def perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def test_a_shared_student_applies_one_layer_again_and_again(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    student: Any = build_student(make_bert(num_hidden_layers=3), Plan([ShareLayers()]), text_batch(), [text_batch()])
    perturb(student)
    repeated: Any = copy.deepcopy(student.module)
    repeated.bert.encoder.layer = nn.ModuleList([repeated.bert.encoder.layer[0]] * 3)
    for model in (repeated, fold(student)):
        torch.testing.assert_close(model(**text_batch()).logits, student(**text_batch()).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", ["mean", "first"])
def test_groups_start_from_their_own_layers(start: str, make_residual_stack: Callable[..., Any]) -> None:
    teacher = make_residual_stack()
    module: Any = build_student(teacher, Plan([ShareLayers(2, start=start)]), X, [X]).module
    weights = [layer.inner.weight for layer in teacher.layers]
    for group in (0, 1):
        first, second = weights[2 * group : 2 * group + 2]
        expected = (first + second) / 2 if start == "mean" else first
        for index in (2 * group, 2 * group + 1):
            torch.testing.assert_close(module.layers[index].inner.weight, expected, rtol=0, atol=1e-15)
    assert module.layers[0].inner.weight is module.layers[1].inner.weight
    assert module.layers[1].inner.weight is not module.layers[2].inner.weight
    assert shared_names(teacher) == {}


def test_sharing_the_last_group_of_one_changes_nothing(make_residual_stack: Callable[..., Any]) -> None:
    teacher = make_residual_stack()
    student = build_student(teacher, Plan([ShareLayers(groups=4)]), X, [X])
    torch.testing.assert_close(student(**X), teacher(**X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("plain", [True, False])
def test_what_is_shared_is_saved_once(
    plain: bool,
    tmp_path: Path,
    make_bert: Callable[..., Any],
    make_residual_stack: Callable[..., Any],
    text_batch: Callable[..., Any],
) -> None:
    teacher = (make_residual_stack() if plain else make_bert(num_hidden_layers=4)).float()
    batch = {"x": X["x"].float()} if plain else text_batch()
    folded = fold(build_student(teacher, Plan([DropLayers((1, 3)), ShareLayers()]), batch, [batch]))
    folder = save_student(folded, tmp_path / "student")
    names = set(load_file(folder / "student.safetensors"))
    assert names == {name for name, _ in folded.named_parameters()}
    opened = load_student(folder, make_residual_stack() if plain else None).float()
    assert shared_names(opened) == shared_names(folded)
    output, expected = opened(**batch), folded(**batch)
    assert torch.equal(*((output, expected) if plain else (output.logits, expected.logits)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("groups", [1, 2])
def test_shared_layers_are_resized_as_one(
    mode: str, groups: int, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plan = Plan([ShareLayers(groups), Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])
    student = build_student(make_bert(num_hidden_layers=4), plan, text_batch(), [text_batch(8)], mode)
    perturb(student)
    plain: Any = fold(student)
    expected = student(**text_batch()).logits
    assert (plain(**text_batch()).logits - expected).abs().max() <= 1e-12 * expected.abs().max()
    layers = plain.bert.encoder.layer
    assert len({id(layer.output.dense.weight) for layer in layers}) == groups
    assert [layer.output.dense.weight.shape for layer in layers] == [(16, 24)] * 4
    assert plain.config.hidden_size == 16


def test_a_patched_architecture_shares_too(make_residual_stack: Callable[..., Any]) -> None:
    student = build_student(make_residual_stack(), Plan([ShareLayers(2), Select("ffn.1", 6)]), X, [X], "all")
    perturb(student)
    plain: Any = fold(student)
    torch.testing.assert_close(plain(**X), student(**X), rtol=1e-12, atol=1e-12)
    assert [layer.inner.out_features for layer in plain.layers] == [12, 12, 6, 6]


def test_every_sharing_layer_is_matched(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    plan = Plan([DropLayers(keep=(1, 3)), ShareLayers()])
    student = build_student(make_bert(num_hidden_layers=4), plan, text_batch(), [text_batch()])
    pairs = {match.module: match.teacher_module for match in student.matches}
    for index, before in ((0, 1), (1, 3)):
        assert pairs[f"bert.encoder.layer.{index}.output.LayerNorm"] == f"bert.encoder.layer.{before}.output.LayerNorm"


def test_a_trace_of_shared_parameters_has_one_name_and_layout_for_each(make_residual_stack: Callable[..., Any]) -> None:
    student = build_student(make_residual_stack(), Plan([ShareLayers()]), X, [X])
    module, owners = student.module, shared_names(student.module)
    graph = with_every_name(trace(module, X), module)
    assert {read.parameter for read in graph.reads} <= set(dict(module.named_parameters()))
    assert all(graph.layouts[name] == graph.layouts[owner] for name, owner in owners.items())
    assert [d.name for d in graph if d.kind == "permutation"] == ["ffn.0"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([ShareLayers(groups=3)], r"groups=3\) does not divide the 4 layers of layers; choose one of 1, 2, 4"),
        ([ShareLayers(), ShareLayers(2)], "Two ShareLayers steps match layers; name that stack in one of them only"),
        ([DropLayers((0,)), ShareLayers(2)], r"does not divide the 1 layers of layers; choose one of 1\."),
        (
            [ShareLayers(), Select("ffn.1", 4)],
            r"No dimension matches 'ffn\.1'.*layers that share their parameters",
        ),
        ([ShareLayers(), LowRank("inner", 2)], r"inner cannot be factorized: its weight is shared by layers\.0\.inner"),
    ],
)
def test_refusals(steps: list[Any], message: str, make_residual_stack: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=message):
        build_student(make_residual_stack(), Plan(steps), X, [X])
