"""What several budgets say together, in one short sentence."""

from analysis.tradeoff.contenders import FOUND
from analysis.tradeoff.points import Tradeoff


def conclude_tradeoff(tradeoff: Tradeoff) -> str:
    """Say how few connections keep the accuracy: of what was found, or else of how many families of templates."""
    if tradeoff.learning is not None and not tradeoff.learning.is_better:
        return "At the largest budget the networks have learned nothing, so no budget can be said to keep the accuracy."
    margin = f"{100 * tradeoff.margin:g} percentage point"
    found = next((answer for answer in tradeoff.answers if answer.family == FOUND), None)
    if found is not None:
        if found.fewest < found.largest:
            return (
                f"Down to {found.fewest} of {found.largest} connections, the patterns found keep the accuracy within "
                f"{margin}."
            )
        return f"Fewer than {found.largest} connections are not shown to keep the accuracy within {margin}."
    if not tradeoff.answers:
        return "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."
    n_kept = sum(answer.fewest < answer.largest for answer in tradeoff.answers)
    of = f"{n_kept or 'None'} of {len(tradeoff.answers)} families of templates"
    return f"{of} {'is' if n_kept == 1 else 'are'} shown to keep the accuracy within {margin} with fewer connections."
