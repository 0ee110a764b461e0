"""Regions of `with torch.autocast(..., enabled=False)`, which torch.export makes graphs of their own, put back in line.

What stands in one computes as anything else does wherever autocast is off, as in an evaluation in fp32. A graph that is
trained under autocast later computes these regions in its precision.
"""

from operator import attrgetter
from typing import Any

import torch
from torch.fx import GraphModule, Node

REGION: Any = torch.ops.higher_order.wrap_with_autocast
IS_ENABLED, BODY = 2, 4
"""Which of a region's arguments say whether it switches autocast on, and what it computes; its operands follow."""


def inline_autocast(module: GraphModule) -> None:
    """Put the operators of every region that switches autocast off in its place; others stay, and what is in them."""
    regions = [node for node in module.graph.nodes if node.target is REGION and not node.args[IS_ENABLED]]
    for node in regions:
        _inline(module, node)
    if regions:
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()


def _inline(module: GraphModule, region: Node) -> None:
    body: Any = attrgetter(str(region.args[BODY].target))(module)  # type: ignore[union-attr]
    inline_autocast(body)
    placeholders = [node for node in body.graph.nodes if node.op == "placeholder"]
    values: dict[Node, Any] = dict(zip(placeholders, region.args[BODY + 1 :], strict=True))
    with module.graph.inserting_before(region):
        for node in body.graph.nodes:
            if node.op == "get_attr":
                values[node] = _adopt(module, body, node)
            elif node.op not in ("placeholder", "output"):
                values[node] = module.graph.node_copy(node, values.__getitem__)
    outputs = body.graph.output_node().args[0]
    for user in list(region.users):  # each takes an item of the tuple that a region returns
        user.replace_all_uses_with(values[outputs[user.args[1]]])
        module.graph.erase_node(user)
    module.graph.erase_node(region)


def _adopt(module: GraphModule, body: GraphModule, node: Node) -> Node:
    """A constant or a graph that a region holds, as one of the module's own."""
    name = base = f"region_{str(node.target).replace('.', '_')}"
    count = 0
    while hasattr(module, name):
        count += 1
        name = f"{base}_{count}"
    value = attrgetter(str(node.target))(body)
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)
    copied = module.graph.get_attr(name)
    copied.meta = dict(node.meta)
    return copied
