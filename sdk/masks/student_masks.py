"""Masks of a student: which weights are held at zero, what their scores need, and that they stay zero."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.masks.laws import as_matrix, from_groups, from_matrix, into_groups, lowest_in_balance
from edgefold.masks.steps import Block, MaskStep, zeros_at


@dataclass(frozen=True)
class MaskedMatrix:
    """A parameter under a mask step."""

    parameter: str
    """Its (first) qualified name in the student's module."""
    axis: int
    """The axis along which it is contracted with its inputs."""
    step: MaskStep


class Mask(nn.Module):
    """The mask of one matrix, and the buffers that its score is computed from; all of it lies in checkpoints."""

    def __init__(self, matrix: MaskedMatrix, weight: Tensor, norms: Tensor | None = None) -> None:
        """norms: (inputs,), the root mean square of each input, for the score "wanda"."""
        super().__init__()
        self.matrix = matrix
        self.kept: Tensor
        self.movement: Tensor
        self.norms: Tensor
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))
        if matrix.step.score == "movement":
            self.register_buffer("movement", torch.zeros_like(weight, dtype=torch.float32))
        if norms is not None:
            self.register_buffer("norms", norms.to(weight.device, torch.float32))

    def advance(self, weight: Tensor, progress: float) -> None:
        """Mask as much as the schedule wants by then; what is masked stays so."""
        step, axis = self.matrix.step, self.matrix.axis
        kept = as_matrix(self.kept, axis)
        units = kept.numel() // self._unit
        wanted = zeros_at(step, units, progress)
        if wanted <= (kept.numel() - int(kept.sum())) // self._unit:
            return
        scores = self._scores(as_matrix(weight.detach(), axis)).masked_fill(~kept, -float("inf"))
        masked = from_groups(lowest_in_balance(into_groups(scores, step), wanted), step, *kept.shape)
        self.kept.logical_and_(from_matrix(~masked, self.kept.shape, axis))

    def is_complete(self) -> bool:
        """Whether the mask has all the zeros that its step asks for."""
        masked, units = self.kept.numel() - int(self.kept.sum()), self.kept.numel() // self._unit
        return masked >= zeros_at(self.matrix.step, units, 1.0) * self._unit

    @property
    def sparsity(self) -> float:
        """The share of weights that are masked by now."""
        return 1 - float(self.kept.double().mean())

    @property
    def _unit(self) -> int:
        """How many weights are masked together."""
        step = self.matrix.step
        return step.shape[0] * step.shape[1] if isinstance(step, Block) else 1

    def _scores(self, weight: Tensor) -> Tensor:
        """(rows, inputs), the same shape as the weight seen as a matrix."""
        if self.matrix.step.score == "movement":
            return as_matrix(self.movement, self.matrix.axis)
        return weight.abs() * self.norms if self.matrix.step.score == "wanda" else weight.abs()


class Masks(nn.Module):
    """All masks of a student, by parameter; every method takes the student's module, of which nothing is kept here."""

    def __init__(self, masks: Mapping[str, Mask] | None = None) -> None:
        super().__init__()
        self.each = nn.ModuleDict({name.replace(".", "/"): mask for name, mask in (masks or {}).items()})

    def __len__(self) -> int:
        return len(self.each)

    @property
    def by_parameter(self) -> dict[str, Mask]:
        return {mask.matrix.parameter: mask for mask in self.each.values() if isinstance(mask, Mask)}

    @torch.no_grad()
    def advance(self, module: nn.Module, progress: float) -> None:
        """Mask as much as every schedule wants by then (progress in [0, 1]), in place, and enforce it."""
        for name, mask in self.by_parameter.items():
            mask.advance(module.get_parameter(name), progress)
        self.enforce(module)

    @torch.no_grad()
    def enforce(self, module: nn.Module) -> None:
        """Set every masked weight to zero, in place; call it after each step of an optimizer."""
        for name, mask in self.by_parameter.items():
            module.get_parameter(name).masked_fill_(~mask.kept, 0.0)

    @torch.no_grad()
    def mask_gradients(self, module: nn.Module) -> None:
        """Take masked weights out of the gradients, in place: they count neither for clipping nor for momentum."""
        for name, mask in self.by_parameter.items():
            gradient = module.get_parameter(name).grad
            if gradient is not None:
                gradient.masked_fill_(~mask.kept, 0.0)

    @torch.no_grad()
    def accumulate_movement(self, module: nn.Module) -> None:
        """Add -w * dL/dw to the scores "movement"; call it once a step, before the optimizer's."""
        for name, mask in self.by_parameter.items():
            weight = module.get_parameter(name)
            if mask.matrix.step.score == "movement" and weight.grad is not None:
                mask.movement.sub_(weight * weight.grad)

    def check(self, module: nn.Module) -> None:
        """Refuse to go on with a student whose masks are not what the plan says.

        Raises:
            InputError: a masked weight is not zero, or a mask still lacks zeros.
        """
        for name, mask in self.by_parameter.items():
            wrong = int(module.get_parameter(name)[~mask.kept].count_nonzero())
            if wrong:
                raise InputError(
                    f"{wrong} masked weights of {name} are not zero; train with CompressionTrainer, or call "
                    "student.masks.enforce(student.module) after each step of your optimizer."
                )
            if not mask.is_complete():
                raise InputError(
                    f"{name} has {mask.sparsity:.1%} zeros of the {mask.matrix.step.sparsity:.1%} that the plan asks "
                    f"for, which its schedule reaches after {mask.matrix.step.end:.0%} of training; train to that "
                    "point, or mask the rest at once with student.masks.advance(student.module, 1.0)."
                )
