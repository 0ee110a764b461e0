"""The terms of a loss from one log to the next, read without waiting for the GPU that computes them."""

from collections import defaultdict, deque
from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from edgefold.errors import InputError


class RunningTerms:
    """Sums of each term's values; what is not finite ends the training, which nothing would mend.

    A number that is read at once makes the host wait until the card has computed it, and the card then wait for what
    the host launches next. So values are copied in the background and looked at one step later.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0
        self._unread: deque[tuple[int, tuple[str, ...], Tensor, Any]] = deque()

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """
        Raises:
            InputError: a term of this step, or on a GPU of the one before, is not finite.
        """
        values = torch.stack([term.detach().double() for term in terms.values()])
        copy, event = _copied(values) if values.is_cuda else (values, None)
        self._unread.append((step, tuple(terms), copy, event))
        self._read(keep=0 if event is None else 1)

    def settle(self) -> None:
        """Look at all that was added.

        Raises:
            InputError: a term is not finite.
        """
        self._read(keep=0)

    def take_means(self) -> dict[str, float]:
        """The mean of each term over the steps since the last call.

        Raises:
            InputError: as `settle`.
        """
        self.settle()
        means = {name: value / self._steps for name, value in self._sums.items()}
        self._sums.clear()
        self._steps = 0
        return means

    def _read(self, keep: int) -> None:
        while len(self._unread) > keep:
            step, names, values, event = self._unread.popleft()
            if event is not None:
                event.synchronize()
            for name, value in zip(names, values.tolist(), strict=True):
                if not isfinite(value):
                    raise InputError(
                        f"The loss term {name} is {value} in step {step}: training diverged. Lower the learning rate, "
                        "or look for NaN in the data and in the teacher's outputs."
                    )
                self._sums[name] += value
            self._steps += 1


def _copied(values: Tensor) -> tuple[Tensor, Any]:
    """A copy on the host, and the event after which it is there."""
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    make_event: Any = torch.cuda.Event
    event = make_event()
    event.record()
    return copy, event
