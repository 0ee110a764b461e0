"""The fold leaves plain modules: nothing of edgefold in them, slow factor pairs dense, tensors where they belong."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgefold.dimensions import DimensionGraph
from edgefold.folding import fold
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import MODES
from edgefold.thin_products import is_faster, merge_slow_pairs

PLAN = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2), LowRank("intermediate", 4)])
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def origins(module: nn.Module) -> Iterator[str]:
    """Where everything that a module holds was defined."""
    for child in module.modules():
        yield type(child).__module__
        yield from (type(value).__module__ for value in vars(child).values())
        yield from (type(tensor).__module__ for tensor in [*child._parameters.values(), *child._buffers.values()])
        yield from (getattr(hook, "__module__", "") for name in HOOKS for hook in getattr(child, name).values())
        assert not parametrize.is_parametrized(child)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_edgefold_is_left(
    mode: str, make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    student = build_student(make_bert(), PLAN, text_batch(), [text_batch(8)], mode, graph=bert_graph)
    plain = fold(student)
    assert not [origin for origin in origins(plain) if origin.startswith("edgefold")]
    assert not any("edgefold" in name for child in plain.modules() for name in vars(child))
    assert all(type(p) is nn.Parameter and p.is_leaf and p.requires_grad for p in plain.parameters())
    trained = build_student(make_bert(), PLAN, text_batch(), [text_batch(8)], graph=bert_graph).module
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in trained.named_parameters()]


def test_folding_leaves_the_student_in_training(
    make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    student = build_student(make_bert(), PLAN, text_batch(), [text_batch(8)], "all", graph=bert_graph)
    before = student(**text_batch()).logits
    fold(student)
    assert torch.equal(student.module(**text_batch()).logits, before)
    student(**text_batch()).logits.sum().backward()
    assert student.projections["hidden"].grad is not None


class WithBuffer(nn.Module):
    """A buffer along the residual stream, that is projected but never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 16), nn.Linear(16, 3)
        self.register_buffer("shift", torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x) + self.shift)


@pytest.mark.parametrize("mode", MODES)
def test_a_projected_buffer_stays_a_buffer(mode: str) -> None:
    x = {"x": torch.randn(9, 6, dtype=torch.float64)}
    student = build_student(WithBuffer().double().eval(), Plan([Project("hidden", 8)]), x, [x], mode)
    assert not any(p.requires_grad for name, p in student.named_parameters() if "shift" in name)
    plain = fold(student)
    assert [name for name, _ in plain.named_buffers()] == ["shift"]
    assert plain.shift.shape == (8,)
    torch.testing.assert_close(plain(**x), student(**x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("out_features", "in_features"), [(128, 128), (384, 1536), (1536, 384)])
def test_a_pair_wins_well_below_equal_cost_and_loses_at_it(out_features: int, in_features: int) -> None:
    equal = out_features * in_features / (out_features + in_features)
    assert is_faster(out_features, in_features, int(0.7 * equal))
    assert not is_faster(out_features, in_features, int(0.9 * equal))


def test_a_slow_pair_becomes_dense_unless_it_is_to_stay(
    make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    plan = Plan([LowRank("*layer.0.intermediate.dense", 14), LowRank("*layer.1.intermediate.dense", 8)])
    student = build_student(make_bert(), plan, text_batch(), [text_batch(8)], graph=bert_graph)
    expected = student(**text_batch()).logits
    for keep, kinds in ((False, (nn.Linear, nn.Sequential)), (True, (nn.Sequential, nn.Sequential))):
        plain = fold(student, keep_slow_pairs=keep)
        layers = [layer.intermediate.dense for layer in plain.bert.encoder.layer]
        assert tuple(type(layer) for layer in layers) == kinds
        torch.testing.assert_close(plain(**text_batch()).logits, expected, rtol=1e-10, atol=1e-10)


def test_only_pairs_of_linear_layers_are_merged() -> None:
    model = nn.ModuleDict(
        {
            "table": nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9, bias=False)),
            "three": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)),
        }
    )
    assert merge_slow_pairs(model, ["table", "three"]) == []
