"""Gated students: exact gradients, an expected size that is the real one at 0 and 1, a fold that changes nothing."""

import copy
import re
from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.folding import evaluate, fold
from edgefold.gates.hard_concrete import mean, open_probability, sample
from edgefold.gates.settings import Gates
from edgefold.plans import LowRank, Plan, Project
from edgefold.student_building import build_student
from edgefold.students import Student

WHERE = {
    "bert": ["ffn", "heads"],
    "gpt2": ["ffn", "heads.0"],
    "llama": ["ffn", "heads"],
    "perceptron": ["ffn", "linear", "hidden"],
}
"""Family -> dimensions whose coordinates can be closed."""


def gated(
    name: str, mode: str = "weights", plan: Plan | None = None, **fields: Any
) -> tuple[Student, dict[str, Tensor]]:
    teacher, inputs = families.make(name)
    settings = Gates(WHERE[name], **{"keep": 0.5, "multiple_of": 1, **fields})
    graph = families.graph_of(name)
    return build_student(teacher, plan or Plan([]), inputs, [inputs], mode, graph=graph, gates=settings), inputs


def shuffled(student: Student, seed: int = 0) -> Student:
    """Gates far apart, so that which of them close is no matter of rounding."""
    assert student.gates is not None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        student.gates.log_alpha.copy_(torch.randn(len(student.gates.log_alpha), generator=generator))
    return student


def outputs(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor)]


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", WHERE)
def test_the_fold_is_the_student_and_has_the_size_that_was_promised(name: str) -> None:
    student, inputs = gated(name)
    gates = shuffled(student).gates
    assert gates is not None
    gates.settle()
    plain = fold(student.eval(), multiple_of=1)
    for a, b in zip(outputs(plain, inputs), outputs(student, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    removed = (1 - gates.kept_share()) * gates.places.whole
    assert size(plain) == size(evaluate(student)) - round(removed)
    assert 0.4 < gates.kept_share() <= 0.5
    with torch.no_grad():  # all gates at 0 or 1: what is expected is what there is
        gates.log_alpha.copy_((gates.values > 0) * 200.0 - 100.0)
    assert float(gates.expected_share().detach()) == pytest.approx(gates.kept_share(), rel=1e-12)


@pytest.mark.parametrize("mode", ["projection", "all", "weights"])
def test_gates_act_on_what_projections_compose(mode: str) -> None:
    student, inputs = gated("bert", mode, Plan([Project("hidden", 16), LowRank("word_embeddings", 8)]))
    assert shuffled(student).gates is not None
    student.gates.settle()
    plain: Any = fold(student.eval(), multiple_of=1)
    for a, b in zip(outputs(plain, inputs), outputs(student, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    counts = student.gates.open_counts()
    layers = plain.bert.encoder.layer
    assert [layer.intermediate.dense.out_features for layer in layers] == [counts["ffn.0"], counts["ffn.1"]]
    assert [layer.attention.self.num_attention_heads for layer in layers] == [counts["heads.0"], counts["heads.1"]]


def test_a_rank_is_gated_like_any_other_dimension() -> None:
    """The inner dimension of a factor pair, whose two matrices become thinner."""
    teacher, inputs = families.make("bert")
    plan = Plan([LowRank("*layer.0.intermediate.dense", 8)])
    plain = build_student(teacher, plan, inputs, [inputs])
    inner = plain.module.get_parameter("bert.encoder.layer.0.intermediate.dense.0.weight")
    names = [
        d.name
        for d in trace(plain.module, inputs)
        if any(m.axis == 0 and m.parameter.endswith("intermediate.dense.0.weight") for m in d.members)
    ]
    student = build_student(teacher, plan, inputs, [inputs], gates=Gates(names, keep=0.5, multiple_of=1))
    assert shuffled(student).gates is not None
    student.gates.settle()
    folded: Any = fold(student.eval(), multiple_of=1, keep_slow_pairs=True)
    assert inner.shape[0] == 8
    assert folded.bert.encoder.layer[0].intermediate.dense[0].out_features == 4


def test_sizes_become_multiples_and_heads_whole() -> None:
    student, _ = gated("bert", multiple_of=8, keep=0.45)
    assert shuffled(student).gates is not None
    student.gates.settle()
    plain: Any = fold(student.eval())
    for layer in plain.bert.encoder.layer:
        assert layer.intermediate.dense.out_features % 8 == 0
        assert bool((layer.output.dense.weight != 0).any(0).all())  # nothing dead was kept to round up
    assert student.gates.kept_share() <= 0.45


def reference(student: Student, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The squared outputs and their gradient at log_alpha, gating by torch alone in one pass."""
    gates = student.gates
    assert gates is not None
    plain = evaluate_open(student)
    alpha = gates.log_alpha.detach().clone().requires_grad_()
    z = dict(zip(gates.places.sizes, sample(alpha, gates.noise).split([*gates.places.sizes.values()]), strict=True))
    weights = dict(plain.named_parameters())
    for axis in gates.places.axes:
        factors = torch.stack(
            [z[axis.dimension][i] if i >= 0 else z[axis.dimension].new_ones(()) for i in axis.coordinates]
        )
        weights[axis.parameter] = weights[axis.parameter] * factors
    loss = functional_call(plain, weights, (), dict(inputs)).logits.square().sum()
    (gradient,) = torch.autograd.grad(loss, alpha)
    return loss.detach(), gradient


def evaluate_open(student: Student) -> nn.Module:
    """The student with every gate at one."""
    opened = copy.deepcopy(student)
    assert opened.gates is not None
    opened.gates.values.fill_(1.0)
    return evaluate(opened)


@pytest.mark.parametrize("mode", ["weights", "all"])
def test_draws_have_the_gradients_of_gating_everywhere(mode: str) -> None:
    student, inputs = gated("bert", mode, Plan([Project("hidden", 16)]))
    assert shuffled(student).gates is not None
    student.gates.advance(3, 10)
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    student.train()
    loss: Any = student(**inputs)
    loss.logits.square().sum().backward()
    expected, gradient = reference(student, inputs)
    torch.testing.assert_close(loss.logits.square().sum().detach(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(student.gates.log_alpha.grad, gradient, rtol=1e-10, atol=1e-12)
    without = {name for name, p in student.named_parameters() if p.requires_grad and p.grad is None}
    assert without == {"gates.multipliers", *({"projections.hidden"} if mode == "weights" else ())}


def test_draws_change_with_the_step_and_not_within_it() -> None:
    student, inputs = gated("bert")
    gates = shuffled(student).train().gates
    assert gates is not None
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    seen = []
    for step in (0, 1, 0):
        gates.advance(step, 10)
        seen.append(outputs(student, inputs)[0])
        assert torch.equal(outputs(student, inputs)[0], seen[-1])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    state = torch.random.get_rng_state()
    gates.advance(5, 10)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_evaluation_is_what_would_be_kept_by_now() -> None:
    student, inputs = gated("bert", keep=0.4, warmup=0.5)
    gates = shuffled(student).eval().gates
    assert gates is not None
    for done, share in ((0, 1.0), (2, 0.76), (6, 0.4)):
        gates.advance(done, 10)
        assert gates.target == pytest.approx(share)
        before = outputs(student, inputs)[0]
        assert share - 0.1 < gates.kept_share() <= share + 1e-12
        decided = copy.deepcopy(student)
        assert decided.gates is not None
        decided.gates.values.copy_(mean(gates.log_alpha.detach()) * gates._selected(share))
        torch.testing.assert_close(outputs(fold(decided, multiple_of=1), inputs)[0], before, rtol=1e-12, atol=1e-12)


def test_the_lagrangian_descends_in_the_gates_and_ascends_in_its_multipliers() -> None:
    student, _ = gated("bert", keep=0.4, warmup=0.0)
    gates = shuffled(student).gates
    assert gates is not None
    with torch.no_grad():
        gates.multipliers.copy_(torch.tensor([2.0, 3.0]))
    term = gates.lagrangian()
    excess = float(gates.expected_share().detach()) - 0.4
    assert float(term.detach()) == pytest.approx(2 * excess + 3 * excess**2)
    term.backward()
    assert gates.multipliers.grad is not None
    torch.testing.assert_close(gates.multipliers.grad, -torch.tensor([excess, excess**2], dtype=torch.float64))
    alpha = gates.log_alpha.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: _term(gates, a), (alpha,))
    (gradient,) = torch.autograd.grad(_term(gates, alpha), alpha)
    torch.testing.assert_close(gates.log_alpha.grad, gradient, rtol=1e-12, atol=0)
    gates.settle()
    assert float(gates.lagrangian().detach()) == 0


def _term(gates: Any, alpha: Tensor) -> Tensor:
    """The Lagrangian written out, at another log_alpha."""
    counts = {n: p.sum() for n, p in gates._by_dimension(open_probability(alpha)).items()}
    excess = gates.places.count.of(counts) / gates.places.whole - gates.target
    return 2 * excess + 3 * excess.square()


def test_what_has_not_settled_is_not_folded() -> None:
    student, _ = gated("bert", keep=0.4, settle=0.8)
    expected = (
        "The gates on ffn, heads have not settled: of the parameters along these 40.0% are to stay, which is decided "
        "after 80% of training. Train to that point, or decide at once with student.gates.settle()."
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        fold(student)


def test_copies_and_checkpoints_carry_the_gates(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    inputs = text_batch()
    student, other = (
        build_student(make_bert(), Plan([]), inputs, [inputs], gates=Gates("ffn", keep=0.5, seed=seed))
        for seed in (1, 2)
    )
    assert shuffled(student).gates is not None
    student.gates.settle()
    other.load_state_dict(student.state_dict())
    for same in (other, copy.deepcopy(student)):
        assert torch.equal(outputs(same.eval(), inputs)[0], outputs(student.eval(), inputs)[0])
        assert same.gates is not None
        assert same.gates.open_counts() == student.gates.open_counts()
