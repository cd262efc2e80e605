"""scripts/imagenet32.py: what it writes is what the files have, and no pickle runs anything."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.data.readers import MAX_BYTES, load_data
from search_spaces.errors import InputError
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from imagenet32 import IMAGE, TEST, TRAINING, convert, main, read_batch

N_CLASSES = 7


def make_batch(number: int, n: int = 9) -> dict[str, Any]:
    """A batch as published: rows of bytes, labels from 1, and the mean image."""
    generator = np.random.default_rng(number)
    rows = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"data": rows, "labels": [k % N_CLASSES + 1 for k in range(n)], "mean": rows.mean(axis=0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of eleven small files, of several protocols."""
    for number, name in enumerate((*TRAINING, *TEST)):
        (tmp_path / name).write_bytes(pickle.dumps(make_batch(number), protocol=2 + number % 3))
    return tmp_path


def planes(row: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One row as an image, pixel by pixel: channel c of row y and column x is byte 1024 c + 32 y + x."""
    return np.array([[[row[1024 * c + 32 * y + x] for x in range(32)] for y in range(32)] for c in range(3)])


def test_what_is_written_can_be_trained_on(folder: Path) -> None:
    target = folder / "imagenet32.npz"
    assert convert(folder, target) == f"wrote {target}: 90 training and 9 test images, 7 classes"
    data = load_data("npz", str(target))
    assert (data.image, data.n_classes, len(data.labels)) == (IMAGE, N_CLASSES, 99)
    assert data.test.tolist() == list(range(90, 99))
    for number in range(11):
        batch, place = make_batch(number), 9 * number
        assert (data.labels[place : place + 9] + 1).tolist() == batch["labels"]
        for k in (0, 8):
            assert (data.images[place + k] == planes(batch["data"][k])).all()
    assert {path.name for path in folder.iterdir()} == {*TRAINING, *TEST, target.name}


def test_the_whole_of_it_is_within_the_limits_of_what_is_read() -> None:
    n_train, n_test = 1_281_167, 50_000  # ILSVRC 2012
    assert (n_train + n_test) * (3072 + 8) + 10**6 < MAX_BYTES


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """As Python 2 wrote it, bytes are a text: protocol 2 without numpy's detour over _codecs."""
    batch = make_batch(0)
    text = batch["data"].tobytes()
    minus_one, labels = b"J" + b"\xff" * 4, b"".join(b"K" + bytes([label]) for label in batch["labels"])
    content = (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # an array
        b"(K\x01K\x09M\x00\x0c\x86"  # of shape (9, 3072)
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + minus_one * 2 + b"K\x00tb"  # of type u1
        b"\x89T" + len(text).to_bytes(4, "little") + text + b"tb"
        b"U\x06labels](" + labels + b"eu."
    )
    (tmp_path / "old").write_bytes(content)
    numpys = pickle.loads(content, encoding="latin1")["data"]  # noqa: S301  our own
    assert (numpys == batch["data"]).all()
    read = read_batch(tmp_path / "old")
    assert (read.images.reshape(9, -1) == batch["data"]).all()
    assert (read.labels + 1).tolist() == batch["labels"]


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_runs_anything(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({**make_batch(0), "extra": Bomb(marker)}, protocol=protocol))
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.mkdir|asks for numpy"):
        read_batch(path)
    assert not marker.exists()


def change(**others: Any) -> dict[str, Any]:
    return {**make_batch(0), **others}


ROWS = make_batch(0)["data"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no pickle"),
        (b"PK\x03\x04 a zip", "is no pickle"),
        (pickle.dumps(change())[:-2000], "is no pickle"),
        (pickle.dumps([1, 2]), "no data and labels"),
        (pickle.dumps({"data": ROWS}), "no data and labels"),
        (pickle.dumps(change(data=ROWS.tolist())), "data is list"),
        (pickle.dumps(change(data=ROWS.astype(np.float32)), protocol=4), "type 'f4'"),
        (pickle.dumps(change(data=ROWS[:, :100].copy()), protocol=4), "shape (9, 100)"),
        (pickle.dumps(change(data=np.asfortranarray(ROWS)), protocol=4), "shape (9, 3072)"),
        (pickle.dumps(change(labels=[1] * 8), protocol=4), "labels are 8 labels"),
        (pickle.dumps(change(labels="123456789"), protocol=4), "labels are str"),
        (pickle.dumps(change(labels=[0] + [1] * 8), protocol=4), "a label is 0"),
        (pickle.dumps(change(labels=[1] * 8 + [1001]), protocol=4), "a label is 1001"),
        (pickle.dumps(change(labels=[1.0] * 9), protocol=4), "a label is 1.0"),
        (pickle.dumps(change(labels=[True] * 9), protocol=4), "a label is True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_content_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_batch(path)
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_what_is_missing_or_in_the_way_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "new.npz"
    (folder / "train_data_batch_7").rename(folder / "elsewhere")
    with pytest.raises(InputError, match=r"lacks train_data_batch_7; unpack"):
        convert(folder, target)
    (folder / "elsewhere").rename(folder / "train_data_batch_7")
    target.write_text("mine")
    with pytest.raises(SystemExit) as end:
        main([str(folder), str(target)])
    assert end.value.code == 2
    assert f"{target} exists" in capsys.readouterr().err
    assert target.read_text() == "mine"


def test_a_file_that_is_damaged_leaves_nothing_behind(folder: Path) -> None:
    (folder / "val_data").write_bytes(b"broken")
    before = set(folder.iterdir())
    with pytest.raises(InputError, match="val_data is no pickle"):
        convert(folder, folder / "new.npz")
    assert set(folder.iterdir()) == before
