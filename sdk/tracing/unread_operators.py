"""unread_values: results of a traced graph that nothing comes of, as those taken for a shape that the trace knows."""

from torch._ops import OpOverload
from torch.fx import Graph, Node


def unread_values(graph: Graph) -> set[Node]:
    """Operators that no output depends on and that change no operand in place.

    BART reads its embeddings at one coordinate for their shape alone, which would bind their axis if it counted.
    """
    unread: set[Node] = set()
    for node in reversed(graph.nodes):
        is_pure = isinstance(node.target, OpOverload) and not node.target._schema.is_mutable
        if is_pure and all(user in unread for user in node.users):
            unread.add(node)
    return unread
