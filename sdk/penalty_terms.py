"""The penalties of an objective, bound to the model they act on: terms of the loss, and proximal steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace
from edgefold.distillation import token_mask
from edgefold.errors import InputError
from edgefold.folding import evaluate
from edgefold.penalized_weights import Penalized, find_penalized, names_of_modules
from edgefold.penalties import PENALTIES, ActivationL1, GroupLasso, Orthogonality, Penalty, WeightPenalty
from edgefold.proximal_steps import ProximalSteps
from edgefold.students import Student


class PenaltyTerms:
    """Which weights, projections and outputs of a model each penalty acts on.

    Raises:
        InputError: a penalty that finds nothing, or a proximal one for weights that are composed anew in every step.
    """

    def __init__(self, penalties: Sequence[Penalty], model: nn.Module) -> None:
        self.activations: list[tuple[str, ActivationL1, list[str]]] = []
        self._smooth: list[tuple[str, WeightPenalty, list[Penalized]]] = []
        self._orthogonality: list[tuple[str, Orthogonality]] = []
        proximal: list[tuple[WeightPenalty, Penalized]] = []
        weights = model.weights() if isinstance(model, Student) else dict(model.named_parameters())
        inner = model.module if isinstance(model, Student) else model
        for name, penalty in _named(penalties).items():
            if isinstance(penalty, WeightPenalty):
                targets = find_penalized(penalty, weights, _graph(model) if _has_dimensions(penalty) else None)
                if penalty.proximal:
                    _check_trained(penalty, model, targets)
                    proximal += [(penalty, target) for target in targets]
                else:
                    self._smooth.append((name, penalty, targets))
            elif isinstance(penalty, ActivationL1):
                paths = names_of_modules(penalty.where, [path for path, _ in inner.named_modules()])
                self.activations.append((name, penalty, paths))
            elif isinstance(penalty, Orthogonality):
                _check_projections(model)
                self._orthogonality.append((name, penalty))
        self.proximal = ProximalSteps(inner, proximal) if proximal else None

    @property
    def paths(self) -> list[str]:
        """The modules whose outputs are penalised."""
        return [path for _, _, paths in self.activations for path in paths]

    def values(self, model: nn.Module, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The smooth terms of the loss by name.

        Args:
            outputs: of the modules at `paths`, from the forward pass on this batch.
        """
        terms: dict[str, Tensor] = {}
        if self._smooth:
            weights = model.weights() if isinstance(model, Student) else dict(model.named_parameters())
            for name, penalty, targets in self._smooth:
                terms[name] = _sum([penalty.value(target.gather(weights)) for target in targets])
        for name, orthogonality in self._orthogonality:
            assert isinstance(model, Student)
            terms[name] = _sum([orthogonality.value(projection) for projection in model.projections.values()])
        for name, activation, paths in self.activations:
            terms[name] = _sum([activation.value(_counted(outputs[path], batch)) for path in paths if path in outputs])
        return terms


def _named(penalties: Sequence[Penalty]) -> dict[str, Penalty]:
    """Each under its kind's name, the second of a kind as l1_2 and so on."""
    names = {kind: name for name, kind in PENALTIES.items()}
    named: dict[str, Penalty] = {}
    for penalty in penalties:
        name = names[type(penalty)]
        count = 1 + sum(type(other) is type(penalty) for other in named.values())
        named[name if count == 1 else f"{name}_{count}"] = penalty
    return named


def _has_dimensions(penalty: WeightPenalty) -> bool:
    return isinstance(penalty, GroupLasso) and penalty.groups not in ("rows", "columns")


def _graph(model: nn.Module) -> DimensionGraph | None:
    """Of the smaller architecture; None where there are no example inputs to trace it with."""
    if not isinstance(model, Student) or model.inputs is None:
        return None
    return trace(evaluate(model).eval().cpu(), model.inputs)


def _check_trained(penalty: WeightPenalty, model: nn.Module, targets: Sequence[Penalized]) -> None:
    composed = {slot.name for slot in model.slots} if isinstance(model, Student) else set()
    touched = [name for target in targets for name in target.names if name in composed]
    if touched:
        assert isinstance(model, Student)
        of_gates = model.gates is not None and touched[0] in model.gates.places.parameters
        why, instead = (
            ("gates multiply it", "Leave it out with where=...")
            if of_gates
            else (f"in mode {model.mode!r} it is composed anew", 'Build the student with mode="weights"')
        )
        raise InputError(
            f"{penalty} cannot take proximal steps on {touched[0]}: {why} in every step. {instead}, or give the "
            "penalty proximal=False."
        )


def _check_projections(model: nn.Module) -> None:
    if not isinstance(model, Student) or model.mode == "weights" or not model.projections:
        raise InputError(
            'Orthogonality needs trained projections: a student with a Project step, in mode "projection" or "all".'
        )


def _counted(output: Any, batch: Mapping[str, Any]) -> Tensor:
    """The outputs at positions that are no padding; of several outputs the first."""
    values: Tensor = output[0] if isinstance(output, tuple) else output
    mask = token_mask(batch, values)
    return values if mask is None else values[mask.bool()]


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()
