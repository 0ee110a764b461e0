"""build_student: a smaller copy of the teacher under a plan, with its trainable projections."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.calibration import Batch
from edgefold.copies import copied
from edgefold.dimensions import Dimension, DimensionGraph, check_inputs, trace
from edgefold.errors import InputError
from edgefold.gates.settings import Gates
from edgefold.gates.targets import check_gates, make_gates
from edgefold.hardware_sizes import warn_of_odd_sizes
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs
from edgefold.masks.steps import MaskStep
from edgefold.masks.targets import find_masked, masking_steps, start_masks
from edgefold.match_finding import MatchFinder
from edgefold.plans import Bottleneck, DropLayers, LowRank, Plan, Project, Select, ShareLayers
from edgefold.resizing.layouts import layout_names
from edgefold.resizing.modules import resize_module
from edgefold.resizing.size_constants import compensated, find_compensations
from edgefold.starts.batch_statistics import settle_batch_norms
from edgefold.starts.initialisation import start_student
from edgefold.starts.known_maps import find_known_maps
from edgefold.starts.sequential_start import Progress, refit_sequentially
from edgefold.structure.bottlenecks import add_bottlenecks
from edgefold.structure.restructuring import restructure
from edgefold.students import MODES, Structure, Student
from edgefold.tracing.placement import device_of, placed

STARTS = ("sequential", "pca")
IMPORTANCES = ("energy", "elimination")
CPU = torch.device("cpu")


def build_student(
    teacher: nn.Module,
    plan: Plan,
    inputs: Batch,
    calibration: Iterable[Batch],
    mode: str = "weights",
    *,
    start: str = "sequential",
    importance: str = "energy",
    progress: Progress | None = None,
    graph: DimensionGraph | None = None,
    previous: Student | None = None,
    gates: Gates | None = None,
) -> Student:
    """Copy the teacher under a plan, to its device; the teacher is not modified.

    What a student starts from is computed on the CPU, of a copy where the teacher is elsewhere.

    Args:
        inputs: example keyword tensors of forward, at least 2 rows.
        calibration: batches of such tensors (a few hundred samples), from which projections, importances and factors
            start.
        mode: what training will change, see `Student`.
        start: "pca" composes the teacher's weights with the calibrated projections and selections; "sequential" then
            fits every layer in turn to what the teacher computes there (see `refit_sequentially`). In modes
            "projection" and "all" it fits what is not composed from the teacher's weights: norms and some biases.
        importance: what a selection keeps: by "energy" what contributes most to its readers as they are; by
            "elimination" what they would miss most once the sequential start has fitted them to what is left, which
            costs whole second moments.
        progress: progress("start", layers done, of all, figures of the last one).
        graph: of the teacher, where it has been traced already; of no use where the teacher is not on the CPU.
        previous: a student under the same plan, of another teacher, whose maps are taken instead of calibrated ones
            (see `edgefold.jobs.carrying`).
        gates: on dimensions of the student that the plan makes, which training closes one by one; see `Gates`.

    Raises:
        InputError: the plan or the gates do not fit the model, the architecture cannot be built at these sizes, or
            calibration is bad.
    """
    if mode not in MODES:
        raise InputError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}.")
    if start not in STARTS:
        raise InputError(f"start={start!r} is not known; choose one of {', '.join(STARTS)}.")
    if importance not in IMPORTANCES:
        raise InputError(f"importance={importance!r} is not known; choose one of {', '.join(IMPORTANCES)}.")
    if importance == "elimination" and (start, mode) != ("sequential", "weights"):
        raise InputError(
            f"importance='elimination' counts on readers that are fitted afterwards, which start={start!r} in mode="
            f"{mode!r} does not do; use start='sequential' and mode='weights', or importance='energy'."
        )
    masking = masking_steps(plan, mode)
    check_gates(gates, masking)
    check_inputs(inputs)
    if (device := device_of(teacher)).type not in (CPU.type, "meta"):
        near = [placed(batch, CPU) for batch in (inputs, *calibration)]
        how: Any = {"start": start, "importance": importance, "progress": progress, "previous": previous}
        made = build_student(copied(teacher).to(CPU), plan, near[0], near[1:], mode, **how, gates=gates)
        return made.to(device)
    batches = list(calibration)
    reduced = restructure(teacher, plan, inputs)
    teacher_graph = graph
    if graph is None or reduced.module is not teacher:
        graph = reduced.trace(inputs)
    new_sizes = resolve_sizes(graph, plan)
    resized = resize_module(reduced.unshared, graph, inputs, new_sizes)
    reduced.share_in(resized.module.requires_grad_(True))  # a teacher may have been frozen
    if hasattr(teacher, "generation_config"):  # no part of the configuration that the smaller model was built from
        resized.module.generation_config = copy.deepcopy(teacher.generation_config)
    factor_pairs = find_factor_pairs(resized.module, [step for step in plan.steps if isinstance(step, LowRank)])
    emphasis = _emphasis(graph, plan, reduced.module)
    eliminates = importance == "elimination"
    known = find_known_maps(graph, previous, resized.sizes) if previous else {}
    plain = start_student(reduced.module, graph, resized.sizes, emphasis, factor_pairs, batches, eliminates, known)
    _load(resized.module, _without_constants(plain.weights, resized.module, graph, new_sizes))
    factorized = tuple(FactorPair(name, left.shape[1]) for name, (left, _) in plain.factors.items())
    warn_of_odd_sizes(_planned_sizes(graph, new_sizes, plain.factors))
    for pair in factorized:
        factorize(resized.module, pair, *plain.factors[pair.module])
    is_changed = not all(isinstance(step, MaskStep) for step in plan.steps)
    own_graph = None if factorized or reduced.shared else resized.graph
    student_graph = (own_graph or trace(resized.module, inputs)) if is_changed else graph
    masked = find_masked(resized.module, student_graph, masking)
    if is_changed:
        composed = () if mode == "weights" else plain.sources
        factors = find_compensations(student_graph, graph, composed)
        _load(resized.module, compensated(student_graph, factors))
        if start == "sequential":
            refitted = refit_sequentially(
                (teacher_graph or trace(teacher, inputs)) if reduced.layers else graph,
                student_graph,
                plain.maps,
                batches,
                reference=graph,
                layer_map={**reduced.layers, **{f"{pair.module}.1": pair.module for pair in factorized}},
                frozen=composed,
                factors=factors,
                scales=plain.scales,
                progress=progress,
            )
            _load(resized.module, refitted)
        _load(resized.module, settle_batch_norms(student_graph.module, resized.module, batches, composed))
    masks = start_masks(resized.module, student_graph, masked, batches)
    gated = make_gates(resized.module, student_graph, inputs, gates) if gates is not None else None
    steps = [step for step in plan.steps if isinstance(step, Bottleneck)]
    structure = Structure(
        plan,
        {name: (graph[name].size, size) for name, size in resized.sizes.items()},
        resized.edits,
        factorized,
        reduced.layers,
        reduced.shared,
        add_bottlenecks(resized.module, steps, inputs, batches),
        reduced.is_configured,
        resized.is_graph,
    )
    finder = MatchFinder(graph, resized.module, reduced, plain.scales)
    student = Student(resized.module, structure, plain, finder.hidden(), mode, masks, inputs, gated)
    student.entrance, student.attentions = finder.entrance(), finder.attentions(plain.maps)
    return student.train(teacher.training)


def resolve_sizes(graph: DimensionGraph, plan: Plan) -> dict[str, int]:
    """The new size of every dimension that the plan names.

    Raises:
        InputError: an unknown dimension, one named twice, a kind that does not allow the step, or a size that does
            not fit.
    """
    sizes: dict[str, int] = {}
    for step in plan.steps:
        if not isinstance(step, Project | Select):
            continue
        for dimension in _match(graph, plan, step.dimension):
            _check_step(step, dimension, graph.names)
            if dimension.name in sizes:
                raise InputError(f"The plan resizes {dimension.name} twice; name it in one step only.")
            sizes[dimension.name] = step.size
    return sizes


def _match(graph: DimensionGraph, plan: Plan, pattern: str) -> tuple[Dimension, ...]:
    try:
        return graph.match(pattern)
    except InputError as error:
        if not any(isinstance(step, DropLayers | ShareLayers) for step in plan.steps):
            raise
        raise InputError(
            f"{error} DropLayers and ShareLayers act first: dimensions are numbered after them, and layers that share "
            "their parameters have one size."
        ) from None


def _planned_sizes(
    graph: DimensionGraph, new_sizes: Mapping[str, int], factors: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, tuple[int, int]]:
    """What hardware sees, full and planned: sizes that change, but for numbers of heads, and ranks."""
    full = {name: graph[name].size for name in new_sizes if graph[name].kind != "heads"}
    widths = {name: (size, new_sizes[name]) for name, size in full.items() if new_sizes[name] != size}
    ranks = {name: (min(len(left), right.shape[1]), len(right)) for name, (left, right) in factors.items()}
    return widths | ranks


def _check_step(step: Project | Select, dimension: Dimension, names: Sequence[str]) -> None:
    verb = type(step).__name__
    allowed = {"Project": ("linear",), "Select": ("linear", "permutation", "heads")}[verb]
    if dimension.kind not in allowed:
        why = f" ({dimension.reason})" if dimension.reason else ""
        raise InputError(
            f"{verb}({step.dimension!r}) is not possible: {dimension.name} is {dimension.kind}{why}; {verb} needs a "
            f"dimension of kind {' or '.join(allowed)}."
        )
    if step.size > dimension.size:
        raise InputError(
            f"{verb}({step.dimension!r}, {step.size}) does not fit {dimension.name} of size {dimension.size}; choose "
            f"1 <= size <= {dimension.size}.{_about_groups(dimension.name, names)}"
        )


def _about_groups(name: str, names: Sequence[str]) -> str:
    """What heads mean where groups of queries share a key and a value."""
    queries = name.replace("heads", "queries")
    if queries == name or queries not in names:
        return ""
    return f" {name} counts groups of query heads that share a key and a value; how many each has is {queries}."


def _emphasis(graph: DimensionGraph, plan: Plan, module: nn.Module) -> dict[str, Mapping[str, float]]:
    """What counts for the start of each projected dimension."""
    paths = [path for path, _ in module.named_modules() if path]
    steps = [step for step in plan.steps if isinstance(step, Project)]
    for step in steps:
        for where in step.emphasis or {}:
            if not any(fnmatchcase(path, where) for path in paths):
                near = get_close_matches(where, paths, n=1)
                raise InputError(
                    f"Project({step.dimension!r}, emphasis={{{where!r}: ...}}) matches no module; give a module's path "
                    f"or a glob{f', such as {near[0]}' if near else ''}."
                )
    return {d.name: step.emphasis or {} for step in steps for d in graph.match(step.dimension)}


def _without_constants(
    weights: Mapping[str, Tensor], module: nn.Module, graph: DimensionGraph, new_sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """All but the buffers that no checkpoint holds and no change of size touches: the architecture computes its own."""
    persistent = module.state_dict().keys()
    changed = {name for name, size in new_sizes.items() if size != graph[name].size}
    buffers = {name for name, _ in module.named_buffers() if name not in persistent}
    own = {name for name in buffers & weights.keys() if changed.isdisjoint(layout_names(graph.layouts[name]))}
    return {name: value for name, value in weights.items() if name not in own}


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights by name; every name must be there with its shape."""
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    with torch.no_grad():
        for name, value in weights.items():
            tensors[name].copy_(value)
