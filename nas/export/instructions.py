"""The README.md of an exported template: what it is, how to use it and how to check it."""

from typing import Any

from nas.export.manifest import Manifest
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.records.shown import show
from search_spaces.distance import backprop_distance

MAX_TEXT = 200  # characters of a measured value; the manifest has all of them


_NUMBERING = {
    "v1": "\nThe numbers of its layers run over all blocks: at a border, each node still read is brought over.\n",
    "v2": "\nNode 0 of a block stands for the summary of all blocks before it, and every layer reads it.\n",
}


def format_readme(candidate: Candidate, manifest: Manifest) -> str:
    """Return the text of README.md.

    Args:
        manifest: manifest of the same folder; its list of files may lack README.md.
    """
    pattern, network = candidate.pattern, candidate.network
    is_trained = "weights.pt" in manifest.files
    shape = ", ".join(map(str, network.image))
    name = show(candidate.template or pattern.key[:12])
    lines = [
        f"# Template {name:.{MAX_TEXT}}: {pattern.depth} layers, {pattern.n_connections} connections",
        "",
        f"A network for images {network.image} and {network.classes} classes, {predict_cost(candidate).params:,} "
        f"parameters, blocks: {network.blocks}. Its layers read earlier layers as `sources` in `template.json` says: "
        f"{backprop_distance(pattern).mean:.4f} hops between two layers on average. `template.svg` shows it"
        + (", `network.svg` the whole network." if "network.svg" in manifest.files else "."),
        _NUMBERING.get(network.transition, ""),
        "- `python model.py` builds the network and tells its size; `from model import build_network` gives it. It "
        "needs PyTorch alone.",
        (
            "- `weights.pt` holds the trained weights, a plain state dict; `build_network()` loads them."
            if is_trained
            else "- No trained weights come with it: other files hold the initial ones of seed 0."
        ),
    ]
    if "model.onnx" in manifest.files:
        lines.append(
            f"- `model.onnx`: `onnxruntime.InferenceSession('model.onnx').run(None, {{'images': x}})` gives the logits "
            f"of images x, float32 (batch, {shape}), any batch size."
        )
    if "model.pt2" in manifest.files:
        lines.append("- `model.pt2`: the same for PyTorch, by `torch.export.load('model.pt2').module()`.")
    lines += [
        "- `manifest.json`: hashes and versions, and `probe`, the logits for some random images: `python model.py` "
        "compares its own with them" + (" too." if is_trained else " once there are weights."),
        "- `python run_search.py verify FOLDER`, in a checkout of skipsearch, recomputes all of this. It shows damage "
        "and false claims, not who wrote the folder.",
    ]
    normalisation = manifest.measured.get("normalisation")
    if normalisation is not None:
        lines.append(f"- The weights were trained on (pixels - mean) / deviation, channel by channel: {normalisation}.")
    told = _list_measured({name: value for name, value in manifest.measured.items() if name != "normalisation"})
    if told:
        of = "Measured" if is_trained else "Measured of networks of this template, trained elsewhere"
        lines.append(f"- {of}: {told}.")
    return "\n".join(lines) + "\n"


def _list_measured(values: dict[str, Any]) -> str:
    """List names and values, those of nested tables after the table's name, without lists.

    >>> _list_measured({"accuracy": 0.91234567, "curve": [1, 2], "data": {"name": "digits", "classes": 10}})
    'accuracy 0.912346; data: name digits, classes 10'
    """
    plain = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
    parts = [", ".join(f"{name} {_format_value(value)}" for name, value in plain.items())]
    parts += [f"{name}: {_list_measured(value)}" for name, value in values.items() if isinstance(value, dict)]
    return "; ".join(part for part in parts if part)


def _format_value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{show(value):.{MAX_TEXT}}"
