"""LSTM, GRU and RNN as the ONNX operators of these names, of any length: torch would unroll the example's steps."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants
from torch import Tensor

from edgefold.errors import InputError

aten = torch.ops.aten


@dataclass(frozen=True)
class _Kind:
    """How ONNX computes what torch does."""

    operator: str
    gates: tuple[int, ...]
    """Torch's blocks of rows in the order of ONNX: input, output, forget, cell; update, reset, hidden."""
    attributes: dict[str, Any]
    activation: str = ""


_LSTM = _Kind("LSTM", (0, 3, 1, 2), {})
_GRU = _Kind("GRU", (1, 0, 2), {"linear_before_reset": 1})
_TANH, _RELU = (_Kind("RNN", (0,), {}, name) for name in ("Tanh", "Relu"))
RECURRENCES: dict[Any, _Kind] = {
    torch.lstm: _LSTM,
    aten.lstm.input: _LSTM,
    torch.gru: _GRU,
    aten.gru.input: _GRU,
    torch.rnn_tanh: _TANH,
    aten.rnn_tanh.input: _TANH,
    torch.rnn_relu: _RELU,
    aten.rnn_relu.input: _RELU,
}


def recur(func: Any, *args: Any, **kwargs: Any) -> Any:
    """`func`, one of `RECURRENCES`, as ONNX's operator: what comes out is for a graph, no numbers.

    Packed sequences are no case of it.

    Raises:
        InputError: an LSTM with a projection (Sak et al., 2014), which ONNX has not.
    """
    if kwargs or args[0].dim() != 3:
        return func(*args, **kwargs)
    return _layers(RECURRENCES[func], *args)


def gather_weights(model: onnx_ir.Model) -> None:
    """Fold what was computed of parameters for the recurrent operators into one constant each, in place."""
    recurrent = [node for node in model.graph if node.domain == "" and node.op_type in ("LSTM", "GRU", "RNN")]
    pending = [value for node in recurrent for value in node.inputs[1:4] if value is not None]
    before: set[onnx_ir.Node] = set()
    while pending:
        node = pending.pop().producer()
        if node is not None and node not in before:
            before.add(node)
            pending += [value for value in node.inputs if value is not None]
    if before:
        fold_constants(model, should_fold=lambda node: node in before, output_size_limit=sys.maxsize)
        RemoveUnusedNodesPass()(model)


def _states(state: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def _layers(
    kind: _Kind,
    x: Tensor,
    state: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    is_training: bool,
    is_both_ways: bool,
    is_batch_first: bool,
) -> tuple[Tensor, ...]:
    """As torch's operator: (the outputs of the last layer, the last states of all layers)."""
    if len({each.shape[-1] for each in _states(state)}) > 1:
        raise InputError("ONNX has no LSTM with a projection; leave proj_size out, or put a linear layer behind it.")
    ways, each = (2 if is_both_ways else 1), (4 if has_biases else 2)
    owned = [weights[start : start + each] for start in range(0, len(weights), each)]
    x = x.transpose(0, 1) if is_batch_first else x
    last: list[Sequence[Tensor]] = []
    for start in range(0, layers * ways, ways):
        begin = [part[start : start + ways] for part in _states(state)]
        outputs, *ends = _layer(kind, x, begin, owned[start : start + ways])
        x = outputs.permute(0, 2, 1, 3).flatten(2)
        last.append(ends)
    x = x.transpose(0, 1) if is_batch_first else x
    return (x, *(torch.cat(list(ends)) for ends in zip(*last, strict=True)))


def _layer(kind: _Kind, x: Tensor, states: Sequence[Tensor], weights: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
    """One layer, its weights for each way.

    Args:
        x: (steps, batch, inputs).
        states: (ways, batch, hidden) each.

    Returns:
        (steps, ways, batch, hidden), and the last states as they were given.
    """
    hidden, ways = states[0].shape[-1], len(weights)
    inputs, recurrent = (torch.stack([_arranged(own[place], kind, hidden) for own in weights]) for place in (0, 1))
    biases = None
    if len(weights[0]) == 4:
        joined = [torch.cat([_arranged(own[place], kind, hidden) for place in (2, 3)]) for own in weights]
        biases = torch.stack(joined)
    attributes = {
        "hidden_size": hidden,
        "direction": "bidirectional" if ways == 2 else "forward",
        **kind.attributes,
        **({"activations": [kind.activation] * ways} if kind.activation else {}),
    }
    steps, batch = x.shape[:2]
    ends: list[Sequence[Any]] = [(ways, batch, hidden)] * len(states)
    operator: Callable[..., Sequence[Tensor]] = torch.onnx.ops.symbolic_multi_out
    return operator(
        kind.operator,
        (x, inputs, recurrent, biases, None, *states),
        attributes,
        dtypes=[x.dtype] * (1 + len(states)),
        shapes=[(steps, ways, batch, hidden), *ends],
    )


def _arranged(weight: Tensor, kind: _Kind, hidden: int) -> Tensor:
    """Its blocks of rows, one for each gate, as ONNX has them."""
    return torch.cat([weight[gate * hidden : (gate + 1) * hidden] for gate in kind.gates])
