"""ONNX and torch.export: any batch size, the same logits, no trace of where they were made, nothing but plain parts."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nas.export.agreement import take_weights
from nas.export.archives import OPERATORS, READING, WRITING, find_missing, load_onnx, load_pt2
from search_spaces.errors import InputError
from tests.support.exported import CANDIDATE, NETWORK, make_weights
from tests.support.made_onnx import as_model, make_doubling


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return take_weights(CANDIDATE, make_weights(CANDIDATE))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_both_give_the_networks_logits_at_any_batch_size(
    network: torch.nn.Module, exported_folder: Path, batch: int
) -> None:
    images = torch.randn(batch, *NETWORK.image, generator=torch.Generator().manual_seed(batch))
    with torch.inference_mode():
        expected = network(images)
        for form in (load_onnx(exported_folder / "model.onnx"), load_pt2(exported_folder / "model.pt2")):
            torch.testing.assert_close(form(images), expected, rtol=0, atol=1e-5)


def test_the_onnx_file_is_one_plain_graph_from_images_to_logits(exported_folder: Path) -> None:
    path = exported_folder / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    sides = [
        (value.name, [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert sides == [("images", ["batch", *NETWORK.image]), ("logits", ["batch", NETWORK.classes])]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": np.zeros((4, *NETWORK.image), dtype=np.float32)})
    assert logits.shape == (4, NETWORK.classes)


def test_neither_tells_where_it_was_made(exported_folder: Path) -> None:
    contents = [(exported_folder / "model.onnx").read_bytes()]
    with zipfile.ZipFile(exported_folder / "model.pt2") as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    for word in (b"/nas/", b"site-packages", str(Path.home()).encode() + b"/", str(Path(__file__).parent).encode()):
        assert not any(word in content for content in contents), word


def make_endless() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "body", [], [])
    return as_model(helper.make_node("Loop", ["", "", "images"], ["logits"], body=body))


def make_outside() -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return as_model(helper.make_node("Gemm", ["images", "w"], ["logits"]), initializer=[tensor])


def make_own_operator() -> onnx.ModelProto:
    return as_model(helper.make_node("Relu", ["images"], ["logits"], domain="com.stranger"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_endless, "has operators that no exported network has: Loop"),
        (make_own_operator, "has operators that no exported network has: Relu"),
        (make_outside, "refers to other files"),
        (lambda: b"\xff\xff\xff", "is no ONNX file"),
        (lambda: as_model(helper.make_node("Relu", ["nothing"], ["logits"])), "is no ONNX file"),
    ],
)
def test_a_strangers_onnx_file_of_other_parts_is_refused(make: Callable[[], Any], said: str, tmp_path: Path) -> None:
    content = make()
    path = tmp_path / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(InputError, match=f"model.onnx {said}"):
        load_onnx(path)


def make_padded(padding: int) -> onnx.ModelProto:
    model = as_model(helper.make_node("MaxPool", ["images"], ["logits"], kernel_shape=[1, 1], pads=[padding] * 4))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for _ in range(2):
        dims.add().dim_value = 2
    return model


def make_sized(operator: str, *sizes: int) -> onnx.ModelProto:
    """A node whose output's size is the value of a small weight."""
    tensor = numpy_helper.from_array(np.array(sizes), "sizes")
    inputs = {"Resize": ["images", "", "", "sizes"]}.get(operator, ["images", "sizes"])
    return as_model(
        helper.make_node(operator, inputs, ["large"]),
        helper.make_node("ReduceMean", ["large"], ["logits"]),
        initializer=[tensor],
    )


def make_sparse() -> onnx.ModelProto:
    dims = [2, 10**12]
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, dims)
    return as_model(helper.make_node("Gemm", ["images", "w"], ["logits"]), sparse_initializer=[sparse])


def make_declared(dims: list[int]) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
    return as_model(helper.make_node("Gemm", ["images", "w"], ["logits"]), initializer=[tensor])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (make_doubling(20), "at most 1,000,000 are allowed"),
        (make_doubling(40), "at most 1,000,000 are allowed"),
        (make_doubling(70), "overflow"),
        (make_padded(10**4), "at most 1,000,000 are allowed"),
        (make_padded(2**63 - 1), "9,223,372,036,854,775,807"),
        (make_sized("Resize", 3, 10**6), "at most 1,000,000 are allowed"),
        (make_sized("Resize", 3, 2**62), "4,611,686,018,427,387,904"),
        (make_sized("Pad", 0, 0, 0, 10**6), "at most 1,000,000 are allowed"),
        (make_sized("Pad", 2**62, 2**62, 2**62, 2**62), "4,611,686,018,427,387,904"),
        (make_sparse(), "sparse"),
        (make_declared([2, 10**12]), "declared shape"),
        (make_declared([2**32, 2**32]), "product overflow|declares more weights"),
    ],
)
def test_a_small_file_of_large_shapes_is_refused_before_it_is_run(
    model: onnx.ModelProto, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", None)  # a call would be an error of another kind
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size < 5000
    with pytest.raises(InputError, match=said):
        load_onnx(path, 10**6)


def test_shapes_that_stay_small_are_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make_doubling(5).SerializeToString())
    images = torch.tensor([[1.0, 3.0]])
    assert load_onnx(path, 200)(images).tolist() == [[2.0]]
    with pytest.raises(InputError, match=r"\d+ values at a time"):
        load_onnx(path, 50)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_missing(WRITING) is None
    for name in READING:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert find_missing(WRITING) == find_missing(READING) == name
