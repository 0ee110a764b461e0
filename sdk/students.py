"""build_student: a smaller copy of the teacher under a plan, with its trainable projections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph, Factor, check_inputs, trace
from edgefold.errors import InputError
from edgefold.initialisation import StudentStart, start_student
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.projections import Map, Projection, compose
from edgefold.resizing import AttributeEdit, resize_module
from edgefold.sequential_start import Progress, refit_sequentially

MODES = ("weights", "projection", "all")
STARTS = ("sequential", "pca")


@dataclass(frozen=True)
class Structure:
    """All that distinguishes the student's architecture from the teacher's, but for the configuration."""

    plan: Plan
    sizes: Mapping[str, tuple[int, int]]
    """Old and new size of each resized dimension."""
    edits: tuple[AttributeEdit, ...]
    factor_pairs: tuple[FactorPair, ...]

    @property
    def is_uniform(self) -> bool:
        """Whether the configuration alone describes the student, so that `from_pretrained` opens it."""
        return not self.edits and not self.factor_pairs


@dataclass(frozen=True)
class Match:
    """A submodule whose output lies in the same space in teacher and student, up to the dimension's projection."""

    module: str
    dimension: str


class Student(nn.Module):
    """The smaller architecture, its projections, and how its weights come from the teacher's.

    In mode "weights" the smaller weights themselves are trained. In modes "projection" and "all" each projected weight
    is composed in every forward pass, W~ = P_b^T W P_a; "projection" trains the projections and the small norms alone
    (Low-Rank Clone, 2025), "all" trains the teacher's weights W as well.
    """

    edgefold_unfolded = True

    def __init__(
        self,
        module: nn.Module,
        structure: Structure,
        start: StudentStart,
        matches: tuple[Match, ...],
        mode: str = "weights",
    ) -> None:
        super().__init__()
        self.module = module
        self.structure = structure
        self.matches = matches
        self.mode = mode
        self.layouts = start.layouts
        dtype = next(module.parameters()).dtype
        self.projections = nn.ParameterDict(
            {
                _key(name): nn.Parameter(map.matrix.to(dtype))
                for name, map in start.maps.items()
                if isinstance(map, Projection)
            }
        )
        self.sources = nn.ParameterDict()
        if mode != "weights":
            self._keep_sources(start.sources)

    def _keep_sources(self, sources: Mapping[str, Tensor]) -> None:
        """Hold the teacher's weights, and freeze what is composed from them or not to be trained."""
        for name, tensor in sources.items():
            self.sources[_key(name)] = nn.Parameter(tensor.clone(), requires_grad=self.mode == "all")
        for name, parameter in self.module.named_parameters():
            is_norm = name in self.layouts and self._is_projected(self.layouts[name]) and name not in sources
            if name in sources or (self.mode == "projection" and name in self.layouts and not is_norm):
                parameter.requires_grad_(False)

    def _is_projected(self, layout: tuple[tuple[Factor, ...], ...]) -> bool:
        return any(_key(factor.dimension) in self.projections for axis in layout for factor in axis)

    def projection(self, dimension: str) -> Tensor | None:
        """P: (d, p) of a dimension, or None where it has none."""
        key = _key(dimension)
        return self.projections[key] if key in self.projections else None  # noqa: SIM401 (ParameterDict.get is untyped)

    def composed(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The smaller weights that follow from projections and the teacher's weights; empty in mode "weights"."""
        maps: dict[str, Map] = {
            _name(key): Projection(matrix.to(dtype) if dtype else matrix) for key, matrix in self.projections.items()
        }
        return {
            _name(key): compose(source.to(dtype) if dtype else source, self.layouts[_name(key)], maps)
            for key, source in self.sources.items()
        }

    def forward(self, *args: object, **kwargs: object) -> object:
        """As the teacher's forward, in the smaller architecture."""
        if self.mode == "weights":
            return self.module(*args, **kwargs)
        return functional_call(self.module, self.composed(), args, kwargs)


def build_student(
    teacher: nn.Module,
    plan: Plan,
    inputs: Batch,
    calibration: Iterable[Batch],
    mode: str = "weights",
    *,
    start: str = "sequential",
    progress: Progress | None = None,
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
    graph = trace(teacher, inputs)
    new_sizes = resolve_sizes(graph, plan)
    resized = resize_module(teacher, graph, inputs, new_sizes)
    factor_pairs = find_factor_pairs(resized.module, [step for step in plan.steps if isinstance(step, LowRank)])
    plain = start_student(teacher, graph, resized.sizes, _projected(graph, plan), factor_pairs, batches)
    _load(resized.module, plain.weights)
    for pair in factor_pairs:
        factorize(resized.module, pair, *plain.factors[pair.module])
    structure = Structure(
        plan,
        {name: (graph[name].size, size) for name, size in resized.sizes.items()},
        resized.edits,
        tuple(factor_pairs),
    )
    student = Student(resized.module, structure, plain, _matches(graph, resized.module), mode)
    if start == "sequential":
        composed = () if mode == "weights" else plain.sources
        outer_factors = {f"{pair.module}.1": pair.module for pair in factor_pairs}
        refitted = refit_sequentially(
            graph,
            trace(resized.module, inputs),
            plain.maps,
            batches,
            layer_map=outer_factors,
            frozen=composed,
            progress=progress,
        )
        _load(resized.module, refitted)
    return student.train(teacher.training)


def resolve_sizes(graph: DimensionGraph, plan: Plan) -> dict[str, int]:
    """The new size of every dimension that the plan names.

    Raises:
        InputError: an unknown dimension, one named twice, a kind that does not allow the step, or a size that does
            not fit.
    """
    sizes: dict[str, int] = {}
    for step in plan.steps:
        if isinstance(step, LowRank):
            continue
        for dimension in graph.match(step.dimension):
            _check_step(step, dimension.name, dimension.kind, dimension.size, dimension.reason)
            if dimension.name in sizes:
                raise InputError(f"The plan resizes {dimension.name} twice; name it in one step only.")
            sizes[dimension.name] = step.size
    return sizes


def _check_step(step: Project | Select, name: str, kind: str, size: int, reason: str) -> None:
    verb = type(step).__name__
    allowed = {"Project": ("linear",), "Select": ("linear", "permutation", "heads")}[verb]
    if kind not in allowed:
        why = f" ({reason})" if reason else ""
        raise InputError(
            f"{verb}({step.dimension!r}) is not possible: {name} is {kind}{why}; {verb} needs a dimension of kind "
            f"{' or '.join(allowed)}."
        )
    if step.size > size:
        raise InputError(
            f"{verb}({step.dimension!r}, {step.size}) does not fit {name} of size {size}; choose 1 <= size <= {size}."
        )


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


def _last_dimension(graph: DimensionGraph, node: torch.fx.Node) -> str:
    layout = graph.node_layouts[node]
    return layout[-1][0].dimension if layout and len(layout[-1]) == 1 else ""


def _has_module(module: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in module.named_modules())


def _key(name: str) -> str:
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
