"""trace(model, inputs): the named vector spaces that a network's parameters share, found from its graph alone."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.fx import GraphModule, Node

from edgefold.axes import Axis, AxisSpaces
from edgefold.axis_rules import AxisTracer, LinearRead, NormRead, sizes
from edgefold.errors import InputError

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
class Factor:
    """One factor of a parameter's axis: the dimension it runs along, and its size."""

    dimension: str
    size: int


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
    layouts: Mapping[str, tuple[tuple[Factor, ...], ...]]
    """For each parameter and buffer, for each axis, the row-major factors of that axis; empty for an axis of size 1."""
    module: GraphModule = field(repr=False)
    reads: tuple[LinearRead, ...] = field(repr=False)
    norms: tuple[NormRead, ...] = field(repr=False)
    lookups: tuple[tuple[Node, str, Node], ...] = field(repr=False)
    node_layouts: Mapping[Node, tuple[tuple[Factor, ...], ...]] = field(repr=False)

    def __getitem__(self, name: str) -> Dimension:
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise InputError(f"No dimension is named {name!r}; this model has {', '.join(self.names)}.")

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
            raise InputError(f"No dimension matches {pattern!r}; this model has {', '.join(self.names)}.")
        return found

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
        inputs: example keyword tensors of forward; leave labels out.

    Raises:
        InputError: the inputs are empty or not tensors, or torch.export cannot trace the model.
    """
    check_inputs(inputs)
    module = _export(model, inputs)
    tracer = AxisTracer(AxisSpaces())
    for node in module.graph.nodes:
        _visit(tracer, node)
    return _name_dimensions(module, tracer)


def check_inputs(inputs: Mapping[str, Tensor]) -> None:
    """Refuse what is not a non-empty mapping of names to tensors."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise InputError(f"inputs must be a dict of example tensors, one for each argument of forward; got {inputs!r}.")
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise InputError(f"inputs[{name!r}] must be a tensor; got {type(value).__name__}.")


def _export(model: nn.Module, inputs: Mapping[str, Tensor]) -> GraphModule:
    """The traced module; it shares the model's parameters."""
    training = model.training
    model.eval()
    dynamic = {name: dict.fromkeys(range(min(value.dim(), 2)), Dim.AUTO) for name, value in inputs.items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = export(model, (), dict(inputs), dynamic_shapes=dynamic, strict=False)
            return program.module(check_guards=False)
    except Exception as error:
        raise InputError(
            f"torch.export cannot trace {type(model).__name__} with inputs "
            f"{ {name: tuple(value.shape) for name, value in inputs.items()} }: {str(error).strip().splitlines()[0]} "
            "Check that the inputs are those of forward, with at least 2 rows, and that forward is free of "
            "data-dependent Python branches."
        ) from error
    finally:
        model.train(training)


def _visit(tracer: AxisTracer, node: Node) -> None:
    """Give a node its axes."""
    if node.op == "get_attr":
        if (known := next((n for n, name in tracer.parameters.items() if name == node.target), None)) is not None:
            tracer.axes[node] = tracer.axes[known]
        else:
            tracer.axes[node] = [tracer.spaces.new(size) for size in sizes(node)]
        tracer.parameters[node] = str(node.target)
    elif node.op == "placeholder":
        tracer.axes[node] = [tracer.spaces.new(size, f"an axis of the input {node.name}") for size in sizes(node)]
    elif node.op == "call_function":
        tracer.visit(node)
    elif node.op == "output":
        for source in node.all_input_nodes:
            for axis in tracer.of(source):
                tracer.spaces.mark_fixed(axis, f"an axis of the output {source.name}")


def _name_dimensions(module: GraphModule, tracer: AxisTracer) -> DimensionGraph:
    spaces = tracer.spaces
    owned = {name: tracer.axes[node] for node, name in tracer.parameters.items() if _is_resizable(node)}
    owned |= _tied(module, owned)
    atoms = list(dict.fromkeys(atom for axes in owned.values() for axis in axes for atom in spaces.leaves(axis)))
    kinds = {atom: _kind(tracer, atom, owned) for atom in atoms}
    names = _names(atoms, kinds, tracer, owned)

    def layout(axes: list[Axis]) -> tuple[tuple[Factor, ...], ...]:
        return tuple(
            tuple(Factor(names.get(atom, ""), spaces.space(atom).size) for atom in spaces.leaves(axis)) for axis in axes
        )

    layouts = {name: layout(axes) for name, axes in owned.items()}
    elements = {name: prod(spaces.size(axis) for axis in axes) for name, axes in owned.items()}
    dimensions = []
    for atom in atoms:
        members = tuple(
            Member(name, axis)
            for name, axes in layouts.items()
            for axis, factors in enumerate(axes)
            if names[atom] in {factor.dimension for factor in factors}
        )
        touched = {member.parameter for member in members}
        dimensions.append(
            Dimension(
                name=names[atom],
                size=spaces.space(atom).size,
                kind=kinds[atom],
                members=members,
                parameters=sum(elements[name] for name in touched),
                macs=sum(read.macs for read in tracer.reads if read.parameter in touched),
                reason="; ".join(spaces.space(atom).fixed),
            )
        )
    node_layouts = {node: layout(axes) for node, axes in tracer.axes.items()}
    return DimensionGraph(
        tuple(dimensions),
        layouts,
        module,
        tuple(tracer.reads),
        tuple(tracer.norms),
        tuple(tracer.lookups),
        node_layouts,
    )


def _is_resizable(node: Node) -> bool:
    """A floating-point parameter or buffer itself (an index buffer holds places, not coordinates)."""
    value = node.meta.get("val")
    return node.op == "get_attr" and isinstance(value, Tensor) and value.is_floating_point()


def _tied(module: GraphModule, owned: Mapping[str, list[Axis]]) -> dict[str, list[Axis]]:
    """Other names of the same tensors."""
    by_identity = {id(module.get_parameter(name)): axes for name, axes in owned.items() if _is_parameter(module, name)}
    return {
        name: by_identity[id(tensor)]
        for name, tensor in module.named_parameters(remove_duplicate=False)
        if name not in owned and id(tensor) in by_identity
    }


def _is_parameter(module: nn.Module, name: str) -> bool:
    try:
        module.get_parameter(name)
    except AttributeError:
        return False
    return True


def _kind(tracer: AxisTracer, atom: int, owned: Mapping[str, list[Axis]]) -> str:
    space = tracer.spaces.space(atom)
    products = [
        leaves
        for axes in owned.values()
        for axis in axes
        if atom in (leaves := tracer.spaces.leaves(axis)) and leaves[1:]
    ]
    if space.fixed:
        return "fixed"
    if products and not space.nonlinear:
        space.fixed.append("the inner factor of a product axis")
        return "fixed"
    if space.nonlinear:
        return "heads" if space.head and products else "permutation"
    return "linear"


def _names(
    atoms: list[int], kinds: Mapping[int, str], tracer: AxisTracer, owned: Mapping[str, list[Axis]]
) -> dict[int, str]:
    """Names by role: hidden is the linear space that most parameters share, vocab the table that an input looks up;
    families are numbered in traced order."""
    spaces = tracer.spaces
    rows = {spaces.leaves(tracer.axes[node.args[0]][0])[0]: ids for node, _, ids in tracer.lookups}  # type: ignore[index]
    tables = list(rows)
    looked_up = [atom for atom, ids in rows.items() if ids.op == "placeholder"] or tables
    vocabulary = max(looked_up, key=lambda atom: spaces.space(atom).size, default=None)
    uses = {atom: sum(atom in spaces.leaves(axis) for axes in owned.values() for axis in axes) for atom in atoms}
    linear = [atom for atom in atoms if kinds[atom] == "linear"]
    hidden = max(linear, key=lambda atom: uses[atom], default=None)
    convolved = {
        atom
        for read in tracer.reads
        if "conv" in str(read.node.target)
        for axis in owned[read.parameter][:2]
        for atom in spaces.leaves(axis)
    }
    counts: dict[str, int] = {}
    names: dict[int, str] = {}
    for atom in atoms:
        if atom in (vocabulary, hidden):
            names[atom] = "vocab" if atom == vocabulary else "hidden"
            continue
        family = _family(
            spaces, atom, kinds[atom], atom in tables, atom in convolved, _between(atom, hidden, spaces, owned)
        )
        names[atom] = f"{family}.{counts.setdefault(family, 0)}"
        counts[family] += 1
    return names


def _between(atom: int, hidden: int | None, spaces: AxisSpaces, owned: Mapping[str, list[Axis]]) -> bool:
    """Whether every matrix of this space leads from or to `hidden`, as those of a feed-forward block do."""
    matrices = [
        classes
        for axes in owned.values()
        if len(classes := [leaf for axis in axes for leaf in spaces.leaves(axis)]) > 1 and atom in classes
    ]
    return hidden is not None and bool(matrices) and all(hidden in classes for classes in matrices)


def _family(spaces: AxisSpaces, atom: int, kind: str, is_table: bool, is_convolved: bool, is_between: bool) -> str:
    if kind == "heads":
        return "heads"
    if kind == "permutation":
        return "channels" if is_convolved else "ffn" if is_between else "units"
    if kind == "linear":
        return "linear"
    if is_table:
        return "table"
    reasons = " ".join(spaces.space(atom).fixed)
    families = (
        ("output", "output"),
        ("input", "input"),
        ("kernel", "kernel"),
        ("between activations", "head_dim"),
        ("inner factor", "head_dim"),
    )
    return next((family for word, family in families if word in reasons), "fixed")
