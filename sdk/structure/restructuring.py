"""The structural steps of a plan: layers dropped and shared on a copy of the teacher, before anything is traced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.plans import DropLayers, Plan, ShareLayers
from edgefold.resizing.fields import is_configured
from edgefold.structure.layer_dropping import drop_layers, layer_map
from edgefold.structure.layer_sharing import share_by_name, share_layers, shared_names, with_every_name
from edgefold.structure.stacks import Stack, layers_of, match_stacks


@dataclass(frozen=True)
class Restructured:
    """What the structural steps leave of a teacher; the teacher itself where the plan has none."""

    module: nn.Module
    unshared: nn.Module
    """The same module before layers were shared: what a configuration or a patch builds."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """Path of each layer of a shortened stack -> its path in the teacher."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Path of each layer that uses the parameters of another -> that layer's path."""
    is_configured: bool = True
    """Whether a fresh module of the model's configuration has as many layers."""

    def trace(self, inputs: Mapping[str, Tensor]) -> DimensionGraph:
        """The module's graph, with the layout of a shared parameter under each of its names."""
        graph = trace(self.module, inputs)
        return with_every_name(graph, self.module) if self.shared else graph

    def share_in(self, resized: nn.Module) -> None:
        """Let a resized copy share what this module shares, in place."""
        if self.shared:
            share_by_name(resized, shared_names(self.module))


def restructure(teacher: nn.Module, plan: Plan, inputs: Mapping[str, Tensor]) -> Restructured:
    """Drop and share layers on a copy of the teacher, as the plan says; DropLayers act first.

    Raises:
        InputError: a step does not fit the model, or two are about one stack.
    """
    drops = [step for step in plan.steps if isinstance(step, DropLayers)]
    shares = [step for step in plan.steps if isinstance(step, ShareLayers)]
    kept = _kept(teacher, drops)
    unshared = drop_layers(teacher, kept, inputs) if kept else teacher
    configured = not kept or is_configured(unshared)
    if not shares:
        return Restructured(unshared, unshared, layer_map(kept), is_configured=configured)
    module = copied(unshared)
    return Restructured(module, unshared, layer_map(kept), _share(module, shares), configured)


def _kept(teacher: nn.Module, steps: Sequence[DropLayers]) -> dict[Stack, tuple[int, ...]]:
    kept: dict[Stack, tuple[int, ...]] = {}
    for step in steps:
        for stack in match_stacks(teacher, step.stack, "DropLayers"):
            _check_once("DropLayers", stack, kept)
            kept[stack] = _checked(step, stack)
    return kept


def _checked(step: DropLayers, stack: Stack) -> tuple[int, ...]:
    indices = step.kept(stack.depth)
    if not indices:
        raise InputError(
            f"DropLayers(every={step.every}) would drop all {stack.depth} layers of {stack.path}; choose 1 <= every <= "
            f"{stack.depth}."
        )
    if indices[-1] >= stack.depth:
        raise InputError(
            f"DropLayers(keep={indices}) does not fit {stack.path} of {stack.depth} layers; choose indices from 0 to "
            f"{stack.depth - 1}."
        )
    return indices


def _share(module: nn.Module, steps: Sequence[ShareLayers]) -> dict[str, str]:
    """Share in place; returns each sharing layer's path with its owner's."""
    shared: dict[str, str] = {}
    seen: list[Stack] = []
    for step in steps:
        for stack in match_stacks(module, step.stack, "ShareLayers"):
            _check_once("ShareLayers", stack, seen)
            seen.append(stack)
            if stack.depth % step.groups:
                fitting = ", ".join(str(n) for n in range(1, stack.depth + 1) if stack.depth % n == 0)
                raise InputError(
                    f"ShareLayers(groups={step.groups}) does not divide the {stack.depth} layers of {stack.path}; "
                    f"choose one of {fitting}."
                )
            shared |= _share_stack(module, stack, stack.depth // step.groups, step.start)
    return shared


def _share_stack(module: nn.Module, stack: Stack, run: int, start: str) -> dict[str, str]:
    layers = layers_of(module.get_submodule(stack.path))
    for first in range(0, stack.depth, run):
        share_layers(layers[first : first + run], start)
    owners = {stack.layer(index): stack.layer(index - index % run) for index in range(stack.depth)}
    return {path: owner for path, owner in owners.items() if path != owner}


def _check_once(step: str, stack: Stack, seen: Mapping[Stack, object] | Sequence[Stack]) -> None:
    if stack in seen:
        raise InputError(f"Two {step} steps match {stack.path}; name that stack in one of them only.")
