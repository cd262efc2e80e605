"""CIFAR and SVHN: files of the true formats read pixel by pixel, and everything else refused in words."""

import hashlib
import io
import os
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from nas.data.data_set import DataSet
from nas.data.image_archives import MAX_VARIABLES
from nas.data.readers import load_data
from nas.data.splits import split_final
from nas.model.candidate import Candidate
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import InputError
from search_spaces.templates import find_template

NAMES = ["cifar-10", "cifar-100", "svhn"]
FILES = {
    "cifar-10": [*(f"data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)), "test_batch.bin"],
    "cifar-100": ["train.bin", "test.bin"],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
}
SUBFOLDERS = {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}
HOW_TO_GET_IT = {
    "cifar-10": ["the binary version, cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"],
    "cifar-100": ["the binary version, cifar-100-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"],
    "svhn": ["train_32x32.mat and test_32x32.mat (format 2", "http://ufldl.stanford.edu/housenumbers"],
}


def refuse(name: str, folder: Path | str | None) -> str:
    """What is said of a folder that is refused; how to get a good one is part of it."""
    with pytest.raises(InputError) as caught:
        load_data(name, None if folder is None else str(folder))
    said = str(caught.value)
    assert [part for part in (*HOW_TO_GET_IT[name], "--data FOLDER") if part not in said] == []
    return said


def read(name: str, folder: Path) -> DataSet:
    return load_data(name, str(folder))


# --- files of the true formats -----------------------------------------------------------------------------------


def draw_pixels(n: int, seed: int) -> NDArray[np.uint8]:
    """(row, column, channel, image): as MATLAB has them."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3, n), dtype=np.uint8)


def pack_rows(pixels: NDArray[np.uint8], *labels: list[int]) -> bytes:
    """Rows of CIFAR's binary version, a byte at a time: labels, then red, green and blue, each row by row."""
    content = bytearray()
    for image in range(pixels.shape[-1]):
        content += bytes(one[image] for one in labels)
        for channel in range(3):
            for row in range(32):
                content += bytes(int(pixels[row, column, channel, image]) for column in range(32))
    return bytes(content)


def pack_mat(pixels: Any, labels: Any, compressed: bool = True, **others: Any) -> bytes:
    stream = io.BytesIO()
    arrays = {**others, "X": pixels, "y": np.array(labels)[:, None]}
    savemat(stream, arrays, do_compression=compressed)  # type: ignore[arg-type] # scipy-stubs knows of paths alone
    return stream.getvalue()


def write(name: str, folder: Path) -> dict[str, tuple[NDArray[np.uint8], list[int]]]:
    """A small set, every file of another length; gives the truth of each: pixels and what its labels stand for."""
    folder.mkdir(exist_ok=True, parents=True)
    truths = {}
    for place, file in enumerate(FILES[name]):
        n = place + 2
        pixels = draw_pixels(n, place)
        labels = [(7 * image + 3 * place) % (100 if name == "cifar-100" else 10) for image in range(n)]
        if name == "cifar-10":
            content = pack_rows(pixels, labels)
        elif name == "cifar-100":
            content = pack_rows(pixels, [(label + 1) % 20 for label in labels], labels)
        else:
            content = pack_mat(pixels, [label or 10 for label in labels])
        (folder / file).write_bytes(content)
        truths[file] = pixels, labels
    return truths


@pytest.mark.parametrize("name", NAMES)
def test_every_pixel_and_label_comes_out_and_the_test_files_examples_are_those_for_test(
    name: str, tmp_path: Path
) -> None:
    truths = write(name, tmp_path)
    data = read(name, tmp_path)
    n_test = len(truths[FILES[name][-1]][1])
    n = sum(len(labels) for _, labels in truths.values())
    assert (data.name, data.image, data.augment) == (name, (3, 32, 32), name != "svhn")
    assert data.n_classes == (100 if name == "cifar-100" else 10)
    assert [array.dtype.name for array in (data.images, data.labels, data.test)] == ["uint8", "int64", "int64"]
    assert data.labels.tolist() == [label for _, labels in truths.values() for label in labels]
    assert data.test.tolist() == list(range(n - n_test, n))
    images = iter(data.images)
    for pixels, labels in truths.values():
        for place in range(len(labels)):
            image = next(images)
            for row in range(32):
                for column in range(32):
                    assert image[:, row, column].tolist() == pixels[row, column, :, place].tolist()
    assert next(images, None) is None


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_a_byte_of_cifar_is_the_pixel_that_its_authors_say(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    n_labels = {"cifar-10": 1, "cifar-100": 2}[name]
    row = bytearray(n_labels + 3072)
    row[n_labels + 1024 + 5 * 32 + 7] = 200  # "the next 1024 the green", "the first 32 bytes are [..] of the first row"
    (tmp_path / FILES[name][0]).write_bytes(row)
    image = read(name, tmp_path).images[0]
    assert np.argwhere(image).tolist() == [[1, 5, 7]]
    assert image[1, 5, 7] == 200


def test_a_pixel_of_svhn_is_where_matlab_has_it(tmp_path: Path) -> None:
    write("svhn", tmp_path)
    pixels = np.zeros((32, 32, 3, 2), np.uint8)
    pixels[5, 7, 1, 1] = 200  # MATLAB's X(6, 8, 2, 2): row 6, column 8, green, of the second image
    (tmp_path / FILES["svhn"][0]).write_bytes(pack_mat(pixels, [1, 2]))
    images = read("svhn", tmp_path).images
    assert np.argwhere(images[:2]).tolist() == [[1, 1, 5, 7]]
    assert images.flags.c_contiguous


def test_of_two_labels_the_fine_one_is_used(tmp_path: Path) -> None:
    for file in FILES["cifar-100"]:
        (tmp_path / file).write_bytes(pack_rows(draw_pixels(2, 0), [19, 4], [99, 57]))
    assert read("cifar-100", tmp_path).labels.tolist() == [99, 57, 99, 57]


def test_label_10_is_the_digit_0(tmp_path: Path) -> None:
    for file in FILES["svhn"]:
        (tmp_path / file).write_bytes(pack_mat(draw_pixels(10, 0), range(1, 11)))
    assert read("svhn", tmp_path).labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_subset_that_lacks_classes_has_as_many(name: str, tmp_path: Path) -> None:
    contents = {
        "cifar-10": pack_rows(draw_pixels(1, 0), [1]),
        "cifar-100": pack_rows(draw_pixels(1, 0), [0], [1]),
        "svhn": pack_mat(draw_pixels(1, 0), [1]),
    }
    for file in FILES[name]:
        (tmp_path / file).write_bytes(contents[name])
    data = read(name, tmp_path)
    assert (data.n_classes, set(data.labels.tolist())) == ({"cifar-100": 100}.get(name, 10), {1})


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_the_folder_that_the_archive_unpacks_to_is_found(name: str, tmp_path: Path) -> None:
    write(name, tmp_path / SUBFOLDERS[name])
    expected = read(name, tmp_path / SUBFOLDERS[name]).sha256
    (tmp_path / f"{name}-binary.tar.gz").touch()
    assert read(name, tmp_path).sha256 == expected
    (tmp_path / FILES[name][0]).write_bytes(b"")  # what is left of another attempt
    assert read(name, tmp_path).sha256 == expected
    write(name, tmp_path)
    (tmp_path / SUBFOLDERS[name] / FILES[name][0]).write_bytes(b"")
    assert read(name, tmp_path).sha256 == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_that_of_all_pixels_and_labels(name: str, tmp_path: Path) -> None:
    truths = write(name, tmp_path)
    digest = hashlib.sha256()
    for pixels, _ in truths.values():
        digest.update(np.moveaxis(pixels, (3, 2), (0, 1)).tobytes())
    digest.update(np.array([label for _, labels in truths.values() for label in labels], "<i8").tobytes())
    assert read(name, tmp_path).sha256 == digest.hexdigest()
    seen = {digest.hexdigest()}
    for file in FILES[name]:
        pixels, labels = truths[file]
        changed = pixels.copy()
        changed[31, 31, 2, -1] ^= 1
        for one, other in ((changed, labels), (pixels, [*labels[:-1], (labels[-1] + 1) % 10])):
            content = {
                "cifar-10": lambda one, other: pack_rows(one, other),
                "cifar-100": lambda one, other: pack_rows(one, [0] * len(other), other),
                "svhn": lambda one, other: pack_mat(one, [label or 10 for label in other]),
            }[name](one, other)
            kept = (tmp_path / file).read_bytes()
            (tmp_path / file).write_bytes(content)
            seen.add(read(name, tmp_path).sha256)
            (tmp_path / file).write_bytes(kept)
    assert len(seen) == 1 + 2 * len(FILES[name])


# --- what is refused: the folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [None, ""])
def test_without_a_folder_it_says_where_to_get_the_data(name: str, folder: str | None) -> None:
    assert refuse(name, folder).startswith(f"{name} is read from a folder, and none is given; get ")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "archive.tar.gz").touch()
    for folder in ("absent", "archive.tar.gz"):
        assert f"{tmp_path / folder} is no folder; get " in refuse(name, tmp_path / folder)
    assert "is no folder" in refuse(name, "a\0b")
    assert "cannot be read" in refuse(name, "x" * 5000)


@pytest.mark.parametrize("name", NAMES)
def test_all_missing_files_are_named(name: str, tmp_path: Path) -> None:
    assert f"{tmp_path} lacks {', '.join(FILES[name])}; get " in refuse(name, tmp_path)
    write(name, tmp_path)
    for file in FILES[name]:
        (tmp_path / file).rename(tmp_path / "away")
        assert f"{tmp_path} lacks {file}; get " in refuse(name, tmp_path)
        (tmp_path / "away").rename(tmp_path / file)
    (tmp_path / FILES[name][0]).unlink()
    if name == "cifar-10":
        (tmp_path / FILES[name][3]).unlink()
        assert f"{tmp_path} lacks data_batch_1.bin, data_batch_4.bin; get " in refuse(name, tmp_path)
        write(name, tmp_path / SUBFOLDERS[name])
        (tmp_path / SUBFOLDERS[name] / "test_batch.bin").unlink()
        assert f"{tmp_path / SUBFOLDERS[name]} lacks test_batch.bin; get " in refuse(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar-10", "data_batch_1"),
        ("cifar-10", "cifar-10-batches-py"),
        ("cifar-10", "cifar-10-python.tar.gz"),
        ("cifar-100", "train"),
        ("cifar-100", "cifar-100-python"),
        ("cifar-100", "cifar-100-python.tar.gz"),
    ],
)
def test_a_pickle_is_not_touched(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"cos\nmkdir\n(S'made'\ntR.")
    said = refuse(name, tmp_path)
    assert (
        f"{tmp_path} holds {file}, of the Python version: pickles can run code, and none is ever loaded; get " in said
    )
    assert list(tmp_path.iterdir()) == [tmp_path / file]
    (tmp_path / f"{name}-binary.tar.gz").touch()
    assert f"{tmp_path} holds {name}-binary.tar.gz, still packed; get " in refuse(name, tmp_path)
    write(name, tmp_path)
    assert read(name, tmp_path).name == name
    (tmp_path / FILES[name][0]).unlink()
    assert f"{tmp_path} lacks {FILES[name][0]}; get " in refuse(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop", "nothing"])
def test_what_is_no_file_is_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    path = tmp_path / FILES[name][0]
    path.unlink()
    make: dict[str, Callable[[], object]] = {
        "device": lambda: path.symlink_to("/dev/zero"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path.name),
        "nothing": lambda: path.symlink_to("absent"),
    }
    make[kind]()
    said = refuse(name, tmp_path)
    assert path.name in said
    assert {"device": "device or a pipe", "pipe": "device or a pipe", "folder": "cannot be read"}.get(
        kind, "lacks"
    ) in said


@pytest.mark.parametrize("name", NAMES)
def test_each_file_may_have_an_equal_share_of_the_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, tmp_path)
    largest = max((tmp_path / file).stat().st_size for file in FILES[name])
    n_files = len(FILES[name])
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", n_files * largest)
    read(name, tmp_path)
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", n_files * largest - 1)
    assert f"{FILES[name][-1]} has {largest:,} bytes, and at most {largest - 1:,} are read" in refuse(name, tmp_path)


# --- what is refused: rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n_row"), [("cifar-10", 3073), ("cifar-100", 3074)])
@pytest.mark.parametrize("place", [0, -1])
def test_a_file_of_rows_that_are_not_whole_is_refused(name: str, n_row: int, place: int, tmp_path: Path) -> None:
    write(name, tmp_path)
    path = tmp_path / FILES[name][place]
    content = path.read_bytes()
    for n_bytes in (0, 1, n_row - 1, n_row + 1, 2 * n_row - 1):
        path.write_bytes(content[:n_bytes])
        said = refuse(name, tmp_path)
        assert f"{path} has {n_bytes:,} bytes, expected a whole number of rows of {n_row:,}, one or more" in said
    path.write_bytes(content[:n_row])
    assert read(name, tmp_path).images.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "column", "label", "n_classes"),
    [("cifar-10", 0, "label", 10), ("cifar-100", 0, "coarse label", 20), ("cifar-100", 1, "fine label", 100)],
)
@pytest.mark.parametrize("place", [0, -1])
def test_a_label_of_no_class_is_refused(
    name: str, column: int, label: str, n_classes: int, place: int, tmp_path: Path
) -> None:
    write(name, tmp_path)
    path = tmp_path / FILES[name][place]
    content = bytearray(path.read_bytes())
    n_row = {"cifar-10": 3073, "cifar-100": 3074}[name]
    for value in (n_classes, 255):
        content[n_row + column] = value
        path.write_bytes(content)
        said = f"{path}: the {label} of image 1 is {value}, expected 0..{n_classes - 1}; get "
        assert said in refuse(name, tmp_path)
    content[n_row + column] = n_classes - 1
    path.write_bytes(content)
    read(name, tmp_path)


# --- MATLAB files by hand ----------------------------------------------------------------------------------------

UINT8, DOUBLE = 2, 9  # as elements' types; as variables' classes:
DOUBLES, UINT8S = 6, 9
LOGICAL, GLOBAL, COMPLEX = 2, 4, 8


def element(kind: int, content: bytes, order: str = "<", *, small: bool = False) -> bytes:
    if small:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(
    name: str,
    shape: tuple[int, ...],
    numbers: bytes,
    kind: int = UINT8,
    of: int = UINT8S,
    flags: int = 0,
    order: str = "<",
) -> bytes:
    """One variable as MATLAB writes it: short names, and at most 4 bytes of numbers, within the tag."""
    content = element(6, struct.pack(f"{order}II", flags << 8 | of, 0), order)
    content += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    content += element(1, name.encode(), order, small=len(name) <= 4)
    content += element(kind, numbers, order, small=len(numbers) <= 4)
    return element(14, content, order)


def compress(content: bytes, order: str = "<") -> bytes:
    packed = zlib.compress(content)
    return struct.pack(f"{order}II", 15, len(packed)) + packed


def mat(*variables: bytes, order: str = "<") -> bytes:
    text = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124)
    return text + struct.pack(f"{order}HH", 0x0100, 0x4D49) + b"".join(variables)


ZEROS = variable("X", (32, 32, 3, 2), bytes(6144))
ONES = variable("y", (2, 1), b"\1\1")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """SVHN's test file; that for training is the tests' own."""
    (tmp_path / "test_32x32.mat").write_bytes(mat(ZEROS, ONES))
    return tmp_path


def read_mat(folder: Path, content: bytes) -> DataSet:
    (folder / "train_32x32.mat").write_bytes(content)
    return read("svhn", folder)


def refuse_mat(folder: Path, content: bytes) -> str:
    (folder / "train_32x32.mat").write_bytes(content)
    said = refuse("svhn", folder)
    assert said.startswith(f"{folder / 'train_32x32.mat'}")
    assert "test_32x32.mat " not in said.partition("; get ")[0]
    return said


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_both_byte_orders_packed_or_not_are_read_with_doubles_stored_as_bytes(
    order: str, compressed: bool, n: int, digits: Path
) -> None:
    pixels = draw_pixels(n, 1)
    labels = [10, 3, 9, 1, 2, 3][:n]
    variables = [
        variable("note", (1, 1), b"\7", of=DOUBLES, order=order),
        variable("y", (n, 1), bytes(labels), of=DOUBLES, flags=GLOBAL, order=order),  # as in the published files
        variable("X", (32, 32, 3, n), pixels.tobytes(order="F"), order=order),
    ]
    data = read_mat(
        digits, mat(*([compress(one, order) for one in variables] if compressed else variables), order=order)
    )
    assert data.labels[:n].tolist() == [label % 10 for label in labels]
    assert (data.images[:n] == pixels.transpose(3, 2, 0, 1)).all()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_labels_of_any_type_are_read(dtype: str, compressed: bool, digits: Path) -> None:
    for n in (1, 5, 10):
        labels = np.arange(10, 10 - n, -1)
        data = read_mat(digits, pack_mat(draw_pixels(n, 2), labels.astype(dtype), compressed, z=np.zeros(3)))
        assert data.labels.tolist() == [*(labels % 10), 1, 1]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ([ZEROS], "expected one X and one y, found 'X'"),
        ([ONES], "expected one X and one y, found 'y'"),
        ([], "expected one X and one y, found nothing"),
        ([ZEROS, ZEROS, ONES], "found 'X', 'X', 'y'"),
        ([ZEROS, ONES, ONES], "found 'X', 'y', 'y'"),
        (
            [variable("x", (32, 32, 3, 2), bytes(6144)), variable("\x1b[31m" * 99, (0,), b""), ONES],
            r"'x', '\x1b[31m\x1b",
        ),
        (
            [variable("X", (2, 32, 32, 3), bytes(6144)), ONES],
            "X has shape (2, 32, 32, 3) and type uint8, expected (32, 32",
        ),
        ([variable("X", (32, 32, 3), bytes(3072)), ONES], "X has shape (32, 32, 3) and"),
        ([variable("X", (32, 32, 3, 2, 1), bytes(6144)), ONES], "X has shape (32, 32, 3, 2, 1)"),
        ([variable("X", (), b""), ONES], "X has shape ()"),
        ([variable("X", (32, 32, 3, 0), b""), variable("y", (0, 1), b"")], "X has shape (32, 32, 3, 0)"),
        ([variable("X", (32, 32, 3, -2), b""), variable("y", (-2, 1), b"")], "X has shape (32, 32, 3, -2)"),
        (
            [variable("X", (32, 32, 3, 2), bytes(6144), of=DOUBLES), ONES],
            "and type double, expected (32, 32, 3, n) and uint8",
        ),
        ([variable("X", (32, 32, 3, 2), bytes(6144), of=8), ONES], "and type int8, expected"),
        ([variable("X", (32, 32, 3, 2), bytes(6144), of=2), ONES], "and type struct, expected"),
        ([variable("X", (32, 32, 3, 2), bytes(6144), of=99), ONES], "and type 99, expected"),
        ([variable("X", (32, 32, 3, 2), bytes(6144), flags=LOGICAL), ONES], "and type logical uint8, expected"),
        ([variable("X", (32, 32, 3, 2), bytes(6144), flags=COMPLEX), ONES], "and type complex uint8, expected"),
        ([variable("X", (32, 32, 3, 2), bytes(6144), kind=1), ONES], "X is stored as int8, expected uint8"),
        ([variable("X", (32, 32, 3, 2), bytes(6144 * 8), kind=DOUBLE), ONES], "X is stored as float64, expected uint8"),
        ([variable("X", (32, 32, 3, 2), bytes(6143)), ONES], "X has shape (32, 32, 3, 2), and 6143 numbers"),
        ([variable("X", (32, 32, 3, 2), bytes(6145)), ONES], "X has shape (32, 32, 3, 2), and 6145 numbers"),
        ([ZEROS, variable("y", (3, 1), b"\1\1\1")], "y has shape (3, 1) and type uint8, expected (2, 1) and numbers"),
        ([ZEROS, variable("y", (1, 2), b"\1\1")], "y has shape (1, 2) and"),
        ([ZEROS, variable("y", (2,), b"\1\1")], "y has shape (2,) and"),
        ([ZEROS, variable("y", (2, 1), b"\1\1", of=4)], "y has shape (2, 1) and type char, expected"),
        ([ZEROS, variable("y", (2, 1), b"\1\1", flags=LOGICAL)], "and type logical uint8, expected (2, 1)"),
        ([ZEROS, variable("y", (2, 1), b"\1\1", flags=COMPLEX)], "and type complex uint8, expected (2, 1)"),
        ([ZEROS, variable("y", (2, 1), b"\1\1\1")], "y has shape (2, 1), and 3 numbers"),
        ([ZEROS, variable("y", (2, 1), bytes(15), kind=DOUBLE)], "buffer size must be a multiple of element size"),
        ([ZEROS, variable("y", (2, 1), b"")], "y has shape (2, 1), and 0 numbers"),
        ([element(9, bytes(16)), ZEROS, ONES], "an element of type 9 is in the place of a variable"),
        ([element(14, b""), ZEROS, ONES], "is damaged"),
        (
            [element(14, element(6, bytes(8)) + element(5, bytes(8)) + element(2, b"X")), ONES],
            "lacks its flags, shape or name",
        ),
        ([ZEROS, ONES[:8]], "it ends 48 bytes too early"),
        ([ZEROS, struct.pack("<II", 5 << 16 | 14, 0)], "5 bytes are said to lie in 4"),
        ([struct.pack("<II", 15, 9) + b"no stream", ONES], "Error -3 while decompressing"),
        ([ZEROS, ONES, bytes(8)], "an element of type 0"),
        ([ZEROS, ONES, b"\0\0\0"], "is damaged"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_mat_file_of_other_things_says_what_is_wrong(
    variables: list[bytes], said: str, compressed: bool, digits: Path
) -> None:
    if compressed:  # those that are whole variables
        variables = [compress(one) if one[:4] == b"\x0e\0\0\0" and len(one) > 8 else one for one in variables]
    told = refuse_mat(digits, mat(*variables))
    assert "is damaged, or holds other data: " in told
    assert said in told


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [0, 3, 8, 10, 11, 14, 15, 16, 18, 19, 20, 99, 5000, 60000])
def test_a_type_that_is_none_of_numbers_is_refused_where_scipy_would_end_the_process(
    kind: int, compressed: bool, digits: Path
) -> None:
    for variables in (
        [variable("X", (32, 32, 3, 2), bytes(6144), kind=kind), ONES],
        [ZEROS, variable("y", (2, 1), b"\1\1", kind=kind)],
    ):
        said = refuse_mat(digits, mat(*(compress(one) if compressed else one for one in variables)))
        assert "is damaged, or holds other data: " in said


@pytest.mark.parametrize("labels", [[0, 1], [1, 11], [1, -1], [1, 1.5], [1, np.nan], [1, np.inf], [1, -1e300]])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_label_that_is_no_digit_is_refused(labels: list[float], compressed: bool, digits: Path) -> None:
    said = refuse_mat(digits, pack_mat(draw_pixels(2, 0), labels, compressed))
    wrong = 0 if labels[0] == 0 else 1
    assert f": the label of image {wrong} is {np.array(labels)[wrong]}, expected 1..10; get " in said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no such file",
        bytes(200),
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n",
        b"MATLAB".ljust(124) + b"\x01\x00IM",
        mat(ZEROS, ONES)[:127],
    ],
)
def test_what_is_no_matlab_file_of_version_5_is_refused(content: bytes, digits: Path) -> None:
    assert "train_32x32.mat is no MATLAB file of version 5 to 7.2; get " in refuse_mat(digits, content)


def test_so_many_variables_are_read_and_no_more(digits: Path) -> None:
    other = variable("z", (1, 1), b"\1")
    assert len(read_mat(digits, mat(*[other] * (MAX_VARIABLES - 3), ZEROS, ONES)).images) == 4
    said = refuse_mat(digits, mat(*[other] * 10**5, ZEROS, ONES))
    assert f"it holds {MAX_VARIABLES} variables or more" in said


# --- damage ------------------------------------------------------------------------------------------------------


def test_a_changed_byte_anywhere_in_a_packed_file_is_found(digits: Path) -> None:
    pixels = np.zeros((32, 32, 3, 3), np.uint8)
    pixels[4:9, :, 1] = np.arange(32)[:, None]
    content = pack_mat(pixels, [1, 2, 3])
    assert len(content) < 500
    whole = read_mat(digits, content).sha256
    n_refused = 0
    for place in range(124, len(content)):
        changed = content[place] ^ (0x01, 0xFF, 0x10)[place % 3]
        try:
            data = read_mat(digits, content[:place] + bytes([changed]) + content[place + 1 :])
        except InputError:
            n_refused += 1
        else:
            assert data.sha256 == whole  # zlib leaves a few bits unused
    assert len(content) - 124 - 5 < n_refused < len(content) - 124


def test_a_packed_variable_without_its_end_or_its_checksum_is_refused(digits: Path) -> None:
    for one, name in ((ZEROS, "X"), (ONES, "y")):
        packer = zlib.compressobj()
        endless = packer.compress(one) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert zlib.decompressobj().decompress(endless) == one
        longer = zlib.compress(one + bytes(1000))
        for packed in (endless, zlib.compress(one)[:-4], zlib.compress(one)[:-1], longer):
            parts = {"X": compress(ZEROS), "y": compress(ONES), name: struct.pack("<II", 15, len(packed)) + packed}
            assert f"{name} does not hold the numbers that its head says" in refuse_mat(digits, mat(*parts.values()))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_anywhere_is_found(compressed: bool, digits: Path) -> None:
    content = pack_mat(np.zeros((32, 32, 3, 3), np.uint8), [1, 2, 3], compressed)
    read_mat(digits, content)
    for n_bytes in [*range(0, 400, 7), *range(400, len(content), 499), *range(len(content) - 40, len(content), 3)]:
        if n_bytes < len(content):
            refuse_mat(digits, content[:n_bytes])


def test_whatever_a_variable_holds_it_is_refused_or_gives_digits(digits: Path) -> None:
    """Heads made up, with checksums that are right."""
    generator = np.random.default_rng(5)
    n_refused = 0
    for _ in range(600):
        parts = [bytearray(ZEROS), bytearray(ONES)]
        for _ in range(generator.integers(1, 4)):
            part = parts[generator.integers(2)]
            part[generator.integers(80 if len(part) > 80 else len(part))] = generator.choice([0, 1, 4, 255, 128, 14])
        try:
            data = read_mat(digits, mat(*(compress(bytes(part)) for part in parts)))
        except InputError as refusal:
            assert 40 < len(str(refusal)) < 1000
            n_refused += 1
        else:
            assert data.images.shape == (4, 3, 32, 32)
            assert set(data.labels.tolist()) <= set(range(10))
    assert 300 < n_refused < 600


@pytest.mark.parametrize("compressed", [False, True])
def test_a_head_is_not_believed(compressed: bool, digits: Path) -> None:
    n = 300_000
    lying = bytearray(variable("X", (32, 32, 3, n), bytes(6144)))
    assert lying[-6144 - 8 : -6144] == struct.pack("<II", 2, 6144)
    lying[-6144 - 8 : -6144] = struct.pack("<II", 2, 3072 * n)
    lying[4:8] = struct.pack("<I", len(lying) - 8 + 3072 * n - 6144)
    tracemalloc.start()
    try:
        said = refuse_mat(
            digits, mat(compress(bytes(lying)) if compressed else bytes(lying), variable("y", (n, 1), bytes(n)))
        )
        assert ("(32, 32, 3, 300000), and 6144 numbers" if compressed else "bytes too early") in said
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_numbers_that_unpack_to_too_much_are_refused(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2_000
    content = pack_mat(np.zeros((32, 32, 3, n), np.uint8), [1] * n)
    assert len(content) < 10_000
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 2 * 3072 * n)
    assert len(read_mat(digits, content).images) == n + 2
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 2 * 3072 * n - 2_000)
    tracemalloc.start()
    try:
        assert re.search(r"X unpacks to 6,144,\d{3} bytes, and at most 6,143,000 are read", refuse_mat(digits, content))
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


# --- training ----------------------------------------------------------------------------------------------------


def test_a_small_cifar_is_learned(tmp_path: Path, small_config: SearchConfig) -> None:
    """Two classes in each of its files, told apart by their colour."""
    for place, file in enumerate(FILES["cifar-10"]):
        labels = [0, 1] * 8
        pixels = draw_pixels(len(labels), place) // 2
        for image, label in enumerate(labels):
            pixels[:, :, 2 * label, image] += 100
        (tmp_path / file).write_bytes(pack_rows(pixels, labels))
    data = read("cifar-10", tmp_path)
    config = small_config.model_copy(update={"epochs": 2, "train_examples": None, "batch_size": 8})
    candidate = Candidate(find_template("log").build(5), config.network(data.n_classes, data.image), seed=0)
    outcome = Trainer(data, config).train(Job(0, candidate))
    assert (outcome.error, outcome.epochs) == (None, 2)
    assert outcome.curve[1]["train_loss"] < outcome.curve[0]["train_loss"]
    assert outcome.validation_accuracy is not None
    assert outcome.validation_accuracy > 0.9
    final = split_final(data, 0, None, "cpu")
    assert final.augment
    assert torch.equal(final.validation_labels, torch.tensor([0, 1] * 8))
