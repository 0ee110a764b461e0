"""The gates of a student: their draws, their expected size, its Lagrangian, and what is left when they settle."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.gates.hard_concrete import log_alpha_of, mean, open_probability, sample
from edgefold.gates.parameter_counts import ParameterCount
from edgefold.gates.selection import select_open
from edgefold.gates.settings import Gates

START = 0.99
"""The probability with which a gate is open at first: training begins close to the function that was built."""


@dataclass(frozen=True)
class GatedAxis:
    """One axis of a weight along which a dimension is read, and therefore gated."""

    parameter: str
    axis: int
    dimension: str
    coordinates: Tensor
    """Of the dimension at each place along the axis, -1 where it does not run: (n,)."""

    def scale(self, weight: Tensor, gates: Tensor) -> Tensor:
        """The weight with each slice along the axis times its gate. gates: (d,)."""
        factors = torch.cat([gates, gates.new_ones(1)])[self.coordinates.to(gates.device)].to(weight.dtype)
        return weight * factors.view(-1, *[1] * (weight.dim() - 1 - self.axis))


@dataclass(frozen=True)
class GatePlaces:
    """What the gates of a student act on, and what it costs to leave them open."""

    axes: tuple[GatedAxis, ...]
    sizes: Mapping[str, int]
    """Of the gated dimensions."""
    multiples: Mapping[str, int]
    """What their sizes become a multiple of."""
    count: ParameterCount

    @property
    def parameters(self) -> tuple[str, ...]:
        """The weights that are multiplied by gates."""
        return tuple(dict.fromkeys(axis.parameter for axis in self.axes))

    @property
    def whole(self) -> float:
        """The governed parameters with every gate open."""
        return float(self.count.of({name: torch.tensor(size) for name, size in self.sizes.items()}))


class HardConcreteGates(nn.Module):
    """One gate for each coordinate of some dimensions; all that they are lies in checkpoints.

    While training they are drawn, from a generator of their own, whose state is the seed and the number of steps done;
    in evaluation they are what would be kept at the target of the moment. Once settled they do not change any more.
    """

    def __init__(self, settings: Gates, places: GatePlaces, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.settings, self.places = settings, places
        count, dtype = sum(places.sizes.values()), torch.promote_types(dtype, torch.float32)
        self.log_alpha = nn.Parameter(torch.full((count,), log_alpha_of(START), dtype=dtype))
        """Of every gate, dimension after dimension: (gates,)."""
        self.multipliers = nn.Parameter(torch.zeros(2, dtype=dtype))
        self.noise: Tensor
        self.values: Tensor
        self.steps: Tensor
        self.register_buffer("noise", torch.full((count,), 0.5, dtype=dtype))
        self.register_buffer("values", torch.full((count,), -1.0, dtype=dtype))
        self.register_buffer("steps", torch.tensor([0, 1]))

    @property
    def is_settled(self) -> bool:
        """Whether it is decided what stays."""
        return bool((self.values >= 0).all())

    @property
    def target(self) -> float:
        """The share of the governed parameters that is aimed at by now."""
        done, total = self.steps.tolist()
        return self.settings.target(done / total)

    @torch.no_grad()
    def advance(self, done: int, total: int) -> None:
        """Draw for the next step, or settle where it is time; call it before the first and after each step.

        Args:
            done: steps of the optimizer so far. total: in the whole of training.
        """
        self.steps.copy_(torch.tensor([done, max(1, total)]))
        if self.is_settled:
            return
        if done >= self.settings.settle * total:
            self.settle()
            return
        generator = torch.Generator().manual_seed((self.settings.seed << 32) + done)
        self.noise.copy_(torch.rand(len(self.noise), generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6))

    @torch.no_grad()
    def settle(self) -> None:
        """From now on the coordinates that are best at size `keep` stay, with the means of their gates; the rest are
        closed."""
        self.values.copy_(mean(self.log_alpha) * self._selected(self.settings.keep))

    def evaluated(self, log_alpha: Tensor) -> dict[str, Tensor]:
        """z of every gate by dimension, (d,) each: what was settled, drawn, or would be kept by now.

        Args:
            log_alpha: in the precision and on the device that is wanted; differentiable unless settled.
        """
        if self.is_settled:
            z = self.values.to(log_alpha)
        elif self.training:
            z = sample(log_alpha, self.noise.to(log_alpha))
        else:
            z = mean(log_alpha) * self._selected(self.target).to(log_alpha.device)
        return self._by_dimension(z)

    def scale(self, name: str, weight: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        """A weight times the gates of every dimension that it reads; the weight itself where none is gated."""
        for axis in self.places.axes:
            if axis.parameter == name:
                weight = axis.scale(weight, gates[axis.dimension])
        return weight

    def expected_share(self) -> Tensor:
        """E[size] as a share of the governed parameters: a scalar, differentiable."""
        chances = self._by_dimension(open_probability(self.log_alpha))
        return self.places.count.of({name: chance.sum() for name, chance in chances.items()}) / self.places.whole

    def lagrangian(self) -> Tensor:
        """lambda_1 e + lambda_2 e^2 with e = E[size] - target, both as shares; zero once settled.

        The gradients of the multipliers come negated, so that a step that descends in the rest ascends in them.
        """
        if self.is_settled:
            return self.log_alpha.new_zeros(())
        excess = self.expected_share() - self.target
        ascending = 2 * self.multipliers.detach() - self.multipliers
        return ascending[0] * excess + ascending[1] * excess.square()

    def open_counts(self) -> dict[str, int]:
        """How many coordinates of each dimension stay, as things are."""
        kept = self.values > 0 if self.is_settled else self._selected(self.target)
        return {name: int(of_one.sum()) for name, of_one in self._by_dimension(kept).items()}

    def kept_share(self) -> float:
        """The share of the governed parameters that stay, as things are."""
        counts = {name: torch.tensor(count) for name, count in self.open_counts().items()}
        return float(self.places.count.of(counts)) / self.places.whole

    def check(self) -> None:
        """Refuse to go on with gates that are still being drawn.

        Raises:
            InputError: they have not settled.
        """
        if not self.is_settled:
            raise InputError(
                f"The gates on {', '.join(self.settings.where)} have not settled: of the parameters along these "
                f"{self.settings.keep:.1%} are to stay, which is decided after {self.settings.settle:.0%} of training. "
                "Train to that point, or decide at once with student.gates.settle()."
            )

    def signature(self) -> tuple[object, ...]:
        """What tells whether the gates have changed, but for log_alpha itself."""
        return (self.training, *((id(each), each._version) for each in (self.noise, self.values, self.steps)))

    @torch.no_grad()
    def _selected(self, share: float) -> Tensor:
        """The gates that are open when this share of the parameters stays: bool, (gates,)."""
        places, scores = self.places, self._by_dimension(self.log_alpha.detach().cpu())
        opened = select_open(scores, places.count, share * places.whole, places.multiples)
        return torch.cat([opened[name] for name in places.sizes]).to(self.log_alpha.device)

    def _by_dimension(self, gates: Tensor) -> dict[str, Tensor]:
        """(gates,) -> (d,) for each dimension."""
        return dict(zip(self.places.sizes, torch.split(gates, list(self.places.sizes.values())), strict=True))
