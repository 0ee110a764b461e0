"""Laws of every loss: minimal for the teacher itself, right against its definition and finite differences, blind to
padding."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgefold.distillation import (
    attention_loss,
    check_tokenizers,
    cosine_loss,
    hidden_loss,
    info_nce,
    labelled_contrast,
    logits_loss,
    map_layers,
    pool,
    relation_loss,
)
from edgefold.distillation.row_divergences import ELEMENTS
from edgefold.errors import InputError

MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(*shape: int, seed: int = 0) -> Tensor:
    return random(*shape, seed=seed).softmax(-1)


LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]]] = {
    "logits": (lambda s, t, mask=None: logits_loss(s, t, 2.0, mask), random, (2, 3, 4)),
    "hidden": (lambda s, t, mask=None: hidden_loss(s, t, None, mask), random, (2, 3, 4)),
    "cosine": (lambda s, t, mask=None: cosine_loss(s, t, None, mask), random, (2, 3, 4)),
    "attention": (lambda s, t, mask=None: attention_loss(s, t, None, mask), maps, (2, 2, 3, 3)),
    "relations": (lambda s, t, mask=None: relation_loss(s, t, 2, mask), random, (2, 3, 4)),
}
"""Name -> loss(student, teacher, mask), how its values are drawn, and their shape."""


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_zero_for_the_teacher_itself_and_positive_elsewhere(name: str) -> None:
    loss, draw, shape = LOSSES[name]
    teacher = draw(*shape)
    for mask in (None, MASK):
        assert loss(teacher, teacher, mask).abs() < 1e-15
        assert loss(draw(*shape, seed=1), teacher, mask) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "ragged"])
def test_gradients_match_finite_differences(name: str, mask: Tensor | None) -> None:
    loss, draw, shape = LOSSES[name]
    teacher = draw(*shape, seed=1)
    assert torch.autograd.gradcheck(lambda student: loss(student, teacher, mask), (draw(*shape).requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
def test_padding_does_not_count(name: str) -> None:
    loss, draw, shape = LOSSES[name]
    student, teacher, rubbish = (draw(*shape, seed=seed) for seed in range(3))
    padded = (1 - MASK).bool()
    where = padded[:, None, :, None] if len(shape) == 4 else padded[..., None]
    changed = torch.where(where, rubbish, student)
    torch.testing.assert_close(loss(student, teacher, MASK), loss(changed, teacher, MASK))
    assert not torch.isclose(loss(student, teacher), loss(changed, teacher))


def test_gradients_reach_the_projection() -> None:
    student, teacher, projection = random(3, 2), random(3, 4, seed=1), random(4, 2, seed=2)
    for loss in (hidden_loss, cosine_loss):
        inputs = (student.clone().requires_grad_(), projection.clone().requires_grad_())
        assert torch.autograd.gradcheck(lambda s, p, loss=loss: loss(s, teacher, p), inputs)
        assert loss(teacher @ projection, teacher, projection).abs() < 1e-15


@pytest.mark.parametrize("rows", [1, 2, 6], ids=["row by row", "a rest", "at once"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "ragged"])
def test_logits_are_compared_a_few_rows_at_a_time(
    rows: int, mask: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ELEMENTS, "cpu", rows * 5 + 4)
    student, teacher = random(2, 3, 5).requires_grad_(), random(2, 3, 5, seed=1)
    value = logits_loss(student, teacher, 3.0, mask)
    log_p, log_q = (logits / 3 for logits in (teacher, student))
    each = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=x) for x in (log_p, log_q)))
    counted = torch.ones(2, 3) if mask is None else mask
    expected = 9 * (each * counted).sum() / counted.sum()
    torch.testing.assert_close(value, expected)
    wanted, found = (torch.autograd.grad(loss, student)[0] for loss in (expected, value))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_compared_in_single_precision(dtype: torch.dtype) -> None:
    """16,384 rows: a gradient of 1 / rows is none in float16, before the loss is scaled."""
    student, teacher = (random(2**14, 3, seed=seed).to(dtype) for seed in (0, 1))
    found, wanted = student.clone().requires_grad_(), student.double().requires_grad_()
    value, expected = logits_loss(found, teacher, 1.0), logits_loss(wanted, teacher.double(), 1.0)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    for loss in (value, expected):
        (loss * 2**14).backward()
    assert found.grad is not None
    assert wanted.grad is not None
    torch.testing.assert_close(found.grad.double(), wanted.grad, rtol=0.01, atol=1e-3)


def test_autocast_leaves_the_divergence_in_single_precision() -> None:
    student, teacher = (random(64, 9, seed=seed).float() for seed in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        value = logits_loss(student, teacher, 2.0)
    torch.testing.assert_close(value, logits_loss(student, teacher, 2.0), rtol=0, atol=0)


def test_cosine_loss_sees_directions_alone() -> None:
    teacher = random(5, 4)
    assert cosine_loss(7 * teacher, teacher).abs() < 1e-15
    torch.testing.assert_close(cosine_loss(-teacher, teacher), torch.tensor(2.0).double())


def test_attention_is_compared_with_the_heads_that_the_student_kept() -> None:
    teacher = maps(2, 4, 3, 3)
    assert attention_loss(teacher[:, [3, 1]], teacher, [3, 1]) == 0
    assert attention_loss(teacher[:, [3, 1]], teacher, [1, 3]) > 1e-3
    same_mean = teacher.mean(1, keepdim=True).expand(-1, 2, -1, -1)
    assert attention_loss(same_mean, teacher).abs() < 1e-15


def test_relation_loss_is_the_divergence_of_relations_of_any_widths() -> None:
    student, teacher = random(2, 3, 4), random(2, 3, 6, seed=1)
    expected = torch.zeros((), dtype=torch.float64)
    for head in range(2):
        s, t = student[..., 2 * head : 2 * head + 2], teacher[..., 3 * head : 3 * head + 3]
        q = (s @ s.transpose(1, 2) / math.sqrt(2)).softmax(-1)
        p = (t @ t.transpose(1, 2) / math.sqrt(3)).softmax(-1)
        expected += (p * (p / q).log()).sum(-1).mean() / 2
    torch.testing.assert_close(relation_loss(student, teacher), expected)
    with pytest.raises(InputError, match=r"4 relation heads do not divide the widths 4 .* and 6 .* one of 1, 2"):
        relation_loss(student, teacher, 4)


def test_relation_loss_is_blind_to_rotations_of_a_head() -> None:
    teacher = random(2, 5, 6)
    rotation = torch.linalg.qr(random(6, 6, seed=3)).Q
    assert relation_loss(teacher @ rotation, teacher, 1).abs() < 1e-12


def test_info_nce_is_the_cross_entropy_of_cosines() -> None:
    a, b = random(4, 3), random(4, 3, seed=1)
    scores = torch.stack([torch.stack([torch.cosine_similarity(x, y, dim=0) for y in b]) for x in a]) / 0.5
    torch.testing.assert_close(info_nce(a, b, 0.5), -scores.log_softmax(-1).diagonal().mean())
    assert torch.autograd.gradcheck(lambda x, y: info_nce(x, y, 0.5), (a.requires_grad_(), b.requires_grad_()))


def test_info_nce_knows_nothing_where_all_are_alike() -> None:
    torch.testing.assert_close(info_nce(torch.ones(6, 3), torch.ones(6, 3), 0.1), torch.tensor(6.0).log())


def test_info_nce_is_minimal_for_the_teacher_itself() -> None:
    """At the corners of a simplex, where by symmetry no other direction is better for any row."""
    teacher = torch.eye(5, dtype=torch.float64) - 0.2
    student = teacher.clone().requires_grad_()
    least = info_nce(student, teacher, 0.3)
    (gradient,) = torch.autograd.grad(least, student)
    assert gradient.abs().max() < 1e-15
    for seed in range(20):
        assert info_nce(teacher + 0.1 * random(5, 5, seed=seed), teacher, 0.3) > least


def test_labelled_contrast_is_its_definition() -> None:
    rows, labels = random(6, 4), torch.tensor([0, 1, 0, 2, 1, 0])
    units = rows / rows.norm(dim=-1, keepdim=True)
    losses = []
    for i in (0, 1, 2, 4, 5):  # row 3 is alone with its label
        scores = torch.stack([(units[i] @ units[j] / 0.5).exp() for j in range(6)])
        others = scores.sum() - scores[i]
        positives = [p for p in range(6) if p != i and labels[p] == labels[i]]
        losses.append(-torch.stack([(scores[p] / others).log() for p in positives]).mean())
    torch.testing.assert_close(labelled_contrast(rows, labels, 0.5), torch.stack(losses).mean())
    assert torch.autograd.gradcheck(lambda x: labelled_contrast(x, labels, 0.5), (rows.requires_grad_(),))
    assert labelled_contrast(rows, torch.arange(6), 0.5) == 0


def test_bad_contrasts_are_refused() -> None:
    with pytest.raises(InputError, match=r"two matrices of one shape, .*; got \(4, 3\) and \(4, 2\)"):
        info_nce(random(4, 3), random(4, 2), 0.5)
    with pytest.raises(InputError, match=r"temperature of a contrast must be above 0; got 0\.0"):
        info_nce(random(4, 3), random(4, 3), 0.0)
    with pytest.raises(InputError, match=r"one label for each of 4 examples; got labels of shape \(4, 2\)"):
        labelled_contrast(random(4, 3), torch.zeros(4, 2), 0.5)


def test_pooling_reads_the_tokens_that_count() -> None:
    hidden = random(2, 3, 4)
    torch.testing.assert_close(pool(hidden, MASK), torch.stack([hidden[0, :2].mean(0), hidden[1, 0]]))
    assert torch.equal(pool(hidden, MASK, "cls"), hidden[:, 0])
    assert torch.equal(pool(hidden, MASK, "last"), torch.stack([hidden[0, 1], hidden[1, 0]]))
    assert torch.equal(pool(hidden, MASK.flip(1), "last"), hidden[:, 2])
    assert torch.equal(pool(hidden, None, "last"), hidden[:, 2])
    assert torch.equal(pool(hidden[:, 0]), hidden[:, 0])
    with pytest.raises(InputError, match="pooling='max' is not known; choose one of mean, cls, last"):
        pool(hidden, None, "max")
    with pytest.raises(InputError, match=r"got a tensor of shape \(2, 3, 4, 1\)"):
        pool(hidden[..., None])


@pytest.mark.parametrize(
    ("depths", "how", "expected"),
    [
        ((3, 6), "uniform", ((0, 1), (1, 3), (2, 5))),
        ((4, 6), "uniform", ((0, 1), (1, 2), (2, 4), (3, 5))),
        ((6, 3), "uniform", ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2))),
        ((2, 6), "last", ((0, 4), (1, 5))),
        ((2, 6), ((1, 3),), ((1, 3),)),
    ],
)
def test_layer_maps(depths: tuple[int, int], how: Any, expected: Any) -> None:
    assert map_layers(*depths, how) == expected


def test_layer_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"pair \(2, 0\) does not fit a student of 2 layers and a teacher of 4"):
        map_layers(2, 4, ((2, 0),))
    with pytest.raises(InputError, match=r"at least as deep as the student; got 2 layers for 4"):
        map_layers(4, 2, "last")


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(InputError, match="student's logits have 3 classes, the teacher's 5"):
        logits_loss(random(4, 3), random(4, 5), 2.0)


class Numbering:
    def __init__(self, **numbers: int) -> None:
        self.get_vocab = lambda: numbers


def test_tokenizers_that_number_alike_agree() -> None:
    check_tokenizers(Numbering(a=0, b=1), Numbering(b=1, a=0))
    message = r"student's tokenizer has 2 tokens, the teacher's 3, and 2 differ \(first 'b': number 1 and 2\)"
    with pytest.raises(InputError, match=message):
        check_tokenizers(Numbering(a=0, b=1), Numbering(a=0, b=2, c=1))


def test_attention_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"shapes \(2, 2, 3, 3\) \(student\) and \(2, 2, 4, 4\) \(teacher\)"):
        attention_loss(maps(2, 2, 3, 3), maps(2, 2, 4, 4))
    with pytest.raises(InputError, match=r"heads=\(0,\) does not fit 2 heads of the student and 4 of the teacher"):
        attention_loss(maps(2, 2, 3, 3), maps(2, 4, 3, 3), (0,))
