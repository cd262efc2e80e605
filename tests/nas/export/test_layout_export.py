"""Networks of each kind of surroundings, and with exits, in all forms: written, read back and verified."""

from pathlib import Path
from typing import Any

import pytest

from nas.export.export import export_folder
from nas.export.verify import verify_folder
from nas.layouts.condensed import CondenseNet
from nas.layouts.fractal import FractalNet
from nas.layouts.layout import Surroundings
from nas.layouts.multiscale import MsdNet
from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.layouts.residual import HighwayNet, ResNet
from nas.model.config import AnySurroundings, NetworkConfig
from nas.records.checked import validate
from search_spaces.templates import find_template

SMALL: dict[type[Surroundings] | None, dict[str, Any]] = {
    None: {"layers": 5, "exits": "every:2"},
    FcDenseNet: {"layers": 2, "blocks": 3, "image": (1, 13, 10)},
    LogDenseNetFcn: {"layers": 2, "blocks": 3, "image": (1, 13, 10)},
    ResNet: {"layers": 3, "blocks": 2, "merge": "sum"},
    HighwayNet: {"layers": 3, "blocks": 2, "merge": "sum"},
    FractalNet: {"layers": 3, "blocks": 2, "merge": "sum"},
    MsdNet: {"layers": 4, "surroundings": MsdNet(widths=(1, 2), first_exit=2), "image": (1, 16, 16)},
    CondenseNet: {"layers": 3, "blocks": 2, "transition": "all"},
}


def test_every_kind_of_surroundings_is_exported_here() -> None:
    assert {kind for kind in SMALL if kind is not None} == set(AnySurroundings.__args__)


@pytest.mark.slow  # two seconds each, for ONNX
@pytest.mark.parametrize("kind", SMALL, ids=lambda kind: "exits" if kind is None else kind.__name__)
def test_its_network_is_the_same_in_every_form(kind: type[Surroundings] | None, tmp_path: Path) -> None:
    values = {"growth": 4, "classes": 3, **({} if kind is None else {"surroundings": kind()}), **SMALL[kind]}
    network = validate(NetworkConfig, values)
    pattern = find_template("log").build(network.pattern_depth)
    exported = export_folder(pattern, network, f"total:{pattern.n_connections}", {"name": "log"}, tmp_path)
    assert {"model.py", "model.onnx", "model.pt2"} <= {path.name for path in exported.paths}
    verified = verify_folder(exported.folder, trust=True)
    assert verified.false == {}
    assert set(verified.checked["networks"]) == {"manifest.json", "model.py", "model.onnx", "model.pt2"}
