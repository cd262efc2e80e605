"""Measure how much faster the kernels score and move patterns than networkx scores them, paired in one run on one core.

Times are those of the process, so a busy machine matters less. Both kernels of annealing cool as `optimize` does: the
one for any budget, and the one for budgets by layer. The last line is the ratio of these two.

python scripts/distance_speed.py [--layers L]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from shared import format_range

from search_spaces.budget import log_budget
from search_spaces.distance import backprop_distance
from search_spaces.sampling.annealing import SUM_BD, Bands, State, anneal
from search_spaces.sampling.bounds import bound_sum
from search_spaces.sampling.cooling import Neighbours
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances, pack_patterns
from search_spaces.sampling.optimal import TEMPERATURES
from search_spaces.seeds import derive_generator

N_ROUNDS = 9  # the first is dropped
N_BATCH, N_NETWORKX, N_MOVES, N_STEPS = 20_000, 50, 800_000, 16


def main() -> None:
    """Check the numbers, take rounds, print medians with their ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=24)
    depth = parser.parse_args().layers
    budget = log_budget(depth)
    patterns = [sample_uniform(budget, derive_generator("speed", number)) for number in range(N_BATCH)]
    packed = pack_patterns(patterns)
    few = patterns[:N_NETWORKX]
    # No speed for wrong numbers.
    assert batch_distances(few).mean.tolist() == [backprop_distance(pattern).mean for pattern in few]
    state, neighbours = State.of(patterns[0], budget), Neighbours.of(patterns[0], budget)
    bands = Bands().limit(SUM_BD, -math.inf, bound_sum(budget) - 1, 1.0)  # out of reach: no round ends early
    steps = np.geomspace(*TEMPERATURES, N_STEPS).tolist()
    generator = derive_generator("speed moves")

    def move_any(n_moves: int) -> None:
        for temperature in steps:
            anneal(state, bands, n_moves // N_STEPS, (temperature, temperature), generator)

    def move_by_layer(n_moves: int) -> None:
        for temperature in steps:
            neighbours.move(n_moves // N_STEPS, temperature, 0, generator)

    for move in (move_any, move_by_layer):  # compiled before they are timed
        move(N_STEPS)
    rounds = []
    for _ in range(N_ROUNDS):
        backprop_distance.cache_clear()
        networkx = _seconds(lambda: [backprop_distance(pattern) for pattern in few]) / N_NETWORKX
        batched = _seconds(lambda: batch_distances(packed)) / N_BATCH
        any_budget = _seconds(lambda: move_any(N_MOVES // 8)) / (N_MOVES // 8)
        by_layer = _seconds(lambda: move_by_layer(N_MOVES)) / N_MOVES
        rounds.append(_Round(networkx, batched, any_budget, by_layer))
    after = backprop_distance(state.pattern())
    assert round(after.mean * depth * (depth + 1) / 2) == state.measure()[SUM_BD]
    neighbours.pattern()  # raises where its count is not networkx's
    _report("networkx, one pattern from scratch", [r.networkx for r in rounds[1:]], None)
    _report("batched, one pattern", [r.batched for r in rounds[1:]], [r.networkx / r.batched for r in rounds[1:]])
    for name, times in (
        ("any budget", [r.any_budget for r in rounds[1:]]),
        ("by layer", [r.by_layer for r in rounds[1:]]),
    ):
        _report(f"annealing {name}, one move", times, [r.networkx / t for r, t in zip(rounds[1:], times, strict=True)])
    ratios = [r.any_budget / r.by_layer for r in rounds[1:]]
    print(f"annealing by layer is {format_range(ratios, 1)} times as fast as that of any budget")  # noqa: T201


@dataclass(frozen=True, slots=True)
class _Round:
    """Seconds of each in one round."""

    networkx: float
    batched: float
    any_budget: float
    by_layer: float


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _report(name: str, seconds: list[float], ratios: list[float] | None) -> None:
    line = f"{name:36} {1e6 * statistics.median(seconds):9.2f} us"
    if ratios is not None:
        line += f"   {format_range(ratios, 0):>20} times as fast as networkx"
    print(line)  # noqa: T201


if __name__ == "__main__":
    main()
