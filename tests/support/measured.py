"""A second computation of every measure: other formulas, other libraries, no function of search_spaces.measures."""

# ruff: noqa: ARG005, all share one signature

import itertools
import math
from collections.abc import Callable

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from search_spaces.pattern import ConnectionPattern
from tests.support.patterns import by_closed_formula, by_layer_order

Reads = tuple[int, ...]
Computation = Callable[[ConnectionPattern, Reads], float]


def read_by_log(depth: int) -> Reads:
    """Return L + 1 - 2^k >= 0, counted down."""
    nodes, step = [], 1
    while depth + 1 - step >= 0:
        nodes.append(depth + 1 - step)
        step *= 2
    return tuple(reversed(nodes))


def _fundamental(pattern: ConnectionPattern) -> NDArray[np.float64]:
    """(I - Q)^-1 of the absorbing Markov chain over layers 1..L: [i, j] is the mean number of visits to j from i."""
    steps = nx.to_numpy_array(pattern.gradient_graph(), nodelist=range(pattern.depth + 1))[1:]
    transient = (steps / steps.sum(axis=1, keepdims=True))[:, 1:]
    return np.linalg.inv(np.eye(pattern.depth) - transient)


def _visits(pattern: ConnectionPattern, reads: Reads) -> NDArray[np.float64]:
    start = np.array([(layer in reads) / len(reads) for layer in range(1, pattern.depth + 1)])
    visits: NDArray[np.float64] = start @ _fundamental(pattern)
    return visits


def _evenness(pattern: ConnectionPattern, reads: Reads) -> float:
    """ln of the weighted geometric mean of 1/p."""
    shares = _visits(pattern, reads) / _visits(pattern, reads).sum()
    return math.log(math.prod((1 / share) ** share for share in shares))


def _paths(pattern: ConnectionPattern) -> float:
    """Number of walks of any length from 0 to L: the entry of (I - A)^-1."""
    matrix = nx.to_numpy_array(pattern.graph(), nodelist=range(pattern.depth + 1))
    return float(np.linalg.inv(np.eye(pattern.depth + 1) - matrix)[0, pattern.depth])


def _skips(pattern: ConnectionPattern) -> list[tuple[int, int]]:
    return [(source, target) for source, target in pattern.graph().edges if target != source + 1]


def _lengths(pattern: ConnectionPattern) -> NDArray[np.float64]:
    return np.array([target - source for source, target in _skips(pattern)], np.float64)


def _middles(pattern: ConnectionPattern) -> NDArray[np.float64]:
    return np.array([(source + (target - source) / 2) / pattern.depth for source, target in _skips(pattern)])


def _cover(pattern: ConnectionPattern) -> list[int]:
    """How many skips remain in the cut between the nodes below i and the rest."""
    cuts = range(1, pattern.depth + 1)
    return [sum(source < i <= target for source, target in _skips(pattern)) for i in cuts]


def _longest(flags: list[bool]) -> int:
    spans = itertools.combinations(range(len(flags) + 1), 2)
    return max((end - start for start, end in spans if all(flags[start:end])), default=0)


def _eigenvalues(pattern: ConnectionPattern, laplacian: bool) -> NDArray[np.float64]:
    """Eigenvalues by the solver for any matrix, ascending."""
    graph = pattern.graph().to_undirected()
    size = pattern.depth + 1
    adjacency = np.array([[float(graph.has_edge(i, j)) for j in range(size)] for i in range(size)])
    degrees = np.array([[float(i == j) * len(graph[i]) for j in range(size)] for i in range(size)])
    matrix = degrees - adjacency if laplacian else adjacency
    return np.sort(np.linalg.eigvals(matrix).real)


def _bd(pattern: ConnectionPattern) -> NDArray[np.int64]:
    return np.array(list(by_layer_order(pattern).values()))


def _to_input(pattern: ConnectionPattern) -> NDArray[np.int64]:
    return np.array([hops for (_, node), hops in by_layer_order(pattern).items() if node == 0])


def _from_output(pattern: ConnectionPattern) -> NDArray[np.int64]:
    return np.array([hops for (layer, _), hops in by_layer_order(pattern).items() if layer == pattern.depth])


def _largest_from_loss(pattern: ConnectionPattern, reads: Reads) -> float:
    hops = by_layer_order(pattern)
    nodes = range(pattern.depth + 1)
    return max(min(1 + hops.get((read, node), 0) for read in reads if read >= node) for node in nodes)


def _degrees(pattern: ConnectionPattern, column: bool) -> NDArray[np.float64]:
    """Numbers of inputs of 1..L, or of readers of 0..L-1."""
    matrix = nx.to_numpy_array(pattern.graph(), nodelist=range(pattern.depth + 1))
    return np.asarray(matrix.sum(axis=0)[1:] if column else matrix.sum(axis=1)[:-1])


def _or(values: NDArray[np.float64], function: Callable[[NDArray[np.float64]], float], default: float) -> float:
    return float(function(values)) if values.size else default


def _possible_skips(pattern: ConnectionPattern) -> int:
    return sum(1 for i, j in itertools.combinations(range(pattern.depth + 1), 2) if j - i > 1)


SECOND: dict[str, Computation] = {
    "mean_bd": lambda p, r: _bd(p).mean(),
    "max_bd": lambda p, r: _bd(p).max(),
    "from_output_mean": lambda p, r: _from_output(p).mean(),
    "to_input_mean": lambda p, r: _to_input(p).mean(),
    "to_input_sd": lambda p, r: _to_input(p).std(),
    "from_loss_mean": lambda p, r: by_closed_formula(p, 1, r).from_loss_mean,
    "from_loss_max": _largest_from_loss,
    "mean_inverse_bd": lambda p, r: float((1 / _bd(p)).mean()),
    "walk_length": lambda p, r: _visits(p, r).sum(),
    "visit_evenness": _evenness,
    "ntk_trace": lambda p, r: float(_visits(p, r) @ _degrees(p, column=True)),
    "least_visit": lambda p, r: _visits(p, r).min(),
    "layer_walk": lambda p, r: float(_fundamental(p).sum() / p.depth),
    "random_walk_depth": lambda p, r: float(_fundamental(p)[-1].sum()),
    "log_paths": lambda p, r: math.log(_paths(p)),
    "span": lambda p, r: float(np.mean([target - source for source, target in p.graph().edges])),
    "longest_skip": lambda p, r: _or(_lengths(p), np.max, 0),
    "mean_log_skip": lambda p, r: _or(_lengths(p), lambda x: np.log(x).mean(), 0),
    "skip_length_sd": lambda p, r: _or(_lengths(p), np.std, 0),
    "short_skip_share": lambda p, r: _or(_lengths(p), lambda x: (4 * x <= p.depth).mean(), 0),
    "long_skip_share": lambda p, r: _or(_lengths(p), lambda x: (2 * x > p.depth).mean(), 0),
    "skip_place_mean": lambda p, r: _or(_middles(p), np.mean, 0.5),
    "skip_place_sd": lambda p, r: _or(_middles(p), np.std, 0),
    "skip_density": lambda p, r: len(_skips(p)) / max(1, _possible_skips(p)),
    "bare_chain_share": lambda p, r: sum(cover == 0 for cover in _cover(p)) / p.depth,
    "longest_bare_run": lambda p, r: _longest([cover == 0 for cover in _cover(p)]),
    "least_cover": lambda p, r: min(_cover(p)),
    "longest_single_run": lambda p, r: _longest([degree == 1 for degree in _degrees(p, column=True)]),
    "in_degree_sd": lambda p, r: _degrees(p, column=True).std(),
    "out_degree_sd": lambda p, r: _degrees(p, column=False).std(),
    "max_in_degree": lambda p, r: _degrees(p, column=True).max(),
    "max_out_degree": lambda p, r: _degrees(p, column=False).max(),
    "largest_eigenvalue": lambda p, r: _eigenvalues(p, laplacian=False)[-1],
    "second_eigenvalue": lambda p, r: _eigenvalues(p, laplacian=False)[-2],
    "fiedler_value": lambda p, r: _eigenvalues(p, laplacian=True)[1],
}
