"""Laws of bottlenecks: unchanged at the start, trained in every mode, kept by fold and save, their cost told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Bottleneck, DropLayers, Plan, Project, ShareLayers
from edgefold.structure.bottlenecks import bottlenecks_of, count_bottleneck_macs
from edgefold.student_building import build_student
from edgefold.students import MODES

X = {"x": torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))}


def perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def test_a_residual_one_starts_as_nothing(make_decoder: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    teacher = make_decoder()
    student = build_student(teacher, Plan([Bottleneck(4)]), text_batch(), [text_batch()])
    torch.testing.assert_close(student(**text_batch()).logits, teacher(**text_batch()).logits, rtol=0, atol=1e-12)
    assert student.structure.bottlenecks == tuple(f"transformer.h.{index}" for index in range(4))
    assert not student.structure.is_uniform


class LowRankStream(nn.Module):
    """Every layer puts out vectors of a space of four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 5)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(("activation", "tolerance"), [("relu", 1e-9), ("gelu", 1e-3), ("silu", 0.05)])
def test_a_plain_bottleneck_starts_as_the_projection_on_the_principal_directions(
    activation: str, tolerance: float
) -> None:
    """Exact for relu within six standard deviations; gelu and silu are only nearly linear there."""
    teacher = LowRankStream().double().eval()
    step = Bottleneck(4, where="layers", activation=activation, residual=False)
    student = build_student(teacher, Plan([step]), X, [X])
    error = (student(**X) - teacher(**X)).abs().max() / teacher(**X).abs().max()
    assert error < tolerance


@pytest.mark.parametrize("mode", MODES)
def test_bottlenecks_are_trained_in_every_mode_and_stay_after_the_fold(
    mode: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plan = Plan([Project("hidden", 16), Bottleneck(4), DropLayers(every=2), ShareLayers()])
    student = build_student(make_bert(num_hidden_layers=4), plan, text_batch(), [text_batch(8)], mode)
    perturb(student)
    student(**text_batch()).logits.square().sum().backward()
    own = [p for layer in bottlenecks_of(student.module).values() for p in layer.parameters()]
    assert len(own) == 4
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in own)
    plain = fold(student)
    expected = student(**text_batch()).logits
    assert (plain(**text_batch()).logits - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert list(bottlenecks_of(plain)) == ["bert.encoder.layer.0", "bert.encoder.layer.1"]


@pytest.mark.parametrize("residual", [True, False])
def test_load_of_save_is_the_same_student(
    residual: bool, make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    plan = Plan([Bottleneck(4, activation="relu", residual=residual)])
    plain = fold(build_student(make_bert().float(), plan, text_batch(), [text_batch()]))
    perturb(plain)
    opened = load_student(save_student(plain, tmp_path / "student"))
    assert torch.equal(opened(**text_batch()).logits, plain(**text_batch()).logits)


def test_the_cost_is_told(make_residual_stack: Callable[..., Any]) -> None:
    """Four layers, nine rows, there and back between 8 features and 3."""
    plain = fold(build_student(make_residual_stack(), Plan([Bottleneck(3)]), X, [X]))
    assert count_bottleneck_macs(plain, X) == 4 * 9 * 2 * 8 * 3


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Bottleneck(8)], r"Bottleneck\(8\) is none for the 8 features that layers\.0 puts out; choose 1 <= size < 8"),
        ([Bottleneck(2), Bottleneck(3, "lay*")], r"Two Bottleneck steps match layers\.0; name its stack in one"),
        ([Bottleneck(2, "leyers")], r"Bottleneck\(2\) matches no stack of layers by 'leyers'; did you mean 'layers'"),
    ],
)
def test_refusals(steps: list[Any], message: str, make_residual_stack: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=message):
        build_student(make_residual_stack(), Plan(steps), X, [X])


def test_outputs_that_are_no_vectors_are_refused() -> None:
    images = {"x": torch.randn(2, 3, 4, 4, dtype=torch.float64)}
    with pytest.raises(InputError, match=r"output of layers\.0 has the shape \(2, 3, 4, 4\); leave this stack out"):
        build_student(Images().double(), Plan([Bottleneck(2)]), images, [images])
