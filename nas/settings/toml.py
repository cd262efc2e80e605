"""Settings in TOML files, and flags that win over them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from nas.presets.registry import expand_names
from nas.records.safe_files import list_leaves, open_regular
from nas.settings.search import ALL, SearchConfig
from search_spaces.errors import InputError

# Settings that every version wrote into a run's config.toml; with all of them, a file is one of these.
WRITTEN = frozenset(
    {"epochs", "lr", "batch_size", "layers", "growth", "budget", "dataset", "seeds", "attempts", "seed"}
)


def merge_settings(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a TOML file and of flags, by name with _. Flags win; None means not given.

    `network` and `recipe` are replaced by the settings that they stand for.

    Raises:
        InputError: the file cannot be read, or there is no such network or recipe.
    """
    values = {} if file is None else read_toml(file)
    if values.keys() >= WRITTEN:
        values.setdefault("train_examples", ALL)  # older versions left it out where it was all
    return expand_names(values | {name: value for name, value in flags.items() if value is not None})


MAX_TOML_BYTES = 10**5  # a hundred times any real config file
MAX_DOTS = 100  # in a line: tomllib's time is quadratic in the parts of a name, hours for a file of one line


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file's settings, by name with _.

    Raises:
        InputError: there is no such file, it is not TOML, or it has a setting twice or beyond all limits.
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
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or endless numbers or nesting
        raise InputError(
            f"{file} is not TOML: {error!s:.200}; give lines such as layers = 24, named as the flags are"
        ) from None


def _parse_toml(content: bytes) -> dict[str, Any]:
    if any(line.count(b".") > MAX_DOTS for line in content.splitlines()):
        raise ValueError(f"a line has more than {MAX_DOTS} dots; begin a new line in a long list")
    table = tomllib.loads(content.decode())
    if any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in list_leaves(table)):
        raise ValueError("a whole number is beyond TOML's 64 bits")
    values = {name.replace("-", "_"): value for name, value in table.items()}
    if len(values) < len(table):
        raise ValueError("a setting is given twice, once with - and once with _")
    return values


def format_toml(config: SearchConfig) -> str:
    """Return settings as TOML, with the flags' names as keys and without what is unset."""
    values = config.model_dump()
    if "train_examples" in values and values["train_examples"] is None:
        values["train_examples"] = ALL
    values = {name: value for name, value in values.items() if value is not None}
    return tomli_w.dumps({name.replace("_", "-"): value for name, value in values.items()})
