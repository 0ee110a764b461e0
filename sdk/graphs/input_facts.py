"""What is kept of the example inputs of a traced module: types, shapes and ranges, no values of the user's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgefold.errors import InputError

ROWS = 2
"""Of what is made up; a single one would be taken for a constant."""


def describe_inputs(inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Name, type and shape of each, the number of rows left out; whole numbers with the range they span, others with
    their mean and deviation."""
    return [
        {"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape[1:]), **_span(value)}
        for name, value in inputs.items()
    ]


def make_up_inputs(facts: Sequence[Mapping[str, Any]], rows: int = ROWS) -> dict[str, Tensor]:
    """Tensors of these types, shapes and ranges, the same every time.

    Raises:
        InputError: the facts, which stand in a student's manifest, are malformed.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        return {str(each["name"]): _made_up(each, rows, generator) for each in facts}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"What the student's manifest tells of its inputs is malformed ({error!r}); restore the folder or save the "
            "module again."
        ) from None


def _span(value: Tensor) -> dict[str, Any]:
    if value.is_floating_point():
        deviation = float(value.std()) if value.numel() > 1 else 1.0
        return {"mean": float(value.mean()), "deviation": deviation}
    return {"low": int(value.min()), "high": int(value.max())}


def _made_up(each: Mapping[str, Any], rows: int, generator: torch.Generator) -> Tensor:
    shape, dtype = (rows, *each["shape"]), getattr(torch, each["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{each['dtype']} is no type of elements")
    if "low" in each:
        return torch.randint(each["low"], each["high"] + 1, shape, generator=generator).to(dtype)
    made: Tensor = each["mean"] + each["deviation"] * torch.randn(shape, generator=generator)
    return made.to(dtype)
