"""Data: readers of every format and their refusals, splits fixed by data and seed, augmentation pixel by pixel."""

import gc
import gzip
import hashlib
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nas.data.data_set import DataSet
from nas.data.readers import FASHION_MNIST_FOLDER, load_data
from nas.data.splits import CROP_PADDING, _count_split, _split_indices, augment_images, check_split, split_data
from search_spaces.errors import InputError


def refusal(name: str, path: Path, *, culprit: Path | None = None) -> str:
    """The message with which a data set is refused; it names the file at fault."""
    with pytest.raises(InputError) as caught:
        load_data(name, str(path))
    assert str(culprit or path) in str(caught.value)
    return str(caught.value)


def same_images(first: Any, second: Any) -> bool:
    return bool(np.array_equal(first, second))


# --- Fashion-MNIST -----------------------------------------------------------------------------------------------

IDX_SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
IDX_NAMES = list(IDX_SHAPES)
HOW_TO_GET_IT = ("apt-get install dataset-fashion-mnist", "--data FOLDER")


def idx_arrays() -> dict[str, NDArray[np.uint8]]:
    """Zeros but for one marked pixel in each image, labels that go round the classes."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, shape in IDX_SHAPES.items():
        places = np.arange(shape[0])
        arrays[name] = np.zeros(shape, np.uint8)
        if len(shape) == 3:
            arrays[name][places, places % 28, places // 28 % 28] = places % 251 + 1
        else:
            arrays[name][:] = (places + 9) % 10
    return arrays


def idx_bytes(array: NDArray[np.uint8], code: int = 8) -> bytes:
    """The format's own words: two zero bytes, a type code, the number of dimensions, big-endian lengths, the data."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files compressed, and in a folder `plain` unpacked."""
    folder = tmp_path_factory.mktemp("fashion")
    (folder / "plain").mkdir()
    for name, array in idx_arrays().items():
        content = idx_bytes(array)
        (folder / "plain" / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    return folder


def with_replaced(source: Path, folder: Path, name: str, content: bytes | None) -> Path:
    """A folder that links to all files of another but one: that has this content, or is missing for None."""
    for path in source.iterdir():
        if path.is_file() and path.name != name:
            (folder / path.name).symlink_to(path)
    if content is not None:
        (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("form", [".", "plain"])
def test_fashion_mnist_is_read_packed_and_unpacked(form: str, idx_folder: Path) -> None:
    arrays = idx_arrays()
    data = load_data("fashion-mnist", str(idx_folder / form))
    assert (data.image, data.n_classes, data.augment) == ((1, 28, 28), 10, True)
    assert data.images.dtype == np.uint8
    assert same_images(data.images[:60_000, 0], arrays["train-images-idx3-ubyte"])
    assert same_images(data.images[60_000:, 0], arrays["t10k-images-idx3-ubyte"])
    labels = np.concatenate([arrays["train-labels-idx1-ubyte"], arrays["t10k-labels-idx1-ubyte"]])
    assert same_images(data.labels, labels)
    assert data.labels.dtype == np.int64
    assert same_images(data.test, range(60_000, 70_000))
    assert _count_split(data, None) == (54_000, 6_000)


@pytest.mark.parametrize("name", IDX_NAMES)
def test_a_missing_idx_file_is_named(name: str, idx_folder: Path, tmp_path: Path) -> None:
    culprit = with_replaced(idx_folder, tmp_path, f"{name}.gz", None)
    message = refusal("fashion-mnist", tmp_path, culprit=culprit)
    assert "is missing" in message
    assert all(part in message for part in HOW_TO_GET_IT)


@pytest.mark.parametrize("name", IDX_NAMES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_truncated_gzip_file_is_named(name: str, share: float, idx_folder: Path, tmp_path: Path) -> None:
    content = (idx_folder / f"{name}.gz").read_bytes()
    culprit = with_replaced(idx_folder, tmp_path, f"{name}.gz", content[: int(share * len(content))])
    message = refusal("fashion-mnist", tmp_path, culprit=culprit)
    assert all(part in message for part in HOW_TO_GET_IT)


def _changed_byte(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("damage", [_changed_byte, lambda _: b"plain text", lambda content: content + b"more"])
def test_a_damaged_gzip_file_is_named(damage: Callable[[bytes], bytes], idx_folder: Path, tmp_path: Path) -> None:
    content = damage((idx_folder / "train-labels-idx1-ubyte.gz").read_bytes())
    culprit = with_replaced(idx_folder, tmp_path, "train-labels-idx1-ubyte.gz", content)
    message = refusal("fashion-mnist", tmp_path, culprit=culprit)
    assert all(part in message for part in HOW_TO_GET_IT)


SMALL_IMAGES, SMALL_LABELS = np.zeros((4, 28, 28), np.uint8), np.zeros(60_000, np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        (0, idx_bytes(SMALL_IMAGES), ["(60000, 28, 28)", "(4, 28, 28)"]),
        (0, idx_bytes(SMALL_LABELS), ["(60000, 28, 28)", "'00000801'"]),
        (1, idx_bytes(SMALL_LABELS, code=0x0D), ["(60000,)", "'00000d01'"]),
        (1, idx_bytes(SMALL_LABELS[None]), ["(60000,)", "'00000802'"]),
        (1, b"\x01" + idx_bytes(SMALL_LABELS)[1:], ["(60000,)", "'01000801'"]),
        (1, b"", ["(60000,)", "magic ''"]),
        (1, b"\x00\x00\x08\x01\x00\x00", ["(60000,)", "'00000801'"]),
        (1, idx_bytes(SMALL_LABELS)[:-1], ["expected 60000 bytes", "found 59999"]),
        (1, idx_bytes(SMALL_LABELS) + b"\x00", ["expected 60000 bytes", "found 60001"]),
        (3, idx_bytes(SMALL_LABELS), ["(10000,)", "(60000,)"]),
    ],
)
def test_a_file_of_another_shape_says_what_was_expected_and_found(
    name: int, content: bytes, parts: list[str], idx_folder: Path, tmp_path: Path
) -> None:
    culprit = with_replaced(idx_folder / "plain", tmp_path, IDX_NAMES[name], content)
    message = refusal("fashion-mnist", tmp_path, culprit=culprit)
    assert [part for part in (*parts, *HOW_TO_GET_IT) if part not in message] == []


@pytest.mark.parametrize("name", [1, 3])
def test_a_label_out_of_range_is_refused(name: int, idx_folder: Path, tmp_path: Path) -> None:
    labels = idx_arrays()[IDX_NAMES[name]]
    labels[17] = 10
    with_replaced(idx_folder / "plain", tmp_path, IDX_NAMES[name], idx_bytes(labels))
    message = refusal("fashion-mnist", tmp_path)
    assert [part for part in ("10", "expected 0..9", *HOW_TO_GET_IT) if part not in message] == []


@pytest.mark.parametrize("name", [1, 3])
def test_the_file_of_a_label_out_of_range_is_named(name: int, idx_folder: Path, tmp_path: Path) -> None:
    content = idx_bytes(np.full(IDX_SHAPES[IDX_NAMES[name]], 11, np.uint8))
    culprit = with_replaced(idx_folder / "plain", tmp_path, IDX_NAMES[name], content)
    refusal("fashion-mnist", tmp_path, culprit=culprit)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    refusal("fashion-mnist", tmp_path / "nowhere")


@pytest.mark.skipif(not FASHION_MNIST_FOLDER.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_as_published() -> None:
    data = load_data("fashion-mnist", None)
    assert data.images.shape == (70_000, 1, 28, 28)
    assert np.bincount(data.labels[:60_000]).tolist() == [6_000] * 10
    assert np.bincount(data.labels[60_000:]).tolist() == [1_000] * 10
    assert data.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert data.labels[60_000] == 9
    assert 0.28 < data.images[:60_000].mean(dtype=np.float64) / 255 < 0.29


# --- npz ---------------------------------------------------------------------------------------------------------


def npz_arrays(
    n_train: int = 12, n_test: int = 6, n_classes: int = 3, image: tuple[int, ...] = (5, 4)
) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    return {
        "x_train": generator.integers(0, 256, (n_train, *image), dtype=np.uint8),
        "y_train": np.arange(n_train) % n_classes,
        "x_test": generator.integers(0, 256, (n_test, *image), dtype=np.uint8),
        "y_test": np.arange(n_test) % n_classes,
    }


@pytest.fixture
def no_open_file() -> Iterator[None]:
    """A file that the test leaves open is found now, not in some later test."""
    yield
    gc.collect()


def write_npz(folder: Path, save: Callable[..., None] = np.savez, **changes: Any) -> Path:
    """A whole file but for the changed arrays; None leaves one out."""
    arrays = {name: array for name, array in {**npz_arrays(), **changes}.items() if array is not None}
    save(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16])
@pytest.mark.parametrize(
    ("layout", "image"),
    [
        ((5, 4), (1, 5, 4)),
        ((1, 5, 4), (1, 5, 4)),
        ((3, 5, 4), (3, 5, 4)),
        ((5, 4, 1), (1, 5, 4)),
        ((5, 4, 3), (3, 5, 4)),
    ],
)
def test_npz_layouts_and_types_come_out_alike(
    layout: tuple[int, ...], image: tuple[int, int, int], dtype: Any, tmp_path: Path
) -> None:
    arrays = npz_arrays(image=layout)
    path = write_npz(tmp_path, **{k: v.astype(dtype) if k[0] == "x" else v for k, v in arrays.items()})
    data = load_data("npz", str(path))
    assert (data.name, data.image, data.n_classes, data.augment) == ("mine.npz", image, 3, False)
    assert data.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    raw = np.concatenate([arrays["x_train"], arrays["x_test"]])
    if layout in ((5, 4, 1), (5, 4, 3)):  # pixel by pixel, not by the reader's own transposition
        assert all(same_images(data.images[:, c], raw[..., c]) for c in range(layout[-1]))
    else:
        assert same_images(data.images.reshape(raw.shape), raw)
    assert same_images(data.labels, np.concatenate([arrays["y_train"], arrays["y_test"]]))
    assert same_images(data.test, range(12, 18))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_in_a_column_are_flattened(dtype: Any, tmp_path: Path) -> None:
    arrays = npz_arrays()
    columns = {name: arrays[name].astype(dtype)[:, None] for name in ("y_train", "y_test")}
    data = load_data("npz", str(write_npz(tmp_path, **columns)))
    assert data.labels.shape == (18,)
    assert data.labels.dtype == np.int64


def test_other_arrays_and_compression_do_no_harm(tmp_path: Path) -> None:
    path = write_npz(tmp_path, save=np.savez_compressed, extra=np.zeros(3))
    assert same_images(load_data("npz", str(path)).images[:12, 0], npz_arrays()["x_train"])


def spread(shape: tuple[int, ...], dtype: Any = np.uint8, high: float = 256) -> NDArray[Any]:
    return (np.random.default_rng(5).random((12, *shape)) * high).astype(dtype)


@pytest.mark.parametrize(
    ("stored", "image"),
    [
        ((8, 8, 4), (4, 8, 8)),
        ((9, 9, 2), (2, 9, 9)),
        ((16, 16, 13), (13, 16, 16)),
        ((30, 40, 4), (4, 30, 40)),
        ((4, 30, 40), (4, 30, 40)),
        ((13, 16, 16), (13, 16, 16)),
        ((64, 8, 8), (64, 8, 8)),
        ((3, 28, 28), (3, 28, 28)),
    ],
)
def test_channels_are_found_at_either_end(stored: tuple[int, ...], image: tuple[int, int, int], tmp_path: Path) -> None:
    x = spread(stored)
    data = load_data("npz", str(write_npz(tmp_path, x_train=x, x_test=x[:6])))
    assert data.image == image
    by_channel = data.images[:12] if stored == image else np.stack([data.images[:12, c] for c in range(image[0])], 1)
    assert same_images(by_channel, x if stored == image else np.stack([x[..., c] for c in range(image[0])], 1))


@pytest.mark.parametrize(
    "stored", [(4, 8, 4), (6, 5, 4), (3, 5, 3), (8, 8, 8), (4, 4, 16), (64, 4, 4), (3, 3, 32), (1, 1, 8), (3, 8, 2)]
)
def test_a_shape_of_two_readings_is_refused_until_the_file_says_which(stored: tuple[int, ...], tmp_path: Path) -> None:
    x = spread(stored)
    message = refusal("npz", write_npz(tmp_path, x_train=x, x_test=x[:6]))
    assert str((12, *stored)) in message
    for layout, image in (("NCHW", stored), ("NHWC", (stored[2], *stored[:2]))):
        path = write_npz(tmp_path, x_train=x, x_test=x[:6], layout=np.array(layout))
        assert load_data("npz", str(path)).image == image
    assert "'HWCN'" in refusal("npz", write_npz(tmp_path, x_train=x, x_test=x[:6], layout=np.array("HWCN")))


LIT = spread((5, 5), np.float64, 1)  # 0..1


@pytest.mark.parametrize(
    ("x_train", "x_test"),
    [
        (spread((5, 5)), LIT[:6].astype(np.float32)),  # bytes, and the same over 255
        (spread((5, 5), np.float32), LIT[:6]),  # 0..255 and 0..1, both floats
        (spread((5, 5)), spread((5, 5), np.uint16, 65535)[:6]),
        (LIT, 4 * LIT[:6] - 2),  # one part standardised
        (2 * LIT - 1, LIT[:6]),
        (LIT, LIT[:6] + 100),
        (spread((5, 5)), spread((5, 5), np.uint8, 2)[:6]),
        (np.full((12, 5, 5), 7), spread((5, 5), np.int64)[:6]),
        (LIT * 1e25, LIT[:6] * 1e25),
        (spread((5, 5)), np.zeros((6, 5, 5), np.uint8)),  # no picture at all
        (LIT, np.full((6, 5, 5), 0.5)),
    ],
)
def test_parts_that_were_scaled_differently_are_refused(
    x_train: NDArray[Any], x_test: NDArray[Any], tmp_path: Path
) -> None:
    message = refusal("npz", write_npz(tmp_path, x_train=x_train, x_test=x_test))
    assert ("x_train" if np.ptp(x_test) else "x_test") in message


@pytest.mark.parametrize(
    ("x_train", "x_test"),
    [
        (4 * LIT - 2, 4 * LIT[:6] - 2),  # both standardised
        (4 * LIT - 2, 3 * LIT[:6] - 1.2),
        (LIT.astype(np.float32), LIT[:6]),
        (spread((5, 5)), spread((5, 5), np.uint8, 100)[:6]),  # a darker test set
        (np.where(LIT.max() == LIT, 1e6, LIT), LIT[:6]),  # one pixel that shines
        (spread((5, 5), np.uint16, 65535), spread((5, 5), np.uint16, 65535)[:6]),
    ],
)
def test_parts_of_one_scale_are_read(x_train: NDArray[Any], x_test: NDArray[Any], tmp_path: Path) -> None:
    assert load_data("npz", str(write_npz(tmp_path, x_train=x_train, x_test=x_test))).images.shape == (18, 1, 5, 5)


def medmnist(**changes: Any) -> dict[str, Any]:
    x, y = spread((6, 6, 3)), np.arange(12)[:, None] % 3
    parts = {"train": (x, y), "val": (x[::-1] // 2, y[::-1]), "test": (x[:6] // 3, y[:6])}
    arrays = {
        f"{part}_{kind}": array
        for part, pair in parts.items()
        for kind, array in zip(("images", "labels"), pair, strict=True)
    }
    return arrays | changes


def test_medmnist_is_read_and_its_validation_images_join_the_others(tmp_path: Path) -> None:
    arrays = medmnist()
    np.savez(tmp_path / "blood.npz", **arrays)
    data = load_data("npz", str(tmp_path / "blood.npz"))
    assert (data.name, data.image, data.n_classes) == ("blood.npz", (3, 6, 6), 3)
    for start, part in ((0, "train"), (12, "val"), (24, "test")):
        held = arrays[f"{part}_images"]
        assert same_images(data.images[start : start + len(held)], np.stack([held[..., c] for c in range(3)], 1))
        assert same_images(data.labels[start : start + len(held)], arrays[f"{part}_labels"][:, 0])
    assert same_images(data.test, range(24, 30))
    assert any("val_images" in remark for remark in data.remarks)
    np.savez(tmp_path / "chest.npz", **medmnist(test_labels=np.ones((6, 14), int)))
    assert "test_labels" in refusal("npz", tmp_path / "chest.npz")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.eye(3)[np.arange(12) % 3], "argmax"),
        (np.arange(12) % 3 - 1, "from -1 to 1"),
        (np.array(["cat", "dog", "cow"])[np.arange(12) % 3], "numpy.unique"),
        (np.where(np.arange(12) == 3, np.nan, np.arange(12) % 3), "nan"),
        (np.arange(12) % 3 + 1, "numpy.unique"),
        (np.ones((12, 14), int), "several values"),
    ],
)
def test_labels_of_other_forms_are_refused_with_what_to_do(labels: NDArray[Any], said: str, tmp_path: Path) -> None:
    message = refusal("npz", write_npz(tmp_path, y_train=labels))
    assert "y_train" in message
    assert said in message


def test_whole_labels_that_are_stored_as_floats_are_read(tmp_path: Path) -> None:
    labels = npz_arrays()["y_train"]
    data = load_data("npz", str(write_npz(tmp_path, y_train=labels.astype(np.float32))))
    assert same_images(data.labels[:12], labels)


def test_what_should_be_known_before_anything_is_measured_is_remarked(tmp_path: Path) -> None:
    x = spread((5, 5))
    data = load_data("npz", str(write_npz(tmp_path, x_train=x, x_test=x[:6], y_test=np.zeros(6, int), extra=x)))
    assert [
        word for word in ("6 of the 6 test images", "class 1, 2", "extra") if word not in " ".join(data.remarks)
    ] == []
    assert load_data("npz", str(write_npz(tmp_path))).remarks == ()


X, Y = npz_arrays()["x_train"], npz_arrays()["y_train"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"x_test": None, "y_test": None}, ["lacks x_test, y_test", "x_train, y_train", "numpy.savez"]),
        ({"x_train": np.array([None] * 12)}, ["allow_pickle=False", "plain arrays", "numpy.savez"]),
        ({"y_train": np.array(["a"] * 12, object)}, ["allow_pickle=False", "plain arrays"]),
        ({"y_train": Y + 0.5}, ["y_train", "float64", "(12,) whole numbers", "0.5"]),
        ({"y_train": Y == 1}, ["y_train", "bool"]),
        ({"y_train": Y[:-1]}, ["y_train", "(11,)", "(12,)"]),
        ({"y_train": np.eye(3, dtype=int)[Y]}, ["y_train", "(12, 3)", "(12,)"]),
        ({"y_test": np.zeros(0, int)}, ["y_test", "(0,)", "(6,)"]),
        ({"y_test": np.int64(1)}, ["y_test", "()", "(6,)"]),
        ({"y_train": Y - 1}, ["y_train", "from 0"]),
        ({"y_train": Y * 2}, ["lacks [1, 3]", "goes up to 4"]),
        ({"y_train": Y + 1}, ["lacks [0]"]),
        ({"y_test": np.full(6, 3)}, ["y_test goes up to 3; drop", "y_train goes up to 2, and"]),
        ({"y_train": Y * 0, "y_test": np.zeros(6, int)}, ["C at least 2", "goes up to 0, and", "another class"]),
        ({"y_train": Y * 10, "y_test": np.zeros(6, int)}, ["lacks [1, 2, 3, 4, 5] and more, and"]),
        ({"y_train": np.where(Y == 2, np.inf, Y)}, ["y_train", "[inf]", "drop the images"]),
        ({"y_train": np.where(Y == 2, np.nan, Y)}, ["y_train", "[nan]", "drop the images"]),
        ({"x_train": np.where(X.max() == X, np.nan, X)}, ["x_train", "not finite"]),
        ({"x_test": np.full((6, 5, 4), -np.inf)}, ["x_test", "not finite"]),
        ({"x_test": np.zeros((6, 4, 5))}, ["(1, 5, 4)", "(1, 4, 5)", "alike"]),
        ({"x_test": np.zeros((6, 3, 5, 4))}, ["(1, 5, 4)", "(3, 5, 4)"]),
        ({"x_train": X[:0], "y_train": Y[:0]}, ["x_train", "(0, ", "(n, height, width)"]),
        ({"x_train": X[:, :0]}, ["x_train", " 0, 4)"]),
        ({"x_train": X.reshape(12, 20)}, ["x_train", "(12, 20)", "(n, channels, height, width)"]),
        ({"x_train": np.zeros((12, 1, 1, 5, 4))}, ["x_train", "(12, 1, 1, 5, 4)"]),
        ({"x_train": X.astype(complex)}, ["x_train", "complex128"]),
        ({"x_train": X.astype(str)}, ["x_train", "<U"]),
    ],
)
def test_npz_content_that_cannot_be_used_says_which_array_and_why(
    changes: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    message = refusal("npz", write_npz(tmp_path, **changes))
    assert [part for part in parts if part not in message] == []


def test_npz_images_beyond_float32_are_refused_as_not_finite(tmp_path: Path) -> None:
    assert "not finite" in refusal("npz", write_npz(tmp_path, x_train=X * 1e300))


@pytest.mark.parametrize("name", ["y_train", "y_test"])
def test_a_label_beyond_int64_is_refused(name: str, tmp_path: Path) -> None:
    labels = npz_arrays()[name].astype(np.uint64)
    labels[3] = 2**64 - 1
    assert name in refusal("npz", write_npz(tmp_path, **{name: labels}))


def test_a_label_far_off_is_refused_without_listing_the_classes_between(tmp_path: Path) -> None:
    path = write_npz(tmp_path, y_train=np.where(np.arange(12) == 7, 300_000, Y))
    tracemalloc.start()
    try:
        assert "goes up to 300000, lacks [3, 4, 5, 6, 7]" in refusal("npz", path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_missing_npz_file_is_named_with_how_to_write_it(tmp_path: Path) -> None:
    message = refusal("npz", tmp_path / "none.npz")
    assert "there is no file" in message
    assert "numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)" in message


@pytest.mark.usefixtures("no_open_file")
@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_npz_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    assert "numpy.savez" in refusal("npz", path)


@pytest.mark.usefixtures("no_open_file")
def test_a_folder_in_place_of_an_npz_is_named(tmp_path: Path) -> None:
    assert "numpy.savez" in refusal("npz", tmp_path)


@pytest.mark.usefixtures("no_open_file")
def test_a_single_array_under_the_name_of_an_npz_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "mine.npz").open("wb") as stream:
        np.save(stream, X)
    assert "numpy.savez" in refusal("npz", tmp_path / "mine.npz")


@pytest.mark.usefixtures("no_open_file")
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.98, 0.9999])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_npz_is_named(share: float, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(path, **npz_arrays())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a whole .npz file" in refusal("npz", path)


@pytest.mark.usefixtures("no_open_file")
def test_a_changed_byte_in_an_array_is_found(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    content = path.read_bytes()
    place = content.index(X.tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "not a whole .npz file" in refusal("npz", path)


@pytest.mark.usefixtures("no_open_file")
def test_a_changed_byte_in_a_compressed_array_is_found(tmp_path: Path) -> None:
    path = write_npz(tmp_path, save=np.savez_compressed)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("x_train.npy")
    name_length, extra_length = struct.unpack_from("<HH", content, member.header_offset + 26)
    start = member.header_offset + 30 + name_length + extra_length
    for place in range(start, start + member.compress_size, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert "numpy.savez" in refusal("npz", path)


@pytest.mark.usefixtures("no_open_file")
def test_an_npz_in_a_compression_that_this_python_lacks_is_named(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.index(signature) + offset
        content[place : place + 2] = struct.pack("<H", 93)  # zstandard
    path.write_bytes(content)
    assert "numpy.savez" in refusal("npz", path)


def test_an_array_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (12, 50, 40)})
    path = write_npz(tmp_path, x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue() + X.tobytes())
    assert "not a whole .npz file" in refusal("npz", path)


def test_an_unknown_data_set_is_refused_with_those_there_are() -> None:
    there_are = "there are digits, fashion-mnist, cifar-10, cifar-100, svhn and npz"
    with pytest.raises(InputError, match=f"no data set 'cifar'; {there_are}"):
        load_data("cifar", None)


def test_the_digest_tells_images_and_labels_apart(tmp_path: Path) -> None:
    swapped = npz_arrays()["y_train"][::-1]
    changed = X.copy()
    changed[0, 0, 0] ^= 1
    variants: list[dict[str, Any]] = [{}, {"y_train": swapped}, {"x_train": changed}]
    sets = [load_data("npz", str(write_npz(tmp_path, **changes))) for changes in variants]
    assert len({data.sha256 for data in sets}) == 3
    raw = X.tobytes() + npz_arrays()["x_test"].tobytes() + np.concatenate([Y, npz_arrays()["y_test"]]).tobytes()
    assert sets[0].sha256 == hashlib.sha256(raw).hexdigest()


# --- digits and splits -------------------------------------------------------------------------------------------


def make_data(
    n_rest: int, n_test: int = 20, n_classes: int = 4, images: NDArray[Any] | None = None, augment: bool = False
) -> DataSet:
    """Unequal classes, test examples spread through the set."""
    n = n_rest + n_test
    generator = np.random.default_rng(n)
    labels = generator.choice(n_classes, n, p=np.arange(1, n_classes + 1) / (n_classes * (n_classes + 1) / 2))
    labels[: 4 * n_classes] = np.arange(4 * n_classes) % n_classes
    test = np.sort(generator.choice(n, n_test, replace=False))
    shape = (n, 2, 3, 3)
    images = generator.normal([[[[5.0]], [[-300.0]]]], [[[[2.0]], [[40.0]]]], shape) if images is None else images
    return DataSet("made", images.astype(np.float32), labels.astype(np.int64), n_classes, test, augment, "")


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits", None)


def test_digits_are_the_embedded_set_with_a_stratified_fifth_for_test(digits: DataSet) -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    _, test = train_test_split(np.arange(1_797), test_size=360, stratify=raw.target, random_state=0)
    assert same_images(digits.test, np.sort(test))
    assert digits.images.shape == (1_797, 1, 8, 8)
    assert same_images(digits.images[:, 0], raw.images)
    assert same_images(digits.labels, raw.target)
    assert (digits.n_classes, digits.augment) == (10, False)
    assert len(np.unique(digits.test)) == 360
    expected = np.bincount(digits.labels) * 360 / 1_797
    assert np.abs(np.bincount(digits.labels[digits.test]) - expected).max() < 1


def test_the_test_part_of_digits_is_the_same_each_time(digits: DataSet) -> None:
    np.random.seed(1)  # noqa: NPY002 - nothing may depend on the global generator
    again = load_data("digits", None)
    assert same_images(again.test, digits.test)
    assert again.sha256 == digits.sha256


@pytest.mark.parametrize(
    ("n_rest", "n_validation"),
    [(90, 30), (92, 30), (1_437, 479), (1_499, 499), (1_500, 500), (1_503, 500), (5_000, 500), (5_010, 501)],
)
def test_validation_is_a_tenth_but_at_least_500_and_at_most_a_third(n_rest: int, n_validation: int) -> None:
    expected = n_rest // 10
    if expected < 500:
        expected = 500 if n_rest >= 3 * 500 else n_rest // 3
    assert expected == n_validation
    data = make_data(n_rest)
    assert _count_split(data, None) == (n_rest - n_validation, n_validation)
    assert _count_split(data, 40) == (40, n_validation)
    train, validation = _split_indices(data, 0, None)
    assert (len(train), len(validation)) == (n_rest - n_validation, n_validation)


def test_a_split_is_checked_for_every_seed(digits: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_split(digits, 2, 300) == (300, 479)
    assert check_split(digits, 1, None) == (958, 479)
    divided = []

    def divide(data: DataSet, seed: int, train_examples: int | None, validation_examples: int | None) -> Any:
        divided.append((data.name, seed, train_examples))
        return _split_indices(data, seed, train_examples, validation_examples)

    monkeypatch.setattr("nas.data.splits._split_indices", divide)
    check_split(digits, 3, 300)
    assert divided == [("digits", seed, 300) for seed in range(3)]
    with pytest.raises(InputError, match="every class in every part"):
        check_split(digits, 1, 9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("train_examples", [None, 300, 948])
def test_parts_are_disjoint_and_without_a_limit_cover_everything(
    seed: int, train_examples: int | None, digits: DataSet
) -> None:
    train, validation = _split_indices(digits, seed, train_examples)
    parts = [set(train.tolist()), set(validation.tolist()), set(digits.test.tolist())]
    assert [len(part) for part in parts] == [train_examples or 958, 479, 360]
    union = set().union(*parts)
    assert len(union) == sum(map(len, parts))
    assert union <= set(range(1_797))
    assert (union == set(range(1_797))) == (train_examples is None)


@pytest.mark.parametrize("train_examples", [None, 60, 333])
def test_classes_are_in_proportion_in_every_part(train_examples: int | None) -> None:
    data = make_data(1_200)
    train, validation = _split_indices(data, 1, train_examples)
    rest = np.delete(data.labels, data.test)
    for part, slack in ((validation, 1), (train, 2)):
        expected = np.bincount(rest) * len(part) / len(rest)
        assert np.abs(np.bincount(data.labels[part]) - expected).max() < slack


@pytest.mark.parametrize("missing", [0, 1, 5, 9, 10, 500])
def test_train_examples_are_counted_exactly(missing: int, digits: DataSet) -> None:
    split = split_data(digits, 0, 958 - missing, "cpu")
    assert len(split.train_images) == len(split.train_labels) == 958 - missing
    assert len(split.validation_images) == len(split.validation_labels) == 479


def test_more_train_examples_than_there_are_are_refused(digits: DataSet) -> None:
    for ask in (lambda: split_data(digits, 0, 959, "cpu"), lambda: _count_split(digits, 959)):
        with pytest.raises(InputError) as caught:
            ask()
        for part in ("--train-examples 959", "958", "digits", "479 for validation", "360 for test"):
            assert part in str(caught.value)


def test_fewer_train_examples_than_classes_are_refused(digits: DataSet) -> None:
    with pytest.raises(InputError, match=r"digits cannot be split with every class in every part.*--train-examples"):
        split_data(digits, 0, 9, "cpu")


def test_a_class_too_small_to_divide_is_refused() -> None:
    data = make_data(90)
    data.labels[np.setdiff1d(np.arange(110), data.test)[0]] = 4
    with pytest.raises(InputError, match="made cannot be split with every class in every part"):
        split_data(data, 0, None, "cpu")


@pytest.mark.parametrize("train_examples", [None, 300])
def test_one_seed_gives_one_split_and_another_seed_another(train_examples: int | None, digits: DataSet) -> None:
    first, again, other = (split_data(digits, seed, train_examples, "cpu") for seed in (4, 4, 5))
    for name in ("train_images", "train_labels", "validation_images", "validation_labels"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_a_limit_on_training_leaves_validation_as_it_is(digits: DataSet) -> None:
    whole, limited = (_split_indices(digits, 4, train_examples) for train_examples in (None, 300))
    assert same_images(whole[1], limited[1])
    assert set(limited[0].tolist()) < set(whole[0].tolist())


@pytest.mark.parametrize("train_examples", [None, 300])
def test_images_are_normalised_by_the_training_images_alone(train_examples: int | None) -> None:
    data = make_data(900)
    split = split_data(data, 2, train_examples, "cpu")
    train, validation = _split_indices(data, 2, train_examples)
    for channel in range(2):
        raw = data.images[train, channel].astype(np.float64)
        mean = float(raw.sum() / raw.size)
        deviation = float((((raw - mean) ** 2).sum() / raw.size) ** 0.5)
        for images, indices in ((split.train_images, train), (split.validation_images, validation)):
            expected = (data.images[indices, channel] - mean) / deviation
            assert np.abs(images[:, channel].numpy() - expected).max() < 1e-4
    assert same_images(split.train_labels, data.labels[train])
    assert same_images(split.validation_labels, data.labels[validation])
    seen = split.train_images.double()
    assert seen.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (seen.var(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    unseen = split.validation_images.double()
    assert unseen.mean(dim=(0, 2, 3)).abs().max() > 1e-4
    assert (split.train_images.dtype, split.train_labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_a_constant_channel_becomes_zero(value: float) -> None:
    images = make_data(300).images
    images[:, 1] = value
    split = split_data(make_data(300, images=images), 0, None, "cpu")
    for part in (split.train_images, split.validation_images):
        assert torch.isfinite(part).all()
        assert (part[:, 1] == 0).all()
        assert (part[:, 0] != 0).any()


@pytest.mark.parametrize("augment", [False, True])
def test_a_split_hands_on_whether_to_augment(augment: bool) -> None:
    assert split_data(make_data(90, augment=augment), 0, None, "cpu").augment is augment


# --- augmentation ------------------------------------------------------------------------------------------------


def augment(images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return augment_images(images, torch.Generator().manual_seed(seed))


def test_every_output_is_a_crop_of_its_padded_input_or_of_its_mirror_image() -> None:
    n, height, width = 1_500, 5, 3
    images = torch.rand(n, 2, height, width, generator=torch.Generator().manual_seed(1)) + 0.1
    output = augment(images)
    assert output.shape == images.shape
    assert output.is_contiguous()
    padded = np.zeros((n, 2, height + 8, width + 8), np.float32)
    padded[:, :, 4:-4, 4:-4] = images.numpy()
    # A crop that lies wholly in the padding looks the same at several places: those do not count.
    found = np.zeros((n, 9, 9, 2), bool)
    for row in range(9):
        for column in range(9):
            crop = padded[:, :, row : row + height, column : column + width]
            for flip, candidate in enumerate((crop, crop[..., ::-1])):
                found[:, row, column, flip] = (candidate == output.numpy()).all(axis=(1, 2, 3))
    matches = found.sum(axis=(1, 2, 3))
    assert (matches >= 1).all()
    single = found[matches == 1]
    # Crops that hold some of the image: rows shifted by at most 4 of 5, columns by at most 2 of 3.
    by_shift = single.sum(axis=(0, 3))
    assert (by_shift[:, 2:7] > 0).all()
    # Each of the 81 shifts is as likely as another: 1,500 draws give 18.5 each.
    assert by_shift[:, 2:7].max() < 45
    flipped = single.sum(axis=(0, 1, 2))
    # Four standard errors around one half.
    assert abs(flipped[1] / flipped.sum() - 0.5) < 4 * 0.5 / flipped.sum() ** 0.5


def test_padding_shows_as_zeros_at_the_borders_alone() -> None:
    output = augment(torch.ones(300, 1, 12, 12))[:, 0]
    assert set(np.unique(output.numpy()).tolist()) == {0.0, 1.0}
    assert (output[:, CROP_PADDING:-CROP_PADDING, CROP_PADDING:-CROP_PADDING] == 1).all()
    for image in output:
        rows, columns = image.amax(1), image.amax(0)
        assert torch.equal(image, rows[:, None] * columns)  # a rectangle
        for line in (rows, columns):
            # Ones without a gap, and zeros at one end at most.
            assert int(line.diff().abs().sum()) <= 1
            assert int((line == 0).sum()) <= CROP_PADDING


def test_augmentation_is_fixed_by_its_generator_and_changes_nothing_it_was_given() -> None:
    images = torch.rand(40, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    kept = images.clone()
    state = torch.get_rng_state()
    first = augment(images)
    assert torch.equal(first, augment(images))
    assert not torch.equal(first, augment(images, seed=1))
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augment_images(images, generator), first)
    assert not torch.equal(augment_images(images, generator), first)


def test_augmentation_does_not_depend_on_how_many_images_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(40, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    whole = augment(images)
    monkeypatch.setattr("nas.data.splits.AUGMENTED_TOGETHER", 7)
    assert torch.equal(augment(images), whole)


def test_fewer_validation_examples_leave_the_training_examples_as_they_are(digits: DataSet) -> None:
    train, validation = _split_indices(digits, 3, 300)
    same, fewer = _split_indices(digits, 3, 300, 100)
    assert (same == train).all()
    assert set(fewer) < set(validation)
    assert check_split(digits, 2, 300, 100) == (300, 100)
    assert np.bincount(digits.labels[fewer]).tolist() == pytest.approx([10] * 10, abs=1)
    assert len(split_data(digits, 3, 300, "cpu", 100).validation_labels) == 100
    assert (_split_indices(digits, 3, 300, 479)[1] == validation).all()
    with pytest.raises(InputError, match="validation-examples 480 asks for more than the 479 that are set aside"):
        check_split(digits, 1, 300, 480)
    with pytest.raises(InputError, match="lack class"):
        check_split(digits, 1, 300, 9)
