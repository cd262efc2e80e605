"""ConnectionPattern: what is refused and how, keys, degrees, graphs, immutability."""

import copy
import hashlib
import itertools
import pickle
from typing import Any

import networkx as nx
import pytest

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from tests.support.patterns import every_pattern

EXAMPLE = ConnectionPattern(4, ((0,), (0, 1), (2,), (0, 1, 3)))


@pytest.mark.parametrize(
    ("depth", "sources", "named"),
    [
        (3, ((0,), (0,), (2,)), "layer 2 does not read 1"),
        (1, ((),), "layer 1 does not read 0"),
        (3, ((0,), (1, 2), (2,)), "layer 2 reads 2, a forward"),
        (3, ((0, 3), (1,), (2,)), "layer 1 reads 3, a forward"),
        (3, ((0,), (1, 0, 0), (2,)), "layer 2 reads 0 more than once"),
        (3, ((0,), (1, 1), (2,)), "layer 2 reads 1 more than once"),
        (3, ((0,), (1, 4), (2,)), "layer 2 reads 4, out of range 0..1"),
        (3, ((0,), (1,), (2, -1)), "layer 3 reads -1, out of range 0..2"),
        (3, ((False,), (1,), (2,)), "layer 1 reads False"),
        (3, ((0,), (1,), (2, True)), "layer 3 reads True"),
        (3, ((0,), (1,), (2, 1.0)), "layer 3 reads 1.0"),
        (3, ((0,), (1,), (2, "1")), "layer 3 reads '1'"),
        (3, ((0,), (1,), (2, None)), "layer 3 reads None"),
        (3, ((0,), (1,)), "2 lists of sources given, expected 3"),
        (3, ((0,), (1,), (2,), (3,)), "4 lists of sources given, expected 3"),
        (0, (), "depth is 0"),
        (-2, (), "depth is -2"),
        (True, ((0,),), "depth is True"),
        (2.0, ((0,), (1,)), "depth is 2.0"),
        ("2", ((0,), (1,)), "depth is '2'"),
    ],
)
def test_what_is_no_pattern_is_refused_by_name(depth: Any, sources: Any, named: str) -> None:
    for build in (ConnectionPattern, lambda depth, sources: ConnectionPattern.from_sources(sources, depth)):
        with pytest.raises(InputError) as refusal:
            build(depth, sources)
        first, _, others = str(refusal.value).partition("; ")
        assert first.startswith(f"not a connection pattern of {depth} layers: {named}")
        if "does not read" not in named:
            # A wrong source may also leave its layer without the chain connection; nothing else may be blamed.
            assert not others or "does not read" in others


def test_three_offenders_are_named_in_layer_order_and_the_others_counted() -> None:
    sources = ((0,), (0,), (2, 3, 9), (3,), (), (5, 5), (7, True))
    with pytest.raises(InputError) as refusal:
        ConnectionPattern(7, sources)
    *offenders, rest = str(refusal.value).partition(": ")[2].split("; ")
    starts = ("layer 2 does not read 1", "layer 3 reads 3", "layer 3 reads 9")
    assert [offender.startswith(start) for offender, start in zip(offenders, starts, strict=True)] == [True] * 3
    assert "5 more" in rest


def test_exactly_three_offenders_leave_none_to_count() -> None:
    with pytest.raises(InputError) as refusal:
        ConnectionPattern(3, ((), (), ()))
    assert str(refusal.value).count("does not read") == 3
    assert "more" not in str(refusal.value)


@pytest.mark.parametrize("target", [0, -1, 4])
def test_a_connection_that_ends_outside_the_layers_is_refused(target: int) -> None:
    with pytest.raises(InputError, match=rf"connection 0 -> {target} ends outside the layers 1\.\.3"):
        ConnectionPattern.from_connections(3, [(0, 1), (1, 2), (2, 3), (0, target)])


@pytest.mark.parametrize(
    ("connections", "named"),
    [
        ([(0, 1), (0, 2)], "layer 2 does not read 1"),
        ([(0, 1), (1, 2), (1, 2)], "layer 2 reads 1 more than once"),
        ([(0, 1), (1, 2), (2, 1)], "layer 1 reads 2, a forward connection"),
    ],
)
def test_connections_are_checked_like_sources(connections: list[tuple[int, int]], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ConnectionPattern.from_connections(2, connections)


@pytest.mark.parametrize("target", [True, 1.0])
def test_a_target_that_is_no_integer_is_refused(target: Any) -> None:
    with pytest.raises(InputError, match=f"0 -> {target} ends outside the layers"):
        ConnectionPattern.from_connections(2, [(0, target), (1, 2)])


def test_order_and_container_of_sources_do_not_matter() -> None:
    lists: Any = [[0], [1, 0], {2}, [3, 0, 1]]
    backwards = ConnectionPattern.from_connections(4, reversed(list(EXAMPLE.connections)))
    from_lists = ConnectionPattern.from_sources(lists)
    from_iterators = ConnectionPattern.from_sources(map(iter, lists))
    for pattern in (ConnectionPattern(4, lists), backwards, from_lists, from_iterators):
        assert pattern.sources == ((0,), (0, 1), (2,), (0, 1, 3))
        assert (pattern, hash(pattern), pattern.key) == (EXAMPLE, hash(EXAMPLE), EXAMPLE.key)


def test_a_pattern_does_not_follow_the_lists_it_was_made_from() -> None:
    lists: Any = [[0], [1]]
    pattern = ConnectionPattern(2, lists)
    lists[1].append(0)
    lists.append([2])
    assert pattern.sources == ((0,), (1,))


@pytest.mark.parametrize(("name", "value"), [("depth", 3), ("sources", ()), ("label", "x")])
def test_nothing_can_be_assigned(name: str, value: object) -> None:
    with pytest.raises((AttributeError, TypeError)):
        setattr(EXAMPLE, name, value)
    assert not hasattr(EXAMPLE, "label")
    assert (EXAMPLE.depth, EXAMPLE.sources) == (4, ((0,), (0, 1), (2,), (0, 1, 3)))


def test_copies_and_pickles_are_equal() -> None:
    assert copy.deepcopy(EXAMPLE) == EXAMPLE
    assert pickle.loads(pickle.dumps(EXAMPLE)) == EXAMPLE  # noqa: S301 - our own bytes


def test_key_is_the_hash_of_depth_and_sorted_connections() -> None:
    canonical = b"[4,[[0,1],[0,2],[0,4],[1,2],[1,4],[2,3],[3,4]]]"
    assert EXAMPLE.key == hashlib.sha256(canonical).hexdigest()


def test_every_pattern_up_to_five_layers_has_its_own_key() -> None:
    counts = [len({pattern.key for pattern in every_pattern(depth)}) for depth in range(1, 6)]
    assert counts == [1, 2, 8, 64, 1024]
    assert len({pattern.key for depth in range(1, 6) for pattern in every_pattern(depth)}) == sum(counts)


def test_no_two_different_patterns_are_isomorphic() -> None:
    graphs = [pattern.graph() for pattern in every_pattern(4)]
    assert len(graphs) == 64
    assert not any(nx.is_isomorphic(a, b) for a, b in itertools.combinations(graphs, 2))


def test_counts_are_those_of_the_graph() -> None:
    for pattern in every_pattern(4):
        graph = pattern.graph()
        assert pattern.n_connections == graph.number_of_edges()
        assert pattern.in_degrees == tuple(graph.in_degree(layer) for layer in range(1, 5))
        assert pattern.out_degrees == tuple(graph.out_degree(node) for node in range(5))
        lengths = [target - source for source, target in graph.edges]
        assert pattern.span == pytest.approx(sum(lengths) / len(lengths), rel=1e-12)


def test_connections_come_sorted_by_target_then_source() -> None:
    assert list(EXAMPLE.connections) == [(0, 1), (0, 2), (1, 2), (2, 3), (0, 4), (1, 4), (3, 4)]


def test_data_flows_up_and_the_gradient_down() -> None:
    for pattern in every_pattern(4):
        graph, gradient = pattern.graph(), pattern.gradient_graph()
        assert list(graph) == sorted(gradient) == [0, 1, 2, 3, 4]
        assert list(nx.topological_sort(graph)) == [0, 1, 2, 3, 4]
        assert set(graph.edges) == {(s, t) for t in range(1, 5) for s in pattern.sources[t - 1]}
        assert set(gradient.edges) == {(t, s) for s, t in graph.edges}


def test_a_graph_can_be_changed_without_changing_its_pattern() -> None:
    EXAMPLE.graph().remove_edge(0, 1)
    EXAMPLE.gradient_graph().remove_node(4)
    assert (0, 1) in EXAMPLE.graph().edges
    assert EXAMPLE.gradient_graph().number_of_nodes() == 5
