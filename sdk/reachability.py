"""Which parameters training reaches: those of the loss alone, for DistributedDataParallel, and those of nothing."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.utils._pytree import tree_flatten, tree_unflatten


def keep_reachable(outputs: Any, parameters: Sequence[Tensor]) -> Any:
    """The outputs themselves, with the parameters in the history of the first that has one.

    DistributedDataParallel searches the outputs' history for parameters that a pass leaves out, and counts as ready
    what it does not find there; one that the loss then uses would be counted twice, one that nothing uses never.
    Nothing is done where no process group is open.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained or not (distributed.is_available() and distributed.is_initialized()):
        return outputs
    leaves, structure = tree_flatten(outputs)
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            leaves[index] = _Reaching.apply(leaf, *trained)  # type: ignore[no-untyped-call]
            return tree_unflatten(leaves, structure)
    return outputs


class _Reaching(Function):
    """The identity of its first argument; no gradient goes to the others."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *parameters: Tensor) -> Tensor:
        ctx.others = len(parameters)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.others


class Unreached:
    """The names of the trainable parameters of a module that no step has given a gradient so far."""

    def __init__(self, module: nn.Module) -> None:
        self._parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self._total, self._has_looked = len(self._parameters), False

    def look(self) -> None:
        """Once the gradients of a step are there."""
        self._has_looked = True
        self._parameters = {name: each for name, each in self._parameters.items() if each.grad is None}

    @property
    def names(self) -> tuple[str, ...]:
        """Empty where no step was looked at."""
        return tuple(self._parameters) if self._has_looked else ()

    def __str__(self) -> str:
        few = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
        return (
            f"Training reached {self._total - len(self.names)} of {self._total} parameters. Without a gradient in any "
            f"step, and so as the start left them: {few}. They have no part in the loss, or forward runs them under "
            "torch.no_grad()."
        )
