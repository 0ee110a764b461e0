"""Which parameters a plan's mask steps are about, and the masks that a student starts with."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgefold.calibration import Batch, run_batches
from edgefold.dimensions import DimensionGraph
from edgefold.errors import InputError
from edgefold.low_rank import is_named
from edgefold.masks.steps import NM, Block, MaskStep
from edgefold.masks.student_masks import Mask, MaskedMatrix, Masks
from edgefold.plans import Plan
from edgefold.starts.fit_points import rows
from edgefold.tracing.axis_tracer import LinearRead
from edgefold.tracing.tied_state import other_names

logger = logging.getLogger(__name__)


def masking_steps(plan: Plan, mode: str) -> list[MaskStep]:
    """The plan's steps that mask.

    Raises:
        InputError: there are some, and the mode has no weights to mask.
    """
    steps = [step for step in plan.steps if isinstance(step, get_args(MaskStep))]
    if steps and mode != "weights":
        raise InputError(
            f"{steps[0]} masks the student's own weights, which mode={mode!r} composes anew from projections in every "
            "step; use mode='weights'."
        )
    return steps


def start_masks(
    module: nn.Module, graph: DimensionGraph, matrices: Sequence[MaskedMatrix], batches: Sequence[Batch]
) -> Masks:
    """The masks of a student at the start of training, enforced on its module, in place."""
    calibrated = [matrix.parameter for matrix in matrices if matrix.step.score == "wanda"]
    norms = _input_norms(graph, calibrated, batches) if calibrated else {}
    masks = Masks({m.parameter: Mask(m, module.get_parameter(m.parameter), norms.get(m.parameter)) for m in matrices})
    masks.advance(module, 0.0)
    return masks


def find_masked(module: nn.Module, graph: DimensionGraph, steps: Sequence[MaskStep]) -> list[MaskedMatrix]:
    """The parameters that the steps name and that their patterns fit; the others stay dense, which is logged.

    Masked are products with a parameter (linear layers, convolutions of one group, raw matrices); a look-up table only
    where it is tied to one.

    Raises:
        InputError: a step matches nothing that it can mask, or two match one parameter.
    """
    found: dict[str, MaskedMatrix] = {}
    candidates = _candidates(module, graph)
    names = {name: [name] for name in candidates}
    for other, first in other_names(module).items():
        names.get(first, []).append(other)
    for step in steps:
        matched = [name for name in candidates if any(_is_named(alias, step.where) for alias in names[name])]
        if not matched:
            paths = ", ".join(_owner(name) for name in candidates)
            raise InputError(
                f"{step} matches no product with a weight; there are {paths}. Look-up tables are not masked."
            )
        misfits = {name: why for name in matched if (why := _misfit(module, name, candidates[name], step))}
        if len(misfits) == len(matched):
            raise InputError(f"{step} fits nothing that it matches: {'; '.join(misfits.values())}.")
        for why in misfits.values():
            logger.warning("%s stays dense under %s.", why, step)
        for name in (name for name in matched if name not in misfits):
            if name in found:
                raise InputError(
                    f"{found[name].step} and {step} both match {_owner(name)}; name it in one of them only."
                )
            found[name] = MaskedMatrix(name, candidates[name][0].parameter_axis, step)
    return list(found.values())


def _candidates(module: nn.Module, graph: DimensionGraph) -> dict[str, list[LinearRead]]:
    """Every trained matrix that activations are multiplied with, and where."""
    parameters = dict(module.named_parameters())
    reads: dict[str, list[LinearRead]] = {}
    for read in graph.reads:
        if read.parameter in parameters and parameters[read.parameter].dim() > 1:
            reads.setdefault(read.parameter, []).append(read)
    return reads


def _is_named(parameter: str, where: str) -> bool:
    return is_named(parameter, where) or is_named(_owner(parameter), where)


def _owner(parameter: str) -> str:
    """What people call it: the module with this weight, or the raw parameter itself."""
    return parameter.removesuffix(".weight")


def _misfit(module: nn.Module, name: str, reads: Sequence[LinearRead], step: MaskStep) -> str:
    """Why a step cannot mask a parameter; empty where it can."""
    shape, axis = tuple(module.get_parameter(name).shape), reads[0].parameter_axis
    if any(read.parameter_axis != axis for read in reads):
        return f"{_owner(name)} of shape {shape} is multiplied from both sides"
    if isinstance(step, NM) and shape[axis] % step.m:
        return f"{_owner(name)} has {shape[axis]} inputs, no multiple of {step.m}"
    if isinstance(step, Block):
        if len(shape) != 2:
            return f"{_owner(name)} of shape {shape} is no matrix"
        height, width = step.shape
        if shape[1 - axis] % height or shape[axis] % width:
            given = f"{shape[1 - axis]} outputs and {shape[axis]} inputs"
            return f"{_owner(name)} has {given}, no multiples of {height} and {width}"
    return ""


def _input_norms(graph: DimensionGraph, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Tensor]:
    """(E[x_i^2])^(1/2) of the inputs of each parameter, padding left out: (inputs,)."""
    reads = [read for read in graph.reads if read.parameter in names]
    sources = {read.source: read.axis for read in reads}
    sums: dict[Node, Tensor] = {}
    counts: dict[Node, int] = {}

    def add(node: Node, value: Tensor, batch: Batch) -> None:
        vectors = rows(value, sources[node], batch).double()
        sums[node] = vectors.square().sum(0) + sums.get(node, 0.0)
        counts[node] = counts.get(node, 0) + len(vectors)

    def observe(node: Node, value: Any, batch: Batch) -> None:
        if node in sources:
            add(node, value, batch)

    run_batches(graph.module, batches, observe, sources)
    for node in sources:
        if node.op == "placeholder":  # an input of the model, which is not computed by it
            for batch in batches:
                add(node, batch[str(node.target)], batch)
    return {name: _root_mean([r for r in reads if r.parameter == name], sums, counts) for name in names}


def _root_mean(reads: Sequence[LinearRead], sums: Mapping[Node, Tensor], counts: Mapping[Node, int]) -> Tensor:
    sources = list(dict.fromkeys(read.source for read in reads))
    mean = torch.stack([sums[node] for node in sources]).sum(0) / sum(counts[node] for node in sources)
    if not bool(torch.isfinite(mean).all()):
        raise InputError(
            f"Calibration met non-finite inputs of {_owner(reads[0].parameter)}; check the model's weights and the "
            "calibration inputs for NaN or overflow."
        )
    return mean.sqrt()
