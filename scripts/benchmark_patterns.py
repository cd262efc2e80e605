"""Write the patterns of a benchmark table that no strategy draws, as files for `search --strategy templates --pattern`.

python scripts/benchmark_patterns.py --layers 24 --budget total:40 --to DIR    spread over the reach of measures
python scripts/benchmark_patterns.py RUN [RUN ...] --to DIR                    neighbours of the best patterns of runs

The files are called spread-000.json or neighbour-000.json, and so the table's column `template` says what they are.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.data.results import Run, parse_sources, read_run
from commands.patterns import write_template
from nas.search.space import OpenSpace, spread_out
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_wide
from search_spaces.seeds import derive_generator

N_DRAWN = 300  # wide draws whose range the spread patterns fill
N_BEST = 10  # patterns whose neighbours are written
COUNTS = {"spread": 100, "neighbour": 50}
MAX_MUTANTS = 10_000  # that are known already, in a row


def main() -> None:
    """Choose the patterns and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="a run directory of search")
    parser.add_argument("--layers", type=int, default=24, help="number of layers, where no run is given")
    parser.add_argument("--budget", default="total:40", help="budget to spend, where no run is given")
    parser.add_argument("--count", type=int, help=f"number of patterns; by default {COUNTS}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="folder for the files, made if missing")
    arguments = parser.parse_args()
    kind = "neighbour" if arguments.runs else "spread"
    count = COUNTS[kind] if arguments.count is None else arguments.count
    if arguments.runs:
        candidates = merge([read_run(path) for path in arguments.runs])
        budget = parse_budget(candidates["budget"].iloc[0], int(candidates["layers"].iloc[0]))
        patterns = find_neighbours(candidates, budget, count, arguments.seed)
    else:
        budget = parse_budget(arguments.budget, arguments.layers)
        patterns = spread(budget, count, arguments.seed)
    arguments.to.mkdir(parents=True, exist_ok=True)
    for number, pattern in enumerate(patterns):
        provenance = {"origin": f"benchmark_patterns {kind}", "seed": arguments.seed}
        write_template(arguments.to / f"{kind}-{number:03d}.json", pattern, budget, provenance)
    print(f"wrote {len(patterns)} patterns of {budget} at {budget.depth} layers in {arguments.to}")  # noqa: T201


def spread(budget: Budget, count: int, seed: int) -> list[ConnectionPattern]:
    """Return different patterns spread over the reach of measures, as those of a model's pool."""
    drawn = [sample_wide(budget, derive_generator(seed, "drawn", number)) for number in range(N_DRAWN)]
    patterns = spread_out(budget, drawn, count, derive_generator(seed, "spread"))
    return [pattern for pattern in dict.fromkeys(patterns) if pattern not in drawn]


def merge(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the complete trainings of runs of one budget.

    Raises:
        InputError: there is none, or there are several budgets.
    """
    candidates = pd.concat([run.candidates for run in runs], ignore_index=True)
    complete = candidates[candidates["state"] == "complete"]
    strata = complete[["budget", "layers"]].drop_duplicates()
    if len(strata) != 1:
        raise InputError(f"the runs have complete trainings at {len(strata)} budgets: give runs of one")
    return complete


def find_neighbours(candidates: pd.DataFrame, budget: Budget, count: int, seed: int) -> list[ConnectionPattern]:
    """Return mutants of the N_BEST patterns of least mean validation loss, as many of each, none of the runs' own.

    Only patterns with as many trainings as the one that has most are compared.
    """
    losses = candidates.drop_duplicates(["key", "seed"]).groupby("key")["validation_loss"].agg(["mean", "count"])
    best = losses[losses["count"] == losses["count"].max()].sort_values("mean").index[:N_BEST]
    sources = candidates.drop_duplicates("key").set_index("key")["sources"]
    parents = [parse_sources(sources[key]) for key in best]
    return list(itertools.islice(_mutate_in_turn(parents, budget, set(losses.index), seed), count))


def _mutate_in_turn(
    parents: Sequence[ConnectionPattern], budget: Budget, known: set[str], seed: int
) -> Iterator[ConnectionPattern]:
    space, generator, n_stale = OpenSpace(budget), derive_generator(seed, "neighbours"), 0
    for parent in itertools.cycle(parents):
        pattern = space.mutate(parent, generator)
        while pattern.key in known and n_stale < MAX_MUTANTS:
            pattern, n_stale = space.mutate(parent, generator), n_stale + 1
        if pattern.key in known:
            return
        known.add(pattern.key)
        n_stale = 0
        yield pattern


if __name__ == "__main__":
    main()
