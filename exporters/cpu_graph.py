"""Graph rewrites that make ONNX Runtime's CPU kernels faster; the function stays the same."""

import onnx_ir


def keep_layer_norms_apart(model: onnx_ir.Model) -> int:
    """Add(x, y) -> Sum(x, y) where a LayerNormalization reads it; returns how many were rewritten.

    ONNX Runtime fuses Add + LayerNormalization into SkipLayerNormalization, whose CPU kernel takes about four times as
    long as the two (measured with 1.32 on AVX2: 104 µs against 24 µs at 128 x 128). Sum is the same function, unfused.
    """
    rewritten = 0
    for node in model.graph:
        source = node.inputs[0].producer() if node.op_type == "LayerNormalization" and node.inputs[0] else None
        if source is not None and source.op_type == "Add" and source.domain == "":
            source.op_type = "Sum"
            rewritten += 1
    return rewritten
