"""The first screen of a report: the answer, and the pictures that it rests on."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from analysis.comparisons.final import draw_final
from analysis.data.results import parse_sources
from analysis.page.document import Block, Fold, Paragraph, Picture
from analysis.page.wording import capitalise
from analysis.picks.section import draw_first, draw_pick
from analysis.report.conclusion import Conclusion
from analysis.report.findings import Findings
from analysis.study.overview import advise, define_measures, draw_weakest, judge_others
from analysis.study.sections import draw_winner
from analysis.study.view import View
from analysis.tradeoff.contenders import FOUND
from analysis.tradeoff.section import draw_tradeoff

EXPLAINED = ("mean_bd", "max_bd", "walk_length")  # in the pictures and tables of a search
MOST_SHOWN = 340  # characters of the numbers that are not folded


def build_head(conclusion: Conclusion, pictures: Iterable[Picture], folds: Iterable[Block] = ()) -> Iterator[Block]:
    """Build what the first screen shows: the answer, the numbers next to it, what it cost, and pictures of it.

    Args:
        pictures: the best pattern's, and the comparison that the answer rests on.
        folds: what stays closed below them.
    """
    yield Paragraph(conclusion.sentence, "answer")
    n_shown = sum(total <= MOST_SHOWN for total in accumulate(map(len, conclusion.numbers)))
    for text in conclusion.numbers[:n_shown]:
        yield Paragraph(text, "note")
    yield Paragraph(f"{capitalise(conclusion.cost)}.", "note")
    yield from pictures
    if hidden := conclusion.numbers[n_shown:]:
        yield Fold("The numbers behind it", tuple(map(Paragraph, hidden)))
    yield from folds


def draw_head(findings: Findings) -> Iterator[Picture]:
    """Draw the best pattern, and next to it what the answer rests on."""
    views = [view for view in findings.views if not view.stratum.is_exploratory] or list(findings.views)
    if len(findings.picks) == 1:
        (found,) = findings.picks
        if found.basis != "unlearned":
            yield draw_pick(found)
        if findings.final is not None and findings.final.rows:
            yield draw_final(findings.final)
        elif found.basis == "model":
            yield draw_first(found)
        return
    if findings.tradeoffs:
        yield from _draw_tradeoff(findings)
        return
    yield draw_winner(views[0])
    yield from draw_weakest(views, findings.pooled)


def _draw_tradeoff(findings: Findings) -> Iterator[Picture]:
    """Draw the pick of the fewest connections that keep the accuracy, of the most where that is not shown."""
    first = findings.tradeoffs[0]
    fewest = next((answer.fewest for answer in first.answers if answer.family == FOUND), None)
    known = [found for found in findings.picks if found.layers == first.layers and found.basis != "unlearned"]
    keeping = [found for found in known if parse_sources(found.pick.sources).n_connections == fewest]
    for found in (keeping or known)[-1:]:
        yield draw_pick(found, found.budget)
    yield draw_tradeoff(first)


def explain_head(findings: Findings, declared: Sequence[View]) -> Iterator[Block]:
    """Fold what a reader may ask next: what the measures are, and what it would take to know more."""
    if findings.run.kind != "study":
        if findings.verdict.status == "not_trained":
            yield Paragraph(findings.verdict.numbers, "note")
        else:
            yield from define_measures(EXPLAINED)
        return
    more = advise([findings.verdict, *judge_others(declared, findings.pooled)])
    if more:
        yield Fold("What it would take to know more", (Paragraph(more),))
    yield from define_measures(findings.views[0].stratum.measures)
