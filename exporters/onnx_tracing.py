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


class OperatorForms(TorchFunctionMode):
    """A context in which operators are replaced by their forms; one for all, as a trace passes it for every size."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return FORMS.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def for_onnx() -> Iterator[None]:
    """Also without gradients, without what torch tells its developers, and without a stack trace for each node."""
    before = torch.fx.config.do_not_emit_stack_traces
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        with torch.no_grad(), warnings.catch_warnings(), quiet(), OperatorForms():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = before
