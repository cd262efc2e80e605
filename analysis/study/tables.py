"""The statistics of one stratum: what the seeds see, the declared measures under every control, pairs, proxies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.outcomes import OutcomeName
from analysis.data.protocol import MEASURES, MIN_PATTERNS, SEEDS_RANDOM
from analysis.data.proxies import PROXY, list_proxies
from analysis.page.document import Block, Paragraph, Table
from analysis.page.wording import (
    NONE,
    UNITS,
    enumerate_words,
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
from analysis.study.verdict import word_judgement
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.noise import Resolution
from analysis.verdict.rules import Judgement

CLEAR = 0.5  # |rank correlation| from which two measures are said to go together


def build_noise(stratum: Stratum) -> Iterator[Block]:
    """Say whether the seeds can tell the patterns apart, before anything explains them."""
    known = {outcome: noise for outcome, noise in stratum.resolution.items() if noise is not None}
    if not known:
        yield Paragraph("Not known: it takes at least two patterns that share at least two seeds.")
        return
    header = (
        "outcome", "F test p", "patterns' share, one training", "mean over seeds", "noise ceiling [95 %]"
    )  # fmt: skip
    yield Table(header, tuple(_format_noise(outcome, noise) for outcome, noise in known.items()))
    yield Paragraph(
        "The F test asks whether patterns differ at all. The share is that of the variance, below 0 where seeds differ "
        "more than patterns do. The noise ceiling is the correlation that a perfect predictor would show.",
        kind="note",
    )


def _format_noise(outcome: str, noise: Resolution) -> tuple[str, ...]:
    is_log = isinstance(outcome, OutcomeName) and outcome.is_log
    return (
        name_outcome(outcome) + (" (logarithm)" if is_log else ""),
        format_p(noise.p_value),
        f"{noise.single_seed:z.2f}",
        f"{noise.reliability:z.2f}",
        f"{noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}]",
    )


def build_tests(stratum: Stratum) -> Iterator[Block]:
    """Show each declared measure under every control, and what the numbers rest on."""
    judged = [judgement for judgement in stratum.judgements if judgement.effects]
    said = {stratum.verdict.sentence}  # at the head of the stratum
    for judgement in stratum.judgements:
        sentence = word_judgement(judgement, stratum.learning, stratum.primary).sentence
        if sentence not in said:
            said.add(sentence)
            yield Paragraph(sentence)
        if judgement.effects:
            header = (
                f"{name_measure(judgement.measure)}, with this held", "partial rank correlation", "95 % interval",
                "noise ceiling", "p (Holm)",
            )  # fmt: skip
            yield Table(header, tuple(map(_format_effect, judgement.effects)))
    if judged:
        higher = name_side("higher", judged[0].outcome or "outcome")
        yield Paragraph(
            f"Above 0: more of the measure goes with {higher}, while what is held and its square are taken "
            "out. The ceiling is that of a perfect predictor of what is then left. p is adjusted by Holm over all "
            "declared tests of all settings.",
            kind="note",
        )
        yield from _describe_seeds(judged)
    yield _describe_sample(stratum)


def _format_effect(effect: ControlledEffect) -> tuple[str, ...]:
    own = effect.partial
    return (
        " and ".join(map(name_measure, effect.given)),
        format_signed(own.value),
        format_interval(own.low, own.high),
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


def build_predictions(stratum: Stratum) -> Iterator[Block]:
    """Say how well the graph predicts the outcome at all."""
    known = [baseline for baseline in stratum.baselines if baseline.estimate.value is not None]
    outcome = known[0].outcome if known else ""
    parts = [
        f"{format_signed(own.estimate.value)} ({format_interval(own.estimate.low, own.estimate.high)}) from {own.name}"
        for own in known
        if own.outcome == outcome
    ]
    if parts:
        yield Paragraph(
            f"How well the graph predicts {refer_to(outcome)} of a pattern left out, by a ridge regression on "
            f"all others: rank correlation {enumerate_words(parts)}."
        )


def build_pairs(pairs: Sequence[PairedDifference]) -> Iterator[Block]:
    """Show patterns that were made to differ in one thing, pair by pair."""
    if not pairs:
        return
    header = ("difference", "outcome", "mean", "95 % interval", "p (Wilcoxon)", "pairs")
    yield Table(header, tuple(map(_format_pair, pairs)))
    yield Paragraph(
        "Optimum less control: a shortest pattern and one matched to it whose paths are longer. Reversal less "
        "original: a pattern turned back to front, which swaps its in- and out-degrees.",
        kind="note",
    )
    matched = {pair.name.replace(" - ", " less "): pair.apart for pair in pairs}
    apart = "; ".join(
        f"{name}: {enumerate_words([f'{name_measure(own)} {value:.2f}' for own, value in by_measure.items()])}"
        for name, by_measure in matched.items()
        if by_measure
    )
    if apart:
        yield Paragraph(f"How far the pairs differ, on average, in what they should share: {apart}.")


def _format_pair(pair: PairedDifference) -> tuple[str, ...]:
    scale, unit = (100, "points") if pair.outcome == "validation_accuracy" else (1, UNITS.get(pair.outcome, ""))
    if isinstance(pair.outcome, OutcomeName) and pair.outcome.is_log:
        unit = "logarithm"
    low, high = (None if end is None else scale * end for end in (pair.low, pair.high))
    return (
        pair.name.replace(" - ", " less "),
        name_outcome(pair.outcome) + (f" ({unit})" if unit else ""),
        format_signed(scale * pair.mean, 3),
        format_interval(low, high, 3),
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


def tabulate_rivals(rivals: Sequence[Rival], outcome: str) -> Iterator[Block]:
    """Show the correlations of compare_rivals in one table."""
    if not rivals:
        return
    header = (f"correlation with {name_outcome(outcome)} of", "kind", "Spearman", "95 % interval", "patterns")
    rows = [
        (
            rival.name.removeprefix(PROXY) if rival.is_proxy else name_measure(rival.name),
            "zero-cost proxy" if rival.is_proxy else "graph measure",
            format_signed(rival.estimate.value),
            format_interval(rival.estimate.low, rival.estimate.high),
            str(rival.n_patterns),
        )
        for rival in rivals
    ]
    yield Table(header, tuple(rows))
    yield Paragraph(
        "The strongest come first. A zero-cost proxy is computed from the untrained network and the batch that its "
        "training begins with, and averaged over seeds; a graph measure needs no network. No interval is adjusted for "
        "the number of rows. A correlation whose sign differs between strata cannot choose a pattern beforehand.",
        kind="note",
    )
