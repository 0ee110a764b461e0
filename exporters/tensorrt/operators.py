"""The ONNX operators that TensorRT's parser takes, and from which version on.

Source: onnx-tensorrt, docs/operators.md of 8.5 and of 10.15 and docs/Changelog.md. Where the changelog is silent, the
version is the first whose table lists the operator.
"""

from edgefold.exporters.tensorrt.parser_targets import ParserTarget, Version

SINCE: dict[Version, str] = {
    (8, 5): """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
        Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
        Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
        GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity If ImageScaler
        InstanceNormalization IsNaN LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
        MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu
        Pad ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round ScaledTanh Scan Scatter
        ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
        SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample
        Where Xor
    """,
    (8, 6): "GroupNormalization IsInf LayerNormalization",
    (10, 0): "Gelu Hardmax",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    (10, 15): "Attention CastLike Mish RMSNormalization RotaryEmbedding",
}
FIRST: dict[str, Version] = {operator: since for since, names in SINCE.items() for operator in names.split()}
"""Operator -> the version that takes it first."""
NOT_IN_RTX = frozenset({"NonZero"})
"""Done by a plugin that TensorRT-RTX 1.7 does not ship."""
ADVICE = {
    "LayerNormalization": "export with an opset of 16 or below, which writes it as its parts",
    "GroupNormalization": "export with an opset of 17 or below, which writes it as its parts",
    "Gelu": "export with an opset of 19 or below, which writes it as its parts",
    "Attention": "export with an opset of 22 or below, which writes it as its parts",
    "RMSNormalization": "export with an opset of 22 or below, which writes it as its parts",
    "RotaryEmbedding": "export with an opset of 22 or below, which writes it as its parts",
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"),
        "quantize statically, in pairs of QuantizeLinear and DequantizeLinear",
    ),
}
"""What to do about an operator that is not taken."""


def why_not_taken(operator: str, target: ParserTarget) -> str | None:
    """The reason, with what to do where that is known; None for an operator that the parser takes."""
    since = FIRST.get(operator)
    if since is not None and since <= target.version and not (target.is_rtx and operator in NOT_IN_RTX):
        return None
    reason = "is not taken by its parser"
    if since is not None and since > target.version:
        reason += f" before TensorRT {since[0]}.{since[1]}"
    return f"{reason}; {ADVICE[operator]}" if operator in ADVICE else reason
