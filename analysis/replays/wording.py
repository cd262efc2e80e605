"""Regrets as rows of a table and as sentences."""

from typing import Any

import pandas as pd

from analysis.page.wording import format_interval, format_signed
from analysis.replays.regret import Measured, Noise, Proposals, Regrets, StrategyComparison
from analysis.replays.table import JudgedBy

GRID = (5, 10, 20, 30, 40, 50, 60, 90, 120, 180, 240, 300)  # numbers of trainings in a printed table, before the last
REGRET_UNITS: dict[JudgedBy, str] = {"loss": "log validation loss", "accuracy": "validation accuracy"}


def choose_grid(n_trainings: int) -> tuple[int, ...]:
    """Return the numbers of trainings that a printed table shows.

    >>> choose_grid(100), choose_grid(4)
    ((5, 10, 20, 30, 40, 50, 60, 90, 100), (4,))
    """
    return (*(count for count in GRID if count < n_trainings), n_trainings)


def tabulate_regret(regrets: Regrets) -> list[dict[str, Any]]:
    """Return the curves' rows at choose_grid, with each strategy's verdict and the noise; None where missing."""
    comparisons = {comparison.strategy: comparison for comparison in regrets.comparisons}
    noise = regrets.noise
    grid = choose_grid(int(regrets.curves["trainings"].max()))
    rows = []
    for row in regrets.curves[regrets.curves["trainings"].isin(grid)].to_dict("records"):
        plain = {str(name): None if pd.isna(value) else value for name, value in row.items()}
        comparison = comparisons.get(row["strategy"])
        proposals = regrets.proposals[row["strategy"]]
        rows.append(
            plain
            | {"random_trainings": regrets.n_random, "verdict": comparison and comparison.verdict}
            | _spread("mean_difference", None if comparison is None else comparison.difference)
            | {"trainings_to_match_random": comparison and comparison.match.value}
            | _spread("proposals_rank", proposals.rank)
            | _spread("proposals_median", proposals.median)
            | {
                "reliability_visible": noise and noise.visible,
                "reliability_judges": noise and noise.judges,
                "p_value_patterns": noise and noise.p_value,
            }
        )
    return rows


def _spread(name: str, measured: Measured | None) -> dict[str, float | None]:
    value, low, high = measured or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def describe_noise(noise: Noise | None, n_visible: int, n_judges: int) -> str:
    """Say how well the seeds distinguish the patterns, in a sentence without its full stop."""
    if noise is None:
        return "all patterns have the same mean: no search can do better than another"
    if noise.is_all:
        return (
            f"these seeds do not tell the patterns apart (F test, p = {noise.p_value:.2f}): no search can be seen to "
            "do well on this table"
        )
    return (
        f"the patterns differ by {noise.pattern_sd:.4f} (standard deviation without noise), and one training is off by "
        f"{noise.training_sd:.4f}; a mean over visible seeds ({n_visible}) has reliability {noise.visible:.2f}, over "
        f"judging seeds ({n_judges}) {noise.judges:.2f}"
    )


def describe_comparison(comparison: StrategyComparison) -> str:
    """Return a strategy's verdict as a sentence without its full stop.

    >>> describe_comparison(StrategyComparison("x", Measured(-0.2, -0.3, -0.1), "better", Measured(9, 8, 20)))
    "x: better, mean regret less random's -0.2000 (-0.3000 to -0.1000)"
    """
    return f"{comparison.strategy}: {comparison.verdict}, mean regret less random's {_format(comparison.difference)}"


def describe_proposals(strategy: str, proposals: Proposals) -> str:
    """Say how good a strategy's proposals are, as a sentence without its full stop.

    >>> describe_proposals("x", Proposals(Measured(0.2, 0.1, 0.25), Measured(-1.5, -1.6, -1.4)))
    'proposals of x: better than 80 % of the table (75 to 90), median -1.5000 (-1.6000 to -1.4000)'
    """
    rank, low, high = (None if end is None else 100 * (1 - end) for end in proposals.rank)
    if rank is None:
        return f"proposals of {strategy}: none"
    ends = "" if low is None or high is None else f" ({high:.0f} to {low:.0f})"
    return f"proposals of {strategy}: better than {rank:.0f} % of the table{ends}, median {_format(proposals.median)}"


def _format(measured: Measured) -> str:
    value, low, high = measured
    return format_signed(value, 4) + ("" if low is None else f" ({format_interval(low, high, 4)})")


def describe_need(row: dict[str, Any], n_random: int) -> str:
    """Say how many trainings random needs for a strategy's regret.

    Args:
        row: random_needs with its ends, missing where none of n_random random trainings was enough.

    >>> describe_need({"random_needs": 95, "random_needs_low": 60, "random_needs_high": None}, 200)
    '95 (60 to over 200)'
    >>> describe_need({"random_needs": None, "random_needs_low": 170, "random_needs_high": None}, 200)
    'not reached in 200 (170 to over 200)'
    >>> describe_need({"random_needs": None, "random_needs_low": None, "random_needs_high": None}, 200)
    'not reached in 200'
    """
    low, high = (row[f"random_needs_{end}"] for end in ("low", "high"))
    need = f"not reached in {n_random}" if row["random_needs"] is None else f"{row['random_needs']:.0f}"
    if low is None:
        return need
    return f"{need} ({low:.0f} to {f'over {n_random}' if high is None else f'{high:.0f}'})"
