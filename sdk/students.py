"""build_student: a smaller copy of the teacher under a plan, with its trainable projections."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgefold.bottlenecks import add_bottlenecks
from edgefold.calibration import Batch
from edgefold.compositions import Composition, compose_weights
from edgefold.dimensions import Dimension, DimensionGraph, check_inputs, trace
from edgefold.errors import InputError
from edgefold.hardware_sizes import warn_of_odd_sizes
from edgefold.initialisation import StudentStart, start_student
from edgefold.layer_dropping import path_before
from edgefold.layouts import Layout, layout_names
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs
from edgefold.plans import Bottleneck, DropLayers, LowRank, Plan, Project, Select, ShareLayers
from edgefold.projections import Projection
from edgefold.reachability import keep_reachable
from edgefold.resizing import AttributeEdit, resize_module
from edgefold.restructuring import Restructured, restructure
from edgefold.sequential_start import Progress, refit_sequentially
from edgefold.tied_state import keep_tied_once
from edgefold.weight_slots import WeightSlot, find_slots

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
    layer_map: Mapping[str, str] = field(default_factory=dict)
    """Path of each layer of a shortened stack -> its path in the teacher."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Path of each layer that uses another's parameters -> that layer's path."""
    bottlenecks: tuple[str, ...] = ()
    """Paths of the layers with a bottleneck."""
    is_configured: bool = True
    """Whether the configuration of a Hugging Face model says how many layers were kept."""

    @property
    def is_uniform(self) -> bool:
        """Whether the configuration alone describes the student, so that `from_pretrained` opens it."""
        return not (self.edits or self.factor_pairs or self.shared or self.bottlenecks) and self.is_configured


@dataclass(frozen=True)
class Match:
    """A submodule whose output lies in the same space in teacher and student, up to the dimension's projection."""

    module: str
    dimension: str
    teacher: str = ""
    """Its path in the teacher; empty where it is the same."""

    @property
    def teacher_module(self) -> str:
        return self.teacher or self.module


class Student(nn.Module):
    """The smaller architecture, its projections, and how its weights come from the teacher's.

    In mode "weights" the smaller weights themselves are trained. In modes "projection" and "all" each projected weight
    is composed, W~ = P_b^T W P_a, at the first forward pass after P or W have changed, so once a step, and stands in
    its place until then; "projection" trains the projections and the small norms alone (Low-Rank Clone, 2025), "all"
    trains the teacher's weights W as well.
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
        keep_tied_once(self)
        self.slots: tuple[WeightSlot, ...] = ()
        self._composition: Composition | None = None
        if mode != "weights":
            self._keep_sources(start.sources)
            self.refresh()

    def _keep_sources(self, sources: Mapping[str, Tensor]) -> None:
        """Hold the teacher's weights in place of the small ones, and freeze what is not to be trained."""
        self.slots = find_slots(self.module, sources)
        for slot in self.slots:
            trained = self.mode == "all" and slot.is_parameter
            self.sources[_key(slot.name)] = nn.Parameter(sources[slot.name].clone(), requires_grad=trained)
            slot.empty(self.module)
        for name, parameter in self.module.named_parameters():
            if self.mode == "projection" and name in self.layouts and not self._is_projected(self.layouts[name]):
                parameter.requires_grad_(False)  # what remains of the projected ones are norms

    def _is_projected(self, layout: Layout) -> bool:
        return any(_key(name) in self.projections for name in layout_names(layout))

    def projection(self, dimension: str) -> Tensor | None:
        """P: (d, p) of a dimension, or None where it has none."""
        key = _key(dimension)
        return self.projections[key] if key in self.projections else None  # noqa: SIM401 (ParameterDict.get is untyped)

    def composed(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The smaller weights that follow from projections and the teacher's weights, each time anew.

        Empty in mode "weights"; with a dtype, computed on the CPU in that precision.
        """
        projections, sources = (
            {_name(key): tensor.to("cpu", dtype) if dtype else tensor for key, tensor in tensors.items()}
            for tensors in (self.projections, self.sources)
        )
        return compose_weights(projections, sources, self.layouts)

    def weights(self) -> dict[str, Tensor]:
        """The weights of the smaller architecture by name, as trained or as composed for this step."""
        self.refresh()
        composed = {slot.name: _value(self.module, slot.name) for slot in self.slots}
        return {**dict(self.module.named_parameters()), **composed}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def refresh(self) -> None:
        """Compose the weights if P or W have changed since they were; forward does it by itself."""
        if not self.slots:
            return
        tensors = [*self.projections.values(), *self.sources.values()]
        if self._composition is None or not self._composition.is_current(tensors):
            projections, sources = (
                {_name(key): tensor for key, tensor in held.items()} for held in (self.projections, self.sources)
            )
            self._composition = Composition(projections, sources, self.layouts)
            for slot, weight in zip(self.slots, self._composition.weights(), strict=True):
                slot.install(self.module, weight)

    def hold_gradients(self, held: bool) -> None:
        """Under gradient accumulation: whether more backward passes follow before the step.

        While true, gradients of composed weights are summed up; the first backward pass after it was set to false
        takes the sum to P and W. Never needed for correctness: without it every backward pass does so.
        """
        self.refresh()
        if self._composition is not None:
            self._composition.held = held

    def forward(self, *args: object, **kwargs: object) -> object:
        """As the teacher's forward, in the smaller architecture."""
        self.refresh()
        outputs: object = self.module(*args, **kwargs)
        return outputs if self.slots else keep_reachable(outputs, list(self.projections.values()))

    def activation_checkpointing_enable(self, *args: object, **kwargs: object) -> None:
        """As the Hugging Face model's own method; transformers.Trainer calls it.

        Raises:
            InputError: the module has none.
        """
        for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
            if hasattr(self.module, name):
                getattr(self.module, name)(*args, **kwargs)
                return
        raise InputError(
            f"{type(self.module).__name__} has no gradient_checkpointing_enable; leave gradient_checkpointing off, or "
            "call torch.utils.checkpoint in its forward."
        )

    def gradient_checkpointing_enable(self, *args: object, **kwargs: object) -> None:
        """The older name of `activation_checkpointing_enable`."""
        method = getattr(self.module, "gradient_checkpointing_enable", self.activation_checkpointing_enable)
        method(*args, **kwargs)

    def skeleton(self) -> nn.Module:
        """A copy of the smaller module in which every composed weight is missing."""
        self._empty()
        copied = copy.deepcopy(self.module)
        self.refresh()
        return copied

    def _empty(self) -> None:
        self._composition = None
        for slot in self.slots:
            slot.empty(self.module)

    def __getstate__(self) -> dict[str, object]:
        """For copies and pickles: without the composed weights, which have a history; either side composes anew."""
        self._empty()
        return {**self.__dict__}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.refresh()


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
    plain = start_student(reduced.module, graph, resized.sizes, _projected(graph, plan), factor_pairs, batches)
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
    matches = _with_layers(_matches(graph, resized.module), reduced)
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
            _check_step(step, dimension.name, dimension.kind, dimension.size, dimension.reason)
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


def _value(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    value: Tensor = getattr(module.get_submodule(path), attribute)
    return value


def _key(name: str) -> str:
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
