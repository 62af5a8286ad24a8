"""Kinds of TensorFlow's operations, by what lanes and products have to know of them."""

from __future__ import annotations

# One number of the result depends on one number of each argument, with broadcasting.
ELEMENTWISE = frozenset({
    *("Abs", "Acos", "Acosh", "Add", "AddV2", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Cast", "Ceil"),
    *("Cos", "Cosh", "Digamma", "Div", "DivNoNan", "Elu", "Equal", "Erf", "Erfc", "Erfinv", "Exp"),
    *("Expm1", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Identity", "Inv", "IsFinite"),
    *("IsInf", "IsNan", "LeakyRelu", "Less", "LessEqual", "Lgamma", "Log", "Log1p", "LogicalAnd"),
    *("LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "Ndtri", "Neg"),
    *("NotEqual", "OnesLike", "Pow", "PreventGradient", "RealDiv", "Reciprocal", "Relu", "Relu6", "Rint"),
    *("Round", "Rsqrt", "SelectV2", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign"),
    *("Sqrt", "Square", "SquaredDifference", "StopGradient", "Sub", "Tan", "Tanh", "TruncateDiv"),
    *("TruncateMod", "Xdivy", "Xlog1py", "Xlogy", "ZerosLike"),
})  # fmt: skip
# The same, of arguments in one shape.
IN_ONE_SHAPE = frozenset({
    *("AddN", "EluGrad", "InvGrad", "LeakyReluGrad", "ReciprocalGrad", "Relu6Grad", "ReluGrad"),
    *("RsqrtGrad", "SeluGrad", "SigmoidGrad", "SoftplusGrad", "SoftsignGrad", "SqrtGrad", "TanhGrad"),
})  # fmt: skip
REDUCTIONS = frozenset({"All", "Any", "Max", "Mean", "Min", "Prod", "Sum"})
# The same whatever the values of what they look at.
OF_SHAPES = frozenset({"Rank", "Shape", "ShapeN", "Size"})
# Left to TensorFlow's vectorizer, which makes nothing of them that is slow as a plain loop.
NO_PRODUCTS = frozenset({
    *("Angle", "ArgMax", "ArgMin", "Complex", "ComplexAbs", "Conj", "Cumprod", "Cumsum", "DepthToSpace"),
    *("FusedBatchNormGradV3", "FusedBatchNormV3", "GatherNd", "GatherV2", "Imag", "MatrixBandPart"),
    *("MatrixDiagPartV3", "MatrixDiagV3", "MatrixSetDiagV3", "MirrorPad", "MirrorPadGrad", "OneHot", "Real"),
    *("ReverseV2", "Roll", "ScatterNd", "Select", "SoftmaxCrossEntropyWithLogits", "SpaceToDepth"),
    *("SparseSoftmaxCrossEntropyWithLogits", "SplitV", "TensorScatterAdd", "TensorScatterUpdate", "TopKV2"),
    *("UnsortedSegmentSum",),
})  # fmt: skip
# What else holds no product.
PLAIN = frozenset({
    *("BiasAdd", "BroadcastGradientArgs", "BroadcastTo", "ConcatOffset", "ConcatV2", "Const", "ExpandDims"),
    *("Fill", "IdentityN", "InvertPermutation", "L2Loss", "LogSoftmax", "NoOp", "Pack", "Pad", "PadV2"),
    *("Placeholder", "Range", "Reshape", "Slice", "Softmax", "Split", "Squeeze", "StridedSlice"),
    *("StridedSliceGrad", "Tile", "Transpose", "Unpack"),
})  # fmt: skip
