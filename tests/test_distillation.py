"""Laws of the losses: zero when the student is the teacher, right against their definitions, blind to padding."""

from typing import Any

import pytest
import torch
from torch import nn

from edgefold.distillation import Objective, captured_outputs, hidden_loss, logits_loss, logits_of, token_mask
from edgefold.errors import InputError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_logits_loss_is_the_scaled_divergence(temperature: float) -> None:
    student, teacher = random(5, 3), random(5, 3, seed=1)
    p, q = (torch.softmax(x / temperature, -1) for x in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(logits_loss(student, teacher, temperature), expected)


def test_losses_are_zero_for_the_teacher_itself() -> None:
    teacher = random(4, 6)
    assert logits_loss(teacher, teacher, 2.0).abs() < 1e-15
    assert hidden_loss(teacher, teacher, None) == 0
    projection = random(6, 3, seed=2)
    assert hidden_loss(teacher @ projection, teacher, projection) == 0


def test_hidden_loss_is_one_for_a_student_that_says_nothing() -> None:
    torch.testing.assert_close(
        hidden_loss(torch.zeros(4, 3).double(), random(4, 6), random(6, 3)), torch.ones(()).double()
    )


def test_gradients_match_finite_differences() -> None:
    student, teacher, projection = (
        random(3, 2).requires_grad_(),
        random(3, 4, seed=1),
        random(4, 2, seed=2).requires_grad_(),
    )
    assert torch.autograd.gradcheck(lambda s: logits_loss(s, teacher[:, :2], 2.0), (student,))
    assert torch.autograd.gradcheck(lambda s, p: hidden_loss(s, teacher, p), (student, projection))


def test_padding_does_not_count() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    student, teacher = random(2, 3, 4), random(2, 3, 4, seed=1)
    changed = student + 100 * (1 - mask)[..., None]
    assert token_mask({"attention_mask": mask}, student) is mask
    for loss in (lambda s: hidden_loss(s, teacher, None, mask), lambda s: logits_loss(s, teacher, 2.0, mask)):
        torch.testing.assert_close(loss(student), loss(changed))


def test_outputs_are_captured_only_inside_the_block() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = torch.randn(4, 2)
    with captured_outputs(model, ["0"]) as outputs:
        model(x)
    assert torch.equal(outputs["0"], model[0](x))
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logits": -1.0}, r"Objective\(logits=-1.0\) must be a finite number of at least 0"),
        ({"l1": float("nan")}, r"Objective\(l1=nan\) must be a finite"),
        ({"temperature": 0.0}, r"Objective\(temperature=0\) must be above 0"),
        ({"task": 0.0, "logits": 0.0, "hidden": 0.0}, "nothing to learn from"),
    ],
)
def test_bad_objectives_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(**fields)


def test_logits_are_found_in_the_usual_outputs() -> None:
    x = torch.randn(2, 3)
    assert logits_of(x) is logits_of((x, 1)) is logits_of({"logits": x}) is x
    with pytest.raises(InputError, match="returned dict without logits"):
        logits_of({"scores": x})
