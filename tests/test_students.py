"""Laws of students: the fold is exact, full size changes nothing, sizes follow the plan, bad plans are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import MODES, Student

BERT_PLANS = {
    "uniform": [Project("hidden", 16), Select("ffn", 24), Select("heads", 2)],
    "hidden alone": [Project("hidden", 16)],
    "one layer": [Select("ffn.0", 8), Select("heads.1", 1)],
    "low rank": [Project("hidden", 16), LowRank("word_embeddings", 4), LowRank("*.dense", 4)],
}


def perturb(student: Student) -> None:
    """Training will have moved everything."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


@pytest.fixture(scope="module")
def teacher(make_bert: Callable[..., Any]) -> Any:
    """Students are built of it, and it stays as it is."""
    return make_bert()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plan", BERT_PLANS.values(), ids=BERT_PLANS.keys())
def test_fold_is_exact(
    plan: list[Any], mode: str, teacher: Any, bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    student = build_student(teacher, Plan(plan), text_batch(), [text_batch(8, 11, 1)], mode, graph=bert_graph)
    perturb(student)
    batch = text_batch(3, 7, 2)
    difference = fold(student)(**batch).logits - student(**batch).logits
    assert difference.abs().max() <= 1e-12 * student(**batch).logits.abs().max()


def test_fold_is_exact_in_float32(make_bert_student: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    student = make_bert_student("all", torch.float32)
    perturb(student)
    expected = student(**text_batch()).logits
    assert (fold(student)(**text_batch()).logits - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("plan", [[Project("hidden", 24)], [Select("ffn", 40), Select("heads", 3)], []])
def test_full_size_changes_nothing(
    plan: list[Any], teacher: Any, bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    """Up to the regression of the norms, which recovers their own scale and shift."""
    batch = text_batch()
    student = build_student(teacher, Plan(plan), batch, [text_batch(8, 12, 3)], graph=bert_graph)
    torch.testing.assert_close(student(**batch).logits, teacher(**batch).logits, rtol=1e-9, atol=1e-9)


def test_sizes_follow_the_plan_and_the_pooler_follows_the_configuration(
    make_bert_student: Callable[..., Any],
) -> None:
    student = make_bert_student()
    config = student.module.config
    assert (config.hidden_size, config.intermediate_size, config.num_attention_heads) == (16, 24, 2)
    assert student.structure.sizes["units.0"] == (24, 16)
    assert student.structure.is_uniform


def test_the_teacher_is_not_modified(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    teacher = make_bert()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = build_student(teacher, Plan(BERT_PLANS["uniform"]), text_batch(), [text_batch()], "all")
    perturb(student)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.config.hidden_size == 24


def test_modes_train_what_they_say(make_bert_student: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    trained = {}
    for mode in MODES:
        student = make_bert_student(mode)
        student(**text_batch()).logits.square().sum().backward()
        trained[mode] = {name for name, p in student.named_parameters() if p.requires_grad and p.grad is not None}
    assert "projections.hidden" in trained["projection"]
    assert not any(name.startswith("sources.") for name in trained["projection"])
    assert all("LayerNorm" in name or name.startswith("projections.") for name in trained["projection"])
    assert any(name.startswith("sources.") for name in trained["all"])
    assert "module.classifier.weight" in trained["weights"]


class Plain(nn.Module):
    """Attributes of its own, a raw parameter, a norm and a linear residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.h = 16
        self.inner = nn.Linear(6, 16)
        self.norm = nn.LayerNorm(16)
        self.w = nn.Parameter(torch.randn(16, 12) / 4)
        self.back = nn.Linear(12, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        hidden = hidden + self.back(torch.relu(self.norm(hidden) @ self.w))
        return self.out(hidden.reshape(-1, self.h))


@pytest.mark.parametrize("mode", MODES)
def test_a_plain_module_keeps_its_own_attributes_right(mode: str) -> None:
    teacher, x = Plain().double().eval(), {"x": torch.randn(9, 6, dtype=torch.float64)}
    student = build_student(teacher, Plan([Project("hidden", 8), Select("ffn", 8)]), x, [x], mode)
    plain = fold(student)
    assert plain.h == 8
    assert plain.w.shape == (8, 8)
    torch.testing.assert_close(plain(**x), student(**x), rtol=1e-12, atol=1e-12)


class SmallConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        return self.head(nn.functional.max_pool2d(torch.relu(self.depthwise(y)), 2).flatten(1))


def test_dead_channels_can_be_selected_away_exactly() -> None:
    teacher, x = SmallConv().double().eval(), {"x": torch.randn(6, 3, 8, 8, dtype=torch.float64)}
    with torch.no_grad():
        for channel in (1, 4):
            teacher.head.weight.view(5, 8, 16)[:, channel] = 0
    student = build_student(teacher, Plan([Select("channels", 6)]), x, [x])
    plain = fold(student)
    assert (plain.first.out_channels, plain.depthwise.groups, plain.head.in_features) == (6, 6, 96)
    torch.testing.assert_close(plain(**x), teacher(**x), rtol=1e-12, atol=1e-12)


def test_the_calibrated_start_beats_a_random_one() -> None:
    """On inputs of low rank the projected network computes the teacher's function, which a random start does not."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(8, 20, bias=False), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    x = {"input": torch.randn(64, 8, dtype=torch.float64)}
    dimension = next(d.name for d in trace(teacher, x) if d.kind == "linear")
    student = build_student(teacher, Plan([Project(dimension, 8)]), x, [x])
    torch.testing.assert_close(student(**x), teacher(**x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Project("hidden", 25), r"Project\('hidden', 25\) does not fit hidden of size 24; choose 1 <= size <= 24"),
        (Project("ffn", 8), r"ffn\.0 is permutation; Project needs a dimension of kind linear"),
        (Select("vocab", 8), r"vocab is fixed \(rows of a look-up table\); Select needs"),
        (Select("nothing", 8), r"No dimension matches 'nothing'; this model has vocab, hidden"),
        (LowRank("nothing", 8), r"LowRank\(where='nothing'\) matches no linear or embedding layer; there are bert"),
        (
            LowRank("classifier", 3),
            r"LowRank\(rank=3\) does not fit classifier of shape \(2, 24\); choose 1 <= rank <= 2",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    step: Any, message: str, teacher: Any, bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=message):
        build_student(teacher, Plan([step]), text_batch(), [text_batch()], graph=bert_graph)


def test_a_dimension_named_twice_is_refused(
    teacher: Any, bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    plan = Plan([Select("ffn", 8), Select("ffn.1", 4)])
    with pytest.raises(InputError, match=r"resizes ffn\.1 twice"):
        build_student(teacher, plan, text_batch(), [text_batch()], graph=bert_graph)


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_sizes_are_whole_numbers(size: Any) -> None:
    with pytest.raises(InputError, match=r"must be a whole number of at least 1"):
        Project("hidden", size)


def test_fold_refuses_what_is_no_student_and_what_diverged(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="which is plain already"):
        fold(nn.Linear(2, 2))  # type: ignore[arg-type]
    student = build_student(make_bert(), Plan(BERT_PLANS["uniform"]), text_batch(), [text_batch()])
    with torch.no_grad():
        student.module.classifier.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"classifier\.weight is not finite; training diverged"):
        fold(student)


def test_unknown_mode(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="choose one of weights, projection, all"):
        build_student(make_bert(), Plan([]), text_batch(), [text_batch()], "both")
