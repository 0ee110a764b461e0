"""Parameters that only the loss uses, made reachable from a module's outputs for DistributedDataParallel."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, distributed
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
