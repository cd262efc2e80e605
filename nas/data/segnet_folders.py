"""Images with pixel labels from folders of PNG files, as they were made for SegNet from CamVid; checked."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from nas.data.pixel_labels import (
    CAMVID_CLASSES,
    PIXEL_PARTS,
    Bytes,
    PixelLabels,
    PixelPart,
    make_pixel_labels,
    name_classes,
    remark_on_void,
    settle_classes,
)
from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

FOLDERS_HINT = (
    "give a folder that has train, trainannot, val, valannot, test and testannot, with a mask in each ...annot of the "
    "same file name as its image"
)
IMAGE_HINT = "store all images at one size, as 8-bit PNGs, grey or RGB"
MASK_HINT = (
    "a mask has the number of each pixel's class, as an 8-bit PNG of mode L or P: replace each colour by the number of "
    "its class first"
)
MAX_FILES = 10**5  # in a folder
CAMVID_NAMES = ("0001TP_", "0006R0_", "0016E5_", "Seq05VD_")  # begin the names of its frames, one for each sequence
GREY, RGB, PALETTE = 0, 2, 3  # colour types of PNG (ISO/IEC 15948, section 11.2.1)
COLOURS = {GREY: "grey", RGB: "RGB", PALETTE: "palette", 4: "grey with opacity", 6: "RGB with opacity"}
N_CHANNELS = {GREY: 1, RGB: 3}
MASK_DEPTHS = {GREY: (8,), PALETTE: (1, 2, 4, 8)}  # bits; a palette of few colours is packed, and unpacked as it was
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What Pillow raises for a damaged or made-up file.
DAMAGED_PNG = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class _Form:
    """What the beginning of a PNG file says of the image: colour is a colour type, depth in bits a channel."""

    height: int
    width: int
    colour: int
    depth: int

    def __str__(self) -> str:
        colour = COLOURS.get(self.colour, "of an unknown colour type")
        return f"{self.width} x {self.height}, {self.depth}-bit {colour}"


def read_segnet_folders(folder: Path, max_bytes: int, n_classes: int | None = None) -> PixelLabels:
    """Read images with pixel labels from SegNet's folders: train, trainannot, val, valannot, test, testannot.

    All images have one size. They are 8-bit PNGs, grey or RGB, and the masks 8-bit PNGs of mode L or P.

    Args:
        folder: folder of the six folders.
        max_bytes: most bytes of all images and masks.
        n_classes: number of classes; None: as the labels say.

    Raises:
        InputError: a folder or file is missing, damaged or of another form, or a label is neither a class nor void.
    """
    names = {part: _list_names(folder, part) for part in PIXEL_PARTS}
    form = _read_form(folder / "train" / names["train"][0], max_bytes)
    n_bytes = sum(map(len, names.values())) * form.height * form.width * (N_CHANNELS[form.colour] + 1)
    if n_bytes > max_bytes:
        raise InputError(
            f"{folder} unpacks to {n_bytes:,} bytes, and at most {max_bytes:,} are read: shrink the images"
        )
    images: dict[str, Bytes] = {}
    masks: dict[str, Bytes] = {}
    for part in PIXEL_PARTS:
        n_images = len(names[part])
        images[part] = np.empty((n_images, N_CHANNELS[form.colour], form.height, form.width), np.uint8)
        masks[part] = np.empty((n_images, form.height, form.width), np.uint8)
        for place, name in enumerate(names[part]):
            images[part][place] = _read_image(folder / part / name, max_bytes, form)
            masks[part][place] = _read_mask(folder / f"{part}annot" / name, max_bytes, form)
    settled = settle_classes(folder, masks, n_classes)
    is_camvid = settled.number == len(CAMVID_CLASSES) and all(name.startswith(CAMVID_NAMES) for name in names["train"])
    classes = CAMVID_CLASSES if is_camvid else name_classes(settled.number)
    training, validation, test = (PixelPart(images[part], settled.masks[part]) for part in PIXEL_PARTS)
    data = make_pixel_labels(folder.resolve().name, classes, (training, validation, test), can_augment=True)
    return remark_on_void(data, settled.void if n_classes is None and not is_camvid else None)


def _list_names(folder: Path, part: str) -> list[str]:
    """Return the names of a part's images, each of which has a mask of the same name."""
    found = []
    for place in (folder / part, folder / f"{part}annot"):
        if not place.is_dir():
            raise InputError(f"{folder} has no folder {place.name}; {FOLDERS_HINT}")
        names = sorted(path.name for path in place.iterdir() if path.suffix.lower() == ".png")
        if not names or len(names) > MAX_FILES:
            raise InputError(f"{place} has {len(names):,} PNG files, expected 1 to {MAX_FILES:,}; {FOLDERS_HINT}")
        found.append(names)
    images, masks = found
    lonely = sorted(set(images) ^ set(masks))
    if lonely:
        own, other = (part, f"{part}annot") if lonely[0] in images else (f"{part}annot", part)
        raise InputError(f"{folder / own / lonely[0]} has no file of its name in {other}; {FOLDERS_HINT}")
    return images


def _read_form(path: Path, max_bytes: int) -> _Form:
    """Return the form that all images share with this one."""
    try:
        with open_regular(path, max_bytes) as stream:
            form = _take_form(stream)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    if form is None or form.colour not in N_CHANNELS or form.depth != 8:
        raise InputError(f"{path} is {form or 'no PNG file'}; {IMAGE_HINT}")
    return form


def _take_form(stream: BinaryIO) -> _Form | None:
    """Return what the header of a PNG file says (ISO/IEC 15948, section 11.2.2); None of another file."""
    head = stream.read(26)
    if len(head) < 26 or head[:8] != SIGNATURE or head[12:16] != b"IHDR":
        return None
    width, height, depth, colour = struct.unpack(">IIBB", head[16:])
    return _Form(height, width, colour, depth)


def _read_image(path: Path, max_bytes: int, form: _Form) -> Bytes:
    """Return an image as (channels, height, width)."""
    found, pixels = _read_png(path, max_bytes, form, IMAGE_HINT)
    if found != form or pixels is None:
        raise InputError(f"{path} is {found or 'no PNG file'}, and the first image is {form}; {IMAGE_HINT}")
    return pixels.reshape(form.height, form.width, -1).transpose(2, 0, 1)


def _read_mask(path: Path, max_bytes: int, form: _Form) -> Bytes:
    """Return a mask as (height, width)."""
    found, pixels = _read_png(path, max_bytes, form, MASK_HINT)
    if found is None or found.depth not in MASK_DEPTHS.get(found.colour, ()):
        raise InputError(f"{path} is {found or 'no PNG file'}; {MASK_HINT}")
    if pixels is None:
        raise InputError(f"{path} is {found}, and its image is {form.width} x {form.height}: they must be alike")
    return pixels


def _read_png(path: Path, max_bytes: int, form: _Form, hint: str) -> tuple[_Form | None, Bytes | None]:
    """Return the form of a PNG file and, where it is as large as `form` says, its pixels as they are stored."""
    try:
        with open_regular(path, max_bytes) as stream:
            found = _take_form(stream)
            if found is None or (found.height, found.width) != (form.height, form.width):
                return found, None
            stream.seek(0)
            with Image.open(stream, formats=("PNG",)) as image:
                return found, np.asarray(image, dtype=np.uint8)
    except InputError:
        raise
    except DAMAGED_PNG as error:
        raise InputError(f"{path} is damaged ({error!s:.200}); {hint}") from None
