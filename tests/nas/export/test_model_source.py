"""model.py: another program that builds the very same network, and holds nothing of a stranger's but numbers."""

import ast
import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nas.export.agreement import infer
from nas.export.archives import write_safetensors
from nas.export.sources.program import LINE_LENGTH
from nas.export.sources.skip_network import format_model
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import build_skip_network
from search_spaces.templates import find_template
from tests.support.exported import CANDIDATE, make_weights


def load(text: str, folder: Path) -> ModuleType:
    """Import the text from a file, as its user would."""
    path = folder / "model.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def candidate_of(name: str, depth: int, **network: object) -> Candidate:
    return Candidate(
        find_template(name).build(depth), NetworkConfig.model_validate({"layers": depth, **network}), 0, name
    )


WIDE_V: dict[str, Any] = {"blocks": 3, "growth": 5, "bottleneck": True, "stem_channels": 8, "image": (3, 32, 32)}
WIDE = {"blocks": 3, "growth": 8, "bottleneck": True, "compression": 0.5, "image": [3, 8, 8], "classes": 7}


@pytest.mark.parametrize(
    "candidate",
    [
        candidate_of("log", 1),
        candidate_of("chain", 1, transition="all", **WIDE),
        candidate_of("midpoint", 24, transition="rule", **WIDE),
        candidate_of("log", 24, transition="last", stem_channels=11, **{**WIDE, "bottleneck": False}),
        candidate_of("harmonic", 24, transition="log", blocks=2),
        candidate_of("log", 52, transition="all", growth=8),
        pytest.param(candidate_of("log", 52, transition="all", **WIDE), marks=pytest.mark.slow),
        candidate_of("dense", 30, transition="all", image=[1, 4, 4]),
        Candidate(find_template("log").build(21), NetworkConfig(layers=7, **(WIDE_V | {"transition": "v1"})), 0, "log"),
        candidate_of("midpoint", 7, **WIDE_V, transition="v2"),
        candidate_of("dense", 9, **WIDE_V, block_layers=[2, 9, 4], transition="all", large_stem=True),
        candidate_of("log", 9, merge="sum", blocks=2, layer="bottleneck"),
        candidate_of("log", 8, merge="gated", blocks=2, layer="depthwise", transition="last"),
        candidate_of("dense", 7, merge="dwa", blocks=2, drop_layers=0.5, transition="all"),
        candidate_of("log", 6, layer="depthwise", drop_layers=0.25, drop_path=0.1, blocks=2),
    ],
    ids=lambda one: f"{one.template}-{one.pattern.depth}-{one.network.transition}-{one.network.merge}",
)
def test_it_builds_the_same_network(candidate: Candidate, tmp_path: Path) -> None:
    model = load(format_model(candidate), tmp_path)
    ours, theirs = build_skip_network(candidate).eval(), model.build_network().eval()
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    assert {name: value.shape for name, value in theirs.state_dict().items()} == shapes
    weights = make_weights(candidate)
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    images = torch.randn(3, *candidate.network.image, generator=torch.Generator().manual_seed(1))
    expected, found = infer(ours, images), infer(theirs, images)
    assert expected.std() > 1e-3
    with torch.inference_mode():
        for network in (ours, theirs):
            maps = network.forward_features(images)
            assert maps.shape[:2] == (3, network.num_features)
            assert torch.equal(network.forward_head(maps), network(images))
            assert torch.equal(network.forward_head(maps, pre_logits=True), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * max(1, float(expected.abs().max())))


def test_it_loads_the_weights_beside_it(tmp_path: Path) -> None:
    weights = make_weights(CANDIDATE)
    write_safetensors(weights, tmp_path / "model.safetensors")
    held = load(format_model(CANDIDATE), tmp_path).build_network().state_dict()
    assert all(torch.equal(held[name], value) for name, value in weights.items())


def test_it_imports_torch_and_what_reads_its_weights() -> None:
    names = set()
    for node in ast.walk(ast.parse(format_model(CANDIDATE))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names - set(sys.stdlib_module_names) == {"torch", "safetensors"}


def test_a_name_brings_no_code_along() -> None:
    evil = '"""; import os; os.abort()  # {key}'
    named = Candidate(CANDIDATE.pattern, CANDIDATE.network, 0, evil)
    assert format_model(named) == format_model(CANDIDATE)


@pytest.mark.parametrize(("name", "depth", "most"), [("log", 24, 160), ("log", 52, 170), ("dense", 60, 270)])
def test_it_is_short_enough_to_be_read(name: str, depth: int, most: int) -> None:
    text = format_model(candidate_of(name, depth))
    assert len(text.splitlines()) <= most
    assert max(map(len, text.splitlines())) <= LINE_LENGTH + 20


def test_run_as_a_script_it_compares_itself_with_the_manifest(
    exported_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(exported_folder / "model.py"), run_name="__main__")
    size, shape, off = capsys.readouterr().out.splitlines()
    assert size == f"{sum(one.numel() for one in build_skip_network(CANDIDATE).parameters()):,} parameters"
    assert shape == "images (2, 2, 6, 4) -> logits (2, 3)"
    assert float(off.split()[2]) < 1e-6
