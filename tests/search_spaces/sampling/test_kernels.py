"""Compiled distances equal networkx's, pattern by pattern and move by move, and the small exhaustive counts."""

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import kernels
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import MAX_DEPTH, batch_distances, rescore, undo
from search_spaces.seeds import derive_generator
from search_spaces.templates import TEMPLATES, find_template
from tests.support.patterns import every_pattern, patterns_of, random_pattern


def assert_equals_networkx(patterns: Sequence[ConnectionPattern]) -> None:
    batch = batch_distances(patterns)
    references = [backprop_distance(pattern) for pattern in patterns]
    assert batch.mean.tolist() == [reference.mean for reference in references]
    assert batch.max.tolist() == [reference.max for reference in references]
    assert batch.from_output_mean.tolist() == [reference.from_output_mean for reference in references]
    assert batch.to_input_mean.tolist() == [reference.to_input_mean for reference in references]


@pytest.mark.parametrize(("depth", "n_patterns"), [(1, 1), (2, 2), (3, 8), (4, 64), (5, 1024)])
def test_every_pattern_of_a_small_depth_equals_networkx(depth: int, n_patterns: int) -> None:
    patterns = list(every_pattern(depth))
    assert len(set(patterns)) == n_patterns
    assert_equals_networkx(patterns)


@pytest.mark.parametrize("depth", [6, 12, 24, 52, 100])
def test_random_patterns_equal_networkx(depth: int) -> None:
    most = depth * (depth + 1) // 2
    budgets = [
        log_budget(depth),
        Budget(depth, per_layer=tuple((layer + 2) // 3 for layer in range(1, depth + 1))),
        *(Budget(depth, total=depth + (most - depth) * percent // 100) for percent in (1, 10, 60)),
    ]
    generator = derive_generator("test_kernels", depth)
    drawn = [sample_uniform(budget, generator) for budget in budgets for _ in range(2)]
    assert_equals_networkx([*drawn, *(random_pattern(depth, seed) for seed in range(4))])


@pytest.mark.parametrize("depth", [1, 2, 17, 63])
def test_templates_equal_networkx(depth: int) -> None:
    assert_equals_networkx([template.build(depth) for template in TEMPLATES.values()])


def test_entries_do_not_depend_on_what_else_is_in_the_batch() -> None:
    patterns = [find_template(name).build(20) for name in ("dense", "chain", "dense", "log", "chain")]
    together = batch_distances(patterns)
    alone = [batch_distances([pattern]) for pattern in patterns]
    assert together.mean.tolist() == [batch.mean[0] for batch in alone]
    assert together.max.tolist() == [1, 20, 1, 4, 20]
    assert together.mean.shape == together.max.shape == together.from_output_mean.shape == (5,)
    assert (str(together.mean.dtype), str(together.max.dtype)) == ("float64", "int64")


def test_distances_above_a_byte_are_exact() -> None:
    batch = batch_distances([find_template("chain").build(600)])
    assert batch.max.tolist() == [600]
    assert batch.mean.tolist() == [pytest.approx(602 / 3, rel=1e-12)]
    assert batch.from_output_mean.tolist() == batch.to_input_mean.tolist() == [601 / 2]


@pytest.mark.parametrize("depth", [31, 32, 33, 253, 254, 255])
def test_distances_are_exact_where_rows_are_full_and_bytes_end(depth: int) -> None:
    spread = [range(i) if i < 3 or i == depth else [i - 1] for i in range(1, depth + 1)]
    patterns = [find_template("chain").build(depth), random_pattern(depth, 1), ConnectionPattern.from_sources(spread)]
    assert_equals_networkx([*patterns, *reversed(patterns)])


@pytest.mark.parametrize("depth", [1, 2, 15, 32, 64, 65, 97, 160, 253])
def test_rows_of_bytes_give_what_the_plain_form_gives(depth: int) -> None:
    generator = derive_generator("plain form", depth)
    patterns = [sample_uniform(log_budget(depth), generator) for _ in range(20)]
    packed = kernels.pack_patterns([*patterns, *(random_pattern(depth, seed) for seed in range(20))])
    arrays = (packed.depth, packed.offsets, packed.sources)
    assert kernels._byte_sums(*arrays).tolist() == kernels._distance_sums(*arrays).tolist()


def test_batches_of_nothing_mixed_depths_or_too_deep_patterns_are_refused() -> None:
    with pytest.raises(InputError, match="patterns of one depth"):
        batch_distances([])
    with pytest.raises(InputError, match=r"not of depths \[3, 5\]"):
        batch_distances([find_template("log").build(depth) for depth in (5, 3, 5)])
    with pytest.raises(InputError, match=rf"up to {MAX_DEPTH}, not of depths \[{MAX_DEPTH + 1}\]"):
        batch_distances([find_template("chain").build(MAX_DEPTH + 1)])
    assert np.iinfo(np.int16).max >= MAX_DEPTH + 1  # row + 1 is formed before the minimum


@pytest.mark.parametrize(("depth", "n_patterns", "n_optimal"), [(5, 36, 33), (6, 360, 245), (7, 5_400, 1_931)])
def test_optima_of_the_log_budget_are_as_many_as_known(depth: int, n_patterns: int, n_optimal: int) -> None:
    batch = batch_distances(patterns_of(log_budget(depth)))
    assert batch.mean.shape == (n_patterns,)
    optimal = batch.mean == batch.mean.min()
    assert optimal.sum() == n_optimal
    assert set(batch.max[optimal].tolist()) == {2}
    assert batch.max[~optimal].min() == 3


def test_six_layers_with_ten_connections_have_two_optima() -> None:
    batch = batch_distances(patterns_of(Budget(6, total=10)))
    assert batch.mean.shape == (1_365,)
    assert (batch.mean == batch.mean.min()).sum() == 2


# --- one moved connection ----------------------------------------------------------------------------------------


class Scored:
    """A pattern's inputs as the kernel takes them, with rows and sums that it keeps up to date."""

    def __init__(self, pattern: ConnectionPattern, kind: type[np.integer[Any]]) -> None:
        self.depth = pattern.depth
        self.inputs = [[], *(list(reversed(inputs)) for inputs in pattern.sources)]  # the chain's first
        n_nodes = pattern.depth + 1
        self.rows: NDArray[np.integer[Any]] = np.full((n_nodes, n_nodes), 77, kind)
        self.rows[np.diag_indices(n_nodes)] = 0
        self.sums = np.full(n_nodes, -1, np.int64)
        self.sums[0] = 0
        self.saved = np.full((n_nodes + 1, n_nodes), 99, kind)
        self.layers = np.full(2 * n_nodes, -1, np.int64)
        self.touched = np.zeros(n_nodes, np.bool_)
        self.rescore(range(1, n_nodes))

    def rescore(self, changed: Sequence[int]) -> int:
        sources = np.zeros((self.depth + 1, self.depth), np.int16)
        for layer, inputs in enumerate(self.inputs):
            sources[layer, : len(inputs)] = inputs
        degrees = np.array([len(inputs) for inputs in self.inputs])
        self.touched[list(changed)] = True
        arrays = (self.rows, self.sums, self.saved, self.layers, self.touched)
        n_saved = int(rescore(min(changed), sources, degrees, *arrays))
        assert not self.touched.any()
        return n_saved

    def undo(self, n_saved: int) -> None:
        undo(n_saved, self.rows, self.sums, self.saved, self.layers)

    def pattern(self) -> ConnectionPattern:
        return ConnectionPattern.from_sources(self.inputs[1:])

    def move(self, generator: np.random.Generator) -> list[int]:
        """Move one skip anywhere, or drop it, or add one; the layers whose inputs changed."""
        skips = [(layer, s) for layer in range(2, self.depth + 1) for s in self.inputs[layer][1:]]
        free = [(t, s) for t in range(2, self.depth + 1) for s in range(t - 1) if s not in self.inputs[t]]
        kind = generator.integers(4)
        changed = []
        if skips and kind != 1:
            layer, source = skips[generator.integers(len(skips))]
            self.inputs[layer].remove(source)
            changed.append(layer)
        if free and kind != 2:
            layer, source = free[generator.integers(len(free))]
            self.inputs[layer].append(source)
            changed.append(layer)
        return changed

    def assert_equals_networkx(self) -> None:
        rows = dict(nx.all_pairs_shortest_path_length(self.pattern().gradient_graph()))
        for i in range(self.depth + 1):
            assert self.rows[i, :i].tolist() == [rows[i][j] for j in range(i)]
            assert self.sums[i] == sum(rows[i].values())
        assert (self.rows[np.triu_indices(self.depth + 1, 1)] == 77).all()  # what is above the diagonal is not its own


KINDS = pytest.mark.parametrize("kind", [np.uint8, np.int16])


@KINDS
@pytest.mark.parametrize(("depth", "n_moves"), [(2, 20), (3, 40), (6, 150), (12, 150), (24, 60), (100, 6)])
def test_after_every_move_rows_and_sums_equal_networkx(depth: int, n_moves: int, kind: type[np.integer[Any]]) -> None:
    for seed in range(2):
        generator = derive_generator("moves", depth, seed)
        scored = Scored(random_pattern(depth, seed), kind)
        scored.assert_equals_networkx()
        for _ in range(n_moves):
            changed = scored.move(generator)
            if changed:
                before = scored.sums.copy()
                n_saved = scored.rescore(changed)
                assert set(np.flatnonzero(before != scored.sums)) <= set(scored.layers[: 2 * n_saved : 2].tolist())
            scored.assert_equals_networkx()


@KINDS
@pytest.mark.parametrize(("depth", "n_moves"), [(2, 20), (6, 150), (24, 150), (100, 20)])
def test_a_move_taken_back_restores_every_bit(depth: int, n_moves: int, kind: type[np.integer[Any]]) -> None:
    generator = derive_generator("undo", depth)
    scored = Scored(random_pattern(depth, 5), kind)
    n_changed = 0
    for number in range(n_moves):
        inputs = [list(inputs) for inputs in scored.inputs]
        before = scored.rows.tobytes(), scored.sums.tobytes()
        changed = scored.move(generator)
        if not changed:
            continue
        n_saved = scored.rescore(changed)
        assert (n_saved > 0) == ((scored.rows.tobytes(), scored.sums.tobytes()) != before)
        n_changed += n_saved > 0
        if number % 3:
            scored.undo(n_saved)
            scored.inputs = inputs
            assert (scored.rows.tobytes(), scored.sums.tobytes()) == before
    assert n_changed > 5
    scored.assert_equals_networkx()


def test_only_rows_that_changed_are_saved_in_layer_order() -> None:
    scored = Scored(find_template("chain").build(12), np.uint8)
    before = scored.rows.copy()
    scored.inputs[6].append(2)
    n_saved = scored.rescore([6])
    changed = [i for i in range(13) if (before[i] != scored.rows[i]).any()]
    assert changed == list(range(6, 13))
    assert scored.layers[: 2 * n_saved : 2].tolist() == changed
    for k, layer in enumerate(changed):
        assert scored.saved[k, :layer].tolist() == before[layer, :layer].tolist()
        assert scored.layers[2 * k + 1] == before[layer, :layer].sum()


def test_a_change_of_no_consequence_saves_nothing() -> None:
    pattern = ConnectionPattern(5, ((0,), (0, 1), (1, 2), (0, 2, 3), (0, 2, 4)))
    scored = Scored(pattern, np.uint8)
    scored.inputs[5].remove(0)  # reached through 2 or 4 instead
    assert scored.rescore([5]) == 1
    assert scored.rescore([5]) == 0


@pytest.mark.parametrize(("depth", "kind"), [(253, np.uint8), (254, np.uint8), (254, np.int16), (255, np.int16)])
def test_the_longest_distances_do_not_overflow(depth: int, kind: type[np.integer[Any]]) -> None:
    scored = Scored(find_template("chain").build(depth), kind)
    assert scored.rows[depth, 0] == depth
    assert scored.sums.tolist() == [i * (i + 1) // 2 for i in range(depth + 1)]
    for layer, source in ((depth, depth - 2), (2, 0), (depth, 0), (depth // 2, 1)):
        before = scored.rows.tobytes(), scored.sums.tobytes()
        scored.inputs[layer].append(source)
        n_saved = scored.rescore([layer])
        scored.assert_equals_networkx()
        scored.undo(n_saved)
        scored.inputs[layer].remove(source)
        assert (scored.rows.tobytes(), scored.sums.tobytes()) == before


def test_several_layers_may_change_at_once() -> None:
    generator = derive_generator("several")
    for depth in (5, 12, 24):
        scored = Scored(random_pattern(depth, 1), np.uint8)
        before = scored.rows.tobytes(), scored.sums.tobytes()
        changed = [layer for _ in range(4) for layer in scored.move(generator)]
        n_saved = scored.rescore(changed)
        scored.assert_equals_networkx()
        scored.undo(n_saved)
        assert (scored.rows.tobytes(), scored.sums.tobytes()) == before
