"""Weights composed once a step have the gradients of composing them everywhere, whatever training is combined with."""

import copy
import io
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgefold import compositions, table_rows
from edgefold.compositions import compose_weights
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import Student

PLAN = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])
COMPOSED = ("projection", "all")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


BUILT: dict[str, Student] = {}


@pytest.fixture(params=COMPOSED)
def student(request: pytest.FixtureRequest, make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> Student:
    if request.param not in BUILT:
        teacher = make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        BUILT[request.param] = build_student(teacher, PLAN, text_batch(), [text_batch(8)], request.param).train()
    return copy.deepcopy(BUILT[request.param])


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).logits.square().sum()


def gradients(student: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    return found


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance * float(b[name].abs().max()))


def reference(student: Student, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Composed anew in every forward pass, by torch alone."""
    plain = fold(student).train()
    p, w = ({k.replace("/", "."): v for k, v in held.items()} for held in (student.projections, student.sources))
    free = {name: value for name, value in student.module.named_parameters() if name in dict(plain.named_parameters())}
    for batch in batches:
        weights = {**free, **compose_weights(p, w, student.layouts)}
        functional_call(plain, weights, (), dict(batch)).logits.square().sum().backward()
    return gradients(student)


@pytest.fixture
def composed_times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def counted(*arguments: Any) -> dict[str, Tensor]:
        calls.append(1)
        return compose_weights(*arguments)

    monkeypatch.setattr(compositions, "compose_weights", counted)
    return calls


def test_composed_once_a_step_with_exact_gradients(
    student: Student, text_batch: Callable[..., Any], composed_times: list[int]
) -> None:
    batches = [text_batch(4, 9, seed) for seed in range(3)]
    expected = reference(student, batches)
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.01)
    composed_times.clear()
    for batch in batches:
        loss_of(student, batch).backward()
        with torch.no_grad():
            student(**batch)
    assert len(composed_times) <= 1
    assert_equal(gradients(student), expected)
    for step in range(1, 3):
        composed_times.clear()
        optimizer.step()
        loss_of(student, batches[0]).backward()
        (loss_of(student, batches[1]) + loss_of(student, batches[2])).backward()
        assert len(composed_times) == 1, step


def test_gradients_through_the_used_rows_alone_are_exact(
    student: Student, text_batch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of 101 rows, of which a batch uses some twenty, taken for a large one."""
    batches = [text_batch(2, 9, seed) for seed in range(2)]
    expected = reference(student, batches)
    monkeypatch.setattr(table_rows, "LARGE", 100)
    for batch in batches:
        loss_of(student, batch).backward()
    assert_equal(gradients(student), expected)


def test_held_gradients_arrive_with_the_last_backward_pass(student: Student, text_batch: Callable[..., Any]) -> None:
    batches = [text_batch(4, 9, seed) for seed in range(3)]
    expected = reference(student, batches)
    for batch in batches:
        student.hold_gradients(batch is not batches[-1])
        loss_of(student, batch).backward()
        assert (student.projections["hidden"].grad is None) == (batch is not batches[-1])
    assert_equal(gradients(student), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_recomputes_with_the_same_weights(
    reentrant: bool, student: Student, text_batch: Callable[..., Any]
) -> None:
    batch = text_batch()
    loss_of(student, batch).backward()
    expected = gradients(student)
    student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    loss_of(student, batch).backward()
    assert_equal(gradients(student), expected)


def test_what_has_no_gradient_checkpointing_says_so() -> None:
    teacher, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), {"input": torch.randn(4, 4)}
    student = build_student(teacher, Plan([Project("hidden", 4)]), x, [x], "all")
    with pytest.raises(InputError, match="Sequential has no gradient_checkpointing_enable; leave"):
        student.gradient_checkpointing_enable()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_students_train_alike_and_compile_once(student: Student, text_batch: Callable[..., Any]) -> None:
    batch = text_batch()
    other = copy.deepcopy(student)
    torch._dynamo.reset()  # another mode's student shares the code, and would count as a recompilation
    compiled = torch.compile(other, backend="aot_eager")
    for model in (student, compiled):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
        for _ in range(3):
            with torch._dynamo.config.patch(error_on_recompile=True):
                loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_equal(dict(other.state_dict()), dict(student.state_dict()), 1e-10)


def test_autocast_runs_the_network_in_bfloat16_and_composes_in_full_precision(
    student: Student, text_batch: Callable[..., Any]
) -> None:
    student, batch = student.float(), text_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(student, batch)
        expected = fold(student).train()(**batch).logits
        assert torch.equal(student(**batch).logits, expected)
    loss.backward()
    assert expected.dtype == torch.bfloat16
    exact = student.composed()
    assert all(torch.equal(weight, exact[name]) for name, weight in student.weights().items() if name in exact)
    assert all(gradient.dtype == torch.float32 for gradient in gradients(student).values())


def test_evaluation_between_steps_leaves_training_alone(student: Student, text_batch: Callable[..., Any]) -> None:
    batch = text_batch()
    expected = reference(student, [batch])
    student.zero_grad()
    with torch.inference_mode():
        student.eval()(**batch)
    loss_of(student.train(), batch).backward()
    assert_equal(gradients(student), expected)


@pytest.mark.parametrize("change", ["in place", "data", "load", "cast", "replaced"])
def test_no_change_of_the_projections_is_missed(change: str, student: Student, text_batch: Callable[..., Any]) -> None:
    loss_of(student, text_batch()).backward()
    before, p = student(**text_batch()).logits, student.projections["hidden"]
    student.zero_grad()
    with torch.no_grad():
        if change == "in place":
            p.add_(0.1)
        elif change == "data":
            p.data.add_(0.1)
        elif change == "load":
            student.load_state_dict({n: v + 0.1 if "projections" in n else v for n, v in student.state_dict().items()})
        elif change == "cast":
            student.float()
        else:
            student.projections["hidden"] = nn.Parameter(p + 0.1)
    after = student(**text_batch()).logits
    assert not torch.equal(before, after.double())
    torch.testing.assert_close(after, fold(student)(**text_batch()).logits)


def test_a_backward_pass_after_the_step_is_refused_as_by_torch(
    student: Student, text_batch: Callable[..., Any]
) -> None:
    if student.mode == "projection":
        pytest.skip("where W is frozen, the gradient of P needs no P")
    loss = loss_of(student, text_batch())
    with torch.no_grad():
        student.projections["hidden"].add_(0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_copies_and_pickles_are_students_of_their_own(student: Student, text_batch: Callable[..., Any]) -> None:
    expected = student(**text_batch()).logits
    file = io.BytesIO()
    torch.save(student, file)
    file.seek(0)
    for other in (copy.deepcopy(student), torch.load(file, weights_only=False)):
        assert torch.equal(other(**text_batch()).logits, expected)
        with torch.no_grad():
            other.projections["hidden"].add_(0.1)
        assert not torch.equal(other(**text_batch()).logits, expected)
        assert torch.equal(student(**text_batch()).logits, expected)


def test_composed_weights_are_no_state(student: Student) -> None:
    composed = set(student.composed())
    assert composed
    assert not {f"module.{name}" for name in composed} & set(student.state_dict())
    assert not {f"module.{name}" for name, _ in student.named_parameters()} & composed
