"""What a report says of several budgets: accuracy against connections, and how few keep it."""

from collections.abc import Iterator, Sequence

from analysis.page.captions import describe_data
from analysis.page.document import Block, Heading, Paragraph, Picture, Table
from analysis.page.wording import NONE, capitalise, enumerate_words, format_count, format_interval, format_signed
from analysis.report.findings import Findings
from analysis.stats.guessing import explain_unlearned
from analysis.tradeoff.contenders import FOUND, RANDOM
from analysis.tradeoff.points import Answer, Point, Tradeoff

JUDGED = {"kept": "yes", "lost": "no", "unsettled": "unsettled"}
MAX_BUDGET = 24  # characters; an in-degree for each layer is longer


def build_tradeoff(findings: Findings, tradeoff: Tradeoff) -> Iterator[Block]:
    """Picture, answer and numbers of one depth."""
    from analysis.page.figure_style import draw_png, draw_svg  # matplotlib: half a second
    from analysis.tradeoff.plot import plot_tradeoff

    is_one_of_several = len(findings.tradeoffs) > 1
    of = f", {tradeoff.layers} layers" if is_one_of_several else ""
    yield Heading(2, f"Accuracy against connections{of}")
    yield Paragraph(answer(tradeoff), kind="answer")
    figure = plot_tradeoff(tradeoff.points, describe_data(findings))
    yield Picture(
        f"tradeoff_{tradeoff.layers}-layers.svg" if is_one_of_several else "tradeoff.svg",
        draw_svg(figure),
        "Mean validation accuracy over seeds with 95 % intervals, each seed's own mean over all points taken out; "
        "intervals at one budget stand a little apart to be seen. Point at a mark for its numbers.",
        png=draw_png(figure),
    )
    yield Paragraph(_explain(findings, tradeoff))
    yield _table(tradeoff)
    yield Paragraph(
        "Differences are to the same family's largest budget, in points, paired by seed: a seed fixes split, stream "
        "of initial weights and order of the data at every budget. Kept: yes where the whole 95 % interval lies above "
        f"-{100 * tradeoff.margin:g}, no where it lies below, unsettled where on both sides. How few connections keep "
        "the accuracy is read from the largest budget down, as far as every budget says yes. Where all seeds show the "
        "same, there is no interval: it shows no spread to make one from."
    )


def answer(tradeoff: Tradeoff) -> str:
    """How few connections keep the accuracy, in one sentence for each of kept, lost and not settled."""
    if tradeoff.learning is not None and not tradeoff.learning.is_better:
        return (
            f"Not learned: at the largest budget {explain_unlearned(tradeoff.learning)}. So there is no accuracy that "
            "fewer connections could keep or lose."
        )
    margin = f"{100 * tradeoff.margin:g} percentage point"
    largest = sorted({one.largest for one in tradeoff.answers})
    if not largest:
        return "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."
    which = f"({largest[0]} connections)" if len(largest) == 1 else "of the same family"
    kept = [(one, one.fewest) for one in tradeoff.answers if one.fewest < one.largest]
    sentences = [
        f"within {margin} of the accuracy at the largest budget {which}: {_group(kept, 'down to ')}"
        if kept
        else f"no smaller budget is shown to keep the accuracy of the largest {which} within {margin}"
    ]
    for status, words in (("lost", f"lower by more than {margin}"), ("unsettled", "not settled")):
        stopped = [(one, one.stopped) for one in tradeoff.answers if one.status == status and one.stopped is not None]
        seeds = sorted({one.n_seeds for one, _ in stopped if one.n_seeds is not None})
        at = f" at {_count_seeds(seeds)}" if status == "unsettled" and seeds else ""
        if stopped:
            sentences.append(f"{words}{at}: {_group(stopped, 'at ')}")
    return ". ".join(map(capitalise, sentences)) + "."


def _count_seeds(seeds: Sequence[int]) -> str:
    """Of several comparisons, ascending."""
    if seeds[0] < seeds[-1]:
        return f"{seeds[0]} to {seeds[-1]} seeds"
    return f"{seeds[0]} seed{'' if seeds[0] == 1 else 's'}"


def _group(answers: Sequence[tuple[Answer, int]], preposition: str) -> str:
    """Families by the number of connections that is said of them, the fewest first."""
    families: dict[int, list[str]] = {}
    for one, connections in sorted(answers, key=lambda pair: pair[1]):
        families.setdefault(connections, []).append("what was found" if one.family == FOUND else one.family)
    return "; ".join(f"{enumerate_words(names)} {preposition}{n} connections" for n, names in families.items())


def _explain(findings: Findings, tradeoff: Tradeoff) -> str:
    """Where the values of FOUND and RANDOM come from, and what of selection may be left in them."""
    families = {point.family for point in tradeoff.points}
    found = [point for point in tradeoff.points if point.picked is not None]
    sentences = ["A family of templates is a rule that has one pattern at each budget."]
    if FOUND in families:
        sentences.append(
            "Found: at each budget the best proposed pattern. The mean it was picked by is raised by its own noise "
            "(as picked, in the table), so its accuracy here leaves one seed out in turn: picked by the others, scored "
            "at the one left out."
        )
    if any(point.n_seeds == 1 for point in found):
        sentences.append("That needs two seeds; with one, the number it was picked by is all there is, and too high.")
    strategies = findings.candidates["strategy"].dropna().unique().tolist()
    steered = sorted(name for name in strategies if name.partition(" ")[0] in ("tpe", "evolve") or "halved" in name)
    if found and steered:
        sentences.append(
            f"A little of the selection may remain, for {enumerate_words(steered)} chose what to train by outcomes at "
            "all seeds."
        )
    if RANDOM in families:
        sentences.append("Random (mean): the mean of the patterns drawn uniformly.")
    return " ".join(sentences)


def _table(tradeoff: Tradeoff) -> Table:
    header = (
        "family", "budget", "connections", "accuracy (%)", "95 % interval", "difference", "95 % interval", "kept",
        "parameters", "FLOPs", "as picked (%)", "pattern", "seeds",
    )  # fmt: skip
    return Table(header, tuple(map(_row, tradeoff.points)))


def _row(point: Point) -> tuple[str, ...]:
    difference = point.difference
    low, high = (None, None) if difference is None else (difference.low, difference.high)
    return (
        point.family,
        point.budget if len(point.budget) <= MAX_BUDGET else f"{point.budget[: MAX_BUDGET - 3]}...",
        str(point.connections),
        f"{100 * point.accuracy:.2f}",
        NONE if point.low is None or point.high is None else f"{100 * point.low:.2f} to {100 * point.high:.2f}",
        NONE if difference is None else format_signed(100 * difference.mean),
        format_interval(None if low is None else 100 * low, None if high is None else 100 * high),
        NONE if difference is None else JUDGED[difference.status],
        NONE if point.params is None else f"{point.params:,}",
        NONE if point.flops is None else format_count(point.flops),
        NONE if point.picked is None else f"{100 * point.picked:.2f}",
        point.pattern + ("" if point.picked is None else f" (best of {point.n_patterns})"),
        str(point.n_seeds),
    )
