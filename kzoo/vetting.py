"""What is looked at before a runtime opens a file that may come from anyone.

TensorFlow runs what a SavedModel brings: resource initialisers while loading it, and operations that write files or
call Python. So its operations are compared with a list of what networks are made of, before it is loaded; what is not
on the list is refused, whatever it is. ONNX Runtime and LiteRT run no code that a file brings, but ONNX may name other
files as its weights, and all formats may declare tensors of any size. The zoo's own ONNX files do: a door's
weights lie in the network's file beside it.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import RequestError

MOST_GRAPH = 1 << 30  # bytes of a graph without weights
MOST_TENSOR = 1 << 31  # bytes of a constant that a graph may make of a few
_FOLDERS = {"variables", "assets", "assets.extra"}
_FILES = {"saved_model.pb", "fingerprint.pb"}
# Writing and restoring of checkpoints, which every SavedModel brings for those who want to save it again. They may name
# any file, so no signature may reach them.
_CHECKPOINTS = {"SaveV2", "MergeV2Checkpoints", "RestoreV2", "ShardedFilename", "DisableCopyOnRead"}
_OPERATIONS = frozenset(
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


def check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute.

    Raises:
        RequestError: It is damaged, has an operation that is not among those that networks are made of, lets a
            signature reach files, declares tensors beyond measure, or comes with files that belong to no SavedModel.
    """
    _check_files(folder)
    model = _parsed(folder / "saved_model.pb")
    for graph in model.meta_graphs:
        functions = {f.signature.name: f for f in graph.graph_def.library.function}
        if len(functions) != len(graph.graph_def.library.function):
            raise RequestError(f"{folder} defines a function twice")
        for node in _nodes(graph):
            if node.op not in _OPERATIONS and node.op not in _CHECKPOINTS and node.op not in functions:
                raise RequestError(
                    f"{folder} has the operation {node.op} ({node.name}), which is none that the zoo's networks are "
                    "made of: it is not loaded, because TensorFlow runs what a SavedModel brings"
                )
            _check_constant(folder, node)
        _check_checkpoints(folder, graph, functions)
        for thing in graph.object_graph_def.nodes:
            if thing.WhichOneof("kind") in ("resource", "captured_tensor"):
                raise RequestError(f"{folder} brings a resource of its own, such as a table, which is not loaded")
            if thing.WhichOneof("kind") == "variable":
                _check_size(folder, thing.variable.name, thing.variable.shape, thing.variable.dtype)


def check_onnx(path: Path, beside: tuple[str, ...] = ()) -> None:
    """Refuse an ONNX file that names other files, has operators of others' making or declares tensors beyond measure.

    Args:
        path: The file.
        beside: Names of files in the same folder that may hold some of its tensors.

    Raises:
        RequestError: It does, or is damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise RequestError(f"{path} cannot be opened: it is no ONNX file ({error})") from None
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft"):
            raise RequestError(f"{path} takes operators of {opset.domain!r}, which are not loaded")
    constants: dict[str, int] = {}
    for tensor in _onnx_tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor, beside)
            continue
        if tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= 16:
            constants[tensor.name] = math.prod(int(n) for n in onnx.numpy_helper.to_array(tensor).ravel())
    for node in _onnx_nodes(model.graph):
        if node.op_type in ("ConstantOfShape", "Expand") and 4 * constants.get(node.input[-1], 0) > MOST_TENSOR:
            raise RequestError(f"{path} makes a tensor of {constants[node.input[-1]]:,} values ({node.name})")


def check_litert(path: Path) -> None:
    """Refuse a LiteRT file that declares tensors beyond measure.

    Raises:
        RequestError: It does, or is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise RequestError(f"{path} cannot be opened: it is no LiteRT file")
    try:
        model = schema.Model.GetRootAs(content, 0)
        for number in range(model.SubgraphsLength()):
            graph = model.Subgraphs(number)
            for place in range(graph.TensorsLength()):
                tensor = graph.Tensors(place)
                values = math.prod(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
                if abs(values) > MOST_TENSOR:
                    raise RequestError(f"{path} declares a tensor of {values:,} values ({tensor.Name().decode()})")
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} cannot be opened: it is damaged ({type(error).__name__})") from None


def check_openvino(folder: Path) -> None:
    """Refuse a folder of OpenVINO's that has operations of others' making or declares tensors beyond measure.

    Raises:
        RequestError: It does, or is damaged, or comes with files that belong to none of the zoo's.
    """
    from xml.etree import ElementTree

    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file() or path.suffix not in (".xml", ".bin", ".json"):
            raise RequestError(f"{path} belongs to no folder of OpenVINO's of the zoo")
    for path in sorted(folder.glob("*.xml")):
        if path.stat().st_size > MOST_GRAPH:
            raise RequestError(f"{path} has {path.stat().st_size:,} bytes, and a graph has at most {MOST_GRAPH:,}")
        try:
            root = ElementTree.parse(path).getroot()
            foreign = [x.get("type") for x in root.iter("layer") if not x.get("version", "").startswith("opset")]
            sizes = (math.prod(max(1, int(d.text)) for d in port.iter("dim")) for port in root.iter("port"))
            largest = max(sizes, default=0)
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise RequestError(f"{path} cannot be opened: it is damaged ({type(error).__name__})") from None
        if foreign:
            raise RequestError(f"{path} has the operation {foreign[0]}, which is not loaded")
        if largest > MOST_TENSOR:
            raise RequestError(f"{path} declares a tensor of {largest:,} values")


# --- SavedModels --------------------------------------------------------------------------------------------------


def _check_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        place = path.relative_to(folder).parts
        if path.is_symlink():
            raise RequestError(f"{path} is a link, which no SavedModel of the zoo has")
        if place[0] not in (_FILES if len(place) == 1 and path.is_file() else _FOLDERS):
            raise RequestError(f"{path} belongs to no SavedModel of the zoo")


def _parsed(path: Path):
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    if path.stat().st_size > MOST_GRAPH:
        raise RequestError(f"{path} has {path.stat().st_size:,} bytes, and a graph has at most {MOST_GRAPH:,}")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise RequestError(f"{path} is no SavedModel, or damaged") from None
    return model


def _nodes(graph) -> Iterator:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _check_constant(folder: Path, node) -> None:
    """A constant of one value may declare any number of them."""
    if node.op == "Const":
        tensor = node.attr["value"].tensor
        _check_size(folder, node.name, tensor.tensor_shape, tensor.dtype)


def _check_size(folder: Path, name: str, shape, dtype) -> None:
    import tensorflow as tf

    if any(d.size < 0 for d in shape.dim) or shape.unknown_rank:
        raise RequestError(f"{folder} declares {name} without a whole shape")
    size = math.prod(d.size for d in shape.dim) * max(1, tf.as_dtype(dtype).size or 1)
    if size > MOST_TENSOR:
        raise RequestError(f"{folder} declares {name} with {size:,} bytes, which is not loaded")


def _check_checkpoints(folder: Path, graph, functions: dict) -> None:
    """Nothing that is called by a signature, or while loading, may write or read checkpoints."""
    touching = {n for n, f in functions.items() if any(node.op in _CHECKPOINTS for node in f.node_def)}
    # Loading calls functions of the object graph by name, and functions call each other.
    reachable = set(graph.object_graph_def.concrete_functions)
    for function in functions.values():
        for node in function.node_def:
            reachable |= {node.op, *_called(node)}
    for name in sorted(touching & reachable):
        raise RequestError(f"{folder} lets its function {name} reach files, so it is not loaded")
    savers = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name}
    for node in graph.graph_def.node:
        direct = node.op in _CHECKPOINTS or touching & {node.op, *_called(node)}
        if direct and node.name not in savers:
            raise RequestError(f"{folder} lets {node.name} reach files, so it is not loaded")


def _called(node) -> Iterator[str]:
    """Names of functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (f.name for f in value.list.func)


# --- ONNX ---------------------------------------------------------------------------------------------------------


def _check_external(path: Path, tensor, beside: tuple[str, ...]) -> None:
    """A tensor's bytes may lie in the files beside and nowhere else, as many as its shape has."""
    from onnx import helper

    said = {entry.key: entry.value for entry in tensor.external_data}
    other = said.get("location", "")
    if other not in beside:
        raise RequestError(f"{path} keeps {tensor.name} outside itself")
    wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    numbers = [said.get(key, "") for key in ("offset", "length")]
    if not all(n.isdecimal() for n in numbers) or int(numbers[1]) != wanted:
        raise RequestError(f"{path} does not say where in {other} it keeps {tensor.name}")
    if sum(map(int, numbers)) > path.with_name(other).stat().st_size:
        raise RequestError(f"{path} keeps {tensor.name} behind the end of {other}")


def _onnx_nodes(graph) -> Iterator:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _onnx_nodes(inner)


def _onnx_tensors(graph) -> Iterator:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
                if node.op_type == "Constant":
                    named = type(attribute.t)()
                    named.CopyFrom(attribute.t)
                    named.name = node.output[0]
                    yield named
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _onnx_tensors(inner)
