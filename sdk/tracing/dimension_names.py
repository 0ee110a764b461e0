"""Names of dimensions by the role they play in the graph: hidden, vocab, ffn.3, heads.3, never by names of modules."""

from collections.abc import Iterable, Mapping, Sequence

from torch.fx import Node

from edgefold.tracing.axes import Axis, AxisSpaces
from edgefold.tracing.axis_tracer import AxisTracer

RESHAPES = ("view", "reshape", "unsqueeze", "squeeze", "slice", "contiguous", "clone", "alias")
Owned = Mapping[str, list[Axis]]
SINGLE = -1


def name_atoms(
    atoms: list[int], kinds: Mapping[int, str], tracer: AxisTracer, owned: Owned, products: Sequence[Axis]
) -> dict[int, str]:
    """hidden is the linear space outside of heads that most parameters share, vocab the table that an input looks up;
    families are numbered in traced order."""
    spaces = tracer.spaces
    in_products = {atom for product in products for atom in spaces.atoms(product)}
    leading = {product[0] for product in products}
    behind_heads = {
        atom for first, *rest in products if kinds.get(first) == "heads" for atom in spaces.atoms(tuple(rest))
    }
    rows = {next(spaces.atoms(tracer.axes[node.args[0]][0]), -1): ids for node, _, ids in tracer.lookups}  # type: ignore[index]
    vocabulary = _vocabulary(rows, spaces)
    hidden = _hidden(atoms, kinds, spaces, owned, in_products)
    convolved = _convolved(tracer, owned)
    neighbours = _neighbours(spaces, owned)
    counts: dict[str, int] = {}
    names: dict[int, str] = {}
    for atom in atoms:
        if atom in (vocabulary, hidden):
            names[atom] = "vocab" if atom == vocabulary else "hidden"
            continue
        is_between = hidden is not None and neighbours.get(atom, set()) == {hidden}
        family = _family(spaces, atom, kinds[atom], atom in rows, atom in convolved, is_between, atom in behind_heads)
        if family == "heads" and atom not in leading:
            family = "queries"  # of one group of heads (grouped-query attention)
        names[atom] = f"{family}.{counts.setdefault(family, 0)}"
        counts[family] += 1
    return names


def _vocabulary(rows: Mapping[int, object], spaces: AxisSpaces) -> int | None:
    """The largest table that an input looks up, or any."""
    of_inputs = [atom for atom, ids in rows.items() if _is_input(ids) and atom >= 0]
    return max(
        of_inputs or [atom for atom in rows if atom >= 0], key=lambda atom: spaces.space(atom).size, default=None
    )


def _is_input(ids: object) -> bool:
    """Whether indices are an input of the model, at most reshaped on their way."""
    node = ids
    while isinstance(node, Node) and str(node.target).split(".")[-2:][0] in RESHAPES:
        node = node.args[0]
    return isinstance(node, Node) and node.op == "placeholder"


def _hidden(
    atoms: Iterable[int], kinds: Mapping[int, str], spaces: AxisSpaces, owned: Owned, in_products: set[int]
) -> int | None:
    uses = dict.fromkeys(atoms, 0)
    for axes in owned.values():
        for atom in {atom for axis in axes for atom in spaces.atoms(axis)}:
            uses[atom] += 1
    linear = [atom for atom in uses if kinds[atom] == "linear" and atom not in in_products]
    return max(linear, key=lambda atom: uses[atom], default=None)


def _convolved(tracer: AxisTracer, owned: Owned) -> set[int]:
    """Classes that convolutions read or write."""
    return {
        atom
        for read in tracer.reads
        if "conv" in str(read.node.target)
        for axis in owned[read.parameter][:2]
        for atom in tracer.spaces.atoms(axis)
    }


def _neighbours(spaces: AxisSpaces, owned: Owned) -> dict[int, set[int]]:
    """Class -> the classes on the other axes of its matrices; `SINGLE` for an axis of one place, which has none."""
    found: dict[int, set[int]] = {}
    for axes in owned.values():
        classes = [set(spaces.atoms(axis)) or ({SINGLE} if len(axes) == 2 else set()) for axis in axes]
        classes = [each for each in classes if each]
        if len(classes) > 1:
            for i, own in enumerate(classes):
                others = set().union(*(each for k, each in enumerate(classes) if k != i))
                for atom in own:
                    found.setdefault(atom, set()).update(others)
    return found


def _family(
    spaces: AxisSpaces,
    atom: int,
    kind: str,
    is_table: bool,
    is_convolved: bool,
    is_between: bool,
    is_behind_heads: bool,
) -> str:
    if kind == "heads":
        return "heads"
    if kind in ("permutation", "linear") and is_behind_heads:
        return "head_dim" if kind == "permutation" else "value_dim"
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
        ("gates", "gates"),
    )
    return next((family for word, family in families if word in reasons), "fixed")
