"""Accuracy by exit, and by the multiply-adds that are spent where easy images leave early, averaged over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.results import STRATUM
from analysis.page.wording import name_briefly
from analysis.picks.found import Found
from analysis.picks.order import sort_found
from analysis.stats.intervals import SHARE, student_interval
from search_spaces.errors import InputError

COMPARED = ("log", "nearest")  # beginnings of the names of templates that stand next to the best pattern
EQUAL_SHARES = 1.0  # the ratio at which as many images leave at each exit
MAX_EXIT_ROWS, MAX_VALUE = 1000, 1e18  # of a ledger that may be a stranger's
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Spot:
    """An accuracy and what it costs, means over seeds.

    Args:
        macs: multiply-adds of an image, of all exits up to this one; expected ones where images leave early.
        accuracy: share of the validation images.
        low, high: 95 % interval of the accuracy; None for one seed.
        loss: mean cross-entropy in nats; None where images leave early.
        ratio: share of the images that leaves at an exit over that of the exit before; None for an exit.
    """

    macs: float
    accuracy: float
    low: float | None
    high: float | None
    loss: float | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Anytime:
    """One pattern.

    Args:
        exits: at each exit all images leave.
        adaptive: images leave where they are confident, by rising ratio; empty where too few were measured.
    """

    name: str
    key: str
    n_seeds: int
    exits: tuple[Spot, ...]
    adaptive: tuple[Spot, ...]

    @property
    def equal_shares(self) -> Spot | None:
        """What it gives where as many images leave at each exit."""
        return next((spot for spot in self.adaptive if spot.ratio == EQUAL_SHARES), None)


@dataclass(frozen=True, slots=True)
class Exits:
    """The exits of a stratum's networks.

    Args:
        patterns: the best pattern first, then the best template of each beginning of COMPARED.
        shown: their rows of average_patterns.
    """

    patterns: tuple[Anytime, ...]
    shown: pd.DataFrame


def analyse_exits(
    candidates: pd.DataFrame, details: Mapping[int, Mapping[str, Any]], picks: Sequence[Found] = ()
) -> Exits | None:
    """Return what the exits of one stratum's networks give; None where they have one exit only.

    Args:
        candidates: rows of read_run, all of one stratum.
        details: what was kept of each training, by number.
        picks: what a search found, by which its patterns are ranked.

    Raises:
        InputError: what was kept is not what a program of ours writes.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)].drop_duplicates([*STRATUM, "key", "seed"])
    measured = complete[complete["number"].isin([number for number, kept in details.items() if "exits" in kept])]
    if measured.empty:
        return None
    ranked = sort_found(average_patterns(complete), picks)
    ranked = ranked[ranked["key"].isin(set(measured["key"]))]
    places = [0]
    for beginning in COMPARED:
        named = ranked["template"].fillna("").str.startswith(beginning).to_numpy().nonzero()[0]
        places += [int(named[0])] if len(named) and named[0] not in places else []
    shown = ranked.iloc[places]
    patterns = []
    for _, row in shown.iterrows():
        numbers = [int(number) for number in measured.loc[measured["key"] == row["key"], "number"]]
        exits, adaptive = (
            _average([_read(details[number], part, known, number) for number in numbers])
            for part, known in (("exits", ("macs", "accuracy", "loss")), ("adaptive", ("macs", "accuracy", "ratio")))
        )
        patterns.append(Anytime(name_briefly(row), str(row["key"]), len(numbers), exits, adaptive))
    return Exits(tuple(patterns), shown)


def summarise_exits(exits: Exits) -> list[dict[str, Any]]:
    """Return the numbers as JSON values."""
    return [asdict(pattern) for pattern in exits.patterns]


def _read(kept: Mapping[str, Any], part: str, known: Sequence[str], number: int) -> list[Row]:
    rows = kept.get(part)
    is_needed = part == "exits"
    if (
        not isinstance(rows, list)
        or not int(is_needed) <= len(rows) <= MAX_EXIT_ROWS
        or not all(_is_row(row, known) for row in rows)
    ):
        raise InputError(
            f"trial {number} records {part} {rows!r:.80}: expected rows of {', '.join(known)}; the file was edited or "
            "written by another program"
        )
    return [dict(row) for row in rows]


def _is_row(row: object, known: Sequence[str]) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == set(known)
        and all(type(value) in (int, float) and 0 <= value <= MAX_VALUE for value in row.values())
        and row["accuracy"] <= 1
    )


def _average(by_seed: Sequence[Sequence[Row]]) -> tuple[Spot, ...]:
    """Average rows of one place over seeds; a seed that has another number of rows would be another network's."""
    if len({len(rows) for rows in by_seed}) > 1:
        raise InputError("trainings of one pattern record different numbers of exits: they are not of one network")
    spots = []
    for rows in zip(*by_seed, strict=True):
        accuracies = np.array([row["accuracy"] for row in rows])
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        low, high = student_interval(accuracies, SHARE)
        spots.append(Spot(means["macs"], means["accuracy"], low, high, means.get("loss"), means.get("ratio")))
    return tuple(spots)
