"""The functions that a graph file may call: torch's aten operators and a fixed list for the arithmetic of sizes."""

import math
import operator
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from edgefold.errors import InputError

ATEN = "aten."
REFUSED_OPERATORS = ("from_file", "record_stream")
"""Operators of aten that reach beyond their arguments."""
ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{
        f"operator.{name}": getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "abs", "getitem"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not")},
}
OTHER_LIBRARIES = {"transformers.grouped_mm_fallback.default": "transformers.integrations.moe"}
"""Operators without side effects of libraries other than torch, by qualified name -> the module that registers them."""


def target_name(target: object) -> str:
    """The name under which a graph file calls a function.

    Raises:
        InputError: it is neither an aten operator nor arithmetic of sizes.
    """
    if isinstance(target, torch._ops.OpOverload) and (target.namespace == "aten" or str(target) in OTHER_LIBRARIES):
        name = str(target)
        find_target(name)
        return name
    for name, function in ARITHMETIC.items():
        if function is target:
            return name
    raise InputError(
        f"The traced graph calls {getattr(target, '__name__', target)}, which a graph file cannot hold (it holds aten "
        "operators and arithmetic of sizes); save without inputs= and open with load_student(folder, architecture=...)."
    )


def find_target(name: object) -> Callable[..., Any]:
    """The function of that name; nothing else than what `target_name` allows is ever looked up.

    Raises:
        InputError: no such function, or one that is not allowed.
    """
    if isinstance(name, str) and name in ARITHMETIC:
        return ARITHMETIC[name]
    parts = name.split(".") if isinstance(name, str) else []
    if isinstance(name, str) and name in OTHER_LIBRARIES:
        import_module(OTHER_LIBRARIES[name])
    elif len(parts) != 3 or parts[0] != "aten" or parts[1] in REFUSED_OPERATORS:
        parts = []
    if parts and all(part.isidentifier() for part in parts):
        packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
        overload = getattr(packet, parts[2], None)
        if isinstance(overload, torch._ops.OpOverload):
            return overload
    raise InputError(
        f"The graph file calls {name!r}, which is not allowed: only operators of aten and {', '.join(ARITHMETIC)} are; "
        "do not use this student, or make it again."
    )
