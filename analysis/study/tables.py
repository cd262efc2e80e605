"""The statistics of one stratum as tables: tests, slopes, measures, predictions, pairs, noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.protocol import MEASURES, MIN_PATTERNS
from analysis.data.proxies import PROXY, list_proxies
from analysis.page.document import Block, Paragraph, Table
from analysis.page.wording import NONE, format_interval, format_p, format_signed, name_measure
from analysis.stats.correlations import UNDEFINED, Estimate, estimate, weighted_spearman
from analysis.stats.inference import outcome_of
from analysis.stats.resampling import design_cells
from analysis.study.stratum import MeasureEffect, Stratum


def build_statistics(stratum: Stratum) -> Iterator[Block]:
    """Show every number that the verdict rests on, and the secondary ones."""
    if stratum.verdict.status == "not_trained":
        yield Paragraph(
            "These networks learned nothing, as said above. The numbers of this part compare networks that failed to "
            "train, and say nothing about where connections should go.",
            kind="notice",
        )
    yield from _describe_sample(stratum)
    yield from _tabulate_tests(stratum)
    yield from _tabulate_effects(stratum)
    yield from _tabulate_predictions(stratum)
    yield from _tabulate_pairs(stratum)
    yield from _describe_noise(stratum)


def _describe_sample(stratum: Stratum) -> Iterator[Block]:
    used, left = (", ".join(f"{n} {name}" for name, n in counts.items()) for counts in (stratum.used, stratum.left_out))
    yield Paragraph(
        f"Sample: {used or 'no pattern'}, means over up to {stratum.n_seeds} seeds, centred by seed"
        + (f", {stratum.n_incomplete} lacking some seeds" if stratum.n_incomplete else "")
        + (f"; left out, being no random sample: {left}" if left else "")
        + ". Even a clear correlation in it shows no cause."
    )
    rhos = [(name, rho) for name, rho in stratum.collinearity.items() if rho is not None]
    if rhos:
        others = ", ".join(f"{name_measure(name)} {format_signed(rho)}" for name, rho in rhos)
        yield Paragraph(
            f"Confounding: rank correlation of {name_measure(stratum.measures[0])}, among these patterns, with "
            f"{others}. Where that is strong, an effect of distance cannot be told from an effect of the other."
        )


def _tabulate_tests(stratum: Stratum) -> Iterator[Block]:
    rows = [
        (
            name_measure(judgement.measure),
            " and ".join(map(name_measure, effect.given)),
            format_signed(effect.partial.value),
            format_interval(effect.partial.low, effect.partial.high),
            format_p(effect.partial.p_value, digits=4),
            format_p(effect.p_holm, digits=4),
            NONE if effect.resolution is None else f"{effect.resolution.ceiling:.2f}",
        )
        for judgement in stratum.judgements
        for effect in judgement.effects
    ]
    if rows:
        header = ("declared measure", "held", "partial rho", "95 % interval", "p", "p (Holm)", "ceiling")
        yield Table(header, tuple(rows))


def _tabulate_effects(stratum: Stratum) -> Iterator[Block]:
    for outcome in dict.fromkeys(effect.outcome for effect in stratum.effects):
        header = (
            f"each measure alone, on {_words(outcome)}", "Spearman", "95 % interval", "p", "p (Holm)",
            "of the ceiling", "Kendall tau-b", "p",
        )  # fmt: skip
        effects = {(effect.measure, effect.method): effect for effect in stratum.effects if effect.outcome == outcome}
        rows = [
            _format_effect(effect, effects[measure, "kendall"])
            for (measure, method), effect in effects.items()
            if method == "spearman"
        ]
        yield Table(header, tuple(rows))
    if stratum.effects:
        yield Paragraph(
            "p by permutation among patterns of the same span band (of the same distance band for span), so a measure "
            "that goes along with span can show a clear correlation and no small p; Holm over all measures and "
            "outcomes by one statistic. The ceiling is what seed noise leaves of a perfect correlation."
        )
    if stratum.constant:
        names = ", ".join(map(name_measure, stratum.constant))
        yield Paragraph(f"Constant among these patterns, so they explain nothing here: {names}.")
    if stratum.fits:
        shares = "; ".join(
            f"{name_measure(fit.measure)} on {_words(fit.outcome)}: line {100 * fit.linear_r2:.0f} %, "
            f"parabola {100 * fit.quadratic_r2:.0f} %"
            for fit in stratum.fits
        )
        yield Paragraph(f"Share of the variance between patterns that a line and a parabola explain: {shares}.")


def _format_effect(spearman: MeasureEffect, kendall: MeasureEffect) -> tuple[str, ...]:
    rho, tau = spearman.estimate, kendall.estimate
    return (
        name_measure(spearman.measure),
        format_signed(rho.value),
        format_interval(rho.low, rho.high),
        format_p(rho.p_value),
        format_p(spearman.p_holm),
        NONE if spearman.share_of_ceiling is None else f"{100 * spearman.share_of_ceiling:.0f} %",
        format_signed(tau.value),
        format_p(tau.p_value),
    )


def _tabulate_predictions(stratum: Stratum) -> Iterator[Block]:
    if stratum.baselines:
        header = ("learned from", "outcome", "rank correlation of prediction and outcome", "95 % interval", "patterns")
        rows = [
            (
                f"{baseline.name} ({', '.join(map(name_measure, baseline.measures))})",
                _words(baseline.outcome),
                "not defined" if baseline.estimate.value is None else format_signed(baseline.estimate.value),
                format_interval(baseline.estimate.low, baseline.estimate.high),
                str(baseline.n_patterns),
            )
            for baseline in stratum.baselines
        ]
        yield Table(header, tuple(rows))
        yield Paragraph(
            "How well the graph predicts the outcome at all: a ridge regression learns from all other patterns "
            "and predicts the one left out."
        )
    if stratum.precision:
        picks = [
            (
                name_measure(pick.measure),
                _words(pick.outcome),
                f"{pick.n_hits} of {pick.n_top}",
                f"{pick.chance * pick.n_top:.1f}",
                format_p(pick.p_value),
            )
            for pick in stratum.precision
        ]
        yield Table(("picks the shortest by", "outcome", "hits among the best", "by chance", "p"), tuple(picks))
        yield Paragraph("A measure may avoid the worst patterns and still not find the best.")


def _tabulate_pairs(stratum: Stratum) -> Iterator[Block]:
    if not stratum.pairs:
        return
    rows = []
    for pair in stratum.pairs:
        scale, unit = (100, "points") if pair.outcome == "validation_accuracy" else (1, "nats")
        low, high = (None if end is None else scale * end for end in (pair.low, pair.high))
        rows.append(
            (
                pair.name,
                f"{_words(pair.outcome)} ({unit})",
                format_signed(scale * pair.mean, 3),
                format_interval(low, high, 3),
                format_p(pair.p_wilcoxon),
                str(pair.n_pairs),
            )
        )
    yield Table(("difference", "outcome", "mean", "95 % interval", "p (Wilcoxon)", "pairs"), tuple(rows))
    yield Paragraph(
        "Pairs made to differ in one thing: a shortest pattern and one of its span and longer distance; a pattern and "
        "its reversal, which swaps in- and out-degrees and keeps both distance and span."
    )


def _describe_noise(stratum: Stratum) -> Iterator[Block]:
    known = {outcome: each for outcome, each in stratum.resolution.items() if each is not None}
    for outcome, noise in known.items():
        yield Paragraph(
            f"Noise: by estimate, {noise.single_seed:z.2f} of the variance of one training's {_words(outcome)} "
            f"lies between patterns, {noise.reliability:z.2f} of that of the mean of {noise.n_seeds:g} seeds "
            f"(n={noise.n_patterns} patterns; below 0 means none that can be told from noise): even a perfect "
            f"predictor would show a correlation of about {noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}]; "
            f"F test of the patterns: p {format_p(noise.p_value)}."
        )
    if not known:
        yield Paragraph("Noise: not known, since it takes at least two patterns that share at least two seeds.")


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
        outcome: one of OUTCOMES; the mean of each seed is taken out.
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
    header = (f"correlation with {_words(outcome)} of", "kind", "Spearman", "95 % interval", "patterns")
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
        "the number of rows. A correlation whose sign differs between strata cannot choose a pattern beforehand."
    )


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")
