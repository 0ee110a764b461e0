"""build_student: a smaller copy of the teacher under a plan, with its trainable projections."""

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from edgefold.bottlenecks import add_bottlenecks
from edgefold.calibration import Batch
from edgefold.dimensions import Dimension, DimensionGraph, check_inputs, trace
from edgefold.errors import InputError
from edgefold.hardware_sizes import warn_of_odd_sizes
from edgefold.initialisation import start_student
from edgefold.layer_dropping import path_before
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs
from edgefold.plans import Bottleneck, DropLayers, LowRank, Plan, Project, Select, ShareLayers
from edgefold.resizing import resize_module
from edgefold.restructuring import Restructured, restructure
from edgefold.sequential_start import Progress, refit_sequentially
from edgefold.students import MODES, Match, Structure, Student

STARTS = ("sequential", "pca")


def build_student(
    teacher: nn.Module,
    plan: Plan,
    inputs: Batch,
    calibration: Iterable[Batch],
    mode: str = "weights",
    *,
    start: str = "sequential",
    progress: Progress | None = None,
    graph: DimensionGraph | None = None,
) -> Student:
    """Copy the teacher under a plan; the teacher is not modified.

    Args:
        inputs: example keyword tensors of forward, at least 2 rows.
        calibration: batches of such tensors (a few hundred samples), from which projections, importances and factors
            start.
        mode: what training will change, see `Student`.
        start: "pca" composes the teacher's weights with the calibrated projections and selections; "sequential" then
            fits every layer in turn to what the teacher computes there (see `refit_sequentially`). In modes
            "projection" and "all" it fits what is not composed from the teacher's weights: norms and some biases.
        progress: progress("start", layers done, of all, figures of the last one).
        graph: of the teacher, where it has been traced already.

    Raises:
        InputError: the plan does not fit the model, the architecture cannot be built at these sizes, or calibration
            is bad.
    """
    if mode not in MODES:
        raise InputError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}.")
    if start not in STARTS:
        raise InputError(f"start={start!r} is not known; choose one of {', '.join(STARTS)}.")
    check_inputs(inputs)
    batches = list(calibration)
    reduced = restructure(teacher, plan, inputs)
    if graph is None or reduced.module is not teacher:
        graph = reduced.trace(inputs)
    new_sizes = resolve_sizes(graph, plan)
    resized = resize_module(reduced.unshared, graph, inputs, new_sizes)
    reduced.share_in(resized.module.requires_grad_(True))  # a teacher may have been frozen
    if hasattr(teacher, "generation_config"):  # no part of the configuration that the smaller model was built from
        resized.module.generation_config = copy.deepcopy(teacher.generation_config)
    factor_pairs = find_factor_pairs(resized.module, [step for step in plan.steps if isinstance(step, LowRank)])
    is_refitted = start == "sequential" and mode == "weights"
    plain = start_student(
        reduced.module, graph, resized.sizes, _projected(graph, plan), factor_pairs, batches, is_refitted
    )
    _load(resized.module, plain.weights)
    factorized = tuple(FactorPair(name, left.shape[1]) for name, (left, _) in plain.factors.items())
    warn_of_odd_sizes(_planned_sizes(graph, new_sizes, factorized))
    for pair in factorized:
        factorize(resized.module, pair, *plain.factors[pair.module])
    if start == "sequential" and plan.steps:
        teacher_graph = trace(teacher, inputs) if reduced.layers else graph
        frozen = () if mode == "weights" else plain.sources
        _load(
            resized.module,
            refit_sequentially(
                teacher_graph,
                trace(resized.module, inputs),
                plain.maps,
                batches,
                reference=graph,
                layer_map={**reduced.layers, **{f"{pair.module}.1": pair.module for pair in factorized}},
                frozen=frozen,
                progress=progress,
            ),
        )
    matches = () if resized.is_graph else _with_layers(_matches(graph, resized.module), reduced)
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
    return Student(resized.module, structure, plain, matches, mode).train(teacher.training)


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
    graph: DimensionGraph, new_sizes: Mapping[str, int], factor_pairs: Iterable[FactorPair]
) -> dict[str, int]:
    """What hardware sees: sizes that change, but for numbers of heads, and ranks."""
    changed = {name: size for name, size in new_sizes.items() if size != graph[name].size}
    widths = {name: size for name, size in changed.items() if graph[name].kind not in ("heads",)}
    return widths | {pair.module: pair.rank for pair in factor_pairs}


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


def _projected(graph: DimensionGraph, plan: Plan) -> set[str]:
    return {d.name for step in plan.steps if isinstance(step, Project) for d in graph.match(step.dimension)}


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights by name; every name must be there with its shape."""
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    with torch.no_grad():
        for name, value in weights.items():
            tensors[name].copy_(value)


def _matches(graph: DimensionGraph, module: nn.Module) -> tuple[Match, ...]:
    """Where hidden states can be compared: the norms along each linear dimension, or its writers where none has."""
    norms = [(norm.weight, norm.node) for norm in graph.norms if norm.weight]
    writers = [(read.parameter, read.node) for read in graph.reads]
    result: list[Match] = []
    for dimension in graph.dimensions:
        if dimension.kind != "linear":
            continue
        for places in (norms, writers):
            found = [
                Match(path, dimension.name)
                for parameter, node in places
                if (path := parameter.rpartition(".")[0]) and _last_dimension(graph, node) == dimension.name
            ]
            if found:
                result += [match for match in dict.fromkeys(found) if _has_module(module, match.module)]
                break
    return tuple(result)


def _with_layers(matches: tuple[Match, ...], reduced: Restructured) -> tuple[Match, ...]:
    """The matches with their paths in the teacher; where the owner of shared parameters matches, its sharers do too."""
    found = dict.fromkeys(matches)
    for match in matches:
        for sharer, owner in reduced.shared.items():
            if match.module.startswith(f"{owner}."):
                found[Match(sharer + match.module[len(owner) :], match.dimension)] = None
    return tuple(Match(m.module, m.dimension, path_before(m.module, reduced.layers)) for m in found)


def _last_dimension(graph: DimensionGraph, node: torch.fx.Node) -> str:
    layout = graph.node_layouts.get(node)
    return layout[-1][0].dimension if layout and len(layout[-1]) == 1 else ""


def _has_module(module: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in module.named_modules())
