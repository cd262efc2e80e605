"""What several budgets say together, in one short sentence."""

from analysis.tradeoff.contenders import FOUND, RANDOM
from analysis.tradeoff.points import Tradeoff


def conclude_tradeoff(tradeoff: Tradeoff) -> str:
    """Say how few connections keep the accuracy: of what was found, or else of the family that keeps it longest."""
    if tradeoff.learning is not None and not tradeoff.learning.is_better:
        return "At the largest budget the networks have learned nothing, so no budget can be said to keep the accuracy."
    if not tradeoff.answers:
        return "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."
    margin = f"{100 * tradeoff.margin:g} percentage point"
    found = next((answer for answer in tradeoff.answers if answer.family == FOUND), None)
    if found is not None and found.fewest < found.largest:
        of = f"{found.fewest} of {found.largest} connections"
        return f"Down to {of}, the patterns found keep the accuracy within {margin}."
    kept = [answer for answer in tradeoff.answers if answer.fewest < answer.largest]
    if not kept:
        return f"No pattern with fewer connections is shown to keep the accuracy within {margin}."
    fewest = min(answer.fewest for answer in kept)
    first, *more = [answer for answer in kept if answer.fewest == fewest]
    n, n_others = len(tradeoff.answers), len(tradeoff.answers) - 1 - len(more)
    if more:
        return f"With {fewest} connections, {1 + len(more)} of {n} families keep the accuracy within {margin}."
    name = "the mean of random patterns" if first.family == RANDOM else f"template {first.family}"
    others = f"; {n_others} other{'s are' if n_others > 1 else ' is'} not shown to" if n_others else ""
    return f"With {fewest} of {first.largest} connections, {name} keeps the accuracy within {margin}{others}."
