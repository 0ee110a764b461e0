"""Rules of recurrent layers: LSTM, GRU and plain RNN as single operators, over a sequence or a step."""

from math import prod
from typing import Any

from torch.fx import Node

from edgefold.tracing.axes import Axis
from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, place, sizes
from edgefold.tracing.elementwise_rules import unknown

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(tracer: AxisTracer, node: Node) -> Axes | None:
    """op(x, state, weights, has_biases, layers, dropout, train, bidirectional, batch_first).

    Every gate of a layer runs along one hidden space: W_ih (gates x hidden, in), W_hh (gates x hidden, hidden). All
    layers and directions share it, as the operator has one hidden size.
    """
    x, state, weights, has_biases, layers, _, _, bidirectional, _ = node.args
    gates = GATES[str(node.target).removeprefix("aten.").split(".")[0]]
    tensors: list[Any] = list(weights)  # type: ignore[arg-type]
    directions = 2 if bidirectional else 1
    per_cell = len(tensors) // (int(layers) * directions)  # type: ignore[arg-type]
    if per_cell != (4 if has_biases else 2):  # a projected state (proj_size)
        return unknown(tracer, node)
    hidden = tracer.spaces.new(tracer.spaces.size(tracer.of(tensors[1])[1]))
    tracer.spaces.mark_nonlinear(hidden)
    for value in state if isinstance(state, list | tuple) else [state]:
        tracer.spaces.unify(tracer.of(value)[-1], hidden, place(node))
    source = tracer.of(x)
    macs = prod(sizes(x)[:-1]) * _elements(tensors)
    read = source[-1]
    for layer in range(int(layers)):  # type: ignore[arg-type]
        for direction in range(directions):
            cell = tensors[(layer * directions + direction) * per_cell :][:per_cell]
            _cell(tracer, node, cell, read, hidden, gates)
            if layer == 0:
                tracer.read(node, x, len(source) - 1, cell[0], 1, macs=macs // directions)
        read = tracer.spaces.concatenate([hidden] * directions)
    last_states = [[*(tracer.spaces.new(size) for size in shape[:-1]), hidden] for shape in all_sizes(node)[1:]]
    tracer.tuples[node] = [[*source[:-1], read], *last_states]
    return None


def recurrent_cell(tracer: AxisTracer, node: Node) -> Axes | None:
    """op(x, state, W_ih, W_hh, b_ih, b_hh): one step of one layer; that of an LSTM gives state and memory."""
    x, state, *tensors = node.args
    name = str(node.target).removeprefix("aten.").split(".")[0].removesuffix("_cell")
    hidden = tracer.of(tensors[1])[1]
    tracer.spaces.mark_nonlinear(hidden)
    for value in state if isinstance(state, list | tuple) else [state]:
        tracer.spaces.unify(tracer.of(value)[-1], hidden, place(node))
    source = tracer.of(x)
    _cell(tracer, node, [tensor for tensor in tensors if tensor is not None], source[-1], hidden, GATES[name])
    tracer.read(node, x, len(source) - 1, tensors[0], 1, macs=prod(sizes(x)[:-1]) * _elements(tensors))
    after = [*source[:-1], hidden]
    if name == "lstm":
        tracer.tuples[node] = [after, list(after)]
        return None
    return after


def _elements(tensors: list[Any]) -> int:
    """Of the matrices, each of which is multiplied with in every step."""
    return sum(prod(sizes(each)) for each in tensors if len(sizes(each)) == 2)


def _cell(tracer: AxisTracer, node: Node, cell: list[Any], read: Axis, hidden: Axis, gates: int) -> None:
    where = place(node)
    from_input, from_state, *biases = cell
    tracer.spaces.unify(tracer.of(from_input)[1], read, where)
    tracer.spaces.unify(tracer.of(from_state)[1], hidden, where)
    for weight in (from_input, from_state, *biases):
        count = tracer.spaces.new(gates, f"the gates of {where}")
        tracer.spaces.unify(tracer.of(weight)[0], (*count, *hidden), where)
