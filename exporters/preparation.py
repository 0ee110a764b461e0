"""A model as exporters want it: folded, float32 on the CPU, in evaluation mode, with eager attention."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgefold.errors import InputError

Attention = str | dict[str, Any] | None


def check_exportable(model: nn.Module) -> None:
    """Refuse a student that is not folded, and other types and devices than float32 on the CPU.

    Raises:
        InputError: naming the first parameter that is wrong.
    """
    if getattr(model, "edgefold_unfolded", False):
        raise InputError(
            "This student still composes its weights in every forward pass; call edgefold.fold(student) first."
        )
    for name, parameter in model.named_parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise InputError(
                f"{name} is {parameter.dtype} on {parameter.device}; exporting starts from float32 on the CPU: call "
                "model.float().cpu() first."
            )


def zero_shares(model: nn.Module) -> dict[str, float]:
    """The share of zeros in every parameter that is no vector, for the manifest."""
    return {
        name: round(1 - int(weight.count_nonzero()) / weight.numel(), 6) if weight.numel() else 0.0
        for name, weight in model.named_parameters()
        if weight.dim() > 1
    }


@contextmanager
def prepared(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, parametrized weights computed once and eager attention (leaner graphs), as it was afterwards."""
    training = model.training
    implementation = _attention_of(getattr(model, "config", None))
    switch: Callable[[Attention], None] | None = getattr(model, "set_attn_implementation", None)
    model.eval()
    if implementation and switch:
        switch("eager")
    try:
        with parametrize.cached():
            _fill_cache(model)
            yield
    finally:
        model.train(training)
        if implementation and switch:
            switch(implementation)


@torch.no_grad()
def _fill_cache(model: nn.Module) -> None:
    """What is computed now is a constant to a trace; torch has no ONNX for some of it (an orthogonal weight)."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in module.parametrizations:  # type: ignore[union-attr]
                getattr(module, name)


def _attention_of(config: Any) -> Attention:
    """What a configuration computes attention with; where it holds others, theirs by name, and its own as "".

    A convolutional backbone within a transformer does not take what the transformer does.
    """
    own = getattr(config, "_attn_implementation", None)
    within = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", ())}
    parts = {name: _attention_of(part) for name, part in within.items() if part is not None}
    return {"": own, **parts} if own and parts else own
