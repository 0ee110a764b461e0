"""Where gates act, and which dimensions and companions they refuse."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.distillation import Objective
from edgefold.errors import InputError
from edgefold.gates.settings import Gates
from edgefold.penalties import L1, GroupLasso
from edgefold.penalty_terms import PenaltyTerms
from edgefold.plans import NM, Plan, Unstructured
from edgefold.student_building import build_student


def test_readers_are_gated_and_nothing_else(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    inputs = text_batch()
    student = build_student(make_bert(), Plan([]), inputs, [inputs], gates=Gates(["ffn.0", "heads.1"], keep=0.5))
    assert student.gates is not None
    assert [(a.dimension, a.parameter, a.axis) for a in student.gates.places.axes] == [
        ("ffn.0", "bert.encoder.layer.0.output.dense.weight", 1),
        ("heads.1", "bert.encoder.layer.1.attention.output.dense.weight", 1),
    ]
    assert student.gates.places.axes[1].coordinates.tolist() == [head for head in range(3) for _ in range(8)]
    assert {slot.name for slot in student.slots} == set(student.gates.places.parameters)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"where": "fnn"}, "No dimension matches 'fnn'"),
        ({"where": "vocab"}, "Gates on vocab are not possible: it is fixed ("),
        (
            {"where": "hidden"},
            "Gates on hidden are not possible: it is normalised as a whole, so that a closed coordinate would still "
            'count in every mean. Make it smaller with Project("hidden", size).',
        ),
        ({"keep": 0.01}, "Gates(keep=0.01) is out of reach: one head and 8 other coordinates of each of ffn.0, ffn.1"),
    ],
)
def test_what_cannot_be_closed_is_refused(
    fields: dict[str, Any], message: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    inputs = text_batch()
    with pytest.raises(InputError, match=re.escape(message)):
        build_student(make_bert(), Plan([]), inputs, [inputs], gates=Gates(**{"where": "ffn", "keep": 0.5, **fields}))


class Averaged(nn.Module):
    """The mean over its units is not read by a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        units = torch.relu(self.inner(x))
        return self.outer(units) + units.mean(-1, keepdim=True)


def test_what_is_not_read_by_matrices_alone_is_refused() -> None:
    torch.manual_seed(0)
    model, inputs = Averaged().double().eval(), {"x": torch.randn(5, 6, dtype=torch.float64)}
    (name,) = (d.name for d in trace(model, inputs) if d.kind == "permutation")
    with pytest.raises(
        InputError, match=re.escape(f"Gates on {name} are not possible: what runs along it is not read")
    ):
        build_student(model, Plan([]), inputs, [inputs], gates=Gates(name, keep=0.5, multiple_of=1))


@pytest.mark.parametrize("step", [NM(2, 4), Unstructured(0.5, end=0)])
def test_masks_beside_gates_are_refused(
    step: Any, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    inputs = text_batch()
    with pytest.raises(
        InputError, match=re.escape(f"Gates(ffn) and {step} do not go together: gates change the shapes")
    ):
        build_student(make_bert(), Plan([step]), inputs, [inputs], gates=Gates("ffn", keep=0.5))


def test_penalties_see_gated_weights_but_take_no_proximal_steps_on_them(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    inputs = text_batch()
    student = build_student(make_bert(), Plan([]), inputs, [inputs], gates=Gates("ffn", keep=0.5))
    reader = "bert.encoder.layer.0.output.dense.weight"
    with pytest.raises(InputError, match=re.escape(f"proximal steps on {reader}: gates multiply it in every step.")):
        PenaltyTerms([L1(0.1, reader)], student)
    assert PenaltyTerms([L1(0.1, "query"), GroupLasso(0.1, "heads")], student).proximal is not None
    terms = PenaltyTerms(Objective(task=1, penalties=(L1(0.1, reader, proximal=False),)).all_penalties, student)
    expected = 0.1 * student.weights()[reader].abs().sum()
    assert float(terms.values(student, {}, {})["l1"].detach()) == pytest.approx(float(expected.detach()))
