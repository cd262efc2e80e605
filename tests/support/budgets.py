"""Budgets to test with: which are feasible, by maximum flow, and whether a pattern spends one."""

import networkx as nx
from hypothesis import strategies as st

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern

_caps = st.none() | st.integers(2, 7)


def most_skips(depth: int, wanted: list[int], max_out: int | None) -> int:
    """Return the most skips that layers 1..L can have, layer i at most wanted[i - 1], by maximum flow."""
    graph: nx.DiGraph[object] = nx.DiGraph()
    graph.add_nodes_from(["from", "to"])
    for layer in range(2, depth + 1):
        graph.add_edge("from", ("layer", layer), capacity=wanted[layer - 1])
        graph.add_edges_from(((("layer", layer), ("node", node)) for node in range(layer - 1)), capacity=1)
    for node in range(depth - 1):
        graph.add_edge(("node", node), "to", capacity=depth if max_out is None else max_out - 1)  # the chain reads too
    return int(nx.maximum_flow_value(graph, "from", "to"))


def most_connections(depth: int, max_in: int | None, max_out: int | None) -> int:
    """Return the largest total that some pattern under the caps has."""
    return depth + most_skips(depth, [min(i, max_in or i) - 1 for i in range(1, depth + 1)], max_out)


def is_feasible(depth: int, per_layer: tuple[int, ...], max_in: int | None, max_out: int | None) -> bool:
    """Return whether some pattern under the caps has these in-degrees."""
    if max(per_layer) > (max_in or depth):
        return False
    return most_skips(depth, [degree - 1 for degree in per_layer], max_out) == sum(per_layer) - depth


def assert_spent(pattern: ConnectionPattern, budget: Budget) -> None:
    """Check that a pattern spends a budget, without asking the budget."""
    assert pattern.depth == budget.depth
    readers = [0] * (pattern.depth + 1)
    for source, _ in pattern.connections:
        readers[source] += 1
    assert max(map(len, pattern.sources)) <= (budget.max_in or pattern.depth)
    assert max(readers) <= (budget.max_out or pattern.depth)
    if budget.per_layer is None:
        assert sum(map(len, pattern.sources)) == budget.total
    else:
        assert tuple(map(len, pattern.sources)) == budget.per_layer


@st.composite
def budgets(draw: st.DrawFn, most: int = 14) -> Budget:
    """Draw totals and in-degrees with or without caps, all feasible."""
    depth = draw(st.integers(1, most))
    max_in, max_out = draw(_caps), draw(_caps)
    if draw(st.booleans()):
        total = draw(st.integers(depth, most_connections(depth, max_in, max_out)))
        return Budget(depth, total, None, max_in, max_out)
    per_layer = [draw(st.integers(1, min(layer, max_in or layer, 5))) for layer in range(1, depth + 1)]
    while not is_feasible(depth, tuple(per_layer), max_in, max_out):
        per_layer[per_layer.index(max(per_layer))] -= 1
    return Budget(depth, None, tuple(per_layer), max_in, max_out)
