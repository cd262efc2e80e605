"""Measure how fast the kernels, networkx and rustworkx score and move patterns, paired in one run on one core.

Times are those of the process, so a busy machine matters less. Both kernels of annealing cool as `optimize` does: the
one for any budget, and the one for budgets by layer. rustworkx is in the extra `bench`.

python scripts/distance_speed.py [--layers L,...] [--write]: print the page, or write docs/distance-speed.md and .csv
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import rustworkx
from shared import DOCS, format_csv, format_range, format_row

from nas.records.safe_files import write_atomic
from nas.settings.environment import describe_versions
from search_spaces.budget import log_budget
from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import SUM_BD, Bands, State, anneal
from search_spaces.sampling.bounds import bound_sum
from search_spaces.sampling.cooling import Neighbours
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances, pack_patterns
from search_spaces.sampling.optimal import TEMPERATURES
from search_spaces.seeds import derive_generator

N_ROUNDS = 9  # the first is dropped
N_BATCH, N_FEW, N_MOVES, N_STEPS = 4000, 50, 800_000, 16
NETWORKX, BUILT, READY = "networkx, graph and distances", "rustworkx, graph and distances", "rustworkx, distances"
RUSTWORKX_MOVE = "rustworkx, one connection moved"
SINGLE, BATCH, PACKED = "ours, one pattern", "ours, a batch", "ours, a batch packed before"
MOVE_ANY, MOVE_BY_LAYER = "ours, one connection moved, any budget", "ours, one connection moved, budget by layer"
# What each of ours does the same work as.
RIVALS = {SINGLE: BUILT, BATCH: BUILT, PACKED: READY, MOVE_ANY: RUSTWORKX_MOVE, MOVE_BY_LAYER: RUSTWORKX_MOVE}
HEADINGS = ("work", "us a pattern", "times as fast as networkx", "as rustworkx at the same work")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each work at one depth, for one pattern or move, round by round."""

    depth: int
    seconds: dict[str, list[float]]

    def ratios(self, work: str, rival: str) -> list[float]:
        """Return how many times as fast as a rival a work is, in each round."""
        return [b / a for a, b in zip(self.seconds[work], self.seconds[rival], strict=True)]


class Works:
    """The works at one depth, each a function and how many patterns or moves it does; numbers are checked first.

    Args:
        depth: number of layers.
    """

    def __init__(self, depth: int) -> None:
        budget = log_budget(depth)
        patterns = [sample_uniform(budget, derive_generator("speed", number)) for number in range(N_BATCH)]
        few = patterns[:N_FEW]
        packed = pack_patterns(patterns)
        edges = [[(target, source) for source, target in pattern.connections] for pattern in few]
        graphs = [build_graph(each) for each in edges]
        check_lengths(few, graphs)
        self._depth, self._graph, self._moved = depth, build_graph(edges[0]), edges[0][-1]
        self._state, self._neighbours = State.of(patterns[0], budget), Neighbours.of(patterns[0], budget)
        self._bands = Bands().limit(SUM_BD, -math.inf, bound_sum(budget) - 1, 1.0)  # out of reach: no round ends early
        self._steps = np.geomspace(*TEMPERATURES, N_STEPS).tolist()
        self._generator = derive_generator("speed moves")
        self.all: dict[str, tuple[Callable[[], object], int]] = {
            NETWORKX: (lambda: _measure_anew(few), N_FEW),
            BUILT: (lambda: [rustworkx.digraph_distance_matrix(build_graph(each)) for each in edges], N_FEW),
            READY: (lambda: [rustworkx.digraph_distance_matrix(graph) for graph in graphs], N_FEW),
            RUSTWORKX_MOVE: (self._move_in_rustworkx, N_FEW),
            SINGLE: (lambda: [batch_distances([pattern]) for pattern in few], N_FEW),
            BATCH: (lambda: batch_distances(patterns), N_BATCH),
            PACKED: (lambda: batch_distances(packed), N_BATCH),
            MOVE_ANY: (lambda: self._move_any(N_MOVES // 8), N_MOVES // 8),
            MOVE_BY_LAYER: (lambda: self._move_by_layer(N_MOVES), N_MOVES),
        }
        for move in (self._move_any, self._move_by_layer):  # compiled before they are timed
            move(N_STEPS)

    def check_moves(self) -> None:
        """Check that after all moves the counted distances are networkx's."""
        after = backprop_distance(self._state.pattern())
        assert round(after.mean * self._depth * (self._depth + 1) / 2) == self._state.measure()[SUM_BD]
        self._neighbours.pattern()  # raises where its count is not networkx's

    def _move_in_rustworkx(self) -> None:
        for _ in range(N_FEW):
            self._graph.remove_edge(*self._moved)
            self._graph.add_edge(*self._moved, None)
            rustworkx.digraph_distance_matrix(self._graph)

    def _move_any(self, n_moves: int) -> None:
        for temperature in self._steps:
            anneal(self._state, self._bands, n_moves // N_STEPS, (temperature, temperature), self._generator)

    def _move_by_layer(self, n_moves: int) -> None:
        for temperature in self._steps:
            self._neighbours.move(n_moves // N_STEPS, temperature, 0, self._generator)


def build_graph(edges: Sequence[tuple[int, int]]) -> "rustworkx.PyDiGraph[None, None]":
    """Return the gradient graph of a pattern, by rustworkx's fastest way."""
    graph: rustworkx.PyDiGraph[None, None] = rustworkx.PyDiGraph()
    graph.extend_from_edge_list(list(edges))
    return graph


def check_lengths(patterns: Sequence[ConnectionPattern], graphs: "Sequence[rustworkx.PyDiGraph[None, None]]") -> None:
    """Check that ours, networkx and rustworkx give the same distances: no speed for wrong numbers."""
    expected = [backprop_distance(pattern) for pattern in patterns]
    matrices = [rustworkx.digraph_distance_matrix(graph) for graph in graphs]
    assert batch_distances(patterns).mean.tolist() == [distance.mean for distance in expected]
    pairs = [matrix[np.tril_indices(len(matrix), -1)] for matrix in matrices]
    assert [lengths.mean() for lengths in pairs] == [distance.mean for distance in expected]
    assert [int(lengths.max()) for lengths in pairs] == [distance.max for distance in expected]


def _measure_anew(patterns: Sequence[ConnectionPattern]) -> None:
    backprop_distance.cache_clear()
    for pattern in patterns:
        backprop_distance(pattern)


def measure(depth: int) -> Measured:
    """Take all rounds at one depth."""
    works = Works(depth)
    seconds: dict[str, list[float]] = {name: [] for name in works.all}
    for _ in range(N_ROUNDS):
        for name, (work, n) in works.all.items():
            started = time.process_time()
            work()
            seconds[name].append((time.process_time() - started) / n)
    works.check_moves()
    return Measured(depth, {name: times[1:] for name, times in seconds.items()})


def tabulate(measured: Measured) -> list[dict[str, object]]:
    """Return the rows of the table of one depth; ratios are medians."""
    return [
        {
            "layers": measured.depth,
            "work": name,
            "microseconds": 1e6 * statistics.median(seconds),
            "to_networkx": statistics.median(measured.ratios(name, NETWORKX)),
            "to_rustworkx": statistics.median(measured.ratios(name, RIVALS[name])) if name in RIVALS else None,
        }
        for name, seconds in measured.seconds.items()
    ]


def format_page(all_measured: Sequence[Measured]) -> str:
    """Return the page: one table a depth."""
    versions = describe_versions(("networkx", "numba", "rustworkx"))
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "networkx", "rustworkx", "numba", "commit"))
    lines = [
        "# How fast patterns are scored",
        "",
        "CPU time of one process for all distances of one pattern at the log budget, or for one move of the annealer. "
        f"Works take turns; medians and ranges of {N_ROUNDS - 1} paired rounds. All gave the same distances before.",
        "",
        "networkx is written in Python, and is the definition. rustworkx is compiled: its fastest call for all "
        "lengths, `digraph_distance_matrix`, is timed with the graph built from a ready list of edges, and with the "
        "graph ready; it sums nothing. Ours computes the mean, the maximum, and the means from the output and to the "
        "input. The last column compares equal work: *one pattern* and *a batch* begin with patterns, as *graph and "
        "distances* does with lists of edges. *A batch packed before* begins with what the kernel reads, as "
        "*distances* does with graphs. A move is compared with one edge removed, one added, and all lengths.",
        "",
        f"{named}; load before {os.getloadavg()[0]:.1f}; by `scripts/distance_speed.py`.",
    ]
    for measured in all_measured:
        lines += ["", f"## {measured.depth} layers", "", format_row(*HEADINGS), "|---" * len(HEADINGS) + "|"]
        for name, seconds in measured.seconds.items():
            to_networkx = format_range(measured.ratios(name, NETWORKX), 1)
            to_rustworkx = format_range(measured.ratios(name, RIVALS[name]), 1) if name in RIVALS else ""
            time_ = format_range([1e6 * each for each in seconds], 2)
            lines.append(format_row(name, time_, "" if name == NETWORKX else to_networkx, to_rustworkx))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure at all depths; print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="24,52,100", help="depths, with commas between them")
    parser.add_argument("--write", action="store_true", help="write docs/distance-speed.md and docs/distance-speed.csv")
    arguments = parser.parse_args()
    all_measured = [measure(int(depth)) for depth in arguments.layers.split(",")]
    page = format_page(all_measured)
    if not arguments.write:
        print(page, end="")  # noqa: T201
        return
    write_atomic(DOCS / "distance-speed.csv", format_csv([row for each in all_measured for row in tabulate(each)]))
    write_atomic(DOCS / "distance-speed.md", page)


if __name__ == "__main__":
    main()
