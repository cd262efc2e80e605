"""Everything known about a pattern without training it, as one row."""

from typing import Any

from nas.layouts.layout import measure_layout
from nas.model.candidate import Candidate
from nas.model.cost import predict_activation_bytes, predict_cost
from nas.records.template import describe_certificate
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.measures.registry import ALWAYS_SHOWN, measure, measure_brought


def score_candidate(candidate: Candidate, budget: Budget, label: str | None) -> dict[str, Any]:
    """Return distances, costs and certificate of a candidate, under the names that tables and files use.

    Args:
        candidate: candidate, whose seed plays no part.
        budget: budget of the certificate, whose entries are None for a pattern that does not spend it.
        label: name of the row.

    Returns:
        describe's entries, the measures of ALWAYS_SHOWN and those that other packages bring, all of one block; params
        and flops of the whole network; bytes that training keeps for each image of a batch in float32, naively and
        memory-efficiently; distances through its blocks and transitions, `from_loss_mean` among them, and for a network
        with a layout those with free changes of resolution, by names that end in `_free`; bound, certificate and gap.
    """
    pattern = candidate.pattern
    cost = predict_cost(candidate)
    through = candidate.global_distance
    described = {**describe(pattern), **measure(pattern, ALWAYS_SHOWN, candidate.reads)}
    described |= measure_brought(pattern, candidate.reads, taken=described)
    return {
        "template": label,
        **described,
        "params": cost.params,
        "flops": cost.flops,
        "activation_bytes": predict_activation_bytes(candidate, memory_efficient=False),
        "activation_bytes_efficient": predict_activation_bytes(candidate, memory_efficient=True),
        "global_mean_bd": through.mean,
        "global_max_bd": through.max,
        "from_loss_mean": through.from_loss_mean,
        **_measure_free(candidate),
        **describe_certificate(pattern, budget),
    }


def _measure_free(candidate: Candidate) -> dict[str, float]:
    """Return distances in which a change of resolution is no hop; empty for a network without a layout."""
    if not candidate.network.has_layout:
        return {}
    free = measure_layout(candidate.layout, passage_hops=0)
    return {"from_loss_mean_free": free.from_loss_mean, "global_mean_bd_free": free.mean}
