"""ModalGraph: a traced module that trains as the module that it was traced from would.

torch.export writes the mode of the moment into the operators: in evaluation batch norms read their running statistics,
and dropout does nothing. Here these flags follow `train()` and `eval()`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten

FLAGS: dict[Any, int] = {
    aten.batch_norm.default: 5,
    aten.instance_norm.default: 5,
    **dict.fromkeys((aten.dropout.default, aten.dropout_.default, aten.native_dropout.default), 2),
    **dict.fromkeys((aten.feature_dropout.default, aten.alpha_dropout.default, aten.feature_alpha_dropout.default), 2),
    aten.rrelu.default: 3,
    **dict.fromkeys((aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input), 6),
}
"""Operator -> which of its arguments says that it is training."""
MOMENTA: dict[Any, int] = {aten.batch_norm.default: 6, aten.instance_norm.default: 6}
MOMENTUM = 0.1
"""Stands for a momentum of None, the mean of all batches, of which a trace in evaluation mode leaves 0."""
SWITCHED = "edgefold_switched"
"""Key in the `meta` of a node whose flag stands at training only for as long as its module does."""


class ModalGraph(GraphModule):
    """A graph traced in evaluation mode, in which `train()` sets the flags of its operators, and `eval()` takes them
    back; those that were set when it was traced stay.

    What the trace did not keep stays lost: the dropout within scaled_dot_product_attention, layers that their module
    leaves in evaluation mode while it trains, and regions without autocast.
    """

    def train(self, mode: bool = True) -> "ModalGraph":
        super().train(mode)
        switched = [node for node in self.graph.nodes if node.target in FLAGS and _switch(node, mode)]
        if switched:
            self.recompile()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: the graph in evaluation mode, and the mode; else what is set would count as traced."""
        training = self.training
        try:
            revive, arguments = super(ModalGraph, self.eval()).__reduce__()
        finally:
            self.train(training)
        return _revived, (revive, arguments, training)


def _revived(revive: Callable[..., GraphModule], arguments: tuple[Any, ...], training: bool) -> ModalGraph:
    plain = revive(*arguments)
    tensors = dict(plain.named_parameters(remove_duplicate=False))
    tensors |= dict(plain.named_buffers(remove_duplicate=False))  # type: ignore[arg-type]
    return ModalGraph(tensors, plain.graph, "GraphModule").train(training)


def _switch(node: Node, mode: bool) -> bool:
    """Set a node's flag, or take back what was set; whether anything changed."""
    index = FLAGS[node.target]
    is_set = len(node.args) <= index or bool(node.args[index])
    if is_set == mode or (is_set and not node.meta.get(SWITCHED)):
        return False
    node.update_arg(index, mode)
    if node.target in MOMENTA and not node.args[MOMENTA[node.target]]:
        node.update_arg(MOMENTA[node.target], MOMENTUM)
    node.meta[SWITCHED] = mode
    return True
