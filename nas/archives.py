"""The network as ONNX and as a torch.export archive: written, read back, compared."""

import importlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nas.agreement import Form, make_images
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


def load_onnx(path: Path) -> Form:
    """The network in an ONNX file, run by onnxruntime on the CPU.

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
    if (len(model.graph.input), len(model.graph.output)) != (1, 1):
        raise InputError("has other inputs and outputs than images and logits")


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
