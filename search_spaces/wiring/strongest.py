"""The strongest connections of a trained pattern, as a pattern that spends a budget."""

import math
from collections.abc import Iterable, Sequence

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern


def relative_strengths(pattern: ConnectionPattern, strengths: Sequence[float]) -> dict[tuple[int, int], float]:
    """Return each connection's strength over the mean of its layer's: 1 is as strong as the layer's others.

    Layers with many inputs have smaller weights from the start, so weights compare only within a layer.

    Args:
        pattern: pattern that was trained.
        strengths: strength of each connection, in the order of `pattern.connections`, not negative.

    Returns:
        Relative strengths by (source, target).

    Raises:
        InputError: the numbers of strengths and connections differ, or a strength is negative or not finite.

    >>> relative_strengths(ConnectionPattern(2, ((0,), (0, 1))), [5.0, 1.0, 3.0])
    {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 1.5}
    """
    if len(strengths) != pattern.n_connections:
        raise InputError(f"{len(strengths)} strengths for a pattern of {pattern.n_connections} connections: one each")
    check_strengths(strengths)
    by_connection = dict(zip(pattern.connections, strengths, strict=True))
    relative = {}
    for target, inputs in enumerate(pattern.sources, start=1):
        mean = sum(by_connection[source, target] for source in inputs) / len(inputs)
        for source in inputs:
            relative[source, target] = by_connection[source, target] / mean if mean > 0 else 1.0
    return relative


def check_strengths(strengths: Iterable[float]) -> None:
    """Raise InputError where a strength is negative or not finite."""
    if not all(0 <= strength < math.inf for strength in strengths):
        raise InputError("strengths must be finite and not negative: they are means of absolute weights")


def average_relative(pattern: ConnectionPattern, strengths: Sequence[Sequence[float]]) -> list[float]:
    """Average relative_strengths over several trainings or blocks, in the order of `pattern.connections`.

    Args:
        pattern: pattern that was trained.
        strengths: at least one list of strengths, each as relative_strengths takes it.

    >>> average_relative(ConnectionPattern(2, ((0,), (0, 1))), [[1, 1, 3], [1, 1, 1]])
    [1.0, 0.75, 1.25]
    """
    relative = [relative_strengths(pattern, training) for training in strengths]
    return [sum(training[connection] for training in relative) / len(relative) for connection in pattern.connections]


def keep_strongest(pattern: ConnectionPattern, strengths: Sequence[float], budget: Budget) -> ConnectionPattern:
    """Keep the chain and the strongest other connections, up to a budget (after CondenseNet, arXiv:1711.09224).

    Under a budget by layer each layer's strongest inputs stay; under a total the strongest of all, by
    relative_strengths, stay. Of two that are equally strong the one of the shorter span stays. Caps are kept.

    Args:
        pattern: pattern that was trained; the result is a part of it.
        strengths: strength of each connection, as relative_strengths takes them.
        budget: budget of the same depth.

    Raises:
        InputError: the pattern has no part that meets the budget this way, or relative_strengths refuses the strengths.

    >>> dense = ConnectionPattern(3, ((0,), (0, 1), (0, 1, 2)))
    >>> keep_strongest(dense, [1, 1, 1, 1, 9, 1], Budget(3, total=4)).sources
    ((0,), (1,), (1, 2))
    """
    if budget.depth != pattern.depth:
        raise InputError(f"a budget of {budget.depth} layers for a pattern of {pattern.depth}: they must be the same")
    relative = relative_strengths(pattern, strengths)
    chosen = {(layer - 1, layer) for layer in range(1, pattern.depth + 1)}
    n_in, n_out = [0] + [1] * pattern.depth, [1] * pattern.depth + [0]
    for source, target in sorted(set(relative) - chosen, key=lambda pair: (-relative[pair], pair[1] - pair[0], pair)):
        most_in = budget.per_layer[target - 1] if budget.per_layer is not None else budget.most_in
        if len(chosen) < budget.n_connections and n_in[target] < most_in and n_out[source] < budget.most_out:
            chosen.add((source, target))
            n_in[target] += 1
            n_out[source] += 1
    strongest = ConnectionPattern.from_connections(pattern.depth, chosen)
    if not budget.is_met_by(strongest):
        raise InputError(
            f"the strongest connections of a pattern with {pattern.n_connections} do not add up to budget {budget}: it "
            "must have them to spare in every layer, as dense has, and caps must leave room"
        )
    return strongest
