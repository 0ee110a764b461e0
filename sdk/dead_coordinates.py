"""Dead coordinates: neurons, channels and heads that no longer do anything, found and cut out exactly.

A coordinate of a dimension (see `dimensions`) is dead when some of its slices, the parts of parameters that run along
it, are zero and nothing that the module computes depends on what stands in the others: nobody reads it, or it is always
zero. No table of operators says which function passes a zero on: the others are overwritten at random, with either
sign, and the outputs must not change by a bit. What is cut out in the end is compared once more with what was there.
"""

import logging
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.copies import copied
from edgefold.dimensions import Dimension, DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.hardware_sizes import round_up
from edgefold.projections import Map, Selection, compose
from edgefold.resizing.layouts import axis_names, copies
from edgefold.resizing.modules import resize_module
from edgefold.structure.bottlenecks import CHILD

logger = logging.getLogger(__name__)
TOLERANCES = {torch.float64: 1e-11, torch.float32: 3e-5}
"""Of outputs, relative to the largest: sums over fewer terms round otherwise. Half precision: 3e-2."""


@dataclass(frozen=True)
class Slices:
    """The parts of one parameter at each coordinate of a dimension."""

    parameter: str
    axis: int
    places: Tensor
    """Where along the axis each coordinate stands: (d, copies)."""

    def are_zero(self, tensor: Tensor) -> Tensor:
        """(d,)."""
        rows = tensor.detach().movedim(self.axis, 0).reshape(tensor.shape[self.axis], -1)
        return (rows == 0).all(1)[self.places].all(1)


def remove_dead_coordinates(module: nn.Module, inputs: Mapping[str, Tensor], multiple_of: int = 8) -> nn.Module:
    """The module without what is dead in it: the same function, or the module itself where nothing is to be gained.

    Args:
        module: plain, in evaluation mode and on the CPU; not modified.
        inputs: example keyword tensors of forward, at least 2 rows.
        multiple_of: sizes but for numbers of heads stay multiples of this, by leaving as many dead ones.
    """
    if not may_have_died(module):
        return module
    graph = trace(module, inputs)
    kept = _kept(module, graph, inputs, multiple_of)
    _, smaller = _cut(module, graph, inputs, kept)
    return module if smaller is None else smaller


def may_have_died(module: nn.Module) -> bool:
    """Whether any matrix has a row or column of zeros, the rows of tables (padding) and bottlenecks aside."""
    for path, child in module.named_modules():
        if CHILD in path.split("."):
            continue
        for parameter in child.parameters(recurse=False):
            axes = range(isinstance(child, nn.Embedding), 2 if parameter.dim() > 1 else 0)
            if any(bool((parameter == 0).movedim(axis, 0).flatten(1).all(1).any()) for axis in axes):
                return True
    return False


def find_dead_coordinates(module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dimension -> its dead coordinates: (n,), ascending; those without any are left out."""
    patterns = [
        (dimension.name, coordinates, nonzero)
        for dimension in graph.dimensions
        if dimension.kind != "fixed" and not _is_counted(graph, dimension)
        for coordinates, nonzero in _candidates(module, graph, dimension)
    ]
    if not _is_indifferent(module, inputs, [(coordinates, slices) for _, coordinates, slices in patterns]):
        patterns = [entry for entry in patterns if _is_indifferent(module, inputs, [entry[1:]])]
    dead: dict[str, list[Tensor]] = {}
    for name, coordinates, _ in patterns:
        dead.setdefault(name, []).append(coordinates)
    return {name: torch.cat(found).sort().values for name, found in dead.items()}


def is_normed(graph: DimensionGraph, dimension: Dimension) -> bool:
    """Whether a norm takes means along it, in which zeros count."""
    sources = [graph.node_layouts.get(norm.source, ()) for norm in graph.norms]
    return any(dimension.name in axis_names(layout[-1]) for layout in sources if layout)


def _is_counted(graph: DimensionGraph, dimension: Dimension) -> bool:
    """Whether a norm counts it; or it is a bottleneck's, which may yet learn."""
    return is_normed(graph, dimension) or all(CHILD in member.parameter.split(".") for member in dimension.members)


def _candidates(
    module: nn.Module, graph: DimensionGraph, dimension: Dimension
) -> Iterator[tuple[Tensor, list[Slices]]]:
    """Coordinates at which the slices of some matrix are zero, those that have the same ones in common together; and
    the slices that are not."""
    parameters = dict(module.named_parameters())
    slices = [
        Slices(member.parameter, member.axis, copies(graph.layouts[member.parameter][member.axis], dimension.name))
        for member in dimension.members
        if member.parameter in parameters
    ]
    if not slices:
        return
    zero = torch.stack([each.are_zero(parameters[each.parameter]) for each in slices])
    is_matrix = torch.tensor([parameters[each.parameter].dim() > 1 for each in slices])
    candidates = (zero & is_matrix[:, None]).any(0).nonzero().flatten()
    for pattern in torch.unique(zero[:, candidates], dim=1).T if len(candidates) else ():
        same = candidates[(zero[:, candidates] == pattern[:, None]).all(0)]
        yield same, [each for each, is_zero in zip(slices, pattern, strict=True) if not is_zero]


def _is_indifferent(
    module: nn.Module, inputs: Mapping[str, Tensor], changes: Sequence[tuple[Tensor, Sequence[Slices]]]
) -> bool:
    """Whether the outputs stay, to the bit, whatever stands in these slices at these coordinates."""
    expected = _outputs(module, inputs)
    changed = copied(module)
    for seed, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):  # what a rectifier hides in one it shows in the other
        _overwrite(changed, changes, seed, sign)
        if not all(map(_equal, _outputs(changed, inputs), expected)):
            return False
    return True


def _overwrite(module: nn.Module, changes: Sequence[tuple[Tensor, Sequence[Slices]]], seed: int, sign: int) -> None:
    """Normal noise times the sign in these slices at these coordinates, in place."""
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for coordinates, slices in changes:
            for each in slices:
                rows = parameters[each.parameter].movedim(each.axis, 0)
                places = each.places[coordinates].flatten()
                noise = torch.randn(len(places), *rows.shape[1:], generator=generator)
                rows[places] = (sign * noise).to(rows.dtype)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _outputs(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(module(**inputs)) if isinstance(leaf, Tensor)]


def _kept(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], multiple_of: int
) -> dict[str, Selection]:
    """What stays of each dimension that loses something: the living, and as many dead ones as the multiple asks for."""
    kept: dict[str, Selection] = {}
    for name, dead in find_dead_coordinates(module, graph, inputs).items():
        size = graph[name].size
        multiple = 1 if graph[name].kind == "heads" else multiple_of
        target = min(size, round_up(max(size - len(dead), 1), multiple))
        stays = torch.ones(size, dtype=torch.bool)
        stays[dead[len(dead) - (size - target) :]] = False
        if target < size:
            kept[name] = Selection(stays.nonzero().flatten())
    return kept


def _cut(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], kept: Mapping[str, Selection]
) -> tuple[Mapping[str, Selection], nn.Module | None]:
    """The selections that can be made, all or what halving finds of them, and the module under these."""
    smaller = _without(module, graph, inputs, kept)
    if smaller is not None or len(kept) < 2:
        return ({} if smaller is None else kept), smaller
    names, middle = list(kept), len(kept) // 2
    halves = [{name: kept[name] for name in half} for half in (names[:middle], names[middle:])]
    possible = dict(ChainMap(*(dict(_cut(module, graph, inputs, half)[0]) for half in halves)))
    return possible, _without(module, graph, inputs, possible)


def _without(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], kept: Mapping[str, Selection]
) -> nn.Module | None:
    """The module cut down to what is kept; None where it cannot be built, or computes something else."""
    if not kept:
        return None
    try:
        resized = resize_module(
            module, graph, inputs, {name: selection.size for name, selection in kept.items()}, may_follow=False
        )
    except InputError as error:
        logger.info("Dead coordinates of %s stay: %s", ", ".join(kept), error)
        return None
    maps: dict[str, Map] = dict(kept)
    _fill(resized.module, module, graph, maps)
    smaller = resized.module.eval()
    if not same_function(smaller, module, inputs):
        logger.info("Dead coordinates of %s stay: without them the function is another one.", ", ".join(kept))
        return None
    for name, selection in kept.items():
        logger.info("%s lost %d dead of %d.", name, graph[name].size - selection.size, graph[name].size)
    return smaller


def _fill(smaller: nn.Module, module: nn.Module, graph: DimensionGraph, maps: Mapping[str, Map]) -> None:
    """Every parameter and buffer of the module, without what was cut out of it."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    targets = dict(smaller.named_parameters(remove_duplicate=False)) | dict(smaller.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in targets:
                targets[name].copy_(compose(tensor.detach(), graph.layouts.get(name, ()), maps))


def same_function(one: nn.Module, other: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether two modules agree on these inputs but for rounding."""
    for a, b in zip(_outputs(one, inputs), _outputs(other, inputs), strict=True):
        if a.shape != b.shape:
            return False
        if a.is_floating_point():
            scale = float(b[b.isfinite()].abs().max()) if bool(b.isfinite().any()) else 0.0
            tolerance = TOLERANCES.get(b.dtype, 3e-2)
            if not torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
                return False
        elif not torch.equal(a, b):
            return False
    return True
