"""Nonlinear bottlenecks: x + U act(V x) after each layer of a stack, a module that stays when the rest is folded."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.calibration import Batch, Moments
from edgefold.errors import InputError
from edgefold.plans import Bottleneck
from edgefold.projections import principal_directions
from edgefold.structure.stacks import match_stacks

CHILD = "bottleneck"
ACTIVATION_MODULES = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
LINEAR_FROM = 6.0
"""Standard deviations by which a plain bottleneck starts above zero, where all three activations are nearly linear."""


class BottleneckLayer(nn.Module):
    """x + U act(V x), or U act(V x + b) + c without the residual (Houlsby et al., 2019)."""

    def __init__(self, features: int, size: int, activation: str, residual: bool) -> None:
        super().__init__()
        self.activation = activation
        self.residual = residual
        self.down = nn.Linear(features, size, bias=not residual)
        self.act = ACTIVATION_MODULES[activation]()
        self.up = nn.Linear(size, features, bias=not residual)
        if residual:
            nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d) -> (..., d)."""
        change: Tensor = self.up(self.act(self.down(x)))
        return x + change if self.residual else change

    @property
    def macs(self) -> int:
        """Multiply-adds for one vector: 2 d size."""
        return self.down.weight.numel() + self.up.weight.numel()


def add_bottlenecks(
    model: nn.Module, steps: Sequence[Bottleneck], inputs: Batch, batches: Sequence[Batch]
) -> tuple[str, ...]:
    """Give every layer that the steps name a bottleneck on its output, in place; returns the layers' paths.

    Raises:
        InputError: a step matches no stack, two match one layer, or a layer's output is not (..., d) with d > size.
    """
    added: dict[str, BottleneckLayer] = {}
    for step in steps:
        pattern = None if step.where == "layers" else step.where
        stacks = match_stacks(model, pattern, f"Bottleneck({step.size})")
        paths = [stack.layer(index) for stack in stacks for index in range(stack.depth)]
        if twice := [path for path in paths if path in added]:
            raise InputError(f"Two Bottleneck steps match {twice[0]}; name its stack in one of them only.")
        for path, features in _output_sizes(model, paths, inputs).items():
            _check_size(step, path, features)
            layer = BottleneckLayer(features, step.size, step.activation, step.residual)
            added[path] = layer.to(next(model.parameters()))
    for path, bottleneck in added.items():
        if not bottleneck.residual:
            _start_linear(model, path, bottleneck, batches)
        attach(model, path, bottleneck)
    return tuple(added)


def attach(model: nn.Module, path: str, bottleneck: BottleneckLayer) -> None:
    """Let a layer's output pass through a bottleneck that becomes its submodule, in place."""
    layer = model.get_submodule(path)
    layer.add_module(CHILD, bottleneck)
    layer.register_forward_hook(_through_bottleneck)


def bottlenecks_of(model: nn.Module) -> dict[str, BottleneckLayer]:
    """The bottlenecks of a model by the path of their layer."""
    return {
        path.rpartition(".")[0]: module for path, module in model.named_modules() if isinstance(module, BottleneckLayer)
    }


def count_bottleneck_macs(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Multiply-adds that the bottlenecks add to one forward pass over these inputs."""
    found = bottlenecks_of(model)
    paths = {f"{path}.{CHILD}": module for path, module in found.items()}
    total = 0

    def count(path: str, output: Tensor) -> None:
        nonlocal total
        total += paths[path].macs * (output.numel() // output.shape[-1])

    with _watched(model, list(paths), count), torch.no_grad():
        model(**inputs)
    return total


def _through_bottleneck(layer: nn.Module, _arguments: Any, output: Any) -> Any:
    """The forward hook: the hidden states, alone or first of a tuple, pass through the layer's bottleneck."""
    bottleneck = layer.get_submodule(CHILD)
    return (bottleneck(output[0]), *output[1:]) if isinstance(output, tuple) else bottleneck(output)


def _output_sizes(model: nn.Module, paths: Sequence[str], inputs: Batch) -> dict[str, int]:
    """d of each layer's output; a layer that did not run, or gave something else than (..., d), is refused."""
    found: dict[str, Tensor] = {}
    with _watched(model, paths, found.__setitem__), torch.no_grad():
        model(**inputs)
    for path in paths:
        if path not in found or found[path].dim() > 3:
            what = (
                f"has the shape {tuple(found[path].shape)}" if path in found else "is no tensor, or was never computed"
            )
            raise InputError(
                f"A Bottleneck acts on (..., d) of at most three axes, but the output of {path} {what}; leave this "
                "stack out."
            )
    return {path: found[path].shape[-1] for path in paths}


def _check_size(step: Bottleneck, path: str, features: int) -> None:
    if step.size >= features:
        raise InputError(
            f"Bottleneck({step.size}) is none for the {features} features that {path} puts out; choose 1 <= size < "
            f"{features}."
        )


def _start_linear(model: nn.Module, path: str, bottleneck: BottleneckLayer, batches: Sequence[Batch]) -> None:
    """U act(V x + b) + c ~ mean + P P^T (x - mean): coordinates of unit variance, moved to where act(z) ~ z."""
    moments = _output_moments(model, path, bottleneck.up.out_features, batches)
    directions = principal_directions([moments.covariance], bottleneck.up.in_features)
    scale = torch.einsum("dp,de,ep->p", directions, moments.covariance, directions).clamp_min(1e-12).sqrt()
    down = directions / scale
    up = directions * scale
    with torch.no_grad():
        bottleneck.down.weight.copy_(down.T)
        bottleneck.down.bias.copy_(LINEAR_FROM - down.T @ moments.mean)
        bottleneck.up.weight.copy_(up)
        bottleneck.up.bias.copy_(moments.mean - LINEAR_FROM * up.sum(1))


def _output_moments(model: nn.Module, path: str, features: int, batches: Sequence[Batch]) -> Moments:
    moments = Moments(features)
    outputs: dict[str, Tensor] = {}
    with _watched(model, [path], outputs.__setitem__), torch.no_grad():
        for batch in batches:
            model(**batch)
            moments.add(_valid(outputs[path], batch))
    return moments


def _valid(output: Tensor, batch: Batch) -> Tensor:
    """(n, d) without masked positions."""
    mask = batch.get("attention_mask")
    if mask is not None and output.shape[:2] == mask.shape:
        output = output[mask.bool()]
    return output.reshape(-1, output.shape[-1])


@contextmanager
def _watched(model: nn.Module, paths: Sequence[str], see: Any) -> Iterator[None]:
    """Within the block, in evaluation mode, call see(path, hidden states) after each of these submodules."""
    training = model.training
    with ExitStack() as handles:
        for path in paths:
            handle = model.get_submodule(path).register_forward_hook(
                lambda _layer, _arguments, output, path=path: _seen(see, path, output)
            )
            handles.callback(handle.remove)
        try:
            model.eval()
            yield
        finally:
            model.train(training)


def _seen(see: Any, path: str, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if isinstance(hidden, Tensor):
        see(path, hidden)
