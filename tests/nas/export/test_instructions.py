"""The README.md of an export: short, true of the files that are there, with what was measured."""

import pytest

from nas.export.instructions import format_readme
from nas.export.manifest import PROBE_INPUT, FileEntry, Manifest, Probe
from tests.support.exported import CANDIDATE, NETWORK, make_weights

FILE = FileEntry(sha256="0" * 64, bytes=1)
NORMALISATION = {"mean": [0.5, 2.0], "deviation": [0.25, 1.0]}
MEASURED = {"n_seeds": 3, "test": {"test_accuracy": 0.912345678}, "normalisation": NORMALISATION, "curve": [1, 2]}


def describe(*names: str) -> str:
    probe = Probe(seed=0, shape=[2, *NETWORK.image], input=PROBE_INPUT, logits=[[0.0] * 3] * 2, tolerance=1e-5)
    manifest = Manifest(
        schema="skipsearch/export",
        key=CANDIDATE.pattern.key,
        weights="trained" if "weights.pt" in names else "initial",
        measured=MEASURED,
        probe=probe,
        versions={},
        files=dict.fromkeys(names, FILE),
    )
    return format_readme(CANDIDATE, manifest)


@pytest.mark.parametrize("name", ["weights.pt", "model.onnx", "model.pt2"])
def test_it_speaks_of_a_file_only_where_it_is_there(name: str) -> None:
    assert f"- `{name}`" in describe(name)
    assert f"`{name}`" not in describe()


def test_it_says_what_the_network_is_and_what_was_measured() -> None:
    text = describe("weights.pt", "model.onnx", "model.pt2")
    n_params = sum(
        value.numel() for name, value in make_weights(CANDIDATE).items() if name.endswith(("weight", "bias"))
    )
    assert f"{n_params:,} parameters" in text
    assert "# Template log: 2 layers, 3 connections" in text
    assert "- Measured: n_seeds 3; test: test_accuracy 0.912346." in text
    assert str(NORMALISATION) in text
    assert len(text.splitlines()) <= 14
    assert "trained elsewhere: n_seeds 3" in describe()
