"""copied(module): a deep copy of a module in whatever state it is."""

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module) -> Module:
    """As copy.deepcopy, where a module also holds a tensor with a history, which torch does not copy.

    torch.nn.utils.weight_norm and its like leave one behind in every forward pass, and replace it in the next.
    """
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in held if not value.is_leaf}
    return copy.deepcopy(module, memo)
