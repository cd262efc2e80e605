"""Measure how much faster the kernels score patterns than networkx, paired in one run on one core.

python scripts/distance_speed.py [--layers L]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

from shared import format_range

from search_spaces.budget import log_budget
from search_spaces.distance import backprop_distance
from search_spaces.sampling.annealing import SUM_BD, Bands, State, anneal
from search_spaces.sampling.bounds import bound_sum
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances, pack_patterns
from search_spaces.seeds import derive_generator

N_ROUNDS = 9  # the first is dropped
N_BATCH, N_NETWORKX, N_MOVES = 20_000, 50, 500_000


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
    state = State.of(patterns[0], budget)
    bands = Bands().limit(SUM_BD, -math.inf, bound_sum(budget) - 1, 1.0)  # out of reach: no round ends early

    def move() -> None:
        anneal(state, bands, N_MOVES, (0.6, 0.3), derive_generator("speed moves"))

    rounds = []
    for _ in range(N_ROUNDS):
        backprop_distance.cache_clear()
        networkx = _seconds(lambda: [backprop_distance(pattern) for pattern in few]) / N_NETWORKX
        batched = _seconds(lambda: batch_distances(packed)) / N_BATCH
        moved = _seconds(move) / N_MOVES
        rounds.append((networkx, batched, moved))
    after = backprop_distance(state.pattern())
    assert round(after.mean * depth * (depth + 1) / 2) == state.measure()[SUM_BD]
    _report("networkx, one pattern from scratch", [n for n, _, _ in rounds[1:]], None)
    _report("batched, one pattern", [b for _, b, _ in rounds[1:]], [n / b for n, b, _ in rounds[1:]])
    _report("annealing, one move", [m for _, _, m in rounds[1:]], [n / m for n, _, m in rounds[1:]])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _report(name: str, seconds: list[float], ratios: list[float] | None) -> None:
    line = f"{name:36} {1e6 * statistics.median(seconds):9.2f} us"
    if ratios is not None:
        line += f"   {format_range(ratios, 0):>20} times as fast as networkx"
    print(line)  # noqa: T201


if __name__ == "__main__":
    main()
