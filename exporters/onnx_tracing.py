"""for_onnx(): within it, torch traces what it could not write as ONNX, or not well, in a form that it can."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from edgefold.exporters.attention_ranks import ATTENTIONS, attend
from edgefold.exporters.recurrences import RECURRENCES, recur
from edgefold.exporters.written_operators import WRITTEN
from edgefold.tracing.quiet_tracing import quiet

FORMS: dict[Any, Callable[..., Any]] = {
    **WRITTEN,
    **{func: partial(attend, func) for func in ATTENTIONS},
    **{func: partial(recur, func) for func in RECURRENCES},
}
"""Operator -> the same, called alike."""
WITHOUT_STACKS = "do_not_emit_stack_traces"
"""Of torch 2.12 and later; earlier ones do not look at it."""


class OperatorForms(TorchFunctionMode):
    """A context in which operators are replaced by their forms; one for all, as a trace passes it for every size."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return FORMS.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def for_onnx() -> Iterator[None]:
    """Also without gradients, without what torch tells its developers, and without a stack trace for each node."""
    before = getattr(torch.fx.config, WITHOUT_STACKS, False)
    setattr(torch.fx.config, WITHOUT_STACKS, True)
    try:
        with torch.no_grad(), warnings.catch_warnings(), quiet(), OperatorForms():
            warnings.simplefilter("ignore")
            yield
    finally:
        setattr(torch.fx.config, WITHOUT_STACKS, before)
