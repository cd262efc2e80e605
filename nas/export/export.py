"""Writing patterns as template files and as folders with the network in several forms."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.export.card import format_card
from nas.export.folders import replace_folder
from nas.export.manifest import (
    MANIFEST,
    PROBE_IMAGES,
    PROBE_INPUT,
    PROBE_SEED,
    TOLERANCE,
    VERSION,
    WEIGHTS_FILES,
    Manifest,
    Probe,
    describe_files,
    find_own,
    format_manifest,
)
from nas.export.sources.layout import format_layout
from nas.export.sources.skip_network import format_model
from nas.model.candidate import Candidate, check_depth
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.records.checked import validate
from nas.records.template import (
    TemplateFile,
    describe_template,
    format_companions,
    format_template,
    read_claims,
    write_template,
)
from nas.settings.environment import describe_versions
from search_spaces.errors import ConflictError, InputError, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.network_arcs import draw_wiring, is_worth_drawing

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from nas.export.agreement import Form


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that an export wrote.

    Args:
        folder: the template's folder.
        paths: the files in it, template.json first.
        notes: sentences for the user.
    """

    folder: Path
    paths: list[Path]
    notes: list[str]


def describe_export(
    pattern: ConnectionPattern, network: NetworkConfig, budget: str, provenance: dict[str, Any]
) -> TemplateFile:
    """Describe a pattern as a template file.

    Args:
        pattern: the pattern to export.
        network: the network around it, which its costs are for.
        budget: the budget that it spends, in the command line's form.
        provenance: `name` (of a template, or None) and anything else about the pattern's origin.

    Raises:
        InputError: the network has another depth, or the pattern does not spend the budget.
    """
    check_depth(pattern, network)
    cost = predict_cost(Candidate(pattern, network, seed=0, template=provenance.get("name")))
    costs = {"params": cost.params, "flops": cost.flops}
    return describe_template(pattern, budget, network.identify(), costs, provenance)


def export_pattern(
    pattern: ConnectionPattern, network: NetworkConfig, budget: str, provenance: dict[str, Any], folder: Path
) -> list[Path]:
    """Write a pattern as template.json with its companions; for the arguments see describe_export.

    Args:
        folder: the parent of the new folder, whose name is the first 12 digits of the pattern's key.

    Returns:
        The paths written, template.json first.

    Raises:
        ConflictError: the new folder has an exported network, which the files would contradict, or a user's files.
    """
    place = folder / pattern.key[:12]
    if (place / MANIFEST).exists():
        raise ConflictError(f"{place} has an exported network: give another folder, or move that one away")
    return write_template(describe_export(pattern, network, budget, provenance), place)


def export_folder(
    pattern: ConnectionPattern,
    network: NetworkConfig,
    budget: str,
    provenance: dict[str, Any],
    folder: Path,
    weights: "Mapping[str, Tensor] | None" = None,
    measured: Mapping[str, Any] | None = None,
    archives: bool = True,
) -> Exported:
    """Write a pattern's network in all forms, and compare each, read back, with the network itself.

    Args:
        pattern, network, budget, provenance: see describe_export.
        folder: the parent of the new folder, whose name is the first 12 digits of the pattern's key. An existing one is
            replaced as a whole; files in it that were changed or added since their export are kept.
        weights: the state_dict of trained weights; None: the initial ones of seed 0.
        measured: data, seeds and accuracies of the pattern's trainings, as far as known, as finite JSON values; with
            weights also `normalisation`: mean and deviation of the images' channels in training.
        archives: whether to write model.onnx and model.pt2, which takes long.

    Raises:
        InputError: network, budget or weights do not fit the pattern.
        NothingUsableError: a form does not give the network's logits; nothing is written.
        ConflictError: there is a file or a link of the new folder's name.
    """
    template = describe_export(pattern, network, budget, provenance)
    candidate = Candidate(pattern, network, seed=0, template=provenance.get("name"))
    try:
        finite: dict[str, Any] = json.loads(json.dumps(dict(measured or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"what was measured cannot be written as JSON: {error}") from None

    from nas.export.agreement import take_weights

    original = take_weights(candidate, weights)
    place = folder / pattern.key[:12]
    with replace_folder(place, find_own) as new:
        texts = {"template.json": format_template(template), **format_texts(template, candidate)}
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")
        names, notes = list(texts), list[str]()
        names += _write_networks(candidate, original, texts["model.py"], new, weights is not None)
        if archives:
            written, notes = _write_archives(candidate, original, new)
            names += written
        manifest = _describe_folder(candidate, original, finite, new, names)
        (new / "README.md").write_text(format_card(candidate, manifest), encoding="utf-8")
        names.append("README.md")
        manifest = manifest.model_copy(update={"files": describe_files(new, names)})
        (new / MANIFEST).write_text(format_manifest(manifest), encoding="utf-8")
    return Exported(place, [place / name for name in (*names, MANIFEST)], notes)


def format_texts(template: TemplateFile, candidate: Candidate, version: int = VERSION) -> dict[str, str]:
    """Return the texts of an exported folder that follow from template.json: name -> text.

    Args:
        version: version of the folder's manifest.
    """
    texts = {**format_companions(template), "model.py": format_source(candidate, version)}
    if not candidate.network.has_layout and is_worth_drawing(candidate.wiring):
        texts["network.svg"] = draw_wiring(candidate.wiring, candidate.template or candidate.pattern.key[:12])
    return texts


def format_source(candidate: Candidate, version: int = VERSION) -> str:
    """Return the text of model.py.

    Args:
        version: version of the folder's manifest.
    """
    return format_layout(candidate) if candidate.network.has_layout else format_model(candidate, version)


def _write_networks(candidate: Candidate, original: "Module", source: str, folder: Path, is_trained: bool) -> list[str]:
    """Write the weights if they are trained, and compare the network of model.py; return the names written."""
    from nas.export.agreement import load_model
    from nas.export.archives import write_safetensors

    names, state = [WEIGHTS_FILES[VERSION]] if is_trained else [], original.state_dict()
    for name in names:
        write_safetensors(state, folder / name)
    model = load_model(source, folder, state)
    _compare("model.py", model, original, candidate.network.image)
    return names


def _write_archives(candidate: Candidate, original: "Module", folder: Path) -> tuple[list[str], list[str]]:
    """Write and compare model.pt2 and, if possible, model.onnx; return the names written, and notes."""
    from nas.export.archives import (
        HOW_TO_GET_ONNX,
        WRITING,
        find_missing,
        load_onnx,
        load_pt2,
        trace_network,
        write_onnx,
        write_pt2,
    )

    image = candidate.network.image
    program = trace_network(original, image)
    write_pt2(program, folder / "model.pt2")
    _compare("model.pt2", load_pt2(folder / "model.pt2"), original, image)
    missing = find_missing(WRITING)
    if missing is not None:
        return ["model.pt2"], [f"{missing} is not installed, so there is no model.onnx: {HOW_TO_GET_ONNX}"]
    write_onnx(program, folder / "model.onnx")
    _compare("model.onnx", load_onnx(folder / "model.onnx"), original, image)
    return ["model.onnx", "model.pt2"], []


def _compare(name: str, form: "Form", original: "Module", image: tuple[int, int, int]) -> None:
    from nas.export.agreement import find_disagreement, measure_rounding

    problem = find_disagreement(form, original, image)
    if problem is not None:
        raise NothingUsableError(
            f"{name} as read back is not the exported network: {problem}; nothing was written. Rounding to float32 "
            f"already changes this network's logits by {measure_rounding(original, image):.1g} of the largest"
        )


def _describe_folder(
    candidate: Candidate, original: "Module", measured: dict[str, Any], folder: Path, names: list[str]
) -> Manifest:
    from nas.export.agreement import infer, make_images, summarize_logits

    shape = (PROBE_IMAGES, *candidate.network.image)
    logits = summarize_logits(infer(original, make_images(PROBE_SEED, shape)))
    if not logits.isfinite().all():
        raise InputError("the network gives logits that are not finite: such weights cannot be used")
    return Manifest(
        schema="skipsearch/export",
        key=candidate.pattern.key,
        weights="trained" if WEIGHTS_FILES[VERSION] in names else "initial",
        measured=measured,
        probe=Probe(seed=PROBE_SEED, shape=list(shape), input=PROBE_INPUT, logits=logits.tolist(), tolerance=TOLERANCE),
        versions=describe_versions(("torch", "numpy", "networkx", "onnx", "onnxscript", "onnxruntime")),
        files=describe_files(folder, names),
    )


def verify_template(path: Path) -> dict[str, str]:
    """Recompute every claim of a template file from its connections and its `network`.

    Returns:
        The false claims, name -> what is wrong; empty if all are true.

    Raises:
        InputError: the file is missing, not a template file, or has no pattern.
    """
    file, pattern, false = read_claims(path)
    try:
        network = validate(NetworkConfig, file.network)
        name = file.provenance.get("name")
        cost = predict_cost(Candidate(pattern, network, seed=0, template=name if isinstance(name, str) else None))
    except InputError as error:
        return {**false, "network": f"network: {error}"}
    expected = {"params": cost.params, "flops": cost.flops}
    for claim, value in file.costs.items():
        if expected.get(claim) != value:
            false[f"costs.{claim}"] = f"costs.{claim} is {value!r:.40}, its network takes {expected.get(claim)}"
    return false
