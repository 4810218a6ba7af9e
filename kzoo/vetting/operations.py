"""TensorFlow's operations that networks are made of; a SavedModel with any other one is not loaded."""

OPERATIONS = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Assert AssignVariableOp AsString Atan Atan2 Atanh
    AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Bincount Bitcast BitwiseAnd
    BitwiseOr BitwiseXor BroadcastArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics ClipByValue
    CombinedNonMaxSuppression Concat ConcatOffset ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInputV2 Cos Cosh CropAndResize CudnnRNN CudnnRNNV3 Cumprod Cumsum CumulativeLogsumexp DecodeBase64
    DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw DecodeAndCropJpeg DenseBincount DepthToSpace
    DepthwiseConv2dNative Diag DiagPart Digamma Div DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty EncodeJpeg
    EncodePng EnsureShape Equal Erf Erfc Erfinv Exp ExpandDims Expm1 ExtractImagePatches ExtractJpegShape FakeParam
    FakeQuantWithMinMaxVars Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather
    GatherNd GatherV2 Greater GreaterEqual HSVToRGB Identity IdentityN If Igamma InTopKV2 Inv InvertPermutation
    IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd
    LogicalNot LogicalOr LowerBound MatMul MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagV3 Max MaxPool MaxPool3D
    MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg NoOp NonMaxSuppression
    NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad
    PadV2 ParallelDynamicStitch PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod
    QuantizeAndDequantizeV2 RGBToHSV RaggedGather RaggedRange RaggedTensorToSparse RaggedTensorToTensor
    RaggedTensorToVariant RandomStandardNormal RandomUniform RandomUniformInt Range Rank ReadVariableOp RealDiv
    Reciprocal ReduceJoin RegexFullMatch RegexReplace Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ResourceGather ResourceGatherNd Reverse ReverseSequence ReverseV2 RightShift Rint Roll Round
    Rsqrt ScaleAndTranslate ScatterNd SegmentMax SegmentMean SegmentSum Select SelectV2 Selu Shape ShapeN Sigmoid Sign
    Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth SparseSoftmaxCrossEntropyWithLogits Split
    SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessMultinomial
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormalV2
    StatelessRandomUniform StatelessRandomUniformFullIntV2 StatelessRandomUniformIntV2 StatelessRandomUniformV2
    StatelessTruncatedNormalV2 StatelessWhile StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice
    StringFormat StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
    StringToHashBucketFast StringToNumber StringUpper Sub Substr Sum Tan Tanh TensorListConcatV2 TensorListElementShape
    TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
    TensorListReserve TensorListResize TensorListSetItem TensorListStack TensorScatterAdd TensorScatterUpdate Tile TopK
    TopKV2 Transpose TruncateDiv TruncateMod UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript
    UnicodeTranscode Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentSum UpperBound
    VarHandleOp VariableShape Where While Xdivy Xlog1py Xlogy ZerosLike
    """.split()  # noqa: SIM905
)
