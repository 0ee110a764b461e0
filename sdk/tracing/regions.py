"""Regions of `with torch.no_grad()` and `with torch.autocast(..., enabled=False)`, which torch.export makes graphs of
their own, put back in line.

What leaves a region without gradients is detached, so that nothing is learned through it. What stands in a region
without autocast computes as anything else does wherever autocast is off, as in an evaluation in fp32; a graph that is
trained under autocast later computes it in its precision.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

AUTOCAST: Any = torch.ops.higher_order.wrap_with_autocast
GRADIENTS: Any = torch.ops.higher_order.wrap_with_set_grad_enabled
ENABLED = {AUTOCAST: 2, GRADIENTS: 0}
"""Which of a region's arguments says whether it switches autocast, or gradients, on."""
BODY = {AUTOCAST: 4, GRADIENTS: 1}
"""Which says what it computes; its operands follow."""


def inline_regions(module: GraphModule) -> None:
    """Put the operators of each region in its place, in place; one that switches autocast on stays, and what is in it.

    Gradients that are switched on again within a region without them end with the outer one.
    """
    found = False
    while regions := [node for node in module.graph.nodes if _is_inlined(node)]:
        found = True
        for node in regions:
            _inline(module, node)
    if found:
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()


def _is_inlined(node: Node) -> bool:
    return node.target is GRADIENTS or (node.target is AUTOCAST and not node.args[ENABLED[AUTOCAST]])


def _inline(module: GraphModule, region: Node) -> None:
    place = BODY[region.target]
    body: Any = attrgetter(str(region.args[place].target))(module)  # type: ignore[union-attr]
    placeholders = [node for node in body.graph.nodes if node.op == "placeholder"]
    values: dict[Node, Any] = dict(zip(placeholders, region.args[place + 1 :], strict=True))
    with module.graph.inserting_before(region):
        for node in body.graph.nodes:
            if node.op == "get_attr":
                values[node] = _adopt(module, body, node)
            elif node.op not in ("placeholder", "output"):
                values[node] = module.graph.node_copy(node, values.__getitem__)
        outputs = body.graph.output_node().args[0]
        is_detached = region.target is GRADIENTS and not region.args[ENABLED[GRADIENTS]]
        results = [
            _detached(module, values[node]) if is_detached and node not in placeholders else values[node]
            for node in outputs
        ]
    for user in list(region.users):  # each takes an item of the tuple that a region returns
        user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
        module.graph.erase_node(user)
    module.graph.erase_node(region)


def _detached(module: GraphModule, node: Node) -> Node:
    """The node without a gradient, where one could come to it."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not _is_learned(module, node):
        return node
    detached = module.graph.call_function(torch.ops.aten.detach.default, (node,))
    detached.meta = dict(node.meta)
    return detached


def _is_learned(module: GraphModule, node: Node) -> bool:
    """Whether a parameter has a part in it."""
    pending, seen = [node], set[Node]()
    while pending:
        node = pending.pop()
        if node.op == "get_attr" and isinstance(attrgetter(str(node.target))(module), nn.Parameter):
            return True
        pending += [source for source in node.all_input_nodes if source not in seen]
        seen.update(node.all_input_nodes)
    return False


def _adopt(module: GraphModule, body: GraphModule, node: Node) -> Node:
    """A constant or a graph that a region holds, as one of the module's own."""
    name = base = f"region_{str(node.target).replace('.', '_')}"
    count = 0
    while hasattr(module, name):
        count += 1
        name = f"{base}_{count}"
    value = attrgetter(str(node.target))(body)
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)
    copied = module.graph.get_attr(name)
    copied.meta = dict(node.meta)
    return copied
