"""The columns of zero-cost proxies, which a table has only where its run recorded them."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from nas.records.trial import Trial
from search_spaces.errors import InputError

PROXY = "proxy_"  # begins their names


def list_proxies(columns: Iterable[object]) -> list[str]:
    """Return those columns, of a table of candidates or patterns, that are zero-cost proxies.

    >>> list_proxies(["number", "proxy_synflow", "proxy_zen"])
    ['proxy_synflow', 'proxy_zen']
    """
    return [str(name) for name in columns if str(name).startswith(PROXY)]


def read_proxies(trial: Trial, ledger: Path) -> dict[str, float | None]:
    """Return a trial's proxies by column; None where one was not finite; empty where none were recorded.

    Raises:
        InputError: what is recorded is no such thing.
    """
    proxies = trial.facts.get("proxies", {})
    is_sound = isinstance(proxies, dict) and all(
        value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)
        for value in proxies.values()
    )
    if not is_sound:
        raise InputError(
            f"{ledger}: trial {trial.number} records proxies {json.dumps(proxies):.80}, not finite numbers by name: "
            "the file was edited or written by another program"
        )
    return {f"{PROXY}{name}": value for name, value in proxies.items()}
