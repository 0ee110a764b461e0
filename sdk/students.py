"""Student: the smaller architecture with its trainable projections, composed once a step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.compositions import Composition, compose_weights, gated
from edgefold.copies import copied
from edgefold.errors import InputError
from edgefold.gates.student_gates import HardConcreteGates
from edgefold.graphs.taps import remove_taps
from edgefold.low_rank import FactorPair
from edgefold.masks.student_masks import Masks
from edgefold.matches import AttentionMatch, Match
from edgefold.plans import Plan
from edgefold.projections import Map, Projection, Selection
from edgefold.reachability import keep_reachable
from edgefold.resizing.attribute_edits import AttributeEdit
from edgefold.resizing.layouts import Layout, layout_names
from edgefold.starts.initialisation import StudentStart
from edgefold.tracing.tied_state import keep_tied_once
from edgefold.weight_slots import WeightSlot, find_slots

MODES = ("weights", "projection", "all")


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
    is_graph: bool = False
    """Whether the student is the traced graph with its literals rewritten."""

    @property
    def is_uniform(self) -> bool:
        """Whether the configuration alone describes the student, so that `from_pretrained` opens it."""
        changed = self.edits or self.factor_pairs or self.shared or self.bottlenecks or self.is_graph
        return self.is_configured and not changed


class Student(nn.Module):
    """The smaller architecture, its projections, and how its weights come from the teacher's.

    In mode "weights" the smaller weights themselves are trained. In modes "projection" and "all" each projected weight
    is composed, W~ = P_b^T W P_a, at the first forward pass after P or W have changed, so once a step, and stands in
    its place until then; "projection" trains the projections and the small norms alone (Low-Rank Clone, 2025), "all"
    trains the teacher's weights W as well. Masks hold some of the smaller weights at zero, in mode "weights" alone.
    Gates multiply the weights that read gated dimensions, in every mode, as part of that composition.
    """

    edgefold_unfolded = True

    def __init__(
        self,
        module: nn.Module,
        structure: Structure,
        start: StudentStart,
        matches: tuple[Match, ...],
        mode: str = "weights",
        masks: Masks | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        gates: HardConcreteGates | None = None,
    ) -> None:
        super().__init__()
        self.inputs = {name: value.detach().cpu() for name, value in inputs.items()} if inputs else None
        """Example inputs, with which fold and penalties trace the smaller architecture."""
        self.module = module
        self.masks = masks or Masks()
        self.gates = gates
        self.structure = structure
        self.matches = matches
        self.entrance: Match | None = None
        """What enters the first layer."""
        self.attentions: tuple[AttentionMatch, ...] = ()
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
        self.selections = {name: map.indices for name, map in start.maps.items() if isinstance(map, Selection)}
        self.sources = nn.ParameterDict()
        keep_tied_once(self)
        self.slots: tuple[WeightSlot, ...] = ()
        named = signature(module.forward).parameters.values()
        self._takes_labels = any(each.name == "labels" or each.kind is each.VAR_KEYWORD for each in named)
        self._composition: Composition | None = None
        self._source_layouts: dict[str, Layout] = {}
        if mode != "weights" or gates is not None:
            self._keep_sources({} if mode == "weights" else start.sources)
            self.refresh()

    def _keep_sources(self, sources: Mapping[str, Tensor]) -> None:
        """Hold the teacher's weights in place of the small ones, and what only gates multiply as it is; freeze what is
        not to be trained."""
        own = [name for name in (self.gates.places.parameters if self.gates else ()) if name not in sources]
        self._source_layouts = {**{name: self.layouts[name] for name in sources}, **dict.fromkeys(own, ())}
        self.slots = find_slots(self.module, [*sources, *own])
        if self.mode == "projection":
            self._freeze(sources)
        for slot in self.slots:
            value = sources.get(slot.name)
            held = _value(self.module, slot.name)
            trained = held.requires_grad if value is None else self.mode == "all" and slot.is_parameter
            value = (held.detach() if value is None else value).clone()
            self.sources[_key(slot.name)] = nn.Parameter(value, requires_grad=trained)
            slot.empty(self.module)

    def _freeze(self, sources: Mapping[str, Tensor]) -> None:
        """Of what is not composed from projections, norms alone are trained."""
        for name, parameter in self.module.named_parameters():
            if name not in sources and name in self.layouts and not self._is_projected(self.layouts[name]):
                parameter.requires_grad_(False)

    def _is_projected(self, layout: Layout) -> bool:
        return any(_key(name) in self.projections for name in layout_names(layout))

    def projection(self, dimension: str) -> Tensor | None:
        """P: (d, p) of a dimension, or None where it has none."""
        key = _key(dimension)
        return self.projections[key] if key in self.projections else None  # noqa: SIM401 (ParameterDict.get is untyped)

    def maps(self) -> dict[str, Map]:
        """The map of every resized dimension, as trained by now; float64, on the CPU."""
        found: dict[str, Map] = {
            _name(key): Projection(matrix.detach().to("cpu", torch.float64)) for key, matrix in self.projections.items()
        }
        return found | {name: Selection(indices) for name, indices in self.selections.items()}

    def mapped(self, value: Tensor, dimension: str) -> Tensor:
        """A value of the teacher, (..., d) along a dimension, taken into the student's space: (..., p)."""
        if dimension in self.selections:
            return value.index_select(-1, self.selections[dimension].to(value.device))
        projection = self.projection(dimension)
        return value if projection is None else value @ projection

    def composed(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The smaller weights that follow from projections, the teacher's weights and gates, each time anew.

        Empty in mode "weights" without gates; with a dtype, computed on the CPU in that precision.
        """
        projections, sources = (
            {_name(key): tensor.to("cpu", dtype) if dtype else tensor for key, tensor in tensors.items()}
            for tensors in (self.projections, self.sources)
        )
        weights = compose_weights(projections, sources, self._source_layouts)
        if self.gates is None:
            return weights
        return gated(weights, self.gates, self.gates.log_alpha.to("cpu", dtype) if dtype else self.gates.log_alpha)

    def weights(self) -> dict[str, Tensor]:
        """The weights of the smaller architecture by name, as trained or as composed for this step."""
        self.refresh()
        composed = {slot.name: _value(self.module, slot.name) for slot in self.slots}
        return {**dict(self.module.named_parameters()), **composed}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def refresh(self) -> None:
        """Compose the weights if P, W or gates have changed since they were; forward does it by itself."""
        if not self.slots:
            return
        alphas = [] if self.gates is None else [self.gates.log_alpha]
        tensors = [*self.projections.values(), *self.sources.values(), *alphas]
        if self._composition is None or not self._composition.is_current(tensors):
            projections, sources = (
                {_name(key): tensor for key, tensor in held.items()} for held in (self.projections, self.sources)
            )
            self._composition = Composition(projections, sources, self._source_layouts, self.gates)
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
        """As the teacher's forward, in the smaller architecture; labels that it does not take are left out."""
        self.refresh()
        if "labels" in kwargs and not self._takes_labels:
            del kwargs["labels"]
        outputs: object = self.module(*args, **kwargs)
        beside = [] if self.slots else list(self.projections.values())
        return keep_reachable(outputs, beside if self.gates is None else [*beside, self.gates.multipliers])

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
        skeleton = copied(self.module)
        self.refresh()
        for slot in self.slots:
            slot.empty(skeleton)
        remove_taps(skeleton)
        return skeleton

    def _empty(self) -> None:
        self._composition = None
        for slot in self.slots:
            slot.empty(self.module)
            if isinstance(self.module, GraphModule):
                slot.hold_places(self.module)

    def __getstate__(self) -> dict[str, object]:
        """For copies and pickles: without the composed weights, which have a history; either side composes anew."""
        self._empty()
        return {**self.__dict__}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        for slot in self.slots:
            slot.empty(self.module)
        self.refresh()


def _value(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    value: Tensor = getattr(module.get_submodule(path), attribute)
    return value


def _key(name: str) -> str:
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
