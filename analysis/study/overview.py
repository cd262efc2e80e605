"""What a report says of all strata together: verdicts and effects side by side, short runs against long ones."""

from collections.abc import Iterator, Sequence

from analysis.data.protocol import MARGIN, name_distance
from analysis.page.captions import make_picture
from analysis.page.document import Block, Heading, Paragraph, Table
from analysis.page.wording import NONE, format_interval, format_p, format_signed, name_measure
from analysis.stats.reliability import Fidelity
from analysis.study.view import View

FOREST_MEASURES = (
    "mean_bd", "from_output_mean", "to_input_mean", "span", "walk_length", "visit_evenness", "ntk_trace",
    "random_walk_depth", "out_degree_sd", "mean_inverse_bd",
)  # fmt: skip


def build_verdicts(views: Sequence[View]) -> Iterator[Block]:
    """Show the verdicts of several strata in one table."""
    header = (
        "stratum", "verdict", "partial rho", "95 % interval", "p (Holm)", "noise ceiling", "patterns x seeds"
    )  # fmt: skip
    yield Table(header, tuple(map(_format_verdict, views)))
    yield Paragraph(
        "A positive rho, given span and its square, says that a shorter distance goes with a lower validation "
        "loss. Each stratum stands for itself; p is adjusted over the primary tests of all of them. The noise "
        "ceiling is what a perfect predictor would reach at these seeds: a relation shows no further than that."
    )


def _format_verdict(view: View) -> tuple[str, ...]:
    stratum, primary = view.stratum, view.stratum.primary
    size = f"{stratum.n_patterns} x {stratum.n_seeds}"
    if primary is None or primary.partial.value is None:
        return (view.name, stratum.verdict.words, NONE, NONE, NONE, NONE, size)
    ceiling = stratum.ceiling(primary.outcome)
    return (
        view.name,
        stratum.verdict.words,
        format_signed(primary.partial.value),
        format_interval(primary.partial.low, primary.partial.high),
        format_p(primary.test("distance").p_holm),
        NONE if ceiling is None else f"{ceiling:.2f}",
        size,
    )


def build_effects(views: Sequence[View]) -> Iterator[Block]:
    """Show the effects of all strata in one picture; nothing where no stratum has any."""
    from analysis.page.interval_plots import Effect, plot_forest  # matplotlib: half a second

    rows, outcome = [], ""
    for view in views:
        primary = view.stratum.primary
        if primary is None:
            continue
        outcome = outcome or primary.outcome.replace("_", " ")
        estimates = {
            effect.measure: effect.estimate
            for effect in view.stratum.effects
            if effect.method == "spearman" and effect.outcome == primary.outcome
        }
        labelled = [(f"{name_distance(view.stratum.distance)}, given span and span squared", primary.partial, True)]
        labelled += [(name_measure(name), estimates[name], False) for name in FOREST_MEASURES if name in estimates]
        rows += [
            Effect(label=label, group=view.name, value=each.value, low=each.low, high=each.high, is_primary=is_primary)
            for label, each, is_primary in labelled
        ]
    if not rows:
        return
    yield Heading(2, "All effects side by side")
    yield make_picture(
        plot_forest(rows, MARGIN, axis_label=f"rank correlation with {outcome}"),
        "effects.svg",
        "Bold: the primary test of each stratum, distance given span and its square. Below it each measure alone "
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
