"""The model card of an export: true of the files there, read by the hub's own library, with no claim too many."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.export.card import format_card
from nas.export.manifest import PROBE_INPUT, FileEntry, Manifest, Probe
from nas.layouts.pyramid import FcDenseNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from search_spaces.distance import backprop_distance
from search_spaces.templates import find_template
from tests.support.exported import CANDIDATE, NETWORK, make_weights

WEIGHTS = "model.safetensors"
FILE = FileEntry(sha256="0" * 64, bytes=1)
NORMALISATION = {"mean": [0.5, 2.0], "deviation": [0.25, 1.0]}
TEST = {"n_seeds": 5, "test_accuracy": 0.912345678, "low": 0.9, "high": 0.92}
EXPECTED = {"objective": "loss", "expected": 0.21, "interval": {"low": 0.18, "high": 0.25}}
MEASURED = {"n_seeds": 3, "test": TEST, "data": {"name": "digits"}, "normalisation": NORMALISATION, "curve": [1, 2]}


def describe(*names: str, measured: dict[str, Any] = MEASURED, candidate: Candidate = CANDIDATE) -> str:
    probe = Probe(seed=0, shape=[2, *NETWORK.image], input=PROBE_INPUT, logits=[[0.0] * 3] * 2, tolerance=1e-5)
    manifest = Manifest(
        schema="skipsearch/export",
        key=CANDIDATE.pattern.key,
        weights="trained" if WEIGHTS in names else "initial",
        measured=measured,
        probe=probe,
        versions={},
        files=dict.fromkeys(names, FILE),
    )
    return format_card(candidate, manifest)


def read_metadata(text: str) -> dict[str, Any]:
    """The YAML between the first two lines of three dashes, as the hub finds it."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    metadata: dict[str, Any] = yaml.safe_load(found[1])
    return metadata


@pytest.mark.parametrize("name", [WEIGHTS, "model.onnx", "model.pt2"])
def test_it_speaks_of_a_file_only_where_it_is_there(name: str) -> None:
    assert f"- `{name}`" in describe(name)
    assert f"- `{name}`" not in describe()


def test_it_says_of_a_network_with_exits_what_its_logits_are() -> None:
    assert "timm" in describe() and "exits" not in describe()
    network = CANDIDATE.network.model_copy(update={"exits": "every:3"})
    text = describe(candidate=replace(CANDIDATE, network=network))
    n_exits = 1 + (sum(network.block_depths) - 1) // 3
    assert f"(batch, exits, classes): the network predicts at {n_exits} layers" in text
    assert "timm" not in text


def test_a_network_for_pixels_is_one_of_segmentation() -> None:
    network = NetworkConfig(layers=2, blocks=3, growth=3, image=(3, 8, 8), classes=3, surroundings=FcDenseNet())
    candidate = Candidate(find_template("dense").build(2), network, 0)
    text = describe(WEIGHTS, candidate=candidate)
    assert "(batch, classes, height, width)" in text
    assert "timm" not in text
    metadata = read_metadata(text)
    assert metadata["pipeline_tag"] == "image-segmentation"
    assert "image-classification" not in metadata["tags"]
    assert read_metadata(describe(WEIGHTS))["pipeline_tag"] == "image-classification"


def test_it_says_what_the_network_is_and_what_was_measured() -> None:
    text = describe(WEIGHTS, "model.onnx", "model.pt2")
    n_params = sum(
        value.numel() for name, value in make_weights(CANDIDATE).items() if name.endswith(("weight", "bias"))
    )
    assert f"{n_params:,} parameters" in text
    assert "# log: 2 layers, 3 connections" in text
    assert f"| {backprop_distance(CANDIDATE.pattern).mean:.6g} |" in text
    assert "](template.svg)" in text
    assert "test_accuracy 0.912346" in text
    assert str(NORMALISATION) in text


def test_a_result_is_that_of_the_test_images_with_its_interval_and_only_next_to_its_weights() -> None:
    metadata = read_metadata(describe(WEIGHTS))
    ((result,),) = (model["results"] for model in metadata["model-index"])
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.912346)
    assert "mean of 5 trainings" in metric["name"]
    assert "95 % interval 0.9 to 0.92" in metric["name"]
    assert result["dataset"] == {"type": "digits", "name": "digits", "split": "test"}
    assert {"license", "library_name", "tags", "datasets", "metrics"} <= metadata.keys()
    without = describe()
    assert "model-index" not in read_metadata(without)
    assert "trained elsewhere" in without
    assert "No trained weights" in without


def test_a_picked_pattern_has_what_is_expected_of_it_and_not_a_mean() -> None:
    text = describe(measured={"n_seeds": 3, "validation_loss": 0.1, **EXPECTED})
    assert "expected validation loss 0.21 at a new seed, 95 % interval 0.18 to 0.25" in text
    assert "expect less" not in text
    assert "expect less" in describe(measured={"n_seeds": 3, "validation_loss": 0.1})
    assert "model-index" not in read_metadata(describe(WEIGHTS, measured=EXPECTED | {"data": {"name": "digits"}}))


@pytest.mark.parametrize(
    "measured",
    [
        {"test": "high", "data": 3, "interval": 1, "expected": "a"},
        {"test": {"n_seeds": True, "test_accuracy": 1.0}, "data": {"name": "d"}},
        {"test": {"n_seeds": 2, "test_accuracy": "1"}, "data": {"name": ""}},
    ],
)
def test_values_of_other_kinds_are_no_results(measured: dict[str, Any]) -> None:
    assert "model-index" not in read_metadata(describe(WEIGHTS, measured=measured))


def test_a_name_adds_no_line_to_the_metadata() -> None:
    evil = {"name": "digits\n---\nlicense: other\x00\udcff"}
    metadata = read_metadata(describe(WEIGHTS, measured=MEASURED | {"data": evil}))
    assert metadata["license"] == "mit"
    assert len(metadata["datasets"]) == 1


def test_the_hubs_own_library_reads_it(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text(describe(WEIGHTS))
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.library_name, data.datasets, data.metrics) == (
        "mit",
        "pytorch",
        ["digits"],
        ["accuracy"],
    )
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_split) == ("image-classification", "test")
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.912346)
    assert yaml.safe_load(data.to_yaml()) == read_metadata(describe(WEIGHTS))


def test_the_cards_own_lines_load_the_network_in_a_fresh_process(exported_folder: Path) -> None:
    """With nothing of ours on the path: PyTorch and safetensors are all that it takes."""
    (code,) = re.findall(r"```python\n(.*?)```", (exported_folder / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) == 5
    asserted = "import sys\nassert not {'nas', 'search_spaces', 'skipsearch'} & set(sys.modules)\nprint(logits.shape)"
    spec = importlib.util.find_spec("safetensors")
    assert spec is not None
    assert spec.origin is not None
    done = subprocess.run(
        [sys.executable, "-c", code + asserted],
        cwd=exported_folder,
        env={**os.environ, "PYTHONPATH": str(Path(spec.origin).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "torch.Size([1, 3])\n", done.stderr
