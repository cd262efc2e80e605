"""how strong a correlation a study can detect."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from scipy.stats import norm

from analysis.protocol import ALPHA, SAMPLED, TESTS

POWER = 0.80
RANK_VARIANCE = 1.06  # of atanh(Spearman's rho) times n - 3 (Fieller, Hartley and Pearson, Biometrika 44, 1957)
N_HELD = 2  # span and its square: each takes a pattern
RELIABILITIES = (0.1, 0.3)  # of one seed's validation loss, as short trainings have shown


def detectable_correlation(n_patterns: int, n_tests: int = 1) -> float | None:
    """The smallest |rank correlation| of pattern means found with POWER, two-sided at ALPHA over n_tests, or None.

    None: no correlation can be found with so few patterns.

    >>> round(detectable_correlation(93), 2), detectable_correlation(5)
    (0.3, None)
    """
    n_free = n_patterns - 3 - N_HELD
    if n_free < 1:
        return None
    wanted = float(norm.ppf(1 - ALPHA / (2 * n_tests)) + norm.ppf(POWER))  # Holm's first step is Bonferroni's
    return math.tanh(wanted * math.sqrt(RANK_VARIANCE / n_free))


def correct_attenuation(correlation: float, reliability: float, n_seeds: int) -> float | None:
    """The true correlation that noise brings down to this one (Spearman-Brown, then Spearman's attenuation).

    Args:
        correlation: with means over n_seeds.
        reliability: share of one training's variance that lies between patterns, in (0, 1].

    Returns:
        In [0, 1], or None where not even a true correlation of 1 would show so much.

    >>> round(correct_attenuation(0.25, 0.1, 3), 2), correct_attenuation(0.9, 0.1, 3)
    (0.5, None)
    """
    mean_reliability = n_seeds * reliability / (1 + (n_seeds - 1) * reliability)
    true = correlation / math.sqrt(mean_reliability)
    return true if true <= 1 else None


def describe_power(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each stratum of a study's plan trains and can detect.

    Returns:
        One dict a stratum, in the plan's order: stratum, trainings, patterns by strategy, and but for checks n_sampled,
        detectable (see detectable_correlation, Holm over all main strata's primary tests) and a sentence.
    """
    n_tests = len(TESTS) * sum(stratum["checks"] is None for stratum in plan["strata"])
    n_seeds = plan["settings"]["seeds"]
    described = []
    for place, stratum in enumerate(plan["strata"]):
        numbers = [number for one, number, _ in plan["order"] if one == place]
        strategies = Counter(plan["patterns"][number]["strategy"] for number in sorted(set(numbers)))
        row = {
            "stratum": f"{stratum['layers']} layers, {stratum['regime']}",
            "trainings": len(numbers),
            "patterns": dict(strategies),
        }
        if stratum["checks"] is None:
            n_sampled = sum(strategies[name] for name in SAMPLED)
            detectable = detectable_correlation(n_sampled, n_tests)
            row |= {"n_sampled": n_sampled, "detectable": detectable, "sentence": _word(detectable, n_seeds)}
        else:
            row["sentence"] = f"checks {stratum['checks']}"
        described.append(row)
    return described


def _word(detectable: float | None, n_seeds: int) -> str:
    if detectable is None:
        return "too few patterns to detect any correlation"
    parts = []
    for reliability in RELIABILITIES:
        true = correct_attenuation(detectable, reliability, n_seeds)
        parts.append(f"{'none' if true is None else f'{true:.2f}'} where one seed's reliability is {reliability:g}")
    return (
        f"detects a correlation of {detectable:.2f} between pattern means with {100 * POWER:.0f} % chance: a true one "
        f"of {', '.join(parts)}"
    )
