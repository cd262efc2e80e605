"""A network's weights, and the network as an ONNX file and as a torch.export archive: written and read back."""

import importlib
import io
import logging
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nas.export.agreement import BATCHES, Form, make_images
from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

READING = ("onnx", "onnxruntime")  # packages that read and run ONNX files
WRITING = (*READING, "onnxscript")  # onnx first: the others import it, and would be named in its place
HOW_TO_GET_ONNX = f"pip install {' '.join(WRITING)}"  # in a clone and of a wheel
# All operators of an exported network. Others, in a stranger's file, could loop for ever or fill the memory.
OPERATORS = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Flatten", "Gather", "Gemm"}
    | {
        "Identity",
        "MaxPool",
        "Mul",
        "Pad",
        "ReduceMax",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Resize",
        "Shape",
        "Sigmoid",
        "Slice",
    }
    | {"Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)
_N_IMAGES = max(BATCHES.values())  # largest batch that forms are compared on
_MAX_ATTRIBUTE = 10**6  # largest number in a node's attributes, as a padding
_MAX_HEADER = 10**7  # bytes of a safetensors file's list of weights: over ten times what 1,000 layers take
_MAX_AXES = 64  # values of a weight that may be axes, which shapes depend on
_BATCH = "batch"  # name of the batch dimension, whose size is free


def write_safetensors(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict as a safetensors file."""
    from safetensors.torch import save

    plain = {name: value.detach().clone().contiguous() for name, value in weights.items()}
    path.write_bytes(save(plain, {"format": "pt"}))  # save_file would let nobody else read it


def read_safetensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read weights that may be a stranger's, after their names, types and shapes, which come first in the file.

    Nothing but numbers is in such a file, and none is read before the sizes are known to be the network's.

    Args:
        expected: state_dict of the network that they are for; its values are not used.

    Raises:
        InputError: they are another network's, or the file is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    n_bytes = path.stat().st_size
    with open_regular(path, n_bytes) as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > min(_MAX_HEADER, n_bytes - 8):
        raise InputError(f"model.safetensors claims a list of weights of {length:,} bytes, and has {n_bytes:,} in all")
    try:
        with safe_open(path, framework="pt") as file:
            _check_listed({name: file.get_slice(name) for name in file.keys()}, expected)  # noqa: SIM118  no mapping
            return {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, ValueError) as error:
        raise InputError(f"model.safetensors is no file of weights: {error!s:.200}") from None


def _check_listed(listed: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    different = sorted(set(listed) ^ set(expected))
    if different:
        raise InputError(f"the weights belong to another network: {', '.join(different[:3]):.200} are not in both")
    types = {torch.float32: "F32", torch.int64: "I64"}
    for name, value in expected.items():
        found = listed[name].get_dtype(), tuple(listed[name].get_shape())
        if found != (types.get(value.dtype), tuple(value.shape)):
            raise InputError(f"the weights belong to another network: {name} is {found[0]} of shape {found[1]}")


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Read a state_dict of torch.save that may be a stranger's: only tensors, and no more bytes than in the file.

    Raises:
        InputError: the file has other content.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise InputError("weights.pt is compressed, and torch.save compresses nothing")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise InputError("weights.pt claims more bytes than it has")
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, InputError):
        raise
    except Exception as error:  # a foreign file makes them raise nearly anything
        raise InputError(f"weights.pt is no file of weights: {error!s:.200}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        for value in weights.values()
    ):
        raise InputError("weights.pt has other content than weights by name")
    return weights


def find_missing(packages: Iterable[str]) -> str | None:
    """Return the first of these packages that cannot be imported, or None."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError:
            return name
    return None


def trace_network(network: nn.Module, image: tuple[int, int, int]) -> "ExportedProgram":
    """Trace the network in evaluation mode as a graph of operators for any batch size.

    Args:
        image: channels, height, width.
    """
    images = make_images(0, (2, *image))  # torch takes a batch of 1 for a constant
    with _quiet():
        free = {0: torch.export.Dim(_BATCH)}
        program = torch.export.export(network.eval(), (images,), dynamic_shapes=(free,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    return program


def write_pt2(program: "ExportedProgram", path: Path) -> None:
    """Write a torch.export archive."""
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getvalue())


def load_pt2(path: Path) -> Form:
    """Load the network in a torch.export archive, which must not be a stranger's: loading can run code."""
    with _quiet():
        return cast(Form, torch.export.load(path).module())


def write_onnx(program: "ExportedProgram", path: Path) -> None:
    """Write an ONNX file of one graph that includes its weights."""
    import onnx

    images = program.example_inputs[0] if program.example_inputs else ()
    with _quiet():
        exported = torch.onnx.export(
            program, images, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False
        )
    assert exported is not None
    model = exported.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]  # names of torch's modules and of this machine's folders
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def load_onnx(path: Path, max_values: int | None = None) -> Form:
    """Load the network in an ONNX file, which onnxruntime then runs on the CPU.

    Args:
        max_values: largest number of values in memory at a time for one image; None: no limit.

    Raises:
        InputError: it is not an ONNX file, or has parts that exported networks do not have.
    """
    import onnx
    import onnxruntime

    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
        _check_plain(model)
        onnx.checker.check_model(model)
        if max_values is not None:
            _check_sizes(model, max_values)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except InputError as error:
        raise InputError(f"{path.name} {error}") from None
    except Exception as error:  # a foreign file makes them raise nearly anything
        raise InputError(f"{path.name} is no ONNX file: {error!s:.200}") from None
    (image_input,) = session.get_inputs()

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {image_input.name: images.numpy()})
        return torch.from_numpy(logits)

    return run


def _check_plain(model: Any) -> None:
    unknown = {node.op_type for node in model.graph.node if node.op_type not in OPERATORS or node.domain}
    if unknown or model.functions:
        raise InputError(f"has operators that no exported network has: {', '.join(sorted(unknown)[:3])}")
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise InputError("refers to other files for its weights")
    if model.graph.sparse_initializer:  # a few bytes can become a weight of any size
        raise InputError("has sparse weights, and no exported network has any")
    if (len(model.graph.input), len(model.graph.output)) != (1, 1):
        raise InputError("has other inputs and outputs than images and logits")


def _check_sizes(model: Any, max_values: int) -> None:
    """Check that a graph's values do not fill the memory: a few nodes can double a shape again and again.

    Shapes are inferred for a batch of _N_IMAGES without running the graph. Values count from the node that makes them
    to the last one that reads them.

    Raises:
        InputError: too many values would be in memory at a time, or the shape of a node is not known.
    """
    import onnx

    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    numbers = [abs(number) for attribute in attributes for number in (attribute.i, *attribute.ints)]
    numbers += _list_sizes(model)
    if max(numbers, default=0) > _MAX_ATTRIBUTE:  # sums of them could overflow to a small shape
        raise InputError(f"has a node with the number {max(numbers):,}, at most {_MAX_ATTRIBUTE:,} is allowed")
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    if sum(weights.values()) > model.ByteSize():
        raise InputError("declares more weights than it holds")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    del graph.value_info[:]
    del graph.initializer[:]
    for tensor in model.graph.initializer:
        if weights[tensor.name] <= _MAX_AXES:
            graph.initializer.append(tensor)  # may be axes, whose values shapes depend on
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph.output[0].type.tensor_type.ClearField("shape")
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = _N_IMAGES
    graph = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True).graph
    sizes: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [axis.dim_value for axis in tensor.shape.dim] if tensor.HasField("shape") else [0]
        if all(length > 0 for length in dims):  # 0: not known
            sizes[value.name] = math.prod(dims)
    last = {name: number for number, node in enumerate(graph.node) for name in node.input}
    live: dict[str, int] = {graph.input[0].name: sizes.get(graph.input[0].name, 0)}
    for number, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name not in sizes:
                raise InputError(f"has a node whose shape is not known: {name!r:.40}")
            live[name] = sizes[name]
        n_values = sum(live.values()) // _N_IMAGES
        if n_values > max_values:
            raise InputError(f"needs {n_values:,} values at a time for one image; at most {max_values:,} are allowed")
        live = {name: size for name, size in live.items() if last.get(name, -1) > number}


def _list_sizes(model: Any) -> list[int]:
    """Return the whole numbers among a graph's small weights that may be sizes, as those of Pad, Reshape and Resize.

    Bounds of Slice are none: the last one is usually the largest number there is, and stands for the end.
    """
    import onnx

    sizes = {name for node in model.graph.node for name in (node.input[:1] if node.op_type == "Slice" else node.input)}
    small = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in sizes and tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= _MAX_AXES
    ]
    return [abs(int(number)) for tensor in small for number in onnx.numpy_helper.to_array(tensor).flat]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress a warning and log lines of torch.export and torch.onnx about their own parts."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
