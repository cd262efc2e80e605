"""named templates and the random sample side by side, paired by seed."""

from dataclasses import dataclass

import pandas as pd

from analysis.averages import average_patterns


@dataclass(frozen=True, slots=True)
class Comparison:
    """One template, or all random patterns as one, against the best template.

    Args:
        name: the template's, or the strategy's for a sample.
        n_patterns: 1 for a template.
        mean, standard_error: validation accuracy over seeds, 0..1; standard_error is None for one seed.
        difference, difference_error: to the best template, mean and standard error over the seeds both have, which
            take out what a seed does to both; None for the best itself, and the error for fewer than two seeds.
    """

    name: str
    n_patterns: int
    n_seeds: int
    mean: float
    standard_error: float | None
    difference: float | None
    difference_error: float | None
    n_shared_seeds: int


def compare_templates(complete: pd.DataFrame) -> tuple[Comparison, ...]:
    """Every named template and the mean random pattern, the best template first and the sample last.

    Args:
        complete: complete candidates of one stratum.
    """
    patterns = average_patterns(complete)
    names = patterns.dropna(subset=["template"])
    pairs: list[tuple[str, str]] = list(zip(names["template"].tolist(), names["key"].tolist(), strict=True))
    by_seed = {name: _by_seed(complete, [key]) for name, key in pairs}
    n_patterns = dict.fromkeys(by_seed, 1)
    sampled = patterns.loc[(patterns["strategy"] == "random") & patterns["all_seeds"], "key"].tolist()
    if sampled:
        # Only patterns complete at every seed: the mean at each seed is then over the same patterns.
        label = f"random (mean of {len(sampled)})"
        by_seed[label], n_patterns[label] = _by_seed(complete, sampled), len(sampled)
    best = next(iter(by_seed)) if pairs else None
    return tuple(_compare(name, n_patterns[name], by_seed, best) for name in by_seed)


def _by_seed(complete: pd.DataFrame, keys: list[str]) -> "pd.Series[float]":
    rows = complete[complete["key"].isin(keys)]
    return rows.groupby("seed")["validation_accuracy"].mean()


def _compare(name: str, n_patterns: int, by_seed: dict[str, "pd.Series[float]"], best: str | None) -> Comparison:
    own = by_seed[name]
    mean, error = _mean_and_error(own)
    differences = (own - by_seed[best]).dropna() if best is not None and best != name else own.iloc[:0]
    difference, difference_error = _mean_and_error(differences) if len(differences) else (None, None)
    return Comparison(name, n_patterns, len(own), mean, error, difference, difference_error, len(differences))


def _mean_and_error(values: "pd.Series[float]") -> tuple[float, float | None]:
    n = len(values)
    return float(values.mean()), float(values.std() / n**0.5) if n > 1 else None
