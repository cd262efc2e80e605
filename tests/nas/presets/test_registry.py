"""Published networks by name, and names among settings."""

from typing import Any

import pytest
import torch

from nas.model.cost import predict_cost
from nas.model.network import build_skip_network
from nas.presets.registry import FAMILIES, PRESETS, expand_names, find_preset
from search_spaces.errors import InputError


def test_no_two_networks_share_a_name() -> None:
    assert len(PRESETS) == sum(1 for family in FAMILIES for _ in family())


@pytest.mark.parametrize(
    "name", ["densenet-40-12", "log-densenet-v1-12-16", "log-densenet-v2-12-16", "densenet-121", "sparsenet-121"]
)
def test_what_is_built_has_what_is_predicted(name: str) -> None:
    candidate = find_preset(name).candidate
    network = build_skip_network(candidate)  # which asserts it, too
    assert sum(weights.numel() for weights in network.parameters()) == predict_cost(candidate).params
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, candidate.network.classes)


def test_a_setting_beside_a_name_wins() -> None:
    values = expand_names({"network": "densenet-bc-100-12", "growth": 8, "recipe": "densenet", "epochs": 3})
    assert (values["layers"], values["growth"], values["compression"], values["transition"]) == (16, 8, 0.5, "all")
    assert (values["epochs"], values["lr"], values["batch_size"]) == (3, 0.1, 64)
    assert not {"network", "recipe", "image", "classes"} & values.keys()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet-11", "did you mean resnet-110 or resnet-"),
        ("condensnet-86:groups=2", "did you mean condensenet-86 or"),
        ("zzz", "there is no network 'zzz': `networks` lists all"),
    ],
)
def test_an_unknown_network_is_told_with_the_nearest_and_not_with_all(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        find_preset(name)
    assert sum(known in str(caught.value) for known in PRESETS) <= 4


@pytest.mark.parametrize(("values", "said"), [({"network": "x"}, "no network 'x'"), ({"recipe": "y"}, "no recipe 'y'")])
def test_unknown_names_are_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        expand_names(values)
