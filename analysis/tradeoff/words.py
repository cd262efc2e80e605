"""What several budgets say together, in one short sentence."""

from analysis.tradeoff.contenders import FOUND
from analysis.tradeoff.points import Tradeoff


def conclude_tradeoff(tradeoff: Tradeoff) -> str:
    """Say how few connections keep the accuracy: of what was found, or else of how many families of templates."""
    if tradeoff.learning is not None and not tradeoff.learning.is_better:
        return "At the largest budget the networks have learned nothing, so no budget can be said to keep the accuracy."
    if not tradeoff.answers:
        return "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."
    margin = f"{100 * tradeoff.margin:g} percentage point"
    found = next((answer for answer in tradeoff.answers if answer.family == FOUND), None)
    if found is not None and found.fewest < found.largest:
        of = f"{found.fewest} of {found.largest} connections"
        return f"Down to {of}, the patterns found keep the accuracy within {margin}."
    n_kept = sum(answer.fewest < answer.largest for answer in tradeoff.answers)
    if n_kept == 0:
        return f"No pattern with fewer connections is shown to keep the accuracy within {margin}."
    of = f"{n_kept} of {len(tradeoff.answers)} families"
    return f"With fewer connections, {of} {'is' if n_kept == 1 else 'are'} shown to keep the accuracy within {margin}."
