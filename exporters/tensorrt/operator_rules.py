"""Rules about single nodes: the operator, its form, and what its inputs and outputs may be."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, defs

from edgefold.exporters.tensorrt.complaints import Complaint
from edgefold.exporters.tensorrt.graph_view import GraphView, name_of, type_name
from edgefold.exporters.tensorrt.operators import FIRST, why_not_taken
from edgefold.exporters.tensorrt.parser_targets import ParserTarget

DEFAULT_DOMAINS = ("", "ai.onnx")
MICROSOFT = "com.microsoft"
FUNCTIONS_SINCE = (10, 0)
"""Before it the parser knows no functions of the model's own (changelog of 9.0)."""
CONSTANTS = {"CumSum": (1, (8, 5)), "OneHot": (1, (8, 5))} | {
    name: (1, (10, 0)) for name in FIRST if name.startswith("Reduce")
}
"""Operator -> the input that must be constant, and since when the parser reads it as an input at all (operators.md)."""
CONSTANTS_BEFORE_8_6 = {"TopK": 1}
"""8.6 takes a K that is computed (changelog)."""
ONE_OUTPUT = ("MaxPool", "LayerNormalization")
"""Their further outputs are refused ("does not support more than one output", 1.7 of TensorRT-RTX)."""
SLOW = {
    **dict.fromkeys(("If", "Loop", "Scan"), "splits the graph: nothing is fused across it"),
    "IsNaN": "guards the rows of an attention exported as sdpa, twice the layers of one exported as eager",
}
"""What is taken and costs time; 1,080 layers against 550 for a six-layer encoder on TensorRT-RTX 1.7."""
ATTENTION_INPUTS = 4
"""Q, K, V and the mask: what else Attention may take is not supported (operators.md of 10.15)."""
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
QUANTIZED = (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1)
"""What DequantizeLinear takes, and nothing else takes as a constant (TensorRT-RTX 1.7)."""


def check_operator(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """Whether the parser has an importer for it."""
    if (node.domain, node.op_type) in graph.functions:
        if target.version < FUNCTIONS_SINCE:
            yield _refused(node, "is a function of the model's own; inline it (onnx.inliner.inline_local_functions)")
    elif node.domain not in DEFAULT_DOMAINS:
        told = "; export without what only ONNX Runtime runs" if node.domain == MICROSOFT else ""
        yield _refused(node, f"is of the domain {node.domain}, which needs a plugin{told}")
    elif reason := why_not_taken(node.op_type, target):
        yield _refused(node, reason)
    elif node.op_type in SLOW:
        yield Complaint(name_of(node), node.op_type, "warned", SLOW[node.op_type])


def check_form(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """Whether it uses an input or attribute that its operator has only since an opset newer than the parser's."""
    if graph.opset <= target.opset or node.domain not in DEFAULT_DOMAINS:
        return
    try:
        known, own = (defs.get_schema(node.op_type, opset, "") for opset in (target.opset, graph.opset))
    except defs.SchemaError:
        return  # no operator of ONNX, or not yet: the rule above says so
    new = [a.name for a in node.attribute if a.name not in known.attributes and a.name in own.attributes]
    new += [formal.name for index, formal in enumerate(own.inputs) if known.max_input <= index < len(node.input)]
    if new:
        yield _refused(
            node,
            f"uses {', '.join(new)} of opset {own.since_version}, newer than the parser's {target.opset}; export with "
            f"opset {target.opset}",
        )


def check_constants(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """Inputs that must be known when the graph is parsed."""
    index, since = CONSTANTS.get(node.op_type, (-1, target.version))
    if target.version < (8, 6) and node.op_type in CONSTANTS_BEFORE_8_6:
        index = CONSTANTS_BEFORE_8_6[node.op_type]
    name = node.input[index] if 0 <= index < len(node.input) and since <= target.version else ""
    if name and name not in graph.initializers:
        yield _refused(node, f"takes {name} from a computation; it must be a constant")
    for attribute in node.attribute if node.op_type == "Constant" else ():
        if attribute.name.startswith(("sparse_value", "value_string")):
            yield _refused(node, f"holds a {attribute.name}, which the parser does not read")


def check_outputs(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """Outputs, and of Attention inputs, that only ONNX knows."""
    if node.op_type in ONE_OUTPUT and (more := [name for name in node.output[1:] if name]):
        yield _refused(node, f"gives {', '.join(more)} beside its first output, which is not supported")
    if node.op_type != "Attention" or why_not_taken("Attention", target):
        return
    more = [name for name in (*node.input[ATTENTION_INPUTS:], *node.output[1:]) if name]
    if more:
        yield _refused(node, f"has {', '.join(more)}, which Attention does not support there")
    if target.is_rtx and graph.types.get(node.input[0]) == TensorProto.FLOAT:
        yield _refused(node, "has no kernel in fp32 on TensorRT-RTX; export in fp16, or with an opset of 22 or below")


def check_quantized_values(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """int8 is a quantized type: its constants go to DequantizeLinear alone, which takes no other integers."""
    if node.op_type == "DequantizeLinear":
        kind = graph.types.get(node.input[0])
        if kind is not None and kind not in (*QUANTIZED, TensorProto.UINT8):
            yield _refused(node, f"dequantizes {type_name(kind)}; only int8 and narrower is taken")
        elif kind == TensorProto.UINT8 and node.input[0] in graph.initializers:
            yield _refused(node, "dequantizes a constant of uint8; store it as int8")
        return
    narrow = [name for name in node.input if name in graph.initializers and graph.types[name] in QUANTIZED]
    if narrow and node.op_type not in QUANTIZERS:
        yield _refused(node, f"takes the quantized constant {narrow[0]}, which only DequantizeLinear may")


def check_zero_points(graph: GraphView, node: onnx.NodeProto, target: ParserTarget) -> Iterator[Complaint]:
    """Zero points: they must be known, of a signed type, and zero."""
    if node.op_type not in QUANTIZERS:
        return
    if len(node.input) < 3 or not node.input[2]:
        if node.op_type == "QuantizeLinear" and not any(a.name == "output_dtype" for a in node.attribute):
            yield _refused(node, "has no zero point, so it gives uint8, which is read as int8; give it one of int8")
        return
    zero = graph.constant(node.input[2])
    if zero is None:
        yield _refused(node, f"computes its zero point {node.input[2]}; quantize statically")
    elif np.any(zero.astype(np.float32)):
        kind = f"{zero.dtype.name} {zero.astype(np.float32).flat[0]:g}"
        yield _refused(node, f"has the zero point {kind}; only 0 is supported: quantize symmetrically, in int8")
    elif zero.dtype == np.uint8:
        yield _refused(node, "is of uint8, which is read as int8: values above 127 saturate; quantize in int8")


def _refused(node: onnx.NodeProto, what: str) -> Complaint:
    return Complaint(name_of(node), node.op_type, "refused", what)


RULES = (check_operator, check_form, check_constants, check_outputs, check_quantized_values, check_zero_points)
"""Each is asked about every node."""
