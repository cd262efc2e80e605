"""CIFAR and SVHN: files of the true formats read pixel by pixel, and everything else refused in words."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from nas.data.data_set import DataSet
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
    """Return the refusal of a folder, which says how to get a good one."""
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
        f"{tmp_path} contains {file}, of the Python version: pickles can run code, and none is ever loaded; get "
        in said
    )
    assert list(tmp_path.iterdir()) == [tmp_path / file]
    (tmp_path / f"{name}-binary.tar.gz").touch()
    assert f"{tmp_path} contains {name}-binary.tar.gz, still packed; get " in refuse(name, tmp_path)
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


# --- MATLAB files ------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """SVHN's test file; the training file is the tests' own."""
    (tmp_path / "test_32x32.mat").write_bytes(pack_mat(draw_pixels(2, 0), [1, 1]))
    return tmp_path


def read_mat(folder: Path, content: bytes) -> DataSet:
    (folder / "train_32x32.mat").write_bytes(content)
    return read("svhn", folder)


def refuse_mat(folder: Path, content: bytes) -> str:
    (folder / "train_32x32.mat").write_bytes(content)
    refusal = refuse("svhn", folder)
    assert refusal.startswith(f"{folder / 'train_32x32.mat'}")
    return refusal


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
def test_labels_of_any_type_are_read(dtype: str, compressed: bool, digits: Path) -> None:
    for n in (1, 10):
        labels = np.arange(10, 10 - n, -1)
        data = read_mat(digits, pack_mat(draw_pixels(n, 2), labels.astype(dtype), compressed, z=np.zeros(3)))
        assert data.labels.tolist() == [*(labels % 10), 1, 1]


X, Y = np.zeros((32, 32, 3, 2), np.uint8), np.ones((2, 1))


@pytest.mark.parametrize(
    ("arrays", "value"),
    [
        ({"X": X}, "'X'"),
        ({"y": Y}, "'y'"),
        ({}, "nothing"),
        ({"X": X.transpose(3, 0, 1, 2), "y": Y}, "(2, 32, 32, 3)"),
        ({"X": X[..., 0], "y": Y}, "(32, 32, 3)"),
        ({"X": X[..., :0], "y": Y[:0]}, "(32, 32, 3, 0)"),
        ({"X": X, "y": np.ones((3, 1))}, "(3, 1)"),
        ({"X": X, "y": np.ones((1, 2))}, "(1, 2)"),
        ({"X": X.astype(float), "y": Y}, "float64"),
        ({"X": X.astype(np.int8), "y": Y}, "int8"),
        ({"X": X, "y": Y * 1j}, "complex"),
        ({"X": X, "y": np.array(["a", "b"])[:, None]}, "<U1"),
        ({"X": X, "y": np.array([{"a": 1}, {"a": 2}])[:, None]}, "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mat_file_of_other_things_says_what_is_wrong(arrays: dict[str, Any], value: str, digits: Path) -> None:
    stream = io.BytesIO()
    savemat(stream, arrays)  # type: ignore[arg-type]  # scipy-stubs knows only paths
    assert value in refuse_mat(digits, stream.getvalue())


@pytest.mark.parametrize("labels", [[0, 1], [1, 11], [1, -1], [1, 1.5], [1, np.nan]])
def test_a_label_that_is_no_digit_is_refused(labels: list[float], digits: Path) -> None:
    wrong = 0 if labels[0] == 0 else 1
    refusal = refuse_mat(digits, pack_mat(draw_pixels(2, 0), labels))
    assert f"the label of image {wrong} is {np.array(labels)[wrong]}, expected 1..10" in refusal


@pytest.mark.parametrize(
    "content",
    [b"", b"no such file", bytes(200), b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"],
)
def test_what_is_no_matlab_file_is_refused(content: bytes, digits: Path) -> None:
    refuse_mat(digits, content)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_is_found(compressed: bool, digits: Path) -> None:
    content = pack_mat(np.zeros((32, 32, 3, 3), np.uint8), [1, 2, 3], compressed)
    read_mat(digits, content)
    for share in (0.1, 0.4, 0.7, 0.95):
        refuse_mat(digits, content[: int(share * len(content))])


def test_numbers_that_unpack_to_too_much_are_refused(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2_000
    content = pack_mat(np.zeros((32, 32, 3, n), np.uint8), [1] * n)
    assert len(content) < 10_000
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 2 * 3072 * n)
    assert len(read_mat(digits, content).images) == n + 2
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 2 * 3072 * n - 2_000)
    assert "X unpacks to 6,144,000 bytes, and at most 6,143,000 are read" in refuse_mat(digits, content)


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
    assert outcome.metrics["validation_accuracy"] > 0.9
    final = split_final(data, 0, None, "cpu")
    assert final.augment
    assert torch.equal(final.validation_labels, torch.tensor([0, 1] * 8))
