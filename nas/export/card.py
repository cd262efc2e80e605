"""The README.md of an exported template: a model card, which the Hugging Face hub reads too."""

from collections.abc import Iterator
from typing import Any

from nas.export.manifest import VERSION, WEIGHTS_FILES, Manifest
from nas.layouts.pyramid import PYRAMIDS
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.records.shown import show
from search_spaces.distance import backprop_distance
from search_spaces.measures.registry import ALWAYS_SHOWN, find_measure, measure
from search_spaces.wiring.blocks import classifier_reads

MAX_TEXT = 200  # characters of a measured value; the manifest has all of them
HUB_DATA_SETS = {  # what the hub calls the data sets that it has
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar-10": "uoft-cs/cifar10",
    "cifar-100": "uoft-cs/cifar100",
    "svhn": "ufldl-stanford/svhn",
}
_NUMBERING = {
    "v1": "The numbers of its layers run over all blocks: at a border, each node still read is brought over. ",
    "v2": "Node 0 of a block stands for the summary of all blocks before it, and every layer reads it. ",
}
_USE = """\
## Load it

```python
import torch
from model import build_network  # model.py of this folder; skipsearch is not needed
network = build_network().eval()  # {weights}
with torch.inference_mode():
    logits = network(torch.zeros(1, {shape}))
```

{methods}{state_dict}"""
_TIMM = "`forward_features`, `forward_head` and `reset_classifier(num_classes)` are those of timm. "
_PIXELS = "The logits are (batch, classes, height, width): every pixel has its own, also in images of other sizes. "
_EXITS = "The logits are (batch, exits, classes): the network predicts at {n} layers, the last of them its last. "


def format_card(candidate: Candidate, manifest: Manifest) -> str:
    """Return the text of README.md: metadata in YAML, then what the pattern is, how to load it, and its results.

    Args:
        manifest: manifest of the same folder; its list of files may lack README.md.
    """
    import yaml  # only here: `--help` and most commands need none

    metadata = yaml.safe_dump(_describe_metadata(candidate, manifest), sort_keys=False, width=10**6)
    parts = [*_describe_pattern(candidate, manifest), _describe_use(candidate, manifest)]
    parts += ["## Results", *_describe_results(manifest), "## Files", "\n".join(_list_forms(candidate, manifest))]
    return f"---\n{metadata}---\n\n" + "\n\n".join(parts) + "\n"


def _is_trained(manifest: Manifest) -> bool:
    return WEIGHTS_FILES[VERSION] in manifest.files


def _gives_pixels(candidate: Candidate) -> bool:
    """Return whether the network gives a class to every pixel, not to an image."""
    return isinstance(candidate.network.surroundings, PYRAMIDS)


def _name(candidate: Candidate) -> str:
    return f"{show(candidate.template or candidate.pattern.key[:12]):.{MAX_TEXT}}"


def _describe_metadata(candidate: Candidate, manifest: Manifest) -> dict[str, Any]:
    """Return the front matter, by the hub's names; results only of weights that come with the card."""
    pattern, data = candidate.pattern, _find_data(manifest)
    task = "image-segmentation" if _gives_pixels(candidate) else "image-classification"
    metadata: dict[str, Any] = {
        "license": "mit",
        "library_name": "pytorch",
        "tags": [task, "neural-architecture-search", "skip-connections", "skipsearch"],
    }
    if _is_trained(manifest):
        metadata["pipeline_tag"] = task
    if data is not None:
        metadata["datasets"] = [HUB_DATA_SETS.get(data, data)]
    test = _find_test(manifest)
    if test is None or data is None or not _is_trained(manifest):
        return metadata
    of = f"mean of {_count(test['n_seeds'])} with seeds of their own"
    result = {
        "task": {"type": task, "name": task.replace("-", " ").title()},
        "dataset": {"type": HUB_DATA_SETS.get(data, data), "name": data, "split": "test"},
        "metrics": [
            {"type": "accuracy", "value": round(test["test_accuracy"], 6), "name": f"Test accuracy, {of}{_bound(test)}"}
        ],
    }
    name = f"{_name(candidate)}-{pattern.depth}-layers-{pattern.n_connections}-connections"
    return {**metadata, "metrics": ["accuracy"], "model-index": [{"name": name, "results": [result]}]}


def _find_data(manifest: Manifest) -> str | None:
    data = manifest.measured.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return f"{show(name):.{MAX_TEXT}}" if isinstance(name, str) and name else None


def _find_test(manifest: Manifest) -> dict[str, Any] | None:
    """Return the results on test images; None where there are none, or not of the form that a run writes."""
    test = manifest.measured.get("test")
    if not isinstance(test, dict) or type(test.get("n_seeds")) is not int:
        return None
    return test if isinstance(test.get("test_accuracy"), float | int) else None


def _count(n_trainings: int) -> str:
    return f"{n_trainings} training{'' if n_trainings == 1 else 's'}"


def _bound(values: dict[str, Any], low: str = "low", high: str = "high") -> str:
    ends = values.get(low), values.get(high)
    if not all(isinstance(end, float | int) for end in ends):
        return ""
    return f", 95 % interval {_format_value(ends[0])} to {_format_value(ends[1])}"


def _describe_pattern(candidate: Candidate, manifest: Manifest) -> Iterator[str]:
    pattern, network, distance = candidate.pattern, candidate.network, backprop_distance(candidate.pattern)
    yield f"# {_name(candidate)}: {pattern.depth} layers, {pattern.n_connections} connections"
    yield "![Arcs of the pattern's connections](template.svg)"
    if "network.svg" in manifest.files:
        yield "![The whole network](network.svg)"
    origin = f"The template `{_name(candidate)}`, a" if candidate.template else "A"
    yield (
        f"{origin} pattern of skip connections: which earlier layers each layer reads, as `sources` in `template.json` "
        f"says. {_NUMBERING.get(network.transition, '')}Here it is in a network for images {network.image} and "
        f"{network.classes} classes with {predict_cost(candidate).params:,} parameters, blocks: {network.blocks}, "
        f"growth: {network.growth}. `skipsearch` wrote this folder."
    )
    rows = {
        "mean backprop distance (hops between two layers)": distance.mean,
        "largest backprop distance": distance.max,
        **{f"{name} ({find_measure(name).definition})": value for name, value in _measure(candidate).items()},
    }
    lines = [f"| {name} | {_format_value(value)} |" for name, value in rows.items()]
    yield "\n".join(["| measure of the pattern | value |", "|---|---|", *lines])


def _measure(candidate: Candidate) -> dict[str, float]:
    pattern, transition = candidate.pattern, candidate.network.transition
    reads = classifier_reads(transition, pattern) if transition in ("all", "last") else None
    return measure(pattern, ("span", *ALWAYS_SHOWN), reads)


def _describe_use(candidate: Candidate, manifest: Manifest) -> str:
    if _is_trained(manifest):
        weights, state_dict = (
            "with the trained weights: `pip install torch safetensors`",
            '`network.load_state_dict(safetensors.torch.load_file("model.safetensors"))` loads them into another one.',
        )
    else:
        weights, state_dict = (
            "with weights that torch draws: `pip install torch`",
            "**No trained weights come with it.** Those of your own, in a safetensors file of the same names, are "
            'loaded by `network.load_state_dict(safetensors.torch.load_file("model.safetensors"))`.',
        )
    network, methods = candidate.network, ""
    if not network.has_layout:
        methods = _TIMM
    elif (n_exits := len(candidate.layout.outputs)) > 1:
        methods = _EXITS.format(n=n_exits)
    elif _gives_pixels(candidate):
        methods = _PIXELS
    shape = ", ".join(map(str, network.image))
    use = _USE.format(weights=weights, shape=shape, methods=methods, state_dict=state_dict)
    normalisation = manifest.measured.get("normalisation")
    if normalisation is not None:
        use += (
            f"\n\nThe weights were trained on (pixels - mean) / deviation, channel by channel: {show(normalisation)}."
        )
    return use


def _describe_results(manifest: Manifest) -> Iterator[str]:
    """Say what was measured, on which images, and whether the pattern was picked by it."""
    measured, test = manifest.measured, _find_test(manifest)
    if not _is_trained(manifest) and measured:
        yield "These are of networks of this pattern that were trained elsewhere: their weights are not in this folder."
    if test is not None:
        yield (
            f"**Test accuracy {_format_value(test['test_accuracy'])}**{_bound(test)}, over {_count(test['n_seeds'])} "
            "on all but the test images, with seeds that the search did not have. It was measured once, after the "
            "patterns to measure had been chosen by validation images. The weights are those of the first seed, so "
            "none was picked, and their own accuracy is not this mean."
        )
    expected, interval = measured.get("expected"), measured.get("interval")
    if isinstance(expected, float | int) and isinstance(interval, dict):
        yield (
            f"In the search: expected validation {show(measured.get('objective')):.{MAX_TEXT}} "
            f"{_format_value(expected)} at a new seed{_bound(interval)}. The pattern was picked among all that the "
            "search trained, so this is no plain mean, which would be too good, but what a model of all trainings "
            "expects, with the model's interval. It is of validation images, not of test images."
        )
    elif "n_seeds" in measured:
        yield (
            "The validation figures below are plain means over the seeds of a search. If the pattern was picked by "
            "them, expect less of it."
        )
    told = _list_measured({name: value for name, value in measured.items() if name != "normalisation"})
    yield f"Recorded: {told}." if told else "Nothing was measured of it."


def _list_forms(candidate: Candidate, manifest: Manifest) -> Iterator[str]:
    files, shape = manifest.files, ", ".join(map(str, candidate.network.image))
    yield "- `model.py`: the network as a program; `python model.py` tells its size. It is under the MIT licence."
    if _is_trained(manifest):
        yield (
            "- `model.safetensors`: the trained weights. Their licence is their owner's to choose, and the data have "
            "one of their own."
        )
    if "model.onnx" in files:
        yield (
            "- `model.onnx`: `onnxruntime.InferenceSession('model.onnx').run(None, {'images': x})` gives the logits "
            f"of images x, float32 (batch, {shape}), any batch size."
        )
    if "model.pt2" in files:
        yield "- `model.pt2`: the same for PyTorch, by `torch.export.load('model.pt2').module()`."
    yield ("- `template.json`, `.graphml`, `.dot`, `.svg`: the pattern, for other programs and other networks.")
    yield (
        "- `manifest.json`: hashes, versions, all that was measured, and the logits for some random images: `python "
        "model.py` compares its own with them" + ("." if _is_trained(manifest) else " once there are weights.")
    )
    yield (
        "- `skipsearch verify FOLDER` recomputes all of this and runs no code from the folder. It shows damage and "
        "false claims, not who wrote the folder, nor whether the results are true."
    )


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
