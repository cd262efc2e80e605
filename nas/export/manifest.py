"""The manifest of an exported template: its files by hash, and what others can check them with."""

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
VERSION: Literal[1] = 1
# The files beside the manifest, and the most bytes that are read of each.
FILES = {
    "template.json": 10**6,
    "template.graphml": 10**8,
    "template.dot": 10**8,
    "template.svg": 10**8,
    "network.svg": 10**8,
    "model.py": 10**7,
    "README.md": 10**6,
    "weights.pt": 2 * 10**9,
    "model.onnx": 2 * 10**9,  # as much as the format holds
    "model.pt2": 2 * 10**9,
}
OPTIONAL = frozenset({"network.svg", "weights.pt", "model.onnx", "model.pt2"})
MAX_BYTES = 10**8  # of a manifest
TOLERANCE = 1e-5  # of logits, relative to the largest where that is above 1
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
    """Images and the logits that the original network gave for them, in evaluation mode.

    Args:
        seed, shape, input: how the images (n, channels, height, width) are made.
        logits: (n, classes).
        tolerance: how far off logits may be, relative to the largest where that is above 1.
    """

    seed: int
    shape: list[int]
    input: str
    logits: list[list[float]]
    tolerance: float


class Manifest(_Part):
    """What a folder of an exported template holds.

    Args:
        schema: SCHEMA; version: VERSION.
        key: the pattern's.
        weights: what the network was compared with: `trained` (in weights.pt), or `initial`, those of seed 0.
        measured: what is known of the template's trainings: data, seeds, accuracies.
        probe: for checks without skipsearch.
        versions: of all software that wrote the files.
        files: name -> FileEntry of every other file.
    """

    schema_: Literal["skipsearch/export"] = Field(SCHEMA, alias="schema")
    version: Literal[1] = VERSION
    key: Sha256
    weights: Literal["trained", "initial"]
    measured: dict[str, Any]
    probe: Probe
    versions: dict[str, str]
    files: dict[str, FileEntry]


def format_manifest(manifest: Manifest) -> str:
    """The text of manifest.json: the manifest, and the hash of it as JSON with sorted keys and no white space."""
    held = manifest.model_dump(by_alias=True)
    return format_json({"sha256": _hash_value(held), "manifest": held})


def _hash_value(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder.

    Raises:
        InputError: it is missing, damaged, or not written by us.
    """
    path = folder / MANIFEST
    try:
        check_regular(path)
        held = read_json(path, MAX_BYTES)
        manifest = Manifest.model_validate(held["manifest"], strict=True)
        with open_regular(path, MAX_BYTES) as stream:
            content = stream.read(MAX_BYTES)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)[:3]
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])):.80}: {describe_problem(Manifest, one)}" for one in told)
        raise InputError(f"{path} is no manifest of an exported template: {problems}") from None
    except (KeyError, TypeError):
        raise InputError(f"{path} is no manifest of an exported template: it lacks one") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; `export` writes folders with one") from None
    if content != format_manifest(manifest).encode("utf-8", "surrogatepass"):
        raise InputError(f"{path} was changed after it was written: its hash, or its form, is not that of its content")
    return manifest


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Hash and size of these files of a folder."""
    return {name: FileEntry(sha256=_hash_file(folder / name), bytes=(folder / name).stat().st_size) for name in names}


def find_damage(folder: Path, files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Files that are not as their manifest lists them: name -> what is wrong. They are hashed and not looked into."""
    false = {}
    for name in sorted({*FILES, *files}):
        said = _find_damage(folder, name, files.get(name))
        if said is not None:
            false[name] = said
    return false


def find_own(folder: Path) -> list[str]:
    """Names of a folder's files that are as an export wrote them, the manifest last; none where it has no manifest."""
    try:
        manifest = read_manifest(folder)
    except InputError:
        return []
    damaged = find_damage(folder, manifest.files)
    return [*(name for name in manifest.files if name not in damaged), MANIFEST]


def _find_damage(folder: Path, name: str, entry: FileEntry | None) -> str | None:
    if name not in FILES:  # the names of a path's parts among them: no file of a name that we do not know is opened
        return f"manifest.json lists {name!r:.80}, and no export has a file of that name"
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
        found = _hash_file(path)
    except InputError as error:
        return str(error)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None if found == entry.sha256 else f"{name} has hash {found[:12]}, manifest.json says {entry.sha256[:12]}"


def check_regular(path: Path) -> None:
    """Refuse a link: a stranger's could lead to a file of the user's.

    Raises:
        InputError: it is a link, a device, a pipe or a folder.
        OSError: it is missing.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{path} is a link, a folder or a device, not a file of its own")


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, FILES[path.name]) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
