"""What a report says of tuned learning rates: each pattern's best one, and how effects turn with training."""

from collections.abc import Iterator, Sequence

from analysis.data.protocol import MIN_PATTERNS
from analysis.page.captions import make_picture, name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Table
from analysis.page.wording import (
    NONE,
    capitalise,
    enumerate_words,
    format_correlation,
    format_interval,
    format_p,
    format_signed,
    name_measure,
)
from analysis.stats.intervals import Range
from analysis.tuning.tuned import Tuning
from analysis.tuning.turning import Turning
from analysis.tuning.undertrained import BestRate, FarRate

MAX_DRAWN = 3  # measures in one figure


def build_tuning(tuning: Tuning, caption: str, part: str = "", *, is_first: bool = True) -> Iterator[Block]:
    """Show the best learning rates of one depth, and how the effects of measures turn with training.

    Args:
        caption: caption of the figures.
        part: the depth's name, such as "24 layers"; empty where the study has only one.
        is_first: whether it stays open; all but the first of several depths are folded behind what they found.
    """
    yield Heading(2, f"Each pattern at its best learning rate{', ' if part else ''}{part}")
    yield Paragraph(answer_best(tuning.best), "finding")
    if tuning.far:
        yield Paragraph(word_far_rates(tuning.far))
    body = _build_body(tuning, caption, part)
    if is_first:
        yield from body
    else:
        yield Fold(f"Figures and numbers of {part}", tuple(body))


def _build_body(tuning: Tuning, caption: str, part: str) -> Iterator[Block]:
    yield from _draw_losses(tuning, caption, part)
    yield Paragraph(
        "Every pattern was trained at every learning rate and is judged at its own best one: the least of a parabola "
        "in the logarithm of the rate, fitted to the logarithm of its loss, over all seeds together. A rate whose loss "
        "is far above the least weighs little; a rate at which a training diverged is left out.",
        kind="note",
    )
    if tuning.drivers:
        strongest = max(tuning.drivers, key=lambda driver: abs(driver.estimate.value or 0.0))
        value = format_signed(strongest.estimate.value)
        yield Fold(
            f"What the best rate goes with: {name_measure(strongest.measure)} most, {value}",
            (
                _tabulate_drivers(tuning),
                Paragraph(
                    "Rank correlation of a measure with the best learning rate: above 0, patterns with more of it take "
                    "a higher rate. The intervals draw the patterns again; the p-values are not adjusted for one "
                    "another.",
                    kind="note",
                ),
            ),
        )
    else:
        yield Paragraph(
            f"{tuning.best.n_patterns} sampled patterns are too few to say what the best rate goes with, or how "
            f"effects turn with training: it takes {MIN_PATTERNS}.",
            kind="note",
        )
    if tuning.turnings:
        yield from _show_turnings(tuning, caption, part)


def answer_best(best: BestRate) -> str:
    """Say in short sentences what the best learning rates are, and how many may lie elsewhere."""
    half = f"half of the {best.n_patterns} patterns have theirs between {best.low:.2g} and {best.high:.2g}"
    sentences = [f"The best learning rate is about {best.median:.2g}; {half}"]
    for n, where in ((best.n_lowest, "lowest"), (best.n_highest, "highest")):
        if n:
            beyond = "below" if where == "lowest" else "above"
            tried = f"the {where} rate tried, and may lie {beyond} it"
            sentences.append(f"For {n} of them the best is {tried}")
    if best.n_diverged:
        sentences.append(f"For {best.n_diverged} of them the next higher rate diverged")
    return ". ".join(sentences) + "."


def word_far_rates(far: Sequence[FarRate]) -> str:
    """Say which regimes are far from the best learning rate, and by how much.

    >>> word_far_rates([FarRate(24, "lr 0.05", 0.2, "undertrained"), FarRate(24, "lr 0.8", 3.2, "overheated")])
    'Undertrained: lr 0.05 (5 times below the best rate). Overheated: lr 0.8 (3.2 times above the best rate).'
    """
    sentences = []
    for fault in dict.fromkeys(each.fault for each in far):
        side = "below" if fault == "undertrained" else "above"
        parts = [
            f"{each.regime} ({max(each.factor, 1 / each.factor):.2g} times {side} the best rate)"
            for each in far
            if each.fault == fault
        ]
        sentences.append(f"{capitalise(fault)}: {enumerate_words(parts)}.")
    return " ".join(sentences)


def _draw_losses(tuning: Tuning, caption: str, part: str) -> Iterator[Block]:
    from analysis.tuning.plot import plot_losses  # matplotlib: half a second

    measure = tuning.measures[0] if tuning.measures else "mean_bd"
    yield make_picture(
        plot_losses(tuning.losses, tuning.patterns, measure, caption),
        name_file("rates", part),
        f"Loss against learning rate: one line a pattern, mean over seeds, coloured by {name_measure(measure)}. Dots: "
        "the loss at each pattern's best rate; hollow where the best may lie beyond the rates tried.",
        "Line plot",
    )


def _tabulate_drivers(tuning: Tuning) -> Table:
    header = ("measure", "correlation with the best rate [95 %]", "p")
    rows = (
        (
            name_measure(driver.measure),
            format_correlation(driver.estimate.value, driver.estimate.low, driver.estimate.high),
            format_p(driver.estimate.p_value),
        )
        for driver in sorted(tuning.drivers, key=lambda driver: -abs(driver.estimate.value or 0.0))
    )
    return Table(header, tuple(rows))


def _show_turnings(tuning: Tuning, caption: str, part: str) -> Iterator[Block]:
    from analysis.tuning.plot import plot_turnings

    rates = tuning.best.rates
    trained = [rate for rate, regime in zip(rates.rates, rates.regimes, strict=True) if regime not in tuning.unlearned]
    drawn = [turning for turning in tuning.turnings if turning.measure in tuning.measures][:MAX_DRAWN]
    yield Heading(3, f"How effects turn with training{', ' if part else ''}{part}")
    for turning in drawn:
        yield Paragraph(word_turning(turning))
    if drawn:
        yield make_picture(
            plot_turnings(drawn, trained, caption),
            name_file("turning", part),
            "Rank correlation with the loss at each amount of training, with 95 % intervals over patterns; above 0, "
            "more of the measure goes with more loss. Bars on the zero line: 95 % interval of where the sign changes.",
            "Line plot with intervals",
        )
    yield Fold("Every measure in numbers", (_tabulate_turnings(tuning.turnings), Paragraph(_explain(tuning), "note")))


def word_turning(turning: Turning) -> str:
    """Say in one or two sentences how a correlation changes with training, and where it changes its sign."""
    first, last = turning.effects[0].value, turning.effects[-1].value
    name = capitalise(name_measure(turning.measure))
    if first is None or last is None or turning.slope.value is None:
        return f"{name}: its correlation with the loss is not defined."
    text = (
        f"{name}: its correlation with the loss is {format_signed(first)} at the least training "
        f"({turning.amounts[0]:.3g}) and {format_signed(last)} at the most ({turning.amounts[-1]:.3g})"
    )
    direction = "rises" if turning.slope.value > 0 else "falls"
    if not turning.is_shown:
        return f"{text}; a change with training is not shown."
    return f"{text}; it {direction} with training, {_word_crossing(turning)}."


def _word_crossing(turning: Turning) -> str:
    crossing = turning.crossing
    if crossing is None:
        return "and keeps its sign"
    low = f"{crossing.low:.3g}" if crossing.low is not None else f"below {turning.amounts[0]:.3g}"
    high = f"{crossing.high:.3g}" if crossing.high is not None else f"above {turning.amounts[-1]:.3g}"
    return f"and its sign changes at {crossing.value:.3g} (95 % interval {low} to {high})"


def _tabulate_turnings(turnings: tuple[Turning, ...]) -> Table:
    amounts = tuple(f"at {amount:.3g}" for amount in turnings[0].amounts)
    rows = (
        (
            name_measure(turning.measure),
            *(format_signed(effect.value) for effect in turning.effects),
            _with_range(format_signed(turning.slope.value), format_interval(turning.slope.low, turning.slope.high)),
            format_interval(*_span(turning.seed_slopes)),
            _word_zero(turning),
        )
        for turning in turnings
    )
    return Table(("measure", *amounts, "change a doubling", "single seeds", "zero at"), tuple(rows))


def _span(slopes: Sequence[float]) -> Range:
    return min(slopes), max(slopes)


def _with_range(value: str, interval: str) -> str:
    return value if interval == NONE else f"{value} ({interval})"


def _word_zero(turning: Turning) -> str:
    if turning.crossing is None:
        return NONE
    low, high = turning.crossing.low, turning.crossing.high
    ends = f"{'below all' if low is None else f'{low:.3g}'} to {'above all' if high is None else f'{high:.3g}'}"
    return f"{turning.crossing.value:.3g} ({ends})"


def _explain(tuning: Tuning) -> str:
    sentences = [
        "The amount of training is the learning rate times the number of weight updates "
        f"({tuning.best.rates.steps:,} here). The change is the slope of a straight line for each doubling of it, "
        "next to the least and the largest that single seeds show. "
        "These correlations hold nothing constant and are not adjusted for one another; a training that diverged "
        "counts as the worst."
    ]
    random = [name_measure(turning.measure) for turning in tuning.turnings if turning.has_random_seeds]
    sentences.append(
        f"The intervals draw patterns again, and seeds too for {enumerate_words(random)}, for which the seeds differ."
        if random
        else "The intervals draw patterns again; the seeds agree on every change."
    )
    if tuning.unlearned:
        sentences.append(f"Left out, because nothing was learned there: {enumerate_words(tuning.unlearned)}.")
    return " ".join(sentences)
