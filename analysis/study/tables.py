"""The statistics of one stratum as tables: tests, slopes, measures, predictions, pairs, noise."""

from collections.abc import Iterator

from analysis.page.document import Block, Paragraph, Table
from analysis.page.wording import NONE, format_interval, format_p, format_signed, name_measure
from analysis.stats.correlations import METHODS
from analysis.study.stratum import MeasureEffect, Stratum
from analysis.study.verdict import NOT_LEARNED

TEST_NAMES = {
    "distance": "{}, given span and span squared",
    "curvature": "{} squared, given {} and span",
    "span": "span and span squared, given {}",
}


def build_statistics(stratum: Stratum) -> Iterator[Block]:
    """Show every number that the verdict rests on, and the secondary ones."""
    if stratum.verdict.status == NOT_LEARNED:
        yield Paragraph(
            "These networks learned nothing, as said above. The numbers of this part compare networks that failed to "
            "train, and say nothing about where connections should go.",
            kind="notice",
        )
    yield from _sample(stratum)
    yield from _primary(stratum)
    yield from _slopes(stratum)
    yield from _effects(stratum)
    yield from _predictions(stratum)
    yield from _pairs(stratum)
    yield from _noise(stratum)


def _sample(stratum: Stratum) -> Iterator[Block]:
    used, left = (", ".join(f"{n} {name}" for name, n in counts.items()) for counts in (stratum.used, stratum.left_out))
    yield Paragraph(
        f"Sample: {used or 'no pattern'}, means over up to {stratum.n_seeds} seeds, centred by seed"
        + (f", {stratum.n_incomplete} lacking some seeds" if stratum.n_incomplete else "")
        + (f"; left out, being no random sample: {left}" if left else "")
        + ". Even a clear correlation in it shows no cause."
    )
    rhos = {name: rho for name, rho in stratum.collinearity.items() if rho is not None}
    if rhos:
        others = ", ".join(f"{name_measure(name)} {format_signed(rho)}" for name, rho in rhos.items())
        yield Paragraph(
            f"Confounding: rank correlation of {name_measure(stratum.distance)}, among these patterns, with {others}. "
            "Where that is strong, an effect of distance cannot be told from an effect of the other."
        )


def _primary(stratum: Stratum) -> Iterator[Block]:
    primary = stratum.primary
    if primary is None:
        return
    name = name_measure(stratum.distance)
    rows = []
    for test in primary.tests:
        is_distance = test.name == "distance"
        rows.append(
            (
                TEST_NAMES[test.name].format(name, name),
                format_signed(primary.partial.value) if is_distance else NONE,
                format_interval(primary.partial.low, primary.partial.high) if is_distance else NONE,
                format_p(test.p_value, digits=4),
                format_p(test.p_holm, digits=4),
            )
        )
    header = (f"primary tests, on {primary.outcome.replace('_', ' ')}", "partial rho", "95 % interval", "p", "p (Holm)")
    yield Table(header, tuple(rows))


def _slopes(stratum: Stratum) -> Iterator[Block]:
    if not stratum.slopes:
        return
    header = ("slope of", "spans", "value a hop", "95 % interval", "excluded beyond", "patterns")
    rows = [
        (
            f"{one.outcome.replace('_', ' ')} ({one.unit})",
            "all, each band with its own level" if one.is_pooled else f"{one.span_low:.2f} to {one.span_high:.2f}",
            format_signed(one.value, 3),
            format_interval(one.low, one.high, 3),
            f"\u00b1{one.excluded:.3f}",
            str(one.n_patterns),
        )
        for one in stratum.slopes
    ]
    yield Table(header, tuple(rows))


def _effects(stratum: Stratum) -> Iterator[Block]:
    for outcome in dict.fromkeys(one.outcome for one in stratum.effects):
        header = (
            f"each measure alone, on {outcome.replace('_', ' ')}", "Spearman", "95 % interval", "p", "p (Holm)",
            "of the ceiling", "Kendall tau-b", "p",
        )  # fmt: skip
        by_method = {
            method: {one.measure: one for one in stratum.effects if (one.outcome, one.method) == (outcome, method)}
            for method in METHODS
        }
        rows = [_effect_row(one, by_method["kendall"][name]) for name, one in by_method["spearman"].items()]
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
            f"{name_measure(fit.measure)} on {fit.outcome.replace('_', ' ')}: line {100 * fit.linear_r2:.0f} %, "
            f"parabola {100 * fit.quadratic_r2:.0f} %"
            for fit in stratum.fits
        )
        yield Paragraph(f"Share of the variance between patterns that a line and a parabola explain: {shares}.")


def _effect_row(spearman: MeasureEffect, kendall: MeasureEffect) -> tuple[str, ...]:
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


def _predictions(stratum: Stratum) -> Iterator[Block]:
    if stratum.baselines:
        header = ("learned from", "outcome", "rank correlation of prediction and outcome", "95 % interval", "patterns")
        rows = [
            (
                f"{one.name} ({', '.join(map(name_measure, one.measures))})",
                one.outcome.replace("_", " "),
                "not defined" if one.estimate.value is None else format_signed(one.estimate.value),
                format_interval(one.estimate.low, one.estimate.high),
                str(one.n_patterns),
            )
            for one in stratum.baselines
        ]
        yield Table(header, tuple(rows))
        yield Paragraph(
            "How much the graph tells at all: a ridge regression learns from all other patterns and predicts the one "
            "left out."
        )
    if stratum.precision:
        header = ("picks the shortest by", "outcome", "hits among the best", "by chance", "p")
        yield Table(
            header,
            tuple(
                (
                    name_measure(one.measure),
                    one.outcome.replace("_", " "),
                    f"{one.n_hits} of {one.n_top}",
                    f"{one.chance * one.n_top:.1f}",
                    format_p(one.p_value),
                )
                for one in stratum.precision
            ),
        )
        yield Paragraph("A measure may avoid the worst patterns and still not find the best.")


def _pairs(stratum: Stratum) -> Iterator[Block]:
    if not stratum.pairs:
        return
    header = ("difference", "outcome", "mean", "95 % interval", "p (Wilcoxon)", "pairs")
    rows = []
    for one in stratum.pairs:
        scale = 100 if one.outcome == "validation_accuracy" else 1
        unit = "points" if scale == 100 else "nats"
        low, high = (None if end is None else scale * end for end in (one.low, one.high))
        rows.append(
            (
                one.name,
                f"{one.outcome.replace('_', ' ')} ({unit})",
                format_signed(scale * one.mean, 3),
                format_interval(low, high, 3),
                format_p(one.p_wilcoxon),
                str(one.n_pairs),
            )
        )
    yield Table(header, tuple(rows))
    yield Paragraph(
        "Pairs made to differ in one thing: a shortest pattern and one of its span and longer distance; a pattern and "
        "its reversal, which swaps in- and out-degrees and keeps both distance and span."
    )


def _noise(stratum: Stratum) -> Iterator[Block]:
    for one in stratum.reliability:
        name = one.outcome.replace("_", " ")
        if one.ceiling is not None:
            yield Paragraph(
                f"Noise: by estimate, {one.single_seed:z.2f} of the variance of one training's {name} lies between "
                f"patterns, {one.paired_mean:z.2f} of that of the mean of {one.n_seeds} seeds (n={one.n_patterns} "
                "patterns; below 0 means none that can be told from noise): even a perfect predictor would show a "
                f"correlation of about {one.ceiling:.2f}."
            )
    if all(one.ceiling is None for one in stratum.reliability):
        yield Paragraph("Noise: not known, for that takes two patterns or more that share two seeds or more.")
