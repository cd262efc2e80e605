"""Readers of images with pixel labels: small files that are written here, and files that cannot be used."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.data.pixel_labels import CAMVID_CLASSES, VOID, PixelLabels, settle_classes
from nas.data.pixel_npz import read_pixel_npz
from nas.data.segnet_folders import read_segnet_folders
from search_spaces.errors import InputError

MAX_BYTES = 10**6
COUNTS = {"train": 5, "val": 2, "test": 3}


def draw(part: str, classes: int = 3, void: int = 255, n_channels: int = 3) -> tuple[Any, Any]:
    """Return images (n, channels, 6, 8) and masks (n, 6, 8) with every class and void in each part."""
    generator = np.random.default_rng([*part.encode()])
    images = generator.integers(0, 256, (COUNTS[part], n_channels, 6, 8), dtype=np.uint8)
    masks = generator.integers(0, classes, (COUNTS[part], 6, 8), dtype=np.uint8)
    masks[:, 0, : classes + 1] = [*range(classes), void]
    return images, masks


def write_npz(path: Path, parts: tuple[str, ...] = ("train", "val", "test"), **changes: Any) -> Path:
    arrays: dict[str, Any] = {}
    for part in parts:
        arrays[f"x_{part}"], arrays[f"y_{part}"] = draw(part)
    np.savez(path, **{**arrays, **changes})
    return path


def write_folders(folder: Path, classes: int = 3, void: int = 255, prefix: str = "a", mode: str = "L") -> Path:
    for part in COUNTS:
        (folder / part).mkdir(parents=True)
        (folder / f"{part}annot").mkdir()
        for number, (image, mask) in enumerate(zip(*draw(part, classes, void), strict=True)):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / part / f"{prefix}{number}.png")
            picture = Image.fromarray(mask)
            if mode == "P":
                picture.putpalette([number % 256 for number in range(768)])
            picture.save(folder / f"{part}annot" / f"{prefix}{number}.png")
    return folder


def check_content(data: PixelLabels, classes: int = 3, void: int = 255) -> None:
    for name, part in (("train", data.training), ("val", data.validation), ("test", data.test)):
        images, masks = draw(name, classes, void)
        assert np.array_equal(part.images, images)
        assert np.array_equal(part.masks, np.where(masks == void, VOID, masks))
        assert (part.masks == VOID).any()


def test_an_npz_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = read_pixel_npz(write_npz(tmp_path / "a.npz"), MAX_BYTES)
    check_content(data)
    assert data.classes == ("class 0", "class 1", "class 2")
    assert data.image == (3, 6, 8)
    assert data.name == "a.npz"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_channels_may_stand_last_or_first(tmp_path: Path, layout: str) -> None:
    turned = {f"x_{part}": draw(part)[0] for part in COUNTS}
    if layout == "NHWC":
        turned = {name: images.transpose(0, 2, 3, 1) for name, images in turned.items()}
    check_content(read_pixel_npz(write_npz(tmp_path / "a.npz", **turned), MAX_BYTES))
    check_content(read_pixel_npz(write_npz(tmp_path / "b.npz", layout=np.array(layout), **turned), MAX_BYTES))


def test_a_file_may_name_its_classes(tmp_path: Path) -> None:
    names = np.array(["sky", "road", "tree"])
    assert read_pixel_npz(write_npz(tmp_path / "a.npz", names=names), MAX_BYTES).classes == ("sky", "road", "tree")
    with pytest.raises(InputError, match="names"):
        read_pixel_npz(write_npz(tmp_path / "b.npz", names=names[:1]), MAX_BYTES)
    with pytest.raises(InputError, match=r"names.* 4 texts"):
        read_pixel_npz(write_npz(tmp_path / "c.npz", names=names), MAX_BYTES, n_classes=4)


def test_names_say_how_many_classes_there_are(tmp_path: Path) -> None:
    names = np.array([f"class {number}" for number in range(12)])
    masks = {f"y_{part}": draw(part)[1] for part in COUNTS}
    masks["y_train"][0, 0, 0] = 11
    data = read_pixel_npz(write_npz(tmp_path / "a.npz", names=names, **masks), MAX_BYTES)
    assert len(data.classes) == 12 and (data.training.masks == 11).any() and "void" not in " ".join(data.remarks)
    with pytest.raises(InputError, match="11, expected 0 to 9"):
        read_pixel_npz(write_npz(tmp_path / "b.npz", names=names[:10], **masks), MAX_BYTES)


def test_a_label_that_is_taken_for_void_is_said_unless_the_user_says_it(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", y_train=np.minimum(draw("train")[1], 11))  # void is 11 there
    (remark,) = read_pixel_npz(path, MAX_BYTES).remarks[-1:]
    assert "label 11 counts as void" in remark and "classes=12" in remark
    assert "void" not in " ".join(read_pixel_npz(path, MAX_BYTES, n_classes=11).remarks)
    folders = read_segnet_folders(write_folders(tmp_path / "own", 7, 11), MAX_BYTES)
    assert "label 11 counts as void" in folders.remarks[-1]


def test_without_validation_images_a_fixed_fifth_of_the_training_images_is_for_validation(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", ("train", "test"))
    first, again = (read_pixel_npz(path, MAX_BYTES) for _ in range(2))
    assert first.sha256 == again.sha256
    assert [len(part.images) for part in (first.training, first.validation, first.test)] == [4, 1, 3]
    both = np.concatenate([first.training.images, first.validation.images])
    assert sorted(map(bytes, both)) == sorted(map(bytes, draw("train")[0]))


def test_the_hash_follows_every_part(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    known = {read_pixel_npz(path, MAX_BYTES).sha256}
    for letter in "xy":
        for part in COUNTS:
            changed = draw(part)[letter == "y"].copy()
            changed[-1, -1, -1] = (changed[-1, -1, -1] + 1) % 3
            known.add(read_pixel_npz(write_npz(path, **{f"{letter}_{part}": changed}), MAX_BYTES).sha256)
    assert len(known) == 7


@pytest.mark.parametrize("mode", ["L", "P"])
def test_folders_are_read_as_they_were_written(tmp_path: Path, mode: str) -> None:
    data = read_segnet_folders(write_folders(tmp_path / "own", mode=mode), MAX_BYTES)
    check_content(data)
    assert (data.name, data.classes[-1], data.can_augment) == ("own", "class 2", True)


def test_folders_and_file_of_the_same_content_have_the_same_hash(tmp_path: Path) -> None:
    folders = read_segnet_folders(write_folders(tmp_path / "own"), MAX_BYTES)
    assert folders.sha256 == read_pixel_npz(write_npz(tmp_path / "a.npz"), MAX_BYTES).sha256


def test_files_of_camvid_have_its_classes_and_its_void(tmp_path: Path) -> None:
    data = read_segnet_folders(write_folders(tmp_path / "own", 7, 11, "0001TP_00"), MAX_BYTES)
    check_content(data, 7, 11)
    assert data.classes == CAMVID_CLASSES
    (remark,) = data.remarks
    assert "no training pixel is of class fence" in remark


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "own")
    for part in COUNTS:
        for path in (folder / part).iterdir():
            with Image.open(path) as image:
                image.convert("L").save(path)
    assert read_segnet_folders(folder, MAX_BYTES).image == (1, 6, 8)


def test_test_images_among_the_others_are_said(tmp_path: Path) -> None:
    images = draw("test")[0].copy()
    images[0] = draw("train")[0][2]
    (remark,) = read_pixel_npz(write_npz(tmp_path / "a.npz", x_test=images), MAX_BYTES).remarks
    assert remark.startswith("1 of the 3 test images")


def test_the_number_of_classes_says_which_label_is_void() -> None:
    masks = {"train": np.array([0, 3, 255], np.uint8)}
    assert settle_classes("a", masks, None)[0] == 4
    assert settle_classes("a", masks, None).void is None
    number, settled, void = settle_classes("a", masks, 3)
    assert (number, settled["train"].tolist(), void) == (3, [0, VOID, VOID], 3)
    assert settle_classes("a", {"train": np.array([0, 20], np.uint8)}, 21)[0] == 21


@pytest.mark.parametrize(
    ("labels", "classes", "named"),
    [([0, 12], None, "12"), ([0, 254], None, "254"), ([0, 1, 4], 3, "4"), ([0, 255], None, "two classes")],
)
def test_a_label_that_is_neither_a_class_nor_void_is_refused(
    labels: list[int], classes: int | None, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        settle_classes("a", {"val": np.array(labels, np.uint8)}, classes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"x_train": np.zeros((5, 3, 6, 8), np.float32)}, "float32"),
        ({"y_train": np.zeros((5, 6, 8, 3), np.uint8)}, "colours"),
        ({"y_val": np.zeros((2, 8, 6), np.uint8)}, "y_val"),
        ({"y_val": np.zeros((2, 6, 8), np.int64)}, "int64"),
        ({"x_test": np.zeros((3, 3, 6, 9), np.uint8), "y_test": np.zeros((3, 6, 9), np.uint8)}, "alike"),
        ({"y_test": np.full((3, 6, 8), 255, np.uint8)}, "test images"),
        ({"x_train": np.array([{}], dtype=object)}, "plain arrays"),
    ],
)
def test_arrays_that_cannot_be_used_as_pixels_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_pixel_npz(write_npz(tmp_path / "a.npz", **changes), MAX_BYTES)


def test_files_that_are_missing_damaged_or_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_pixel_npz(tmp_path / "none.npz", MAX_BYTES)
    path = write_npz(tmp_path / "a.npz")
    with pytest.raises(InputError, match="at most 100 are read"):
        read_pixel_npz(path, 100)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="whole"):
        read_pixel_npz(path, MAX_BYTES)
    with pytest.raises(InputError, match="x_test"):
        read_pixel_npz(write_npz(tmp_path / "b.npz", ("train", "val")), MAX_BYTES)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(path: Path, width: int, height: int, depth: int = 8, colour: int = 0) -> None:
    """Write a PNG by hand, whose header may lie."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def spoil_with_colours(folder: Path) -> None:
    Image.new("RGB", (8, 6)).save(folder / "trainannot" / "a0.png")


def spoil_by_removing(folder: Path) -> None:
    (folder / "val" / "a1.png").unlink()


def spoil_with_text(folder: Path) -> None:
    (folder / "train" / "a3.png").write_text("no picture")


def spoil_the_first_with_text(folder: Path) -> None:
    (folder / "train" / "a0.png").write_text("no picture")


def spoil_the_size(folder: Path) -> None:
    Image.new("RGB", (9, 6)).save(folder / "test" / "a1.png")


def spoil_the_size_of_a_mask(folder: Path) -> None:
    Image.new("L", (8, 7)).save(folder / "testannot" / "a1.png")


def spoil_the_depth(folder: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(folder / "trainannot" / "a0.png")


def spoil_by_cutting(folder: Path) -> None:
    path = folder / "trainannot" / "a2.png"
    path.write_bytes(path.read_bytes()[:-30])


def spoil_the_content(folder: Path) -> None:
    path = folder / "trainannot" / "a2.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 255
    path.write_bytes(content)


def claim_a_huge_image(folder: Path) -> None:
    write_png(folder / "train" / "a0.png", 2**31 - 1, 2**31 - 1, colour=2)


def empty_a_folder(folder: Path) -> None:
    for path in (folder / "testannot").iterdir():
        path.unlink()


def label_too_high(folder: Path) -> None:
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(folder / "valannot" / "a0.png")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_with_colours, "trainannot/a0.png is 8 x 6, 8-bit RGB; .* replace each colour"),
        (spoil_by_removing, "valannot/a1.png .* no file of its name in val"),
        (spoil_with_text, "a3.png is no PNG"),
        (spoil_the_first_with_text, "a0.png is no PNG"),
        (spoil_the_size, "a1.png is 9 x 6"),
        (spoil_the_size_of_a_mask, "a1.png is 8 x 7"),
        (spoil_the_depth, "a0.png is 8 x 6, 16-bit grey"),
        (spoil_by_cutting, "a2.png is damaged"),
        (spoil_the_content, "a2.png is damaged"),
        (claim_a_huge_image, "at most 1,000,000 are read"),
        (empty_a_folder, "testannot has 0 PNG"),
        (label_too_high, "77"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, spoil: Callable[[Path], None], named: str) -> None:
    folder = write_folders(tmp_path / "own")
    spoil(folder)
    with pytest.raises(InputError, match=named):
        read_segnet_folders(folder, MAX_BYTES)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder train; give a folder"):
        read_segnet_folders(tmp_path, MAX_BYTES)
