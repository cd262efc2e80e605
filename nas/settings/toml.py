"""Settings from TOML files and flags."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from nas.model.presets import expand_names
from nas.records.safe_files import list_leaves, open_regular
from nas.settings.search import SearchConfig
from search_spaces.errors import InputError


def merge_settings(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """A TOML file's settings and flags as one, by name with _; flags win, None means not given.

    `network` and `recipe`, of either, are replaced by the settings that they stand for.

    Raises:
        InputError: the file cannot be read, or there is no such network or recipe.
    """
    values = {} if file is None else read_toml(file)
    return expand_names(values | {name: value for name, value in flags.items() if value is not None})


MAX_TOML_BYTES = 10**5  # a hundred times any real config file


MAX_DOTS = 100  # in a line: tomllib takes the square of a name's parts, hours for a line of such a file


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file's settings, by name with _.

    Raises:
        InputError: no such file, not TOML, a setting twice, or one that no config file of ours would hold.
    """
    try:
        with open_regular(file, MAX_TOML_BYTES) as stream:
            content = stream.read(MAX_TOML_BYTES)
    except FileNotFoundError:
        raise InputError(f"there is no config file at {file}") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    try:
        return _parse_toml(content)
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, numbers or nesting without end
        raise InputError(
            f"{file} is not TOML: {error!s:.200}; give lines such as layers = 24, named as the flags are"
        ) from None


def _parse_toml(content: bytes) -> dict[str, Any]:
    if any(line.count(b".") > MAX_DOTS for line in content.splitlines()):
        raise ValueError(f"a line has more than {MAX_DOTS} dots; begin a new line in a long list")
    held = tomllib.loads(content.decode())
    if any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in list_leaves(held)):
        raise ValueError("a whole number is beyond TOML's 64 bits")
    values = {name.replace("-", "_"): value for name, value in held.items()}
    if len(values) < len(held):
        raise ValueError("a setting is given twice, once with - and once with _")
    return values


def format_toml(config: SearchConfig) -> str:
    """The settings as TOML, keys as the flags' names; what is unset is left out."""
    values = config.model_dump(exclude_none=True)
    return tomli_w.dumps({name.replace("_", "-"): value for name, value in values.items()})
