"""What a report says of networks side by side: accuracies at matched FLOPs, and which of them differ."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from analysis.charts.intervals import Level, draw_levels
from analysis.comparisons.standing import REFERENCE, Standing
from analysis.data.results import Run
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.provenance import build_provenance
from analysis.page.wording import (
    NONE,
    capitalise,
    count_nouns,
    enumerate_words,
    format_difference,
    format_estimate,
    format_p,
    format_signed,
    format_value,
    label_outcome,
    share_digits,
)
from analysis.picks.order import summarise_status
from analysis.stats.guessing import (
    ACCURACY,
    Learning,
    describe_guessing,
    explain_unlearned,
    measure_learning,
    read_guessing,
)
from search_spaces.budget import log_budget
from search_spaces.sampling.bounds import certify
from search_spaces.wiring.arcs import draw_arcs

WHAT = {
    "dense": "DenseNet-BC: every layer reads all earlier ones of its block",
    "log-densenet-v1": "Log-DenseNet V1: the log rule across the borders of blocks",
    "log-densenet-v2": "Log-DenseNet V2: the log rule in a block, and a summary of all blocks before it",
    "log": "the log rule in a block, in DenseNet-BC's surroundings",
    "optimum": "the shortest pattern known at the budget of log, in the same surroundings",
    "learned": "the strongest connections of the trained dense networks at the budget of log, in the same surroundings",
    "condensenet": "CondenseNet: every layer reads all earlier ones of all blocks, and condenses what it reads",
    "condensed": "the connections of which condensenet kept most, at the budget of log over all blocks, in its "
    "surroundings",
}

SETTINGS: dict[str, Callable[[Any], str]] = {  # those that a caption names, and how
    "epochs": partial(count_nouns, noun="epoch"),
    "lr": "learning rate {}".format,
    "batch_size": "batches of {}".format,
    "seeds": partial(count_nouns, noun="seed"),
}


def title_lineup(run: Run) -> str:
    """Return the heading of a comparison's report."""
    return f"Networks of {run.config.get('blocks')} x {run.config.get('layers')} layers side by side"


def list_faults(run: Run, standings: Sequence[Standing]) -> Iterator[Block]:
    """Say first what is missing from a comparison, and which networks learned nothing."""
    n_asked = run.asked or 0
    n_complete = sum(standing.n_seeds for standing in standings)
    if n_complete < n_asked:
        n_failed = sum(standing.n_failed for standing in standings)
        yield Paragraph(
            f"Incomplete: {n_complete} of {n_asked} trainings are complete, {n_failed} failed. What follows rests "
            "only on the complete ones.",
            kind="notice",
        )
    yield from _list_unlearned(run)


def build_lineup(
    run: Run, standings: Sequence[Standing], learned_strengths: Sequence[float] = (), kept: Sequence[float] = ()
) -> Iterator[Block]:
    """Build the sections of a comparison's report.

    Args:
        standings: its networks, as rank_networks orders them.
        learned_strengths: relative strengths of the connections that `learned` was chosen from; empty without it.
        kept: likewise, relative shares that condensation kept of those that `condensed` was chosen from.
    """
    yield Heading(2, "How accurate they are")
    keys = tuple(standing.pattern.key for standing in standings)
    yield Table(RESULTS, format_results(standings), keys)
    guessing = describe_guessing(read_guessing(run))
    yield Fold(
        "How this was measured",
        (
            Paragraph(
                "Accuracy is on validation images; intervals are over seeds, by Student's t; differences are paired by "
                "seed, p-values of paired t-tests adjusted over all networks. With few seeds a difference must be "
                "large to be detected: an interval that contains 0 does not show that two networks are alike. Without "
                "an interval: one seed, or seeds that gave the same and so show no spread. One learning rate for all."
            ),
            *([Paragraph(f"{capitalise(guessing)}.")] if guessing else []),
        ),
    )
    yield Heading(2, "What they cost")
    yield Table(COSTS, tuple(map(format_cost, standings)), keys)
    yield Paragraph(_explain(standings), "note")
    if learned_strengths:
        low, high = min(learned_strengths), max(learned_strengths)
        yield Paragraph(
            f"The connections of dense that learned was taken from have relative strengths of {low:.2f} to "
            f"{high:.2f}, mean over blocks and seeds (1: their layer's mean). Where they are all near 1, the "
            "training was too short to tell them apart, and learned is little else than a random choice.",
            kind="note",
        )
    if kept:
        yield Paragraph(
            f"Of the connections of condensenet that condensed was taken from, condensation kept {min(kept):.2f} to "
            f"{max(kept):.2f} times their layer's mean share. Growth is a multiple of its groups, so that the FLOPs of "
            "both come less near.",
            kind="note",
        )
    yield Heading(2, "The networks")
    whats = tuple((standing.name, _describe_network(standing)) for standing in standings)
    yield Table(("network", "what it is"), whats, keys)
    for standing in standings:
        if standing.name in ("learned", "condensed", "optimum", REFERENCE):
            yield draw_network(standing, f"arcs_{standing.name}.svg")
    yield Heading(2, "Provenance, and how to do it again")
    yield from build_provenance(run, summarise_status(run))


def draw_network(standing: Standing, file: str) -> Picture:
    """Draw the connections of a network's block."""
    return Picture(
        file, draw_arcs(standing.pattern, standing.name, width=460), standing.name, "Arc diagram", is_small=True
    )


def _list_unlearned(run: Run) -> Iterator[Block]:
    """Name the networks that learned nothing, where others did."""
    learning = learn_lineup(run)
    if learning is None or not learning.is_better:
        return
    complete = run.candidates[(run.candidates["state"] == "complete").fillna(False)]
    for name, rows in complete.groupby("regime", sort=False):
        own = measure_learning(rows, read_guessing(run))
        if own is not None and not own.is_better:
            yield Paragraph(f"{name} has not learned: {explain_unlearned(own)}.", kind="notice")


def _describe_network(standing: Standing) -> str:
    """Say what a network is, and for the optimum also what is proven about it."""
    if standing.name != "optimum":
        return WHAT.get(standing.name, NONE)
    certificate = certify(standing.pattern, log_budget(standing.pattern.depth))
    return f"{WHAT[standing.name]}; certificate: {certificate.status}, {100 * certificate.gap:.1f} % over the bound"


def describe_lineup(run: Run) -> str:
    """Say what was trained on which data, as far as the run records it, in one sentence without its full stop."""
    data = run.data
    examples = f"{data['n_train']:,} training and {data['n_validation']:,} validation images" if data else "images"
    settings = ", ".join(say(run.config[name]) for name, say in SETTINGS.items() if name in run.config)
    return f"{data.get('name', 'unknown data')}, {examples}" + (f"; {settings}" if settings else "")


def learn_lineup(run: Run) -> Learning | None:
    """Compare the most accurate network of a comparison with what guessing reaches."""
    complete = run.candidates[(run.candidates["state"] == "complete").fillna(False)]
    each = (measure_learning(rows, read_guessing(run)) for _, rows in complete.groupby("regime", dropna=False))
    known = [learning for learning in each if learning is not None]
    return max(known, key=lambda learning: learning.accuracy, default=None)


def summarise_lineup(standings: Sequence[Standing], learning: Learning | None = None) -> str:
    """Say what came out, in a sentence or two; the standings are in rank_networks' order."""
    measured = [standing for standing in standings if standing.accuracy is not None]
    if not measured:
        return "No training is complete yet."
    if learning is not None and not learning.is_better:
        return f"Not learned: {explain_unlearned(learning)}. So nothing is known about which network is better."
    best = measured[0]
    seeds = count_nouns(best.n_seeds, "seed")
    text = f"{best.name} is the most accurate, {100 * (best.accuracy or 0):.1f} % over {seeds}."
    others = [standing for standing in measured if standing.name != REFERENCE]
    apart = [standing for standing in others if standing.is_told_apart]
    if len(others) == len(measured):
        return text
    if not apart:
        return f"{text} No network is told apart from {REFERENCE} at this number of seeds."
    named = [f"{standing.name} ({format_signed(100 * (standing.difference or 0), 1)} points)" for standing in apart]
    rest = [standing.name for standing in others if not standing.is_told_apart]
    return f"{text} Told apart from {REFERENCE}: {enumerate_words(named)}" + (
        f"; not told apart: {enumerate_words(rest)}." if rest else "."
    )


RESULTS = (
    "network", "accuracy (%) [95 %]", f"less {REFERENCE} (points) [95 %]", "p (Holm)", "seeds"
)  # fmt: skip
COSTS = ("network", "growth", "connections", "mean BD", "params", "FLOPs (M)", f"FLOPs over {REFERENCE}'s")


def format_results(standings: Sequence[Standing]) -> tuple[tuple[str, ...], ...]:
    """Return each network's cells under RESULTS."""
    accuracies = [_percent(each.accuracy or 0.0, each.low, each.high)[1:] for each in standings]
    differences = [
        _percent(each.difference or 0.0, each.difference_low, each.difference_high)[1:] for each in standings
    ]
    digits = share_digits(accuracies, 1), share_digits(differences, 1)
    return tuple(_format_result(standing, *digits) for standing in standings)


def _format_result(standing: Standing, digits: int, difference_digits: int) -> tuple[str, ...]:
    difference = None
    if standing.difference is not None:
        difference = format_difference(
            *_percent(standing.difference, standing.difference_low, standing.difference_high), difference_digits
        )
    return (
        standing.name,
        NONE
        if standing.accuracy is None
        else format_estimate(*_percent(standing.accuracy, standing.low, standing.high), digits),
        format_value(difference),
        format_p(standing.p_holm),
        str(standing.n_seeds),
    )


def _percent(value: float, low: float | None, high: float | None) -> tuple[float, float | None, float | None]:
    return 100 * value, None if low is None else 100 * low, None if high is None else 100 * high


def format_cost(standing: Standing) -> tuple[str, ...]:
    """Return a network's cells under COSTS."""
    return (
        standing.name,
        str(standing.growth),
        str(standing.pattern.n_connections),
        f"{standing.global_mean_bd:.2f}",
        f"{standing.params:,}",
        f"{standing.flops / 1e6:,.2f}",
        NONE if standing.flops_ratio is None else f"{standing.flops_ratio:.3f}",
    )


def _explain(standings: Sequence[Standing]) -> str:
    ratios = [standing.flops_ratio for standing in standings if standing.flops_ratio is not None]
    off = (
        f"within {100 * max(abs(ratio - 1) for ratio in ratios):.0f} % of "
        if ratios
        else "as near as whole channels go to "
    )
    names = {standing.name for standing in standings}
    spanning = enumerate_words(["V1", *(name for name in ("condensenet", "condensed") if name in names)])
    return (
        f"Growth is chosen for FLOPs {off}those of {REFERENCE}; parameters differ. Connections are those of the "
        f"pattern: of a block, and with {spanning} of all blocks. Mean BD is through all blocks and transitions. "
        "log, optimum and learned differ in their connections only; the others have surroundings of their own, so "
        "what sets them apart need not be where their connections go."
    )


def draw_accuracies(run: Run, standings: Sequence[Standing]) -> Picture:
    """Draw the networks' accuracies with their intervals."""
    rows = [
        Level(
            label=standing.name,
            value=standing.accuracy,
            low=standing.low,
            high=standing.high,
            note=f"mean BD {standing.global_mean_bd:.2f}",
            is_reference=standing.name == REFERENCE,
        )
        for standing in standings
        if standing.accuracy is not None
    ]
    chart = draw_levels(rows, label_outcome(ACCURACY), lower_is_better=False, caption=describe_lineup(run))
    return chart.show("networks.svg", "Accuracies of the networks, with 95 % intervals over seeds.", "Interval plot")
