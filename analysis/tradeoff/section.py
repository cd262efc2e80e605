"""What a report says of several budgets: accuracy against connections, and how few keep it."""

from collections.abc import Iterator, Sequence

from analysis.data.protocol import UNSTEERED
from analysis.page.captions import make_picture, name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import (
    NONE,
    capitalise,
    count_nouns,
    enumerate_words,
    format_difference,
    format_estimate,
    share_digits,
)
from analysis.stats.guessing import explain_unlearned
from analysis.tradeoff.contenders import FOUND, RANDOM
from analysis.tradeoff.points import Answer, Point, Tradeoff

JUDGED = {"kept": "yes", "lost": "no", "unsettled": "unsettled"}


def build_tradeoff(
    tradeoff: Tradeoff, caption: str, part: str = "", strategies: Sequence[str] = (), *, is_in_head: bool = False
) -> Iterator[Block]:
    """Show accuracy against connections at one depth: the answer, its picture and its numbers.

    Args:
        part: the depth's name, such as "24 layers"; empty where the report has only one.
        strategies: strategies of all the run's candidates.
        is_in_head: whether the page's head shows the answer and the picture.
    """
    yield Heading(2, f"Accuracy against connections{', ' if part else ''}{part}")
    if not is_in_head:
        yield Paragraph(answer_tradeoff(tradeoff), "finding")
        yield draw_tradeoff(tradeoff, caption, part)
    yield _table(tradeoff)
    explained = (_say_kept(tradeoff), _explain(tradeoff, strategies))
    yield Fold("Where these points come from, and what kept means", tuple(map(Paragraph, explained)))


def draw_tradeoff(tradeoff: Tradeoff, caption: str = "", part: str = "") -> Picture:
    """Draw accuracy against what connections cost."""
    from analysis.tradeoff.plot import plot_tradeoff  # matplotlib: half a second

    return make_picture(
        plot_tradeoff(tradeoff.points, caption),
        name_file("tradeoff", part),
        "Mean validation accuracy over seeds with 95 % intervals, each seed's own mean over all points taken out; "
        "intervals at one budget stand a little apart to be seen. Point at a mark for its numbers.",
        "Line plot with intervals",
    )


def _say_kept(tradeoff: Tradeoff) -> str:
    return (
        "Differences are to the same family's largest budget, in points, paired by seed: a seed fixes split, stream "
        "of initial weights and order of the data at every budget. Kept: yes where the whole 95 % interval lies above "
        f"-{100 * tradeoff.margin:g}, no where it lies below, unsettled where on both sides. How few connections keep "
        "the accuracy is read from the largest budget down, as far as every budget says yes. Where all seeds show the "
        "same, there is no interval: it shows no spread to make one from."
    )


def answer_tradeoff(tradeoff: Tradeoff) -> str:
    """Say how few connections keep the accuracy, in one sentence for each of kept, lost and not settled."""
    if tradeoff.learning is not None and not tradeoff.learning.is_better:
        return (
            f"Not learned: at the largest budget {explain_unlearned(tradeoff.learning)}. So there is no accuracy that "
            "fewer connections could keep or lose."
        )
    margin = f"{100 * tradeoff.margin:g} percentage point"
    largest = sorted({answer.largest for answer in tradeoff.answers})
    if not largest:
        return "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."
    which = f"({largest[0]} connections)" if len(largest) == 1 else "of the same family"
    kept = [(answer, answer.fewest) for answer in tradeoff.answers if answer.fewest < answer.largest]
    sentences = [
        f"within {margin} of the accuracy at the largest budget {which}: {_group(kept, 'down to ')}"
        if kept
        else f"no smaller budget is shown to keep the accuracy of the largest {which} within {margin}"
    ]
    for status, words in (("lost", f"lower by more than {margin}"), ("unsettled", "not settled")):
        stopped = [
            (each, each.stopped) for each in tradeoff.answers if each.status == status and each.stopped is not None
        ]
        seeds = [answer.n_seeds for answer, _ in stopped if answer.n_seeds is not None]
        at = f" at {_count_seeds(seeds)}" if status == "unsettled" and seeds else ""
        if stopped:
            sentences.append(f"{words}{at}: {_group(stopped, 'at ')}")
    return ". ".join(map(capitalise, sentences)) + "."


def _count_seeds(seeds: Sequence[int]) -> str:
    low, high = min(seeds), max(seeds)
    return f"{low} to {high} seeds" if low < high else count_nouns(low, "seed")


def _group(answers: Sequence[tuple[Answer, int]], preposition: str) -> str:
    """List families by the number of connections that goes with each, the fewest first."""
    families: dict[int, list[str]] = {}
    for answer, connections in sorted(answers, key=lambda pair: pair[1]):
        families.setdefault(connections, []).append("what was found" if answer.family == FOUND else answer.family)
    return "; ".join(f"{enumerate_words(names)} {preposition}{n} connections" for n, names in families.items())


def _explain(tradeoff: Tradeoff, strategies: Sequence[str]) -> str:
    """Say where the values of FOUND and RANDOM come from, and how much of the selection may remain in them."""
    families = {point.family for point in tradeoff.points}
    found = [point for point in tradeoff.points if point.picked is not None]
    sentences = ["A family of templates is a rule that has one pattern at each budget."]
    own = [point for point in found if point.is_own_mean]
    if own:
        sentences.append(
            "Found: where outcomes chose which patterns were trained again, the search's own pick. Its accuracy is the "
            "mean over its own trainings, by which it was picked too: a little too high."
        )
    if FOUND in families and len(own) < len(found):
        sentences.append(
            "Found: at each budget the best proposed pattern. The mean it was picked by is raised by its own "
            "noise, so its accuracy here leaves one seed out in turn: picked by the others, scored "
            "at the one left out."
        )
    if any(point.n_seeds == 1 and not point.is_own_mean for point in found):
        sentences.append("That needs two seeds; with one, the number it was picked by is all there is, and too high.")
    steered = sorted(name for name in strategies if name not in UNSTEERED)
    if len(own) < len(found) and steered:
        sentences.append(
            f"A little of the selection may remain, for {enumerate_words(steered)} chose what to train by outcomes at "
            "all seeds."
        )
    if RANDOM in families:
        sentences.append("Random (mean): the mean of the patterns drawn uniformly.")
    return " ".join(sentences)


def _table(tradeoff: Tradeoff) -> Table:
    header = ("family", "connections", "accuracy (%) [95 %]", "difference (points) [95 %]", "kept", "pattern", "seeds")
    intervals = [_percent(point.accuracy, point.low, point.high)[1:] for point in tradeoff.points]
    apart = [point.difference for point in tradeoff.points if point.difference is not None]
    differences = [_percent(each.mean, each.low, each.high)[1:] for each in apart]
    digits = share_digits(intervals, 1), share_digits(differences, 1)
    return Table(header, tuple(_row(point, *digits) for point in tradeoff.points))


def _row(point: Point, digits: int, difference_digits: int) -> tuple[str, ...]:
    difference = point.difference
    of = "" if point.picked is None else f" (best of {point.n_patterns})"
    return (
        point.family,
        str(point.connections),
        format_estimate(*_percent(point.accuracy, point.low, point.high), digits),
        NONE
        if difference is None
        else format_difference(*_percent(difference.mean, difference.low, difference.high), difference_digits),
        NONE if difference is None else JUDGED[difference.status],
        point.pattern + of,
        str(point.n_seeds),
    )


def _percent(value: float, low: float | None, high: float | None) -> tuple[float, float | None, float | None]:
    return 100 * value, None if low is None else 100 * low, None if high is None else 100 * high
