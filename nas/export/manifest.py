"""The manifest of an exported template: the hashes of its files, and logits to check them by."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.records.checked import describe_problem
from nas.records.safe_files import format_json, open_regular, read_json
from search_spaces.errors import InputError

MANIFEST = "manifest.json"
SCHEMA: Literal["skipsearch/export"] = "skipsearch/export"
VERSION: Literal[2] = 2
WEIGHTS_FILES = {1: "weights.pt", 2: "model.safetensors"}  # the file of trained weights, by version of the manifest
# The other files of a folder, and the largest size of each that is read.
FILES = {
    "template.json": 10**6,
    "template.graphml": 10**8,
    "template.dot": 10**8,
    "template.svg": 10**8,
    "network.svg": 10**8,
    "model.py": 10**7,
    "README.md": 10**6,
    "model.safetensors": 2 * 10**9,
    "model.onnx": 2 * 10**9,  # as much as the format holds
    "model.pt2": 2 * 10**9,
}
OPTIONAL = frozenset({"network.svg", *WEIGHTS_FILES.values(), "model.onnx", "model.pt2"})
_MAX_BYTES = 10**8  # of a manifest
TOLERANCE = 1e-5  # of logits, relative to the largest if that is above 1
PROBE_SEED = 0
PROBE_IMAGES = 2
PROBE_INPUT = "2 * random.Random(seed).random() - 1, value by value in row-major order, as float32"
_CHUNK = 2**20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class FileEntry(_Part):
    """A file's SHA-256 and its size."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Probe(_Part):
    """Images and the logits of the original network for them, in evaluation mode.

    Args:
        seed, shape, input: how to make the images (n, channels, height, width).
        logits: logits of shape (n, classes); of several exits in a row, and of pixels their mean.
        tolerance: largest difference of logits, relative to the largest logit if that is above 1.
    """

    seed: int
    shape: list[int]
    input: str
    logits: list[list[float]]
    tolerance: float


class Manifest(_Part):
    """The content of a folder of an exported template.

    Args:
        schema: always SCHEMA.
        version: version of the form; 1 in older folders, whose weights are in weights.pt, and model.py lacks methods.
        key: the pattern's key.
        weights: whose weights all forms have: `trained` ones, or `initial`, those of seed 0.
        measured: data, seeds and accuracies of the template's trainings, as far as known.
        probe: images and logits for checks without skipsearch.
        versions: versions of all software that wrote the files.
        files: hash and size of every other file, by its name.
    """

    schema_: Literal["skipsearch/export"] = Field(SCHEMA, alias="schema")
    version: Literal[1, 2] = VERSION
    key: Sha256
    weights: Literal["trained", "initial"]
    measured: dict[str, Any]
    probe: Probe
    versions: dict[str, str]
    files: dict[str, FileEntry]


def format_manifest(manifest: Manifest) -> str:
    """Return the text of manifest.json: the manifest, and its hash as JSON with sorted keys and no white space."""
    values = manifest.model_dump(by_alias=True)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return format_json({"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": values})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder.

    Raises:
        InputError: it is missing, damaged, or not in the form that `export` writes.
    """
    path = folder / MANIFEST
    try:
        check_regular(path)
        manifest = Manifest.model_validate(read_json(path, _MAX_BYTES)["manifest"], strict=True)
        with open_regular(path, _MAX_BYTES) as stream:
            content = stream.read(_MAX_BYTES)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])):.80}: {describe_problem(Manifest, problem)}"
            for problem in error.errors(include_url=False, include_input=False)[:3]
        )
        raise InputError(f"{path} is no manifest of an exported template: {problems}") from None
    except (KeyError, TypeError):
        raise InputError(f"{path} is no manifest of an exported template: it lacks one") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; `export` writes folders with one") from None
    if content != format_manifest(manifest).encode("utf-8", "surrogatepass"):
        raise InputError(f"{path} was changed after it was written: its hash, or its form, is not that of its content")
    return manifest


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Return hash and size of these files of a folder."""
    return {name: FileEntry(sha256=_hash_file(folder / name), bytes=(folder / name).stat().st_size) for name in names}


def list_files(version: int) -> dict[str, int]:
    """Return the files that a folder can have in addition to its manifest, and the largest size of each."""
    return {WEIGHTS_FILES[version] if name == WEIGHTS_FILES[VERSION] else name: size for name, size in FILES.items()}


def find_damage(folder: Path, files: Mapping[str, FileEntry], version: int = VERSION) -> dict[str, str]:
    """Return the files that differ from their manifest: name -> what is wrong. They are only hashed, not parsed."""
    false, known = {}, list_files(version)
    for name in sorted({*known, *files}):
        problem = (
            _find_damage(folder, name, files.get(name))
            if name in known  # no other file is opened: a name like ../x must not lead anywhere
            else f"manifest.json lists {name!r:.80}, and no export has a file of that name"
        )
        if problem is not None:
            false[name] = problem
    return false


def find_own(folder: Path) -> list[str]:
    """Return the names of a folder's files that are unchanged since their export, the manifest last; [] without one."""
    try:
        manifest = read_manifest(folder)
    except InputError:
        return []
    damaged = find_damage(folder, manifest.files, manifest.version)
    return [*(name for name in manifest.files if name not in damaged), MANIFEST]


def _find_damage(folder: Path, name: str, entry: FileEntry | None) -> str | None:
    path = folder / name
    if entry is None:
        if name not in OPTIONAL:
            return f"manifest.json does not list {name}"
        return f"{name} is there and manifest.json does not list it" if os.path.lexists(path) else None
    try:
        check_regular(path)
        n_bytes = path.stat().st_size
        if n_bytes != entry.bytes:
            return f"{name} has {n_bytes:,} bytes, manifest.json says {entry.bytes:,}"
        sha256 = _hash_file(path)
    except InputError as error:
        return str(error)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None if sha256 == entry.sha256 else f"{name} has hash {sha256[:12]}, manifest.json says {entry.sha256[:12]}"


def check_regular(path: Path) -> None:
    """Check that a path is a file and not a link: a stranger's link could lead to a file of the user's.

    Raises:
        InputError: it is a link, a device, a pipe or a folder.
        OSError: it is missing.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{path} is a link, a folder or a device, not a file of its own")


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(
        path, FILES[WEIGHTS_FILES[VERSION] if path.name in WEIGHTS_FILES.values() else path.name]
    ) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
