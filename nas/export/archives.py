"""The network as ONNX and as a torch.export archive: written, read back, compared."""

import importlib
import io
import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nas.export.agreement import BATCHES, Form, make_images
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

READING = ("onnx", "onnxruntime")  # what ONNX files need to be read and run
WRITING = ("onnxscript", *READING)
HOW_TO_GET_ONNX = "pip install -e '.[export]'"
# All that such a network is made of. A stranger's file of others could run on for ever, or fill the memory.
OPERATORS = frozenset(
    {"AveragePool", "BatchNormalization", "Concat", "Conv", "Gemm", "Identity", "MaxPool", "ReduceMean", "Relu"}
)
N_IMAGES = max(BATCHES.values())  # that forms are compared on at a time
MAX_ATTRIBUTE = 10**6  # of a node's numbers, as a padding
MAX_AXES = 64  # values of a weight that shapes may follow from
_BATCH = "batch"  # the name of the one dimension that is free


def find_missing(packages: Iterable[str]) -> str | None:
    """The first of these packages that does not import, or None."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError:
            return name
    return None


def trace_network(network: nn.Module, image: tuple[int, int, int]) -> "ExportedProgram":
    """The network in evaluation mode as a graph of operators, the batch size left free.

    Args:
        image: channels, height, width.
    """
    images = make_images(0, (2, *image))  # 2: a batch of 1 would be taken for a constant
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
    """The network in a torch.export archive.

    To load one can run what it holds: it must be no stranger's.
    """
    with _quiet():
        return cast(Form, torch.export.load(path).module())


def write_onnx(program: "ExportedProgram", path: Path) -> None:
    """Write an ONNX file of one graph, its weights inside."""
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
        del part.metadata_props[:]  # names of torch's own modules, and of this machine's folders
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def load_onnx(path: Path, max_values: int | None = None) -> Form:
    """The network in an ONNX file, run by onnxruntime on the CPU.

    Args:
        max_values: how many values one image may take at a time on its way through; None: any number.

    Raises:
        InputError: it is none, or holds what such networks have not.
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
    except Exception as error:  # of a foreign file the two raise nearly anything
        raise InputError(f"{path.name} is no ONNX file: {error!s:.200}") from None
    (name,) = (one.name for one in session.get_inputs())

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {name: images.numpy()})
        return torch.from_numpy(logits)

    return run


def _check_plain(model: Any) -> None:
    strange = {node.op_type for node in model.graph.node if node.op_type not in OPERATORS or node.domain}
    if strange or model.functions:
        raise InputError(f"holds operators that no exported network has: {', '.join(sorted(strange)[:3])}")
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise InputError("refers to other files for its weights")
    if model.graph.sparse_initializer:  # a few bytes that become a weight of any size
        raise InputError("holds sparse weights, and no exported network has any")
    if (len(model.graph.input), len(model.graph.output)) != (1, 1):
        raise InputError("has other inputs and outputs than images and logits")


def _check_sizes(model: Any, max_values: int) -> None:
    """Refuse a graph whose values would fill the memory: a few nodes can double a shape again and again.

    Shapes are inferred for a batch of N_IMAGES, without running anything, and the values of each node are counted from
    where they are made to where they are last read.

    Raises:
        InputError: more values would be held at a time than allowed, or some node's shape is not known.
    """
    import onnx

    numbers = [abs(number) for node in model.graph.node for one in node.attribute for number in (one.i, *one.ints)]
    if max(numbers, default=0) > MAX_ATTRIBUTE:  # sums of them could overflow to a small shape
        raise InputError(f"holds a node with the number {max(numbers):,}, at most {MAX_ATTRIBUTE:,} is allowed")
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    if sum(weights.values()) > model.ByteSize():
        raise InputError("declares more weights than it holds")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    del graph.value_info[:]
    del graph.initializer[:]
    for tensor in model.graph.initializer:
        if weights[tensor.name] <= MAX_AXES:
            graph.initializer.append(tensor)  # axes are such, and shapes follow from their values
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph.output[0].type.tensor_type.ClearField("shape")
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = N_IMAGES
    graph = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    sizes: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [one.dim_value for one in tensor.shape.dim] if tensor.HasField("shape") else [0]
        if all(length > 0 for length in dims):  # 0 where it is not known
            sizes[value.name] = math.prod(dims)
    last = {name: number for number, node in enumerate(graph.node) for name in node.input}
    held: dict[str, int] = {graph.input[0].name: sizes.get(graph.input[0].name, 0)}
    for number, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name not in sizes:
                raise InputError(f"holds a node whose shape is not known: {name!r:.40}")
            held[name] = sizes[name]
        n_values = sum(held.values()) // N_IMAGES
        if n_values > max_values:
            raise InputError(f"takes {n_values:,} values an image at a time, at most {max_values:,} are allowed")
        held = {name: size for name, size in held.items() if last.get(name, -1) > number}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the one warning and the log lines back that torch.export and torch.onnx give of their own parts."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
