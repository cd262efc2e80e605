"""the primary tests -> one of six findings, by rules written down beforehand, or that nothing was learned; in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from analysis.data.protocol import (
    ADVISED,
    ALPHA,
    CONFIDENCE,
    LOWER_IS_BETTER,
    MARGIN,
    MIN_PATTERNS,
    SETTLED,
    name_distance,
)
from analysis.page.wording import format_interval, format_p, format_signed
from analysis.stats.guessing import Learning, explain_unlearned
from analysis.stats.inference import Primary

LOW_CEILING = 0.5  # below it a perfect predictor would hardly be told from seed noise
NOT_LEARNED = "not_learned"  # said before the rules of the protocol, which are of networks that learned something
SCOPE = "at this schedule and one shared learning rate"
IN_WORDS = {
    "supported": "supported",
    "reversed": "reversed",
    "explained_by_span": "explained by span",
    "u_shaped": "u-shaped",
    "negligible": "negligible",
    "inconclusive": "inconclusive",
    NOT_LEARNED: "not learned",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stratum, or all of them, say.

    Args:
        status: one of protocol.STATUSES or NOT_LEARNED, or mixed in a headline over strata.
        sentence: for a reader, without its full stop.
        reason: what the status does not say by itself, in two or three words; mostly empty.
    """

    status: str
    sentence: str
    reason: str = ""

    @property
    def words(self) -> str:
        """The status in words, its reason next to it."""
        return IN_WORDS[self.status] + (f" ({self.reason})" if self.reason else "")


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


def judge(
    primary: Primary | None,
    n_patterns: int,
    n_seeds: int,
    ceiling: float | None = None,
    learning: Learning | None = None,
) -> Verdict:
    """Return the verdict on one stratum: NOT_LEARNED, or by the rules of describe_protocol in their order.

    Args:
        primary: adjusted tests; None where too few patterns have a comparable outcome.
        n_patterns, n_seeds: sampled patterns, and seeds that a fully trained one has.
        ceiling: the largest correlation that seed noise leaves, or None; where it is low, what was not detected may be
            there all the same, and the sentence says so.
        learning: mean accuracy of all the stratum's networks next to what guessing reaches; None where it is not known.
    """
    if learning is not None and not learning.is_better:
        return _conclude(
            NOT_LEARNED,
            f"{explain_unlearned(learning)}; so nothing is known about where connections go, and more patterns would "
            "not change that",
        )
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
    p_holm = primary.test("distance").p_holm
    told = (
        f"partial rho = {format_signed(value)} given span, {100 * CONFIDENCE:.0f} % interval "
        f"{format_interval(low, high)}, p (Holm) {format_p(p_holm)}, "
        f"n={primary.n_patterns} patterns x {_seeds(n_seeds)}"
    )
    is_small = low > -MARGIN and high < MARGIN
    if _is_detected(primary, "curvature") and primary.is_inside:
        middle = "best" if primary.middle_is_best else "worst"
        return _conclude(
            "u_shaped",
            f"{outcome} is {middle} at a middling {name}, turning at {primary.turning_point:.2f} hops, p (Holm) "
            f"{format_p(primary.test('curvature').p_holm)} ({told})",
        )
    is_apart = low > 0 or high < 0
    is_detected = _is_detected(primary, "distance") and is_apart
    if is_detected and not is_small:
        # A positive coefficient says that a shorter distance goes with a lower outcome.
        status = "supported" if (value > 0) == LOWER_IS_BETTER[primary.outcome] else "reversed"
        level = "lower" if value > 0 else "higher"
        return _conclude(status, f"shorter {name} goes with {level} {outcome}, beyond span ({told})")
    excluded = f"partial correlations beyond \u00b1{max(abs(low), abs(high)):.2f} are excluded"
    beyond = f"detected but small; {excluded}" if is_detected else f"not detected; {excluded}"
    if is_apart and not is_detected:
        told += (
            f"; the interval of this one correlation leaves out 0, but what decides is the p of its test, adjusted "
            f"by Holm for all primary tests of all strata, and {format_p(p_holm)} is above {ALPHA:g}"
        )
    if not is_apart and _is_detected(primary, "distance"):
        told += f"; the p of its test is not above {ALPHA:g}, but the interval holds 0, and both have to agree"
    if not is_detected and ceiling is not None and ceiling < LOW_CEILING:
        told += (
            f"; the seeds hardly tell these patterns apart, noise ceiling {ceiling:.2f}, so a relation that more seeds "
            "would show is not excluded"
        )
    if _is_detected(primary, "span"):
        how, reason = _describe_span(primary)
        return _conclude(
            "explained_by_span",
            f"{outcome} goes with span, {name} held: {how}, p (Holm) {format_p(primary.test('span').p_holm)}; beyond "
            f"span {name} was {beyond} ({told})",
            reason,
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


def _describe_span(primary: Primary) -> tuple[str, str]:
    """How an outcome goes with span: in a clause, and in two or three words.

    Span alone may show no correlation at all where the outcome first falls and then rises with it.
    """
    if primary.span_is_inside and primary.span_turning_point is not None:
        middle = "best" if primary.middle_span_is_best else "worst"
        turn = f"{primary.span_turning_point:.1f}"
        return (
            f"a curve, {middle} at a middling span of about {turn}, so that span alone, as a straight line, may show "
            "less of it or nothing",
            f"a curve, {middle} near {turn}",
        )
    if not primary.span_partial:
        return "neither up nor down alone", "a curve"
    level = "higher" if primary.span_partial > 0 else "lower"
    is_better = (primary.span_partial < 0) == LOWER_IS_BETTER[primary.outcome]
    return f"the longer, the {level}", f"longer is {'better' if is_better else 'worse'}"


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
        reason = f": {one.verdict.reason}" if one.verdict.reason else ""
        by_status.setdefault(one.verdict.status, []).append(f"{one.layers} layers at {one.budget}{regime}{reason}")
    if len(by_status) == 1:
        (status, names), *_ = by_status.items()
        return Verdict(status, f"{IN_WORDS[status]} in all {len(names)} strata, {SCOPE} in each: {'; '.join(names)}")
    # What is no evidence comes before what is.
    ordered = sorted(by_status.items(), key=lambda pair: pair[0] != NOT_LEARNED)
    parts = [f"{IN_WORDS[status]} in {len(names)} ({'; '.join(names)})" for status, names in ordered]
    return Verdict("mixed", f"mixed over {len(strata)} strata: {', '.join(parts)}, {SCOPE} in each")


def _is_detected(primary: Primary, name: str) -> bool:
    p_holm = primary.test(name).p_holm
    return p_holm is not None and p_holm <= ALPHA


def _seeds(n_seeds: int) -> str:
    return f"{n_seeds} seed{'' if n_seeds == 1 else 's'}"


def _conclude(status: str, text: str, reason: str = "") -> Verdict:
    return Verdict(status, f"{Verdict(status, '', reason).words}: {text}, {SCOPE}", reason)
