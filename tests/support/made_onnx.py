"""Small ONNX files made by hand."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def as_model(*nodes: onnx.NodeProto, **graph: Any) -> onnx.ModelProto:
    """Return a model from `images` (batch, 2) to `logits`, made of these nodes."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("images", "logits")]
    made = helper.make_graph(list(nodes), "made", sides[:1], sides[1:], **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def make_doubling(n_nodes: int) -> onnx.ModelProto:
    """Each node concatenates the one before with itself: a few bytes that double a shape."""
    nodes = [
        helper.make_node("Concat", [f"c{number}" if number else "images"] * 2, [f"c{number + 1}"], axis=1)
        for number in range(n_nodes)
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    mean = helper.make_node("ReduceMean", [f"c{n_nodes}", "axes"], ["logits"], keepdims=1)
    return as_model(*nodes, mean, initializer=[axes])
