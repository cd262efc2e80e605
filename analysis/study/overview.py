"""What a report says of all strata together: verdicts and effects side by side, short runs against long ones."""

from collections.abc import Iterator, Sequence

from analysis.data.protocol import MARGIN
from analysis.page.captions import make_picture
from analysis.page.document import Block, Heading, Paragraph, Table
from analysis.page.wording import NONE, format_interval, format_p, format_signed, name_measure
from analysis.stats.reliability import Fidelity
from analysis.study.verdict import IN_WORDS
from analysis.study.view import View

FOREST_MEASURES = (
    "mean_bd", "from_output_mean", "to_input_mean", "span", "walk_length", "visit_evenness", "ntk_trace",
    "random_walk_depth", "out_degree_sd", "mean_inverse_bd",
)  # fmt: skip


def build_verdicts(views: Sequence[View]) -> Iterator[Block]:
    """Show the verdicts of several strata in one table."""
    header = ("stratum", "declared measure", "verdict", "F test p", "noise ceiling", "patterns x seeds")
    yield Table(header, tuple(row for view in views for row in _format_verdicts(view)))
    yield Paragraph(
        "Each stratum stands for itself; p is adjusted over the declared tests of all of them. The noise ceiling is "
        "what a perfect predictor would reach at these seeds: a relation shows no further than that."
    )


def _format_verdicts(view: View) -> Iterator[tuple[str, ...]]:
    for judgement in view.stratum.judgements:
        noise = judgement.resolution
        yield (
            view.name,
            name_measure(judgement.measure),
            IN_WORDS[judgement.status],
            NONE if noise is None else format_p(noise.p_value),
            NONE if noise is None else f"{noise.ceiling:.2f}",
            f"{view.stratum.n_patterns} x {view.stratum.n_seeds}",
        )


def build_effects(views: Sequence[View]) -> Iterator[Block]:
    """Show the effects of all strata in one picture; nothing where no stratum has any."""
    from analysis.page.interval_plots import Effect, plot_forest  # matplotlib: half a second

    rows, outcome = [], ""
    for view in views:
        for judgement in view.stratum.judgements:
            outcome = outcome or (judgement.outcome or "").replace("_", " ")
            for effect in judgement.effects:
                own, held = effect.partial, " and ".join(map(name_measure, effect.given))
                label = f"{name_measure(judgement.measure)}, given {held}"
                rows.append(
                    Effect(label=label, group=view.name, value=own.value, low=own.low, high=own.high, is_primary=True)
                )
        for alone in view.stratum.effects:
            own = alone.estimate
            if (alone.method, alone.outcome.replace("_", " ")) == (
                "spearman",
                outcome,
            ) and alone.measure in FOREST_MEASURES:
                label = name_measure(alone.measure)
                rows.append(
                    Effect(label=label, group=view.name, value=own.value, low=own.low, high=own.high, is_primary=False)
                )
    if not rows:
        return
    yield Heading(2, "All effects side by side")
    yield make_picture(
        plot_forest(rows, MARGIN, axis_label=f"rank correlation with {outcome}"),
        "effects.svg",
        "Bold: the declared measures of each stratum under each control. Below them each measure alone "
        "(Spearman). 95 % intervals from a bootstrap over patterns inside cells. Right of 0: more of it goes with "
        "a higher loss.",
    )


def build_fidelity(fidelity: Sequence[Fidelity]) -> Iterator[Block]:
    """Show whether short runs rank patterns as long ones do; nothing where the study did not check it."""
    if not fidelity:
        return
    yield Heading(2, "Do short runs rank patterns as long ones do?")
    header = ("stratum", "short", "long", "outcome", "Spearman", "95 % interval", "patterns")
    rows = [
        (
            f"{each.layers} layers",
            each.short_regime,
            each.long_regime,
            each.outcome.replace("_", " "),
            "not defined" if each.estimate.value is None else format_signed(each.estimate.value),
            format_interval(each.estimate.low, each.estimate.high),
            str(each.n_patterns),
        )
        for each in fidelity
    ]
    yield Table(header, tuple(rows))
    yield Paragraph(
        "Agreement is bounded by the noise of both runs: compare it with the product of their ceilings, not with 1."
    )
