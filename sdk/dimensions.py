"""trace(model, inputs): the named vector spaces that a network's parameters share, found from its graph alone."""

import operator
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import prod

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from edgefold.errors import InputError
from edgefold.resizing.layouts import AxisLayout, Factor, Layout, axis_names, axis_size
from edgefold.tracing.axes import Axis, AxisSpaces
from edgefold.tracing.axis_rules import visit
from edgefold.tracing.axis_tracer import AxisTracer, LinearRead, NormRead, sizes
from edgefold.tracing.dimension_names import name_atoms
from edgefold.tracing.forward_graphs import forward_graph
from edgefold.tracing.key_value_caches import caches_off
from edgefold.tracing.norm_rules import find_written_norms
from edgefold.tracing.placement import device_of, placed
from edgefold.tracing.quiet_tracing import raised_in
from edgefold.tracing.unread_operators import unread_values

ALLOWED = {
    "linear": "Project or keep",
    "permutation": "Select or keep",
    "heads": "Select whole heads or keep",
    "fixed": "keep",
}


@dataclass(frozen=True)
class Member:
    """One axis of one parameter that runs along a dimension."""

    parameter: str
    axis: int


@dataclass(frozen=True)
class Dimension:
    """A named vector space that several parameter axes share."""

    name: str
    size: int
    kind: str
    """ "linear" (any full-rank map commutes), "permutation", "heads" (whole heads), or "fixed"."""
    members: tuple[Member, ...]
    parameters: int
    """Number of parameter elements in tensors that run along it."""
    macs: int
    """Multiply-adds, on the example inputs, of the products with those parameters."""
    reason: str = ""
    """Why it is fixed; empty otherwise."""

    @property
    def allowed(self) -> str:
        return ALLOWED[self.kind]


@dataclass(frozen=True)
class DimensionGraph:
    """The dimensions of a model, the layout of every parameter, and the traced graph they came from."""

    dimensions: tuple[Dimension, ...]
    layouts: Mapping[str, Layout]
    """Of each parameter and buffer."""
    module: GraphModule = field(repr=False)
    reads: tuple[LinearRead, ...] = field(repr=False)
    norms: tuple[NormRead, ...] = field(repr=False)
    lookups: tuple[tuple[Node, str, Node], ...] = field(repr=False)
    node_layouts: Mapping[Node, Layout] = field(repr=False)
    tuple_layouts: Mapping[Node, tuple[Layout, ...]] = field(repr=False)
    """Of operators with several outputs."""

    def __getitem__(self, name: str) -> Dimension:
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise InputError(f"No dimension is named {name!r}; {self._names_for_people(name)}")

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    def match(self, pattern: str) -> tuple[Dimension, ...]:
        """The dimensions that a name, a family ("ffn" for ffn.0, ffn.1, ...) or a glob stands for.

        Raises:
            InputError: nothing matches.
        """
        found = tuple(d for d in self.dimensions if fnmatchcase(d.name, pattern) or fnmatchcase(d.name, f"{pattern}.*"))
        if not found:
            raise InputError(f"No dimension matches {pattern!r}; {self._names_for_people(pattern)}")
        return found

    def _names_for_people(self, wanted: str) -> str:
        families = dict.fromkeys(name.split(".")[0] for name in self.names)
        near = get_close_matches(wanted, [*families, *self.names], n=1)
        if wanted == "hidden":
            most = max(self.dimensions, key=lambda each: len({member.parameter for member in each.members}))
            return (
                "that is the name of a space outside of the heads on which nothing but linear operators and norms act, "
                f"and this model has none. Most parameters share {most.name} ({most.kind}: {most.allowed}); a "
                "nonlinear operator acts on it somewhere, or a tied parameter (an embedding that is the head, too) "
                f"joins it with a space where one does. This model has {', '.join(self.names)}."
            )
        return f"this model has {', '.join(self.names)}." + (f" Did you mean {near[0]}?" if near else "")

    def __str__(self) -> str:
        rows = [("dimension", "kind", "size", "parameters", "MACs", "may be done")]
        rows += [(d.name, d.kind, str(d.size), f"{d.parameters:,}", f"{d.macs:,}", d.allowed) for d in self.dimensions]
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def trace(model: nn.Module, inputs: Mapping[str, Tensor]) -> DimensionGraph:
    """Trace `model.forward(**inputs)` and class the axes of its parameters.

    The forward pass is traced once by torch.export, in evaluation mode and with dynamic leading sizes where the model
    allows it. No name of a module or of an architecture is looked at.

    Args:
        inputs: example keyword tensors of forward, on any device; leave labels out.

    Raises:
        InputError: the inputs are empty or not tensors, or torch.export cannot trace the model.
    """
    check_inputs(inputs)
    module = _export(model, inputs)
    _name_tied(module, model)
    tracer = AxisTracer(AxisSpaces())
    _know_norms(tracer, module)
    names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    seen: dict[int, Node] = {}
    unread = unread_values(module.graph)
    for node in module.graph.nodes:
        tracer.spaces.only_sizes = node in unread
        if node.op == "get_attr":
            _visit_parameter(tracer, node, names, seen)
        else:
            _visit(tracer, node)
    _fix_unread(tracer, unread)
    return _make_dimensions(module, tracer)


def _name_tied(module: GraphModule, model: nn.Module) -> None:
    """Tied parameters bear the model's first name for them in the graph too; torch 2.11 keeps the last of some."""
    own = dict(module.named_parameters(remove_duplicate=False))
    held = set(map(id, own.values()))
    for name, parameter in model.named_parameters():
        place, _, last = name.rpartition(".")
        if name in own or id(parameter) not in held or not place:
            continue
        if not _has_module(module, place):
            module.add_submodule(place, nn.Module())
        module.get_submodule(place).register_parameter(last, parameter)


def _has_module(module: nn.Module, place: str) -> bool:
    return any(name == place for name, _ in module.named_modules(remove_duplicate=False))


def check_inputs(inputs: Mapping[str, Tensor]) -> None:
    """Refuse what is not a non-empty mapping of names to tensors."""
    if not isinstance(inputs, Mapping) or not inputs:
        got = "an empty one" if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InputError(f"inputs must be a dict of example tensors, one for each argument of forward; got {got}.")
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise InputError(f"inputs[{name!r}] must be a tensor; got {type(value).__name__}.")


def _export(model: nn.Module, inputs: Mapping[str, Tensor]) -> GraphModule:
    """The traced module; it shares the model's parameters."""
    training = model.training
    model.eval()
    try:
        with caches_off(model):
            return forward_graph(model, placed(inputs, device_of(model)))
    except Exception as error:
        raise InputError(
            f"torch.export cannot trace {type(model).__name__} with inputs "
            f"{ {name: tuple(value.shape) for name, value in inputs.items()} }{raised_in(error)}: "
            f"{str(error).strip().splitlines()[0]} Check that the inputs are those of forward, with at least 2 rows, "
            "and that forward is free of data-dependent Python branches."
        ) from error
    finally:
        model.train(training)


def _know_norms(tracer: AxisTracer, module: GraphModule) -> None:
    """Norms that are written out in elementary operators count as norms."""
    for norm in find_written_norms(module.graph):
        weight, bias = (str(node.target) if node is not None else None for node in (norm.weight, norm.bias))
        tracer.inside_norms |= set(norm.inside)
        tracer.norm_ends[norm.end] = NormRead(norm.end, norm.source, weight, bias, norm.eps, norm.centred, norm.offset)


def _visit(tracer: AxisTracer, node: Node) -> None:
    """Give a node its axes."""
    if node.op == "placeholder":
        tracer.axes[node] = [tracer.spaces.new(size, f"an axis of the input {node.name}") for size in sizes(node)]
    elif node.op == "call_function":
        visit(tracer, node)
    elif node.op == "output":
        for source in bound_outputs(node):
            for axis in tracer.of(source):
                tracer.spaces.mark_fixed(axis, f"an axis of the output {source.name}")


def _visit_parameter(tracer: AxisTracer, node: Node, names: Mapping[int, str], seen: dict[int, Node]) -> None:
    """A parameter or buffer; tied ones have one name and share their axes. What nobody reads has none."""
    value = operator.attrgetter(str(node.target))(node.graph.owning_module)
    if not node.users or not isinstance(value, Tensor):
        return
    known = seen.setdefault(id(value), node)
    is_whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    reason = "an axis of whole numbers, which point at places" if is_whole else None
    tracer.axes[node] = (
        tracer.axes[known] if known in tracer.axes else [tracer.spaces.new(n, reason) for n in sizes(node)]
    )
    tracer.parameters[node] = names.get(id(value), str(node.target))
    tracer.static.add(node)


def _fix_unread(tracer: AxisTracer, unread: Collection[Node]) -> None:
    """What runs along unread values alone stays as it is: no calibration says anything of it."""
    spaces = tracer.spaces
    spaces.only_sizes = False

    def atoms(axes: Iterable[Axis]) -> set[int]:
        return {atom for axis in axes for atom in spaces.atoms(axis)}

    read: set[int] = set()
    for node, axes in tracer.axes.items():
        if node not in unread and not (node.op == "get_attr" and all(user in unread for user in node.users)):
            read |= atoms(axes)
    for outputs in (tracer.tuples[node] for node in tracer.tuples.keys() - unread):
        read |= set().union(*map(atoms, outputs))
    for node in tracer.parameters:
        for atom in atoms(tracer.axes[node]) - read:
            spaces.mark_fixed((atom,), "no output depends on it")


def bound_outputs(node: Node) -> list[Node]:
    """The outputs whose sizes are the model's contract: its logits where it names some, else all."""
    spec = node.graph._codegen.pytree_info.out_spec if hasattr(node.graph._codegen, "pytree_info") else None
    names = spec.context if spec is not None and isinstance(spec.context, list) else []
    if spec is None or "logits" not in names:
        return list(node.all_input_nodes)
    leaves = [child.num_leaves for child in spec.children()]
    start = sum(leaves[: names.index("logits")])
    chosen = tree_leaves(node.args[0])[start : start + leaves[names.index("logits")]]
    return [value for value in chosen if isinstance(value, Node)]


def _make_dimensions(module: GraphModule, tracer: AxisTracer) -> DimensionGraph:
    spaces = tracer.spaces
    owned = {name: tracer.axes[node] for node, name in tracer.parameters.items() if _is_resizable(node)}
    atoms = list(dict.fromkeys(atom for axes in owned.values() for axis in axes for atom in spaces.atoms(axis)))
    products = [
        product for axes in owned.values() for axis in axes for product in spaces.products(axis) if len(product) > 1
    ]
    in_products = {atom for product in products for atom in spaces.atoms(product)}
    kinds = {atom: _kind(spaces, atom, atom in in_products) for atom in atoms}
    names = name_atoms(atoms, kinds, tracer, owned, products)

    def axis_layout(axis: Axis) -> AxisLayout:
        factors = []
        for leaf in spaces.leaves(axis):
            space = spaces.space(leaf)
            parts = tuple(axis_layout(part) for part in space.parts or ())
            factors.append(Factor("" if parts else names.get(leaf, ""), space.size, parts))
        return tuple(factors)

    layouts = {name: tuple(axis_layout(axis) for axis in axes) for name, axes in owned.items()}
    return DimensionGraph(
        tuple(_dimension(atom, names, kinds, layouts, tracer) for atom in atoms),
        layouts,
        module,
        tuple(tracer.reads),
        tuple(tracer.norms),
        tuple(tracer.lookups),
        {node: tuple(axis_layout(axis) for axis in axes) for node, axes in tracer.axes.items()},
        {
            node: tuple(tuple(axis_layout(axis) for axis in axes) for axes in outputs)
            for node, outputs in tracer.tuples.items()
        },
    )


def _dimension(
    atom: int, names: Mapping[int, str], kinds: Mapping[int, str], layouts: Mapping[str, Layout], tracer: AxisTracer
) -> Dimension:
    members = tuple(
        Member(name, axis)
        for name, layout in layouts.items()
        for axis, factors in enumerate(layout)
        if names[atom] in axis_names(factors)
    )
    touched = {member.parameter for member in members}
    space = tracer.spaces.space(atom)
    return Dimension(
        name=names[atom],
        size=space.size,
        kind=kinds[atom],
        members=members,
        parameters=sum(prod(axis_size(axis) for axis in layouts[name]) for name in touched),
        macs=sum(read.macs for read in tracer.reads if read.parameter in touched),
        reason="; ".join(space.fixed),
    )


def _is_resizable(node: Node) -> bool:
    """A floating-point parameter or buffer itself (an index buffer holds places, not coordinates)."""
    value = node.meta.get("val")
    return node.op == "get_attr" and isinstance(value, Tensor) and value.is_floating_point()


def _kind(spaces: AxisSpaces, atom: int, in_product: bool) -> str:
    space = spaces.space(atom)
    if space.fixed:
        return "fixed"
    if space.nonlinear:
        return "heads" if space.head and in_product else "permutation"
    return "linear"
