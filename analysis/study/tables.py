"""The statistics of one stratum: what the seeds see, the declared measures under every control, pairs, proxies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.outcomes import OutcomeName
from analysis.data.protocol import ALPHA, MEASURES, MIN_PATTERNS, SEEDS_RANDOM
from analysis.data.proxies import PROXY, list_proxies
from analysis.page.document import Block, Fold, Paragraph, Table
from analysis.page.wording import (
    NONE,
    UNITS,
    count_digits,
    enumerate_words,
    format_correlation,
    format_interval,
    format_p,
    format_signed,
    name_measure,
    name_outcome,
    name_side,
    refer_to,
)
from analysis.stats.correlations import UNDEFINED, Estimate, estimate, weighted_spearman
from analysis.stats.inference import outcome_of
from analysis.stats.resampling import design_cells
from analysis.study.levels import PairedDifference
from analysis.study.stratum import Stratum
from analysis.study.verdict import format_range
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.noise import Resolution
from analysis.verdict.rules import Judgement

CLEAR = 0.5  # |rank correlation| from which two measures are said to go together


def fold_noise(stratum: Stratum) -> Block:
    """Say whether the seeds can tell the patterns apart, which comes before anything that explains them."""
    known = {outcome: noise for outcome, noise in stratum.resolution.items() if noise is not None}
    question = "Can the seeds tell the patterns apart?"
    if not known:
        return Paragraph(f"{question} Not known: it takes at least two patterns that share at least two seeds.", "note")
    header = (
        "outcome", "F test p", "patterns' share, one training", "mean over seeds", "noise ceiling [95 %]"
    )  # fmt: skip
    first = next(iter(known.values()))
    is_found = first.p_value is not None and first.p_value < ALPHA
    answer = f"Yes: a perfect predictor would show {first.ceiling:.2f}" if is_found else "That is not shown"
    return Fold(
        f"{question} {answer} (F test, {_say_p(first.p_value)})",
        (
            Table(header, tuple(_format_noise(outcome, noise) for outcome, noise in known.items())),
            Paragraph(
                "The F test asks whether patterns differ at all. The share is that of the variance, below 0 where "
                "seeds differ more than patterns do. The noise ceiling is the correlation that a perfect predictor "
                "would show.",
                kind="note",
            ),
        ),
    )


def _say_p(p_value: float | None) -> str:
    text = format_p(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _format_noise(outcome: str, noise: Resolution) -> tuple[str, ...]:
    is_log = isinstance(outcome, OutcomeName) and outcome.is_log
    return (
        name_outcome(outcome) + (" (logarithm)" if is_log else ""),
        format_p(noise.p_value),
        f"{noise.single_seed:z.2f}",
        f"{noise.reliability:z.2f}",
        f"{noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}]",
    )


def fold_tests(stratum: Stratum) -> Block:
    """Show each declared measure under every control, how well the graph predicts, and what the numbers rest on."""
    judged = [judgement for judgement in stratum.judgements if judgement.effects]
    parts = [
        f"{name_measure(judgement.measure)} {format_range([effect.partial.value for effect in judgement.effects])}"
        for judgement in judged
    ]
    summary = f"With other measures held, correlation of {'; '.join(parts)}" if parts else "The sample"
    return Fold(summary, (*_tabulate_tests(judged), *_describe_predictions(stratum), _describe_sample(stratum)))


def _tabulate_tests(judged: Sequence[Judgement]) -> Iterator[Block]:
    for judgement in judged:
        header = (
            f"{name_measure(judgement.measure)}, with this held", "partial rank correlation", "noise ceiling",
            "p (Holm)",
        )  # fmt: skip
        yield Table(header, tuple(map(_format_effect, judgement.effects)))
    if judged:
        higher = name_side("higher", judged[0].outcome or "outcome")
        yield Paragraph(
            f"With 95 % intervals. Above 0: more of the measure goes with {higher}, while what is held and its square "
            "are taken out. The ceiling is that of a perfect predictor of what is then left. p is adjusted by Holm "
            "over all declared tests of all settings.",
            kind="note",
        )
        yield from _describe_seeds(judged)


def _format_effect(effect: ControlledEffect) -> tuple[str, ...]:
    own = effect.partial
    return (
        " and ".join(map(name_measure, effect.given)),
        format_correlation(own.value, own.low, own.high),
        NONE if effect.resolution is None else f"{effect.resolution.ceiling:.2f}",
        format_p(effect.p_holm),
    )


def _describe_seeds(judgements: Sequence[Judgement]) -> Iterator[Block]:
    """Say where seeds differ in slope, so that they count as a sample of seeds."""
    names = [
        name_measure(judgement.measure)
        for judgement in judgements
        if any(effect.seeds is not None and effect.seeds.are_random for effect in judgement.effects)
    ]
    if names:
        yield Paragraph(
            f"Seeds disagree on the slope of {enumerate_words(names)} (Q test, p up to {SEEDS_RANDOM:g}): there its "
            "interval and test count the seeds as a sample too, which makes them wider."
        )


def _describe_sample(stratum: Stratum) -> Block:
    used, left = (", ".join(f"{n} {name}" for name, n in counts.items()) for counts in (stratum.used, stratum.left_out))
    together = [
        f"{name_measure(name)} ({format_signed(rho)})"
        for name, rho in stratum.collinearity.items()
        if rho is not None and abs(rho) >= CLEAR and name != stratum.measures[0]
    ]
    sentences = [
        f"Sample: {used or 'no pattern'}, means over up to {stratum.n_seeds} seeds"
        + (f", {stratum.n_incomplete} lacking some" if stratum.n_incomplete else "")
        + (f"; left out, being no random sample: {left}" if left else "")
    ]
    if together:
        sentences.append(
            f"Among these patterns {name_measure(stratum.measures[0])} goes along with {enumerate_words(together)}"
        )
    if stratum.constant:
        sentences.append(f"Equal in all of them: {enumerate_words([*map(name_measure, stratum.constant)])}")
    return Paragraph(f"{'. '.join(sentences)}.")


def _describe_predictions(stratum: Stratum) -> Iterator[Block]:
    """Say how well the graph predicts the outcome at all."""
    known = [baseline for baseline in stratum.baselines if baseline.estimate.value is not None]
    outcome = known[0].outcome if known else ""
    parts = [
        f"{format_correlation(own.estimate.value, own.estimate.low, own.estimate.high)} from {own.name}"
        for own in known
        if own.outcome == outcome
    ]
    if parts:
        yield Paragraph(
            f"How well the graph predicts {refer_to(outcome)} of a pattern left out, by a ridge regression on "
            f"all others: rank correlation {enumerate_words(parts)}."
        )


def fold_pairs(pairs: Sequence[PairedDifference]) -> Block:
    """Show patterns that were made to differ in one thing, pair by pair.

    Args:
        pairs: at least one.
    """
    header = ("difference", "outcome", "mean", "95 % interval", "p (Wilcoxon)", "pairs")
    matched = {_name_pair(pair): pair.apart for pair in pairs}
    apart = "; ".join(
        f"{name}: {enumerate_words([f'{name_measure(own)} {value:.2f}' for own, value in by_measure.items()])}"
        for name, by_measure in matched.items()
        if by_measure
    )
    far = [Paragraph(f"How far the pairs differ, on average, in what they should share: {apart}.")] if apart else []
    first = pairs[0]
    name, outcome, mean, interval, *_ = _format_pair(first)
    return Fold(
        f"Pairs made to differ in one thing: {name}, {mean}{'' if interval == NONE else f' ({interval})'} in {outcome}",
        (
            Table(header, tuple(map(_format_pair, pairs))),
            Paragraph(
                "Optimum less control: a shortest pattern and one matched to it whose paths are longer. Reversal less "
                "original: a pattern turned back to front, which swaps its in- and out-degrees.",
                kind="note",
            ),
            *far,
        ),
    )


def _name_pair(pair: PairedDifference) -> str:
    return pair.name.replace(" - ", " less ")


def _format_pair(pair: PairedDifference) -> tuple[str, ...]:
    scale, unit = (100, "points") if pair.outcome == "validation_accuracy" else (1, UNITS.get(pair.outcome, ""))
    if isinstance(pair.outcome, OutcomeName) and pair.outcome.is_log:
        unit = "logarithm"
    low, high = (None if end is None else scale * end for end in (pair.low, pair.high))
    digits = 3 if low is None or high is None else count_digits(low, high)
    return (
        _name_pair(pair),
        name_outcome(pair.outcome) + (f" ({unit})" if unit else ""),
        format_signed(scale * pair.mean, digits),
        format_interval(low, high, digits),
        format_p(pair.p_wilcoxon),
        str(pair.n_pairs),
    )


@dataclass(frozen=True, slots=True)
class Rival:
    """A zero-cost proxy or a graph measure against an outcome.

    Args:
        name: column of average_patterns.
        n_patterns: number of patterns that have it and the outcome.
        estimate: Spearman correlation without a p-value; undefined for fewer than MIN_PATTERNS.
    """

    name: str
    n_patterns: int
    estimate: Estimate

    @property
    def is_proxy(self) -> bool:
        """Whether it is a zero-cost proxy."""
        return self.name.startswith(PROXY)


def compare_rivals(
    patterns: pd.DataFrame, outcome: str, generator: np.random.Generator, measures: Sequence[str] = MEASURES
) -> tuple[Rival, ...]:
    """Correlate an outcome with each proxy and graph measure of a stratum's patterns, the strongest first.

    Args:
        patterns: rows of average_patterns.
        outcome: an outcome of theirs; the mean of each seed is taken out.
        generator: source of the intervals' resamples.
        measures: columns of graph measures; constant ones are left out.

    Returns:
        Empty where no proxies were recorded.
    """
    proxies = list_proxies(patterns)
    patterns = patterns.dropna(subset=[f"{outcome}_centred"])
    rivals = []
    for name in [*proxies, *measures] if proxies else []:
        rows = patterns.dropna(subset=[name])
        x = rows[name].to_numpy(np.float64)
        if name in measures and (len(x) == 0 or np.ptp(x) <= 1e-12 * np.abs(x).max()):
            continue
        statistic = partial(weighted_spearman, x, outcome_of(rows, outcome))
        found = estimate(statistic, design_cells(rows), generator) if len(rows) >= MIN_PATTERNS else UNDEFINED
        rivals.append(Rival(name, len(rows), found))
    return tuple(sorted(rivals, key=lambda rival: -abs(rival.estimate.value or 0.0)))


def fold_rivals(rivals: Sequence[Rival], outcome: str) -> Block:
    """Show the correlations of compare_rivals in one table, behind the strongest proxy.

    Args:
        rivals: at least one.
    """
    header = (f"correlation with {name_outcome(outcome)} of", "kind", "Spearman [95 %]", "patterns")
    rows = [
        (
            rival.name.removeprefix(PROXY) if rival.is_proxy else name_measure(rival.name),
            "zero-cost proxy" if rival.is_proxy else "graph measure",
            format_correlation(rival.estimate.value, rival.estimate.low, rival.estimate.high),
            str(rival.n_patterns),
        )
        for rival in rivals
    ]
    name, kind, value, _ = rows[0]
    return Fold(
        f"Zero-cost proxies next to graph measures: the strongest is {name} ({kind}), {value}",
        (
            Table(header, tuple(rows)),
            Paragraph(
                "The strongest come first. A zero-cost proxy is computed from the untrained network and the batch that "
                "its training begins with, and averaged over seeds; a graph measure needs no network. No interval is "
                "adjusted for the number of rows. A correlation whose sign differs between strata cannot choose a "
                "pattern beforehand.",
                kind="note",
            ),
        ),
    )
