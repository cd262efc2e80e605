"""Measures of the spectrum of the undirected graph of a pattern: its connections without their direction."""

import math

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from search_spaces.measures.measure import Measure
from search_spaces.pattern import ConnectionPattern


def adjacency_spectrum(pattern: ConnectionPattern) -> NDArray[np.float64]:
    """Return the eigenvalues of the adjacency matrix, ascending; shape (L + 1,)."""
    return _eigenvalues(_adjacency(pattern))


def laplacian_spectrum(pattern: ConnectionPattern) -> NDArray[np.float64]:
    """Return the eigenvalues of the Laplacian (degrees less adjacency), ascending; shape (L + 1,)."""
    adjacency = _adjacency(pattern)
    return _eigenvalues(np.diag(adjacency.sum(axis=1)) - adjacency)


def _eigenvalues(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.eigvalsh(matrix), np.float64)


def _adjacency(pattern: ConnectionPattern) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = nx.to_numpy_array(pattern.graph(), nodelist=range(pattern.depth + 1))
    return matrix + matrix.T


SPECTRA = (
    Measure(
        "largest_eigenvalue",
        "Largest eigenvalue of the adjacency matrix of the undirected graph.",
        "Cvetković, Doob and Sachs, Spectra of Graphs, 1980",
        "number",
        1,
        math.inf,
        lambda pattern, reads: float(adjacency_spectrum(pattern)[-1]),
    ),
    Measure(
        "second_eigenvalue",
        "Second largest eigenvalue of the adjacency matrix of the undirected graph.",
        "Cvetković, Doob and Sachs, Spectra of Graphs, 1980",
        "number",
        -1,
        math.inf,
        lambda pattern, reads: float(adjacency_spectrum(pattern)[-2]),
    ),
    Measure(
        "fiedler_value",
        "Second smallest eigenvalue of the Laplacian of the undirected graph: its algebraic connectivity.",
        "Fiedler, Czechoslovak Mathematical Journal 23, 1973",
        "number",
        0,
        math.inf,
        lambda pattern, reads: float(laplacian_spectrum(pattern)[1]),
    ),
)
