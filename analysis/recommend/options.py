"""The patterns that `recommend` offers: templates that spend the budget, the shortest, and the model's own choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.recommend.comparable import draw_uniform, expect_losses
from analysis.recommend.evidence import DISTANCE, MODEL, read_lessons
from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.families import iterate_families
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import MAX_SEARCHED_DEPTH
from search_spaces.sampling.draw import sample_wide
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator
from search_spaces.templates import build_named, iterate_templates, list_brought_templates

N_WIDE = 200  # draws that the model begins with, next to the uniform ones and the named patterns
N_GENERATIONS, N_PARENTS, N_MUTANTS = 10, 5, 20  # of mutants, of the best, and of each of these
MAX_MOVES = 4  # connections that differ between a pattern and its mutant
SECONDS = 10.0  # that the search for the shortest pattern may take
ROUNDS = 1  # of its annealing, so that the clock hardly ever decides


@dataclass(frozen=True, slots=True)
class Option:
    """A pattern that is offered.

    Args:
        name: its template; None if it has none.
        roles: DISTANCE where it is the shortest, MODEL where the model searched for it; or none.
        expected: loss that the model expects of it, in standard deviations of a setting's patterns.
        shorter: share of the uniform draws whose walks are longer.
    """

    pattern: ConnectionPattern
    name: str | None
    roles: tuple[str, ...]
    expected: float
    shorter: float

    @property
    def label(self) -> str:
        """What a table calls it."""
        return self.name or self.roles[0]


@dataclass(frozen=True, slots=True)
class Options:
    """All patterns that are offered at a budget, the least expected loss first."""

    budget: Budget
    options: tuple[Option, ...]


def find_options(budget: Budget) -> Options:
    """Find the patterns to offer, and order them by what the model expects.

    Raises:
        InputError: the budget is of more than MAX_SEARCHED_DEPTH layers, or its caps refuse nearly all draws.
    """
    if budget.depth > MAX_SEARCHED_DEPTH:
        raise InputError(
            f"recommend goes up to {MAX_SEARCHED_DEPTH} layers, not to {budget.depth}: nothing that was measured is "
            "near. `score --layers` shows the templates of any depth"
        )
    uniform = draw_uniform(budget)
    walks = np.array([_measure_walk(pattern) for pattern in uniform])
    names: dict[ConnectionPattern, str | None] = {}
    for name, pattern in (*iterate_templates(budget), *iterate_families(budget), *_iterate_brought(budget)):
        names.setdefault(pattern, name)
    shortest = optimize(budget, seconds=SECONDS, max_rounds=ROUNDS).pattern
    roles: dict[ConnectionPattern, list[str]] = {pattern: [] for pattern in names}
    roles.setdefault(shortest, []).append(DISTANCE)
    roles.setdefault(_find_least([*roles], uniform, budget), []).append(MODEL)
    names = {pattern: names.get(pattern) for pattern in roles}
    expected = expect_losses(list(names), uniform, read_lessons().weights)
    options = [
        Option(pattern, name, tuple(roles[pattern]), loss, float((walks > _measure_walk(pattern)).mean()))
        for (pattern, name), loss in zip(names.items(), expected.tolist(), strict=True)
    ]
    return Options(budget, tuple(sorted(options, key=lambda option: option.expected)))


def _find_least(
    named: Sequence[ConnectionPattern], uniform: Sequence[ConnectionPattern], budget: Budget
) -> ConnectionPattern:
    """Return the pattern of least expected loss among draws, the named ones, and generations of their mutants."""
    from search_spaces.sampling.annealing import Connections  # numba: 0.5 s
    from search_spaces.sampling.goals import make_moves

    weights = read_lessons().weights
    generator = derive_generator("recommend", "draws", str(budget), budget.depth)
    pool = list(dict.fromkeys([*uniform, *(sample_wide(budget, generator) for _ in range(N_WIDE)), *named]))
    for _ in range(N_GENERATIONS if len(pool) > 1 else 0):  # the only pattern of a budget has no mutants
        best = np.argsort(expect_losses(pool, uniform, weights), kind="stable")[:N_PARENTS]
        parents = [pool[place] for place in best.tolist()]
        pool = [*parents]
        for parent in parents:
            for _ in range(N_MUTANTS):
                connections = Connections.of(parent, budget)
                make_moves(connections, int(generator.integers(1, MAX_MOVES + 1)), generator)
                pool.append(connections.pattern())
        pool = list(dict.fromkeys(pool))
    return pool[int(expect_losses(pool, uniform, weights).argmin())]


def _iterate_brought(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """Yield the templates of other packages that spend the budget."""
    for name in list_brought_templates(budget.depth):
        pattern = build_named(name, budget)
        if budget.is_met_by(pattern):
            yield name, pattern


def _measure_walk(pattern: ConnectionPattern) -> float:
    return measure(pattern, ["walk_length"])["walk_length"]
