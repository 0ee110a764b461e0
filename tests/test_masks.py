"""Masks of students: exactly the promised zeros on any model, chosen as the score says, and the fold is exact."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import make
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.masks.checks import check_nm
from edgefold.masks.laws import as_matrix
from edgefold.masks.steps import NM, Block, Unstructured
from edgefold.plans import LowRank, Plan, Project, Select, ShareLayers
from edgefold.student_building import build_student
from edgefold.students import Student


def build(model: nn.Module, inputs: dict[str, Tensor], *steps: Any, mode: str = "weights") -> Student:
    return build_student(model, Plan(steps), inputs, [inputs], mode)


def first_output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return next(leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor))


def sparsity(weight: Tensor) -> float:
    return float((weight == 0).double().mean())


@pytest.mark.parametrize(
    "family", ["bert_masked_lm", "gpt2", "perceptron", "unet", "recommender", "tagger", "fused", "experts"]
)
def test_any_model_becomes_two_of_four_without_training(family: str) -> None:
    """Every matrix that the traced graph reads, along the axis that is contracted; nothing else changes."""
    model, inputs = make(family)
    student = build(model, inputs, NM(2, 4, score="wanda"))
    plain = fold(student)
    masks = student.masks.by_parameter
    assert masks
    contracted = {read.parameter: read.parameter_axis for read in trace(model, inputs).reads}
    for name, weight in plain.named_parameters():
        before = model.get_parameter(name)
        if name not in masks:
            assert torch.equal(weight, before), name
            continue
        groups = as_matrix(weight, contracted[name]).reshape(-1, 4)
        assert ((groups != 0).sum(1) == 2).all(), name
        assert torch.equal(weight[weight != 0], before[weight != 0])
    torch.testing.assert_close(first_output(plain, inputs), first_output(student, inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", ["magnitude", "wanda"])
@pytest.mark.parametrize("make_step", [Unstructured, lambda s, **k: Block(s, (2, 4), **k)], ids=["weights", "blocks"])
def test_sparsity_is_exact(
    make_step: Callable[..., Any], score: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    student = build(make_bert(), text_batch(), make_step(0.7, where="encoder", score=score, end=0.0))
    assert len(student.masks) == 12
    unit = 8 if isinstance(make_step(0.7), Block) else 1
    for name, mask in student.masks.by_parameter.items():
        weight = student.module.get_parameter(name)
        zeros = int((weight == 0).sum())
        assert zeros == round(0.7 * weight.numel() / unit) * unit == int((~mask.kept).sum())
    assert sparsity(student.module.classifier.weight) == 0


def test_magnitude_takes_the_smallest(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    teacher = make_bert()
    student = build(teacher, text_batch(), Unstructured(0.5, "query", end=0.0))
    for name, mask in student.masks.by_parameter.items():
        before = teacher.get_parameter(name).abs()
        assert before[~mask.kept].max() < before[mask.kept].min()


def test_wanda_beats_magnitude_where_inputs_differ_in_size() -> None:
    """Of each pair of equal weights those of loud inputs matter; magnitude cannot see that."""
    torch.manual_seed(0)
    layer = nn.Linear(32, 16, bias=False).double().eval()
    x = (
        torch.randn(256, 32, dtype=torch.float64)
        * torch.logspace(-1.5, 1.5, 32, dtype=torch.float64)[torch.randperm(32)]
    )
    inputs = {"input": x}
    errors = {}
    for score in ("magnitude", "wanda"):
        for step in (NM(2, 4, score=score), Unstructured(0.5, score=score, end=0.0)):
            plain = fold(build(layer, inputs, step))
            errors[type(step), score] = float((plain(x) - layer(x)).detach().square().mean())
    for kind in (NM, Unstructured):
        assert errors[kind, "wanda"] < 0.5 * errors[kind, "magnitude"]


def test_wanda_leaves_padding_out() -> None:
    """Of an input that is loud at masked positions alone, nothing is seen."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.read = nn.Embedding(3, 4), nn.Linear(4, 2, bias=False)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return (self.read(self.table(input_ids)) * attention_mask[..., None]).sum(1)

    net = Net().double().eval()
    with torch.no_grad():
        net.table.weight.copy_(torch.tensor([[100.0, 100, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))
        net.read.weight.fill_(1.0)
    inputs = {"input_ids": torch.tensor([[1, 2, 0], [2, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    plain = fold(build(net, inputs, NM(2, 4, score="wanda")))
    assert torch.equal(plain.read.weight != 0, torch.tensor([[False, False, True, True]] * 2))
    torch.testing.assert_close(plain(**inputs), net(**inputs))


PLANS = {
    "smaller": [Project("hidden", 16), Select("ffn", 24), Select("heads", 2), NM(2, 4, score="wanda")],
    "factors": [LowRank("dense", 4), NM(2, 4, "dense"), Unstructured(0.5, "query", end=0.0)],
    "shared": [ShareLayers(), NM(1, 4, "encoder", score="wanda")],
    "kinds": [Block(0.5, where="intermediate", end=0.0), Unstructured(0.8, "attention", end=0.0), NM(2, 4, "pooler")],
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_masks_go_with_other_steps_and_the_fold_is_exact(
    plan: list[Any], make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    student = build(make_bert(), text_batch(8), *plan)
    zeros = {name: ~mask.kept for name, mask in student.masks.by_parameter.items()}
    plain = fold(student)
    for name, masked in zeros.items():
        assert masked.any()
        assert torch.equal(plain.get_parameter(name) == 0, masked)
    batch = text_batch(3, 7, 2)
    difference = (plain(**batch).logits - student(**batch).logits).abs().max()
    assert difference <= 1e-12 * student(**batch).logits.abs().max()


def test_masked_factors_stay_factors(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    """At this rank the dense product is faster, but has none of the zeros."""
    step = LowRank("pooler", 11)
    for more, kind in (((), nn.Linear), ((NM(2, 4, "*pooler.dense.0"),), nn.Sequential)):
        assert isinstance(fold(build(make_bert(), text_batch(), step, *more)).bert.pooler.dense, kind)


def test_a_tied_table_is_masked_once() -> None:
    model, inputs = make("gpt2")
    student = build(model, inputs, NM(2, 4, "lm_head"))
    assert list(student.masks.by_parameter) == ["transformer.wte.weight"]
    assert student.module.lm_head.weight is student.module.transformer.wte.weight
    assert check_nm(fold(student), 2, 4, "lm_head") == 1


def test_the_schedule_can_be_walked_by_hand(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    student = build(make_bert(), text_batch(), Unstructured(0.8, "query", begin=0.2, end=0.6))
    seen = []
    for progress in (0.0, 0.2, 0.4, 0.5, 0.6, 1.0, 0.1):
        student.masks.advance(student.module, progress)
        seen.append(sparsity(student.module.get_parameter(next(iter(student.masks.by_parameter)))))
    assert seen[:2] == [0.0, 0.0]
    assert seen[2] == pytest.approx(0.7, abs=2e-3)
    assert seen[4:] == [pytest.approx(0.8, abs=1e-3)] * 3  # and what is masked stays so
    assert seen[:5] == sorted(seen[:5])


def test_copies_and_states_carry_their_masks(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    plan = (Unstructured(0.5, "query", score="movement"), NM(2, 4, "key", score="wanda"))
    student = build(make_bert(), text_batch(), *plan)
    student.masks.advance(student.module, 0.3)
    state = copy.deepcopy(student).state_dict()
    assert {name.rpartition(".")[2] for name in state if name.startswith("masks.")} == {"kept", "movement", "norms"}
    other = build(make_bert(), text_batch(), *plan)
    other.load_state_dict(state)
    for name, mask in student.masks.by_parameter.items():
        assert torch.equal(other.masks.by_parameter[name].kept, mask.kept)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [NM(2, 4, "nothing")],
            r"NM\(n=2, .*matches no product with a weight; there are bert\.enc.*Look-up",
        ),
        ([NM(2, 4, "word_embeddings")], r"matches no product with a weight"),
        ([NM(2, 7, "query")], r"fits nothing that it matches: bert.*query has 24 inputs, no multiple of 7; "),
        ([Block(0.5, (5, 4), "query")], r"query has 24 outputs and 24 inputs, no multiples of 5 and 4"),
        ([NM(2, 4), Unstructured(0.5, "query")], r"NM\(.*\) and Unstructured\(.*\) both match bert.*query; name it in"),
    ],
)
def test_steps_that_do_not_fit_are_refused(
    steps: list[Any], message: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=message):
        build(make_bert(), text_batch(), *steps)


@pytest.mark.parametrize("mode", ["projection", "all"])
def test_composed_weights_are_not_masked(
    mode: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=rf"which mode='{mode}' composes anew .* use mode='weights'"):
        build(make_bert(), text_batch(), Project("hidden", 16), NM(2, 4), mode=mode)


def test_what_does_not_fit_stays_dense_and_is_told(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    student = build(make_bert(intermediate_size=42), text_batch(), NM(2, 4))
    assert "bert.encoder.layer.0.output.dense has 42 inputs, no multiple of 4 stays dense under NM" in caplog.text
    assert sparsity(student.module.bert.encoder.layer[0].output.dense.weight) == 0


def test_calibration_that_is_not_finite_is_refused() -> None:
    inputs = {"input": torch.full((4, 8), float("inf"))}
    with pytest.raises(InputError, match=r"Calibration met non-finite inputs of weight|non-finite"):
        build(nn.Linear(8, 4), inputs, NM(2, 4, score="wanda"))


def test_the_fold_refuses_masks_that_are_not_what_the_plan_says(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    student = build(make_bert(), text_batch(), Unstructured(0.8, "query", end=0.6))
    with pytest.raises(InputError, match=r"query\.weight has 0\.0% zeros of the 80\.0% .* after 60% of training"):
        fold(student)
    student.masks.advance(student.module, 1.0)
    assert fold(student)
    with torch.no_grad():
        student.module.bert.encoder.layer[1].attention.self.query.weight.add_(1.0)
    with pytest.raises(InputError, match=r"461 masked weights of bert\.encoder\.layer\.1.* are not zero; .*enforce"):
        fold(student)
