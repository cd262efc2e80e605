"""the primary tests -> one of six findings, by rules written down beforehand, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from analysis.inference import Primary
from analysis.protocol import (
    ADVISED,
    ALPHA,
    CONFIDENCE,
    LOWER_IS_BETTER,
    MARGIN,
    MIN_PATTERNS,
    SETTLED,
    name_distance,
)

LOW_CEILING = 0.5  # below it a perfect predictor would hardly be told from seed noise
SCOPE = "at this schedule and one shared learning rate"
IN_WORDS = {
    "supported": "supported",
    "reversed": "reversed",
    "explained_by_span": "explained by span",
    "u_shaped": "u-shaped",
    "negligible": "negligible",
    "inconclusive": "inconclusive",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """status: one of protocol.STATUSES, or mixed in a headline over strata; sentence: for a reader, no full stop."""

    status: str
    sentence: str


class Judged(Protocol):
    """What a headline needs of a stratum."""

    @property
    def budget(self) -> str: ...
    @property
    def layers(self) -> int: ...
    @property
    def regime(self) -> str | None: ...
    @property
    def verdict(self) -> Verdict: ...


def judge(primary: Primary | None, n_patterns: int, n_seeds: int, ceiling: float | None = None) -> Verdict:
    """The verdict on one stratum, by the rules of describe_protocol in their order.

    Args:
        primary: adjusted tests; None where too few patterns have a comparable outcome.
        n_patterns, n_seeds: sampled patterns, and seeds that a fully trained one has.
        ceiling: the largest correlation that seed noise leaves, or None; where it is low, what was not detected may be
            there all the same, and the sentence says so.
    """
    if n_patterns < MIN_PATTERNS:
        return _conclude(
            "inconclusive",
            f"too few patterns to say: {n_patterns} sampled at random or by design over {_seeds(n_seeds)}, at least "
            f"{MIN_PATTERNS} are needed and about {ADVISED} advised",
        )
    if primary is None:
        return _conclude(
            "inconclusive",
            f"not defined: of {n_patterns} patterns fewer than {MIN_PATTERNS} have an outcome comparable across seeds",
        )
    name, outcome = name_distance(primary.distance), primary.outcome.replace("_", " ")
    partial = primary.partial
    if partial.value is None or partial.low is None or partial.high is None:
        return _conclude(
            "inconclusive",
            f"not defined: among these {primary.n_patterns} patterns {name} or {outcome} does not vary beyond span",
        )
    return _judge_defined(primary, name, outcome, (partial.value, partial.low, partial.high), n_seeds, ceiling)


def _judge_defined(
    primary: Primary,
    name: str,
    outcome: str,
    partial: tuple[float, float, float],
    n_seeds: int,
    ceiling: float | None,
) -> Verdict:
    value, low, high = partial
    told = (
        f"partial rho = {value:+.2f} given span, {100 * CONFIDENCE:.0f} % interval {low:+.2f} to {high:+.2f}, "
        f"n={primary.n_patterns} patterns x {_seeds(n_seeds)}"
    )
    is_small = low > -MARGIN and high < MARGIN
    if _is_detected(primary, "curvature") and primary.is_inside:
        middle = "best" if primary.middle_is_best else "worst"
        return _conclude(
            "u_shaped",
            f"{outcome} is {middle} at a middling {name}, turning at {primary.turning_point:.2f} hops ({told})",
        )
    is_detected = _is_detected(primary, "distance") and (low > 0 or high < 0)
    if is_detected and not is_small:
        # A positive coefficient says that a shorter distance goes with a lower outcome.
        status = "supported" if (value > 0) == LOWER_IS_BETTER[primary.outcome] else "reversed"
        level = "lower" if value > 0 else "higher"
        return _conclude(status, f"shorter {name} goes with {level} {outcome}, beyond span ({told})")
    excluded = f"partial correlations beyond \u00b1{max(abs(low), abs(high)):.2f} are excluded"
    beyond = f"detected but small; {excluded}" if is_detected else f"not detected; {excluded}"
    if not is_detected and ceiling is not None and ceiling < LOW_CEILING:
        told += (
            f"; the seeds hardly tell these patterns apart, noise ceiling {ceiling:.2f}, so a relation that more seeds "
            "would show is not excluded"
        )
    if _is_detected(primary, "span"):
        return _conclude(
            "explained_by_span", f"{outcome} goes with span, straight or curved; beyond it {name} was {beyond} ({told})"
        )
    relation = f"a relation of {name} with {outcome} beyond span was {beyond}"
    if is_small:
        return _conclude("negligible", f"{relation} ({told})")
    needed = count_patterns(primary.n_patterns, low, high)
    return _conclude(
        "inconclusive",
        f"{relation} ({told}); about {needed} patterns at as many seeds would settle whether it is within "
        f"\u00b1{MARGIN:g}",
    )


def count_patterns(n_patterns: int, low: float, high: float) -> int:
    """Patterns at which the interval around a true 0 would lie inside +-MARGIN with the chance SETTLED.

    The interval's half width in Fisher's z shrinks as 1 / sqrt(n - 5), two patterns fewer than a plain correlation's 3
    for the two terms of span held.

    >>> count_patterns(60, -0.25, 0.27), count_patterns(229, -0.13, 0.13)
    (265, 260)
    """
    clipped = (min(max(bound, -0.999), 0.999) for bound in (low, high))
    first, last = (math.atanh(bound) for bound in clipped)
    normal = NormalDist()
    outer, inner = normal.inv_cdf((1 + CONFIDENCE) / 2), normal.inv_cdf((1 + SETTLED) / 2)
    target = math.atanh(MARGIN) * outer / (outer + inner)
    return 5 + math.ceil((n_patterns - 5) * ((last - first) / 2 / target) ** 2)


def summarise_verdicts(strata: Sequence[Judged]) -> Verdict:
    """One sentence over several strata: that all agree, or which say what; status mixed where they differ.

    Raises:
        ValueError: no stratum.
    """
    if not strata:
        raise ValueError("there is no stratum to summarise; give one at least")
    if len(strata) == 1:
        return strata[0].verdict
    by_status: dict[str, list[str]] = {}
    for one in strata:
        regime = f", {one.regime}" if one.regime is not None else ""
        by_status.setdefault(one.verdict.status, []).append(f"{one.layers} layers at {one.budget}{regime}")
    if len(by_status) == 1:
        (status, names), *_ = by_status.items()
        return Verdict(status, f"{IN_WORDS[status]} in all {len(names)} strata, {SCOPE} in each: {'; '.join(names)}")
    parts = [f"{IN_WORDS[status]} in {len(names)} ({'; '.join(names)})" for status, names in by_status.items()]
    return Verdict("mixed", f"mixed over {len(strata)} strata: {', '.join(parts)}, {SCOPE} in each")


def _is_detected(primary: Primary, name: str) -> bool:
    p_holm = primary.test(name).p_holm
    return p_holm is not None and p_holm <= ALPHA


def _seeds(n_seeds: int) -> str:
    return f"{n_seeds} seed{'' if n_seeds == 1 else 's'}"


def _conclude(status: str, text: str) -> Verdict:
    return Verdict(status, f"{IN_WORDS[status]}: {text}, {SCOPE}")
