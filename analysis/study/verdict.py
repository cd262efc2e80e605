"""The verdict on a stratum in words, by rules that were written down before the first training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

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

LOW_CEILING = 0.5  # below it a perfect predictor would hardly differ from seed noise
NOT_LEARNED = "not_learned"  # comes before the protocol's rules, which are for networks that learned something
SCOPE = "at this schedule and one shared learning rate"
IN_WORDS = {
    "supported": "supported",
    "reversed": "reversed",
    "explained_by_span": "explained by span",
    "u_shaped": "u-shaped",
    "negligible": "negligible",
    "mixed": "mixed",
    "inconclusive": "inconclusive",
    NOT_LEARNED: "not learned",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a stratum, or on all of them.

    Args:
        status: one of protocol.STATUSES or NOT_LEARNED, or mixed for strata that differ.
        sentence: the verdict for a reader, without its full stop.
        reason: short detail to add to the status; usually empty.
    """

    status: str
    sentence: str
    reason: str = ""

    @property
    def words(self) -> str:
        """The status in words, followed by its reason."""
        return IN_WORDS[self.status] + (f" ({self.reason})" if self.reason else "")


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
        n_patterns: number of sampled patterns.
        n_seeds: number of seeds that a fully trained pattern has.
        ceiling: the largest correlation that seed noise leaves, or None. Where it is low, the sentence says that what
            was not detected may still be there.
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
    partial = primary.partial
    if partial.value is None or partial.low is None or partial.high is None:
        name, outcome = _name_variables(primary)
        return _conclude(
            "inconclusive",
            f"not defined: among these {primary.n_patterns} patterns {name} or {outcome} does not vary beyond span",
        )
    return _judge_defined(primary, partial.value, (partial.low, partial.high), n_seeds, ceiling)


def _judge_defined(
    primary: Primary, value: float, interval: tuple[float, float], n_seeds: int, ceiling: float | None
) -> Verdict:
    """Apply the rule of curvature and those after it; `value` and `interval` are of the partial correlation."""
    low, high = interval
    name, outcome = _name_variables(primary)
    numbers = (
        f"partial rho = {format_signed(value)} given span, {100 * CONFIDENCE:.0f} % interval "
        f"{format_interval(low, high)}, p (Holm) {_format_p(primary, 'distance')}, "
        f"n={primary.n_patterns} patterns x {_seeds(n_seeds)}"
    )
    if _is_detected(primary, "curvature") and primary.is_inside:
        middle = "best" if primary.middle_is_best else "worst"
        return _conclude(
            "u_shaped",
            f"{outcome} is {middle} at a middling {name}, turning at {primary.turning_point:.2f} hops, p (Holm) "
            f"{_format_p(primary, 'curvature')} ({numbers})",
        )
    is_apart, is_small = low > 0 or high < 0, low > -MARGIN and high < MARGIN
    is_detected = _is_detected(primary, "distance") and is_apart
    if is_detected and not is_small:
        # A positive coefficient means that a shorter distance goes with a lower outcome.
        status = "supported" if (value > 0) == LOWER_IS_BETTER[primary.outcome] else "reversed"
        level = "lower" if value > 0 else "higher"
        return _conclude(status, f"shorter {name} goes with {level} {outcome}, beyond span ({numbers})")
    numbers += _list_doubts(primary, is_apart, None if is_detected else ceiling)
    excluded = f"partial correlations beyond \u00b1{max(abs(low), abs(high)):.2f} are excluded"
    beyond = f"detected but small; {excluded}" if is_detected else f"not detected; {excluded}"
    if _is_detected(primary, "span"):
        how, reason = _describe_span(primary)
        return _conclude(
            "explained_by_span",
            f"{outcome} goes with span, given {name}: {how}, p (Holm) {_format_p(primary, 'span')}; beyond span {name} "
            f"was {beyond} ({numbers})",
            reason,
        )
    relation = f"a relation of {name} with {outcome} beyond span was {beyond} ({numbers})"
    if is_small:
        return _conclude("negligible", relation)
    needed = count_patterns(primary.n_patterns, low, high)
    return _conclude(
        "inconclusive",
        f"{relation}; about {needed} patterns at as many seeds would settle whether it is within \u00b1{MARGIN:g}",
    )


def _list_doubts(primary: Primary, is_apart: bool, ceiling: float | None) -> str:
    """Say where test and interval disagree, and where seed noise may have hidden a relation."""
    doubts = ""
    if is_apart and not _is_detected(primary, "distance"):
        doubts += (
            f"; the interval of this one correlation leaves out 0, but what decides is the p of its test, adjusted "
            f"by Holm for all primary tests of all strata, and {_format_p(primary, 'distance')} is above {ALPHA:g}"
        )
    if not is_apart and _is_detected(primary, "distance"):
        doubts += f"; the p of its test is not above {ALPHA:g}, but the interval contains 0, and both have to agree"
    if ceiling is not None and ceiling < LOW_CEILING:
        doubts += (
            f"; the seeds hardly tell these patterns apart, noise ceiling {ceiling:.2f}, so a relation that more seeds "
            "would show is not excluded"
        )
    return doubts


def _describe_span(primary: Primary) -> tuple[str, str]:
    """Say how an outcome goes with span: in a clause, and in two or three words.

    A straight line may show no correlation at all where the outcome first falls and then rises with span.
    """
    if primary.span_is_inside and primary.span_turning_point is not None:
        middle = "best" if primary.middle_span_is_best else "worst"
        turn = f"{primary.span_turning_point:.1f}"
        return (
            f"a curve, {middle} at a middling span of about {turn}, so a straight-line correlation with span may miss "
            "part or all of it",
            f"a curve, {middle} near {turn}",
        )
    if not primary.span_partial:
        return "no overall rise or fall", "a curve"
    level = "higher" if primary.span_partial > 0 else "lower"
    is_better = (primary.span_partial < 0) == LOWER_IS_BETTER[primary.outcome]
    return f"the longer, the {level}", f"longer is {'better' if is_better else 'worse'}"


def count_patterns(n_patterns: int, low: float, high: float) -> int:
    """Return how many patterns put an interval around a true 0 inside +-MARGIN with the chance SETTLED.

    The interval's half width in Fisher's z shrinks as 1 / sqrt(n - 5): 3 as for a plain correlation, and 2 for the two
    terms of span given.

    >>> count_patterns(60, -0.25, 0.27), count_patterns(229, -0.13, 0.13)
    (265, 260)
    """
    clipped = (min(max(bound, -0.999), 0.999) for bound in (low, high))
    first, last = (math.atanh(bound) for bound in clipped)
    normal = NormalDist()
    outer, inner = normal.inv_cdf((1 + CONFIDENCE) / 2), normal.inv_cdf((1 + SETTLED) / 2)
    target = math.atanh(MARGIN) * outer / (outer + inner)
    return 5 + math.ceil((n_patterns - 5) * ((last - first) / 2 / target) ** 2)


def summarise_verdicts(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Return one verdict over several strata: the common one if all agree, otherwise mixed, listing each.

    Args:
        verdicts: name of a stratum -> its verdict.

    Raises:
        ValueError: no stratum.
    """
    if not verdicts:
        raise ValueError("there is no stratum to summarise; give at least one")
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    by_status: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        reason = f": {verdict.reason}" if verdict.reason else ""
        by_status.setdefault(verdict.status, []).append(name + reason)
    if len(by_status) == 1:
        (status, names), *_ = by_status.items()
        return Verdict(status, f"{IN_WORDS[status]} in all {len(names)} strata, {SCOPE} in each: {'; '.join(names)}")
    # Strata without evidence come first.
    ordered = sorted(by_status.items(), key=lambda pair: pair[0] != NOT_LEARNED)
    parts = [f"{IN_WORDS[status]} in {len(names)} ({'; '.join(names)})" for status, names in ordered]
    return Verdict("mixed", f"mixed over {len(verdicts)} strata: {', '.join(parts)}, {SCOPE} in each")


def _is_detected(primary: Primary, name: str) -> bool:
    p_holm = primary.test(name).p_holm
    return p_holm is not None and p_holm <= ALPHA


def _format_p(primary: Primary, name: str) -> str:
    return format_p(primary.test(name).p_holm)


def _name_variables(primary: Primary) -> tuple[str, str]:
    return name_distance(primary.distance), primary.outcome.replace("_", " ")


def _seeds(n_seeds: int) -> str:
    return f"{n_seeds} seed{'' if n_seeds == 1 else 's'}"


def _conclude(status: str, text: str, reason: str = "") -> Verdict:
    return Verdict(status, f"{Verdict(status, '', reason).words}: {text}, {SCOPE}", reason)
