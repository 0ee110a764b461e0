"""What a model computes on its way: values at named places of one forward pass, and its attention maps.

A place is a module's path, for what comes out of it, or "> " and the path, for what enters it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from edgefold.errors import InputError

ENTRANCE = "> "


@dataclass(frozen=True)
class Observation:
    """One forward pass: what it returned, and what it computed on its way."""

    outputs: Any
    hidden: Mapping[str, Tensor]
    """By place."""
    attentions: Mapping[int, Tensor]
    """By layer: (batch, heads, queries, keys)."""

    def head(self, rows: int) -> "Observation":
        """Without all but the first rows of each value; the outputs stay whole."""
        hidden, attentions = ({key: value[:rows] for key, value in d.items()} for d in (self.hidden, self.attentions))
        return Observation(self.outputs, hidden, attentions)  # type: ignore[arg-type]


def observe(
    model: Callable[..., Any],
    module: nn.Module,
    inputs: Mapping[str, Any],
    places: Sequence[str],
    attention_layers: Sequence[int] = (),
) -> Observation:
    """Run `model`, be it `module` or a wrapper of it, and keep what `module` computes at some places.

    Raises:
        InputError: attention maps are asked for that the model does not give.
    """
    if not attention_layers:
        with captured_outputs(module, places) as hidden:
            return Observation(model(**inputs), hidden, {})
    with captured_outputs(module, places) as hidden, eager_attention(module):
        outputs = model(**inputs, output_attentions=True)
    return Observation(outputs, hidden, _maps(outputs, attention_layers, module))


@contextmanager
def captured_outputs(module: nn.Module, places: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, collect the values at places of every forward pass.

    Of several runs of a module the last output stays, and what entered it first.
    """
    values: dict[str, Tensor] = {}
    handles = [_watch(module, place, values) for place in places]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: nn.Module, place: str, values: dict[str, Tensor]) -> Any:
    watched = _submodule(module, place.removeprefix(ENTRANCE))
    if not place.startswith(ENTRANCE):
        return watched.register_forward_hook(
            lambda _module, _args, output: values.update({place: _tensor(output, place)})
        )
    return watched.register_forward_pre_hook(
        lambda _module, args, keywords: (
            None if place in values else values.update({place: _tensor((*args, *keywords.values()), place)})
        ),
        with_kwargs=True,
    )


def _submodule(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        near = get_close_matches(path, [name for name, _ in module.named_modules()], 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"{type(module).__name__} has no module {path!r} to compare{hint}") from None


def _tensor(value: Any, place: str) -> Tensor:
    """The value itself, or the first tensor of several."""
    several = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else [value]
    for item in several:
        if isinstance(item, Tensor):
            return item
    raise InputError(f"No tensor passes {place!r}, so nothing can be compared there; choose another module.")


@contextmanager
def eager_attention(module: nn.Module) -> Iterator[None]:
    """Within the block, Hugging Face models compute their attention step by step, which keeps its maps."""
    configurations: dict[int, Any] = {id(child.config): child.config for child in module.modules() if has_maps(child)}
    before = [(config, config._attn_implementation) for config in configurations.values()]
    try:
        for config, _ in before:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


def has_maps(module: nn.Module) -> bool:
    """Whether a module has the switch that Hugging Face models keep for their attention."""
    return hasattr(getattr(module, "config", None), "_attn_implementation")


def _maps(outputs: Any, layers: Sequence[int], module: nn.Module) -> dict[int, Tensor]:
    maps = getattr(outputs, "attentions", None)
    if not maps or len(maps) <= max(layers):
        raise InputError(
            f"{type(module).__name__} gave {len(maps or ())} attention maps where layer {max(layers)} was asked for; "
            "attention maps are compared for Hugging Face models with `output_attentions` and one attention in each "
            "layer. Set attention=0, or use relations."
        )
    return {layer: maps[layer] for layer in layers}
