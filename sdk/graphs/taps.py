"""Taps: values inside a traced graph made visible to forward hooks while it is trained."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.fx import GraphModule, Node

TAP = "edgefold_tap"


def insert_tap(module: GraphModule, node: Node, path: str) -> str:
    """Let a node's value pass through an identity module below `path`, in place; returns that module's path.

    Args:
        node: of this module's graph.
    """
    taken = dict(module.named_modules())
    target = next(name for i in range(len(taken) + 1) if (name := _tap_path(path, i)) not in taken)
    module.add_submodule(target, nn.Identity())
    with module.graph.inserting_after(node):
        tap = module.graph.call_module(target, (node,))
    tap.meta = dict(node.meta)
    node.replace_all_uses_with(tap, delete_user_cb=lambda user: user is not tap)
    module.recompile()
    return target


def remove_taps(module: nn.Module) -> None:
    """Take every tap out again, in place; nothing is done where there are none."""
    if not isinstance(module, GraphModule):
        return
    taps = [node for node in module.graph.nodes if node.op == "call_module" and is_tap(str(node.target))]
    for tap in taps:
        tap.replace_all_uses_with(tap.args[0])
        module.graph.erase_node(tap)
        module.delete_submodule(str(tap.target))
    if taps:
        module.recompile()


def is_tap(path: str) -> bool:
    return path.rpartition(".")[2].startswith(TAP)


def ends(nodes: Iterable[Node]) -> dict[str, Node]:
    """The operator that each module's forward ends with, in its last run."""
    found: dict[str, Node] = {}
    for node in nodes:
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            found |= dict.fromkeys(module_paths(node), node)
    return found


def module_paths(node: Node) -> list[str]:
    """The modules, from the outermost on, in whose forward an operator runs."""
    return [str(path).partition("@")[0] for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


def _tap_path(path: str, number: int) -> str:
    return ".".join(filter(None, (path, TAP + (str(number) if number else ""))))
