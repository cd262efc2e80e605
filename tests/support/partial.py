"""Partial rank correlations by another formula than the program's: ranks, and what a QR basis leaves of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata


def find_partial(patterns: pd.DataFrame, measure: str, outcome: str, held: Sequence[str]) -> float:
    """The rank correlation of two columns, ranks of others and their squares held."""
    ranks = {name: rankdata(patterns[name]) for name in (measure, outcome, *held)}
    own, other = (_regress_out(ranks[name], [ranks[each] for each in held]) for name in (measure, outcome))
    return float(own @ other / np.sqrt((own @ own) * (other @ other)))


def _regress_out(values: NDArray[np.float64], held: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    columns = [np.ones(len(values)), *held, *(np.square(each - each.mean()) for each in held)]
    basis, _ = np.linalg.qr(np.column_stack(columns))
    residual: NDArray[np.float64] = values - basis @ (basis.T @ values)
    return residual
