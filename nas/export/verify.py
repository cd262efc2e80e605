"""Verification of an exported folder: hashes first, then every text and every form of the network."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas.export.card import format_card
from nas.export.export import format_source, format_texts, verify_template
from nas.export.manifest import (
    MANIFEST,
    PROBE_IMAGES,
    PROBE_INPUT,
    TOLERANCE,
    VERSION,
    WEIGHTS_FILES,
    Manifest,
    find_damage,
    list_files,
    read_manifest,
)
from nas.layouts.condensed import count_dropped
from nas.layouts.layout import trace
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import BOTTLENECK_FACTOR, predict_cost
from nas.records.checked import validate
from nas.records.template import TemplateFile, list_claims, read_claims
from nas.settings.environment import describe_versions
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from nas.export.agreement import Form

MAX_PARAMS = 10**8  # of a stranger's network that is built here
MAX_VALUES = 5 * 10**8  # in memory at a time for one image, in such a network
SPARE_VALUES = 10**6  # values allowed on top of twice the network's own, for small networks
MAX_PIXELS = 10**6  # of an image, over all channels
LOADABLE = frozenset({".py", ".pyc", ".pyd", ".so", ".dylib"})  # suffixes of Python modules


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification.

    Args:
        false: the false claims, name -> what is wrong; empty if all claims are true.
        notes: sentences about what was not checked, and why.
        checked: what was checked, and how: a key of CHECKS -> names of files or claims.
    """

    false: dict[str, str]
    notes: list[str]
    checked: dict[str, list[str]] = field(default_factory=dict)


CHECKS = {
    "hashes": "files by their hashes",
    "claims": "claims recomputed from the connections",
    "texts": "files compared with what `export` writes",
    "networks": "forms of the network compared with the one built here",
}


def verify_file(path: Path) -> Verified:
    """Check a single template file as verify_template does, and say which claims it makes.

    Raises:
        InputError: the file is missing, not a template file, or has no pattern.
    """
    false = verify_template(path)
    return Verified(false, [], {"claims": list_claims(read_claims(path)[0])})


def verify_folder(folder: Path, trust: bool = False, prepare: Callable[[Candidate], None] | None = None) -> Verified:
    """Check an exported folder against its manifest and its template without running foreign code.

    Hashes come first, and no file is parsed if one is wrong. Then come the template's claims, then the texts, among
    them model.py, which must be what `export` writes for this template. Last come the networks: model.py, model.onnx
    and the manifest's logits are compared with the network that skipsearch builds, with the folder's weights or the
    initial ones. Folders of an earlier version have model.py as that wrote it.

    Args:
        trust: whether the author is trusted: then model.pt2 is compared too, which can run code, and a network of any
            size is built.
        prepare: called with the network of the folder before anything large is built or read.

    Raises:
        InputError: it is not an exported folder.
    """
    if not os.path.lexists(folder / MANIFEST):
        raise InputError(
            f"{folder} has no {MANIFEST}, as `export` writes one; verify FILE checks a single template file"
        )
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        return Verified({MANIFEST: str(error)}, [])
    false = find_damage(folder, manifest.files, manifest.version)
    strangers, notes = _find_strangers(folder, manifest.version)
    false |= strangers
    checked = {"hashes": sorted(manifest.files)}
    if not false:
        false, candidate, file = _check_template(folder, manifest)
        if candidate is not None and file is not None:
            checked |= {"claims": list_claims(file), "texts": list(_list_texts(manifest, candidate, file))}
            false |= _check_texts(folder, manifest, candidate, file)
            if manifest.version != VERSION:
                notes.append("only the hash of README.md was checked, because an earlier version wrote it")
            if not false:
                false, checked["networks"] = _check_networks(folder, manifest, candidate, trust, notes, prepare)
    return Verified(false, notes, checked)


def _find_strangers(folder: Path, version: int) -> tuple[dict[str, str], list[str]]:
    """Find files that `export` never writes: one that Python could import is a false claim, any other gets a note."""
    false, notes, known = {}, [], list_files(version)
    for path in sorted(folder.iterdir()):
        name = path.name
        if name in known or name == MANIFEST:
            continue
        if path.suffix in LOADABLE or path.is_symlink() or not path.is_file():
            false[name] = f"manifest.json does not list {name!r:.80}, and model.py could load it by `import`: remove it"
        else:
            notes.append(f"not checked, because manifest.json does not list it: {name!r:.80}")
    return false, notes


def _check_template(folder: Path, manifest: Manifest) -> tuple[dict[str, str], Candidate | None, TemplateFile | None]:
    path = folder / "template.json"
    try:
        false = verify_template(path)
        file, pattern, _ = read_claims(path)
    except InputError as error:
        return {"template.json": str(error)}, None, None
    name = file.provenance.get("name")
    if not isinstance(name, str | None):
        false["provenance.name"] = f"provenance.name is {name!r:.40}, expected a text or null"
    if manifest.key != pattern.key:
        false["key"] = f"manifest.json belongs to template {manifest.key[:12]}, template.json holds {pattern.key[:12]}"
    if false:
        return false, None, None
    network = validate(NetworkConfig, file.network)
    return false, Candidate(pattern, network, seed=0, template=name), file


def _check_texts(folder: Path, manifest: Manifest, candidate: Candidate, file: TemplateFile) -> dict[str, str]:
    false, weights = {}, WEIGHTS_FILES[manifest.version]
    if (manifest.weights == "trained") != (weights in manifest.files):
        false["weights"] = f"manifest.json says that the weights are {manifest.weights}, which contradicts {weights}"
    for name, text in _list_texts(manifest, candidate, file).items():
        if name not in manifest.files:
            false[name] = f"{name} is missing, which `export` writes for this template" + _compare_versions(manifest)
        elif (folder / name).read_bytes() != text.encode("utf-8", "surrogatepass"):
            false[name] = f"{name} is not what `export` writes for this template" + _compare_versions(manifest)
    return false


def _list_texts(manifest: Manifest, candidate: Candidate, file: TemplateFile) -> dict[str, str]:
    """Return the texts that `export` writes for a template, by the names of their files."""
    texts = format_texts(file, candidate, manifest.version)
    return texts | ({"README.md": format_card(candidate, manifest)} if manifest.version == VERSION else {})


def _compare_versions(manifest: Manifest) -> str:
    ours = describe_versions(())
    written, read = (
        f"skipsearch {versions.get('skipsearch')} at commit {versions.get('commit')}"
        for versions in (manifest.versions, ours)
    )
    return "" if written == read else f"; {written:.100} wrote it, this is {read}: verify with the former"


def _check_networks(
    folder: Path,
    manifest: Manifest,
    candidate: Candidate,
    trust: bool,
    notes: list[str],
    prepare: Callable[[Candidate], None] | None,
) -> tuple[dict[str, str], list[str]]:
    """Build the network, compare it with its forms in the folder, and return false and all forms; add to the notes."""
    if not trust:
        excess = _find_excess(candidate)
        if excess is not None:
            return {"network": excess}, []

    from nas.export.agreement import load_model, take_weights

    if prepare is not None:
        prepare(candidate)
    try:
        original = take_weights(candidate, _read_weights(folder, manifest, candidate))
    except InputError as error:
        return {WEIGHTS_FILES[manifest.version]: str(error)}, []
    source, state = format_source(candidate, manifest.version), original.state_dict()
    forms: dict[str, Callable[[], Form]] = {"model.py": lambda: load_model(source, folder, state)}
    forms |= _choose_archives(folder, manifest, None if trust else 2 * count_values(candidate) + SPARE_VALUES, notes)
    checks: dict[str, Callable[[], str | None]] = {MANIFEST: lambda: _check_probe(manifest, original, candidate)}
    checks |= {name: _comparison(name, load, original, candidate.network.image) for name, load in forms.items()}
    return {name: problem for name, check in checks.items() if (problem := check()) is not None}, [*checks]


def _read_weights(folder: Path, manifest: Manifest, candidate: Candidate) -> "Mapping[str, Tensor] | None":
    from nas.export.agreement import take_weights
    from nas.export.archives import read_pickled, read_safetensors

    path = folder / WEIGHTS_FILES[manifest.version]
    if path.name not in manifest.files:
        return None
    return (
        read_pickled(path)
        if path.suffix == ".pt"
        else read_safetensors(path, take_weights(candidate, None).state_dict())
    )


def _choose_archives(
    folder: Path, manifest: Manifest, max_values: int | None, notes: list[str]
) -> "Iterator[tuple[str, Callable[[], Form]]]":
    """Give the archives that can be compared, each with a function that loads it; notes say why others cannot.

    Args:
        max_values: see load_onnx; None: the folder's author is trusted.
    """
    from nas.export.archives import HOW_TO_GET_ONNX, READING, find_missing, load_onnx, load_pt2

    if "model.onnx" in manifest.files:
        missing = find_missing(READING)
        if missing is None:
            yield "model.onnx", lambda: load_onnx(folder / "model.onnx", max_values)
        else:
            notes.append(
                f"only the hash of model.onnx was checked, because {missing} is not installed: {HOW_TO_GET_ONNX}"
            )
    if "model.pt2" in manifest.files:
        if max_values is None:
            yield "model.pt2", lambda: load_pt2(folder / "model.pt2")
        else:
            notes.append(
                "only the hash of model.pt2 was checked, because loading such a file can run code; if you trust its "
                "author, --trust compares it too"
            )


def _comparison(
    name: str, load: "Callable[[], Form]", original: "Module", image: tuple[int, int, int]
) -> Callable[[], str | None]:
    from nas.export.agreement import find_disagreement

    def compare() -> str | None:
        try:
            problem = find_disagreement(load(), original, image)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # a foreign file makes onnxruntime and torch raise nearly anything
            problem = str(error)[:300]
        return None if problem is None else f"{name} is not this template's network: {problem}"

    return compare


def _find_excess(candidate: Candidate) -> str | None:
    """Return why an unknown author's network is too large to be built, or None."""
    n_pixels = math.prod(candidate.network.image)
    sizes = {
        "parameters": (predict_cost(candidate).params + _count_dropped(candidate), MAX_PARAMS),
        "values in memory for one image": (count_values(candidate), MAX_VALUES),
        "values in an image": (n_pixels, MAX_PIXELS),
    }
    for name, (size, most) in sizes.items():
        if size > most:
            return (
                f"network: it has {size:,} {name}, and an unknown author's may have at most {most:,}; if you trust its "
                "author, give --trust"
            )
    return None


def _count_dropped(candidate: Candidate) -> int:
    """Return the number of weights that a network has only until it is condensed."""
    return count_dropped(candidate.layout, candidate.network.image) if candidate.network.has_layout else 0


def count_values(candidate: Candidate) -> int:
    """Estimate from above how many values a network keeps in memory at a time for one image."""
    if candidate.network.has_layout:
        steps = trace(candidate.layout, candidate.network.image)
        return sum(math.prod(shape) for step in steps for shape in (step.read, *step.between, step.written))
    return 4 * (math.prod(candidate.network.image) + _widest_maps(candidate))


def _widest_maps(candidate: Candidate) -> int:
    """Return the larger of: values in the stem's maps; values in the largest block's nodes and one bottleneck."""
    network = candidate.network
    height, width = network.resolution
    most = 4 * network.stem * height * width if network.large_stem else 0
    for block in candidate.wiring.blocks:
        n_channels = sum(block.inputs) + (len(block.sources) + BOTTLENECK_FACTOR) * network.growth
        most = max(most, n_channels * height * width)
        height, width = height // 2, width // 2
    return most


def _check_probe(manifest: Manifest, original: "Module", candidate: Candidate) -> str | None:
    """Return what is wrong with the manifest's logits, or None."""
    import torch

    from nas.export.agreement import compare_logits, infer, make_images, summarize_logits

    probe = manifest.probe
    network = candidate.network
    n_numbers = network.classes * (len(candidate.layout.outputs) if network.has_layout else 1)
    if (probe.shape, probe.input, probe.tolerance) != ([PROBE_IMAGES, *network.image], PROBE_INPUT, TOLERANCE):
        return "manifest.json: its probe is not of the form that `export` writes"
    if [len(row) for row in probe.logits] != [n_numbers] * PROBE_IMAGES:
        return f"manifest.json: its probe lacks the logits, {n_numbers} for each of {PROBE_IMAGES} images"
    recorded, images = torch.tensor(probe.logits, dtype=torch.float64), make_images(probe.seed, tuple(probe.shape))
    problem = compare_logits(summarize_logits(infer(original, images)), recorded)
    return None if problem is None else f"manifest.json: the network does not give the probe's logits: {problem}"
