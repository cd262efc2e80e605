"""Measure what a search gains from a table of earlier outcomes: replays on half of a committed table, paired.

    python scripts/seeded_search.py --to docs/tables/total-40/seeded.csv

Each replay halves the table's patterns at random. The model is seeded with one half, trained with two of the six seeds;
the search may train all patterns with two others; the last two judge its picks. The unseeded search is the same but for
that, so both are paired. With --level the earlier losses are multiplied, as those of another data set might be.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from threadpoolctl import threadpool_limits

from analysis.replays.catalogue import find_table
from analysis.replays.table import TrainedTable, read_trained
from nas.search.replay import ListedSpace, by_posterior
from nas.search.strategies.model import ModelStrategy
from nas.search.strategy import Proposal, Training
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.earlier import EarlierTraining, average_earlier

CHECKED_AT = (10, 20)  # trainings after which picks are judged, the named templates' among them


def search(
    space: ListedSpace, costs: NDArray[np.float64], seed: int, earlier: list[EarlierTraining], lookahead: int
) -> list[int]:
    """Return the rows that a search would pick after CHECKED_AT trainings.

    Args:
        costs: cost of each pattern with each seed that it may train; shape (patterns, seeds).
        earlier: what the model is seeded with.
        lookahead: number of trainings at a time.
    """
    strategy = ModelStrategy(space, seed, seeds_at_most=costs.shape[1], earlier=average_earlier(earlier))
    pick, history, picks = by_posterior(space), list[Training](), list[int]()
    while len(history) < CHECKED_AT[-1]:
        n_known = max(0, len(history) - lookahead + 1)
        shown = [
            *history[:n_known],
            *(Training(each.pattern, each.seed, None, "pending") for each in history[n_known:]),
        ]
        named = space.named[len(history) :][:1]
        proposal = Proposal(named[0], 0) if named else strategy.propose(shown)
        assert proposal is not None, "the table has more patterns than a search trains"
        cost = float(costs[space.rows[proposal.pattern], proposal.seed])
        history.append(Training(proposal.pattern, proposal.seed, cost, "finished"))
        if len(history) in CHECKED_AT:
            picks.append(space.rows[pick(history)])
    return picks


def replay(table: TrainedTable, number: int, level: float, noise: float) -> list[dict[str, float]]:
    """Return one replay's rows: at each number of trainings the judged log loss of the seeded and the unseeded pick.

    Args:
        level: factor of the earlier losses.
        noise: standard deviation of what is added to each pattern's earlier log loss, as another setting would.
    """
    space = ListedSpace(table.budget, table.patterns, table.is_uniform, table.is_wide, table.list_named())
    costs, generator = table.list_costs("loss"), derive_generator(0, "seeded", number)
    seeds = generator.permutation(costs.shape[1])
    before, trained, judged = seeds[:2], seeds[2:4], seeds[4:]
    half = generator.permutation(len(table.patterns))[: len(table.patterns) // 2]
    shift = noise * generator.normal(size=len(table.patterns)) + math.log(level)
    earlier = [
        EarlierTraining(table.patterns[row], "", int(seed), float(costs[row, seed] + shift[row]))
        for row in half
        for seed in before
    ]
    seeded, unseeded = (search(space, costs[:, trained], number, known, 2) for known in (earlier, []))
    losses = table.list_judged("loss")[:, judged].mean(axis=1)
    return [
        {"replay": number, "trainings": n, "seeded": float(losses[one]), "unseeded": float(losses[other])}
        for n, one, other in zip(CHECKED_AT, seeded, unseeded, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--replays", type=int, default=80)
    parser.add_argument("--level", type=float, default=1.0)
    parser.add_argument("--noise", type=float, default=0.0)
    arguments = parser.parse_args()
    table = read_trained(find_table(Path("total-40")), "loss")
    rows: list[dict[str, float]] = []
    with threadpool_limits(1, "blas"), arguments.to.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["replay", "trainings", "seeded", "unseeded"], lineterminator="\n")
        writer.writeheader()
        for number in range(arguments.replays):
            of_replay = replay(table, number, arguments.level, arguments.noise)
            writer.writerows({name: round(value, 5) for name, value in row.items()} for row in of_replay)
            stream.flush()
            rows += of_replay
    for n in CHECKED_AT:
        differences = np.array([row["seeded"] - row["unseeded"] for row in rows if row["trainings"] == n])
        mean, half = differences.mean(), t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1)
        half /= math.sqrt(len(differences))
        print(f"{n} trainings: {mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}], {len(differences)} replays")  # noqa: T201


if __name__ == "__main__":
    main()
