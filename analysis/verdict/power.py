"""What a planned study can reach: the smallest effect that it detects, and from when an effect of 0 is negligible."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from scipy.special import fdtrc, fdtri, ndtri  # scipy.stats would take half a second to import

from analysis.data.protocol import ALPHA, CONTROL_SETS, MARGIN, N_HELD, POWER, SAMPLED, list_declared
from analysis.stats.grouped import RANK_VARIANCE

MOST_SEEDS = 200
RELIABILITIES = (0.1, 0.3)  # of one seed's validation loss, seen in short trainings


def detectable_correlation(n_patterns: int, n_tests: int = 1) -> float | None:
    """Return the smallest partial |rank correlation| of pattern means that is found with POWER, two-sided at ALPHA.

    None where so few patterns cannot show any correlation.

    >>> round(detectable_correlation(93), 2), detectable_correlation(7)
    (0.3, None)
    """
    n_free = n_patterns - 3 - N_HELD
    if n_free < 1:
        return None
    wanted = float(ndtri(1 - ALPHA / (2 * n_tests)) + ndtri(POWER))  # Holm's first step is Bonferroni's
    return math.tanh(wanted * math.sqrt(RANK_VARIANCE / n_free))


def count_for_negligible(ceiling: float = 1.0) -> int:
    """Return from how many patterns, summed over strata, an effect of 0 is found negligible with POWER.

    Args:
        ceiling: largest correlation that the noise leaves beyond what is held, in (0, 1].

    >>> count_for_negligible(), count_for_negligible(0.7)
    (216, 439)
    """
    # Both one-sided tests reject if the estimate lies this many standard errors inside the margin.
    wanted = float(ndtri(1 - ALPHA) + ndtri((1 + POWER) / 2))
    return 3 + N_HELD + math.ceil((wanted / math.atanh(MARGIN * ceiling)) ** 2)


def count_seeds(single_seed: float, n_patterns: int) -> int | None:
    """Return from how many seeds the F test finds with POWER that patterns differ; None beyond MOST_SEEDS.

    With random patterns the F of k seeds is one of equal patterns times 1 + k v, v being the variance of a pattern over
    that of the noise.

    Args:
        single_seed: share of one training's variance that is the pattern's, below 1.

    >>> count_seeds(0.1, 72), count_seeds(0.5, 72), count_seeds(0.0, 72)
    (6, 2, None)
    """
    if n_patterns < 2 or single_seed <= 0:
        return None
    ratio = single_seed / max(1 - single_seed, 1e-12)
    for n_seeds in range(2, MOST_SEEDS + 1):
        freedom = (n_patterns - 1, (n_patterns - 1) * (n_seeds - 1))
        critical = fdtri(*freedom, 1 - ALPHA)
        if fdtrc(*freedom, critical / (1 + n_seeds * ratio)) >= POWER:
            return n_seeds
    return None


def correct_attenuation(correlation: float, reliability: float, n_seeds: int) -> float | None:
    """Return the true correlation that noise reduces to this one (Spearman-Brown, then Spearman's attenuation).

    Args:
        correlation: correlation with means over n_seeds.
        reliability: share of one training's variance that lies between patterns, in (0, 1].

    Returns:
        In [0, 1]; None where not even a true correlation of 1 would show so much.

    >>> round(correct_attenuation(0.25, 0.1, 3), 2), correct_attenuation(0.9, 0.1, 3)
    (0.5, None)
    """
    mean_reliability = n_seeds * reliability / (1 + (n_seeds - 1) * reliability)
    true = correlation / math.sqrt(mean_reliability)
    return true if true <= 1 else None


def count_tests(n_measures: int, n_strata: int) -> int:
    """Return how many tests Holm's adjustment runs over: every control and the shape, and every control pooled.

    >>> count_tests(1, 1), count_tests(3, 3)
    (5, 57)
    """
    n_pooled = len(CONTROL_SETS) if n_strata > 1 else 0
    return n_measures * (n_strata * (len(CONTROL_SETS) + 1) + n_pooled)


def count_pattern_strata(plan: Mapping[str, Any]) -> int:
    """Return how many sampled patterns a plan trains, counted in each judged stratum that trains them."""
    judged = _name_judged(plan)
    trained = {(judged[place], number) for place, number, _ in plan["order"] if judged[place] is not None}
    return sum(plan["patterns"][number]["strategy"] in SAMPLED for _, number in trained)


def _name_judged(plan: Mapping[str, Any]) -> list[tuple[Any, ...] | None]:
    """Return the judged stratum that each of a plan's belongs to, or None for checks.

    Regimes of single learning rates that a study tunes are one stratum: that of each pattern at its best rate.
    """
    return [
        None if stratum["checks"] is not None
        else (stratum["layers"], "tuned") if stratum.get("tuned")
        else (stratum["layers"], "regime", stratum["regime"])
        for stratum in plan["strata"]
    ]  # fmt: skip


def describe_power(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe what each stratum of a study's plan trains and can detect.

    Returns:
        One dict for each stratum, in the plan's order: stratum, trainings, patterns by strategy, a sentence, and except
        for checks n_sampled and detectable (by detectable_correlation, over all declared tests).
    """
    n_tests = count_tests(len(list_declared(plan)), len({*_name_judged(plan)} - {None}))
    n_seeds = plan["settings"]["seeds"]
    described = []
    for place, stratum in enumerate(plan["strata"]):
        numbers = [number for stratum_place, number, _ in plan["order"] if stratum_place == place]
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
        is_seen = "out of reach" if true is None else f"{true:.2f}"
        parts.append(f"{is_seen} if one seed's reliability is {reliability:g}")
    return (
        f"detects with {100 * POWER:.0f} % chance a correlation of pattern means of {detectable:.2f}; "
        f"without the seeds' noise that is {', '.join(parts)}"
    )
