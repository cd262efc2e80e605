"""All published networks by name, and what a name stands for among settings."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.model.candidate import check_depth
from nas.model.config import NetworkConfig, ShapeConfig, TrainingConfig
from nas.model.cost import predict_cost
from nas.presets.condensenet import list_condensenets
from nas.presets.densenet import list_densenets
from nas.presets.log_densenet import list_log_densenets, list_sparsenets
from nas.presets.msdnet import list_msdnets
from nas.presets.preset import Preset
from nas.presets.recipes import find_recipe
from nas.presets.residual import list_residual_networks
from nas.presets.segmentation import list_segmentation_networks
from nas.records.checked import Settings, validate
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import read_parameters

# In the order in which `networks` lists them.
FAMILIES = (
    list_densenets,
    list_log_densenets,
    list_sparsenets,
    list_condensenets,
    list_residual_networks,
    list_msdnets,
    list_segmentation_networks,
)
PRESETS: dict[str, Preset] = {preset.name: preset for family in FAMILIES for preset in family()}


def find_preset(name: str) -> Preset:
    """Return the published network of a name, `NAME` or `NAME:option=value,...` with options of its surroundings.

    Raises:
        InputError: there is none, or it has no such option.

    >>> find_preset("condensenet-86:groups=8,condensation=8").network.surroundings.groups
    8
    """
    known, colon, parameters = name.partition(":")
    if known not in PRESETS:
        near = difflib.get_close_matches(known, PRESETS, n=3)
        advice = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"there is no network {name!r:.100}: {advice}`networks` lists all")
    preset = PRESETS[known]
    return replace(preset, name=name, network=_set_options(preset, name, parameters)) if colon else preset


def _set_options(preset: Preset, name: str, parameters: str) -> NetworkConfig:
    """Return a network with other options of its surroundings, such as `groups=8,condensation=8`."""
    surroundings = preset.network.surroundings
    if surroundings is None:
        raise InputError(f"network {name!r:.100}: {preset.name} has no options; change it by flags, as --growth")
    options = [option for option in type(surroundings).model_fields if option != "kind"]
    given = read_parameters(parameters)
    if given is None or not set(given) <= set(options):
        raise InputError(
            f"network {name!r:.100}: expected NAME=VALUE once each after {preset.name}:, separated by commas; its "
            f"options are {', '.join(options)}"
        )
    values = surroundings.model_dump() | {option: _read_value(text) for option, text in given.items()}
    try:
        own = validate(type(surroundings), values)
        return validate(NetworkConfig, {**_fields(NetworkConfig, preset.network), "surroundings": own})
    except InputError as error:
        raise InputError(f"network {name!r:.100}: {error}") from None


def _read_value(text: str) -> Any:
    """Return a number, or true or false, for its text, and other texts as they are."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def describe_preset(preset: Preset) -> dict[str, Any]:
    """Return a published network as plain values: what `networks --json` prints."""
    cost = predict_cost(preset.candidate)
    return {
        "name": preset.name,
        "paper": preset.paper,
        "params": cost.params,
        "flops": cost.flops,
        "differs": preset.differs,
        "macs": cost.flops // 2,  # multiply-adds, which most papers print
        "layers": list(preset.network.block_depths),
        "connections": sum(pattern.n_connections for pattern in preset.candidate.patterns),  # of all blocks
        "growth": preset.network.growth,
        "template": preset.template,
    }


def read_network(pattern: ConnectionPattern | None, network: str | None, values: Mapping[str, Any]) -> NetworkConfig:
    """Return the network that flags and a published network's name describe, around a pattern if there is one.

    Raises:
        InputError: there is no such network, or the pattern does not fit it.
    """
    if network is not None:
        published = find_preset(network).network
        values = {name: getattr(published, name) for name in NetworkConfig.model_fields} | dict(values)
    elif pattern is not None and "layers" not in values:
        n_blocks = values.get("blocks", 1) if values.get("transition") == "v1" else 1
        values = {**values, "layers": pattern.depth // n_blocks}
    config = validate(NetworkConfig, values)
    if pattern is not None:
        check_depth(pattern, config)
    return config


def expand_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with `network` and `recipe` replaced by their content; settings given explicitly win.

    Raises:
        InputError: there is no network or recipe of that name.

    >>> expand_names({"recipe": "densenet", "epochs": 30})["lr_drops"]
    (0.5, 0.75)
    """
    named: dict[str, Any] = {}
    if values.get("network") is not None:
        named |= _fields(ShapeConfig, find_preset(str(values["network"])).network)
    if values.get("recipe") is not None:
        named |= _fields(TrainingConfig, find_recipe(str(values["recipe"])))
    return named | {name: value for name, value in values.items() if name not in ("network", "recipe")}


def _fields(model: type[Settings], values: Settings) -> dict[str, Any]:
    return {name: getattr(values, name) for name in model.model_fields}
