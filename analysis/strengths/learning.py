"""The strengths of a trained pattern, and the pattern of its strongest connections: learned sparsity."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.data.results import STRATUM, Run, parse_sources
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.strongest import average_relative, keep_strongest

By = Literal["weights", "condensation"]  # what strength is: the mean absolute weight, or the share that was kept
_TAUGHT_BY: dict[By, str] = {"weights": "connection strengths", "condensation": "kept shares, which CondenseNets have"}
MIN_DIGITS = 6  # fewer are not taken for the beginning of a key


@dataclass(frozen=True, slots=True)
class Learned:
    """A pattern made of the strongest connections of a trained one.

    Args:
        pattern: the strongest connections, and the chain.
        taught_by: key of the trained pattern.
        n_trainings: number of its trainings, whose strengths were averaged.
    """

    pattern: ConnectionPattern
    taught_by: str
    n_trainings: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A pattern that was trained.

    Args:
        numbers: numbers of its trainings in the run.
        strengths: relative strengths, mean over blocks and trainings, in the order of `pattern.connections`.
    """

    pattern: ConnectionPattern
    numbers: tuple[int, ...]
    strengths: tuple[float, ...]


def learn_from_run(run: Run, teacher: str, budget: str, by: By = "weights") -> Learned:
    """Return the strongest connections of a pattern that a run trained, averaged over blocks and seeds.

    Args:
        teacher: name or key of the trained pattern, as select_trained takes it.
        budget: in the command line's form, for the teacher's depth.
        by: what strength is; shares that condensation kept are of CondenseNets only.

    Raises:
        NothingUsableError: as select_trained.
        InputError: as select_trained, or the budget cannot be met.
    """
    trained = select_trained(run, teacher, by)
    strongest = keep_strongest(trained.pattern, trained.strengths, parse_budget(budget, trained.pattern.depth))
    return Learned(strongest, trained.pattern.key, len(trained.numbers))


def select_trained(run: Run, name: str, by: By = "weights") -> Trained:
    """Return a pattern that a run trained, and how strong its connections are.

    Args:
        name: name of its template, in a comparison that of its network, or the first digits of its key.
        by: what strength is; see learn_from_run.

    Raises:
        NothingUsableError: no finished training of that pattern has strengths.
        InputError: the name fits several patterns or strata.
    """
    recorded = run.strengths if by == "weights" else run.kept
    candidates = run.candidates
    is_named = (candidates["template"] == name).fillna(False)
    if run.kind == "comparison":  # where several networks may have patterns of one template
        is_network = (candidates["regime"] == name).fillna(False)
        is_named = is_network if is_network.any() else is_named
    is_named |= candidates["key"].str.startswith(name) if len(name) >= MIN_DIGITS else False
    is_named &= candidates["number"].isin(list(recorded))
    measured = candidates[is_named]
    if measured.empty:
        names = sorted(set(candidates["template"].dropna()))
        raise NothingUsableError(
            f"{run.path} has no finished training of {name} with {_TAUGHT_BY[by]}; its named patterns are "
            f"{', '.join(names) or 'none'}, others go by the first {MIN_DIGITS} digits or more of their key"
        )
    _check_one(measured, name)
    pattern = parse_sources(measured["sources"].iloc[0])
    numbers = tuple(map(int, measured["number"]))
    blocks = [block for number in numbers for block in recorded[number]]
    return Trained(pattern, numbers, tuple(average_relative(pattern, blocks)))


def _check_one(measured: pd.DataFrame, teacher: str) -> None:
    strata = measured.drop_duplicates([*STRATUM, "key"])
    if len(strata) > 1:
        described = [
            f"{row['key'][:12]} of {row['layers']} layers, budget {row['budget']}, regime {row['regime']}"
            for _, row in strata.iterrows()
        ]
        raise InputError(
            f"{teacher} is {len(described)} trained patterns: {'; '.join(described)}; give the first digits of a key "
            "that only one of them has, or a run of one stratum"
        )
