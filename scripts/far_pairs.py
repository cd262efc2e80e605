"""Find a pattern of budget log with few pairs of nodes more than 2 hops apart, or prove that none exists.

The question is put to a SAT solver, after the same clauses have given the right answer for every small budget. It needs
`pip install python-sat`, which nothing else does.

python scripts/far_pairs.py --layers L --far PAIRS [--solver NAME]    is there one with at most PAIRS such pairs?
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence

from pysat.solvers import Solver

from search_spaces.budget import log_budget
from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import bound_mean

SMALL_BUDGETS = [(1, 2, 2, 2), (1, 1, 2, 1, 2), (1, 2, 2, 1, 3, 2), (1, 1, 1, 2, 2, 3), (1, 2, 2, 3, 3, 3)]
TIGHT = 6  # covers to spare; where there are more, or in the lower half, counting them costs more than it saves


class Clauses:
    """Clauses that hold for the patterns of given in-degrees with at most so many far pairs, and for no others.

    Variables are numbers from 1 on; -v is the negation of v. `reads[i, j]`: layer i reads node j.
    """

    def __init__(self, degrees: Sequence[int], n_far: int) -> None:
        self.clauses: list[list[int]] = []
        self._n_variables = 0
        self._degrees = (0, *degrees)
        layers = range(1, len(degrees) + 1)
        self.reads = {(i, j): self._variable() for i in layers for j in range(i)}
        for i in layers:
            self.clauses.append([self.reads[i, i - 1]])
            inputs = [self.reads[i, j] for j in range(i)]
            self._forbid_more(inputs, self._degrees[i])
            self.clauses.append([self._count_proven(inputs, self._degrees[i])[-1]])
        far = [variable for i in layers for variable in self._cover(i, n_far)]
        self._forbid_more(far, n_far)

    def _variable(self) -> int:
        self._n_variables += 1
        return self._n_variables

    def _count(self, literals: Sequence[int], most: int) -> list[int]:
        """Return variables: the k-th, k = 1..most, is true if k or more of the literals are."""
        counts: list[int] = []
        for literal in literals:
            before, counts = counts, [self._variable() for _ in range(min(len(counts) + 1, most))]
            for k, count in enumerate(counts):
                if k < len(before):
                    self.clauses.append([-before[k], count])
                self.clauses.append([-literal, *([-before[k - 1]] if k else []), count])
        return counts

    def _count_proven(self, literals: Sequence[int], most: int) -> list[int]:
        """Return variables: the k-th, k = 1..most, is true only if k or more of the literals are."""
        counts: list[int] = []
        for literal in literals:
            before, counts = counts, [self._variable() for _ in range(min(len(counts) + 1, most))]
            for k, count in enumerate(counts):
                reached = [before[k]] if k < len(before) else []
                self.clauses.append([-count, *reached, literal])
                if k:
                    self.clauses.append([-count, *reached, before[k - 1]])
        return counts

    def _forbid_more(self, literals: Sequence[int], most: int) -> None:
        counts = self._count(literals, most + 1)
        if len(counts) > most:
            self.clauses.append([-counts[most]])

    def _cover(self, i: int, n_far: int) -> list[int]:
        """State that layer i is within 2 hops of each node below, or far from it; return the variables of the latter.

        Node j is covered by i if i reads it, and by each input of i that reads it. The nodes below have
        sum over inputs s of 1 + d_s = room - missing covers in all, with room for the largest d_s and what lower ones
        lack. So i - far + surplus = room - missing, where surplus counts covers beyond a node's first: a clause
        for each number says far >= surplus + missing - (room - i). It follows from the others, but not soon.
        """
        largest = max(self._degrees[: i - 1], default=0)
        spare = 1 + self._degrees[i - 1] + (self._degrees[i] - 1) * (1 + largest) - i
        if spare + n_far < 0:
            self.clauses.append([])
            return []
        is_tight = spare <= TIGHT and 2 * i > len(self._degrees)
        surplus, far = [], []
        for j in range(i):
            covers = [self.reads[i, j], *(self._both(self.reads[i, s], self.reads[s, j]) for s in range(j + 1, i))]
            far.append(self._variable())
            self.clauses.append([*covers, far[-1]])
            if is_tight:
                surplus += self._count(covers, spare + n_far + 2)[1:]
        if not is_tight:
            return far
        missing = [self.reads[i, s] for s in range(i - 1) for _ in range(largest - self._degrees[s])]
        beyond = self._count([*surplus, *missing], spare + n_far + 1)
        proven = self._count_proven(far, n_far)
        for n_beyond in range(max(0, spare + 1), min(len(beyond), spare + n_far + 1) + 1):
            n_needed = n_beyond - spare
            head = [-beyond[n_beyond - 1]] if n_beyond else []
            self.clauses.append([*head, *proven[n_needed - 1 : n_needed]])
        return far

    def _both(self, one: int, other: int) -> int:
        both = self._variable()
        self.clauses += [[-both, one], [-both, other], [both, -one, -other]]
        return both


def find_pattern(degrees: Sequence[int], n_far: int, solver_name: str) -> ConnectionPattern | None:
    """Return a pattern of given in-degrees with at most so many pairs above 2 hops; None if there is none."""
    question = Clauses(degrees, n_far)
    with Solver(name=solver_name, bootstrap_with=question.clauses) as solver:
        if not solver.solve():
            return None
        true = set(solver.get_model() or [])
    inputs = [[j for j in range(i) if question.reads[i, j] in true] for i in range(1, len(degrees) + 1)]
    pattern = ConnectionPattern.from_sources(inputs)
    assert pattern.in_degrees == tuple(degrees)
    assert count_far(pattern) <= n_far
    return pattern


def count_far(pattern: ConnectionPattern) -> int:
    """Return the number of pairs above 2 hops, by networkx."""
    return sum(backprop_distance(pattern).histogram[3:])


def check_small(solver_name: str) -> None:
    """Check that the clauses give the fewest far pairs of every small budget, known by trying all its patterns."""
    for degrees in SMALL_BUDGETS:
        fewest = min(map(count_far, _every_pattern(degrees)))
        found = [find_pattern(degrees, n_far, solver_name) is not None for n_far in range(fewest + 2)]
        assert found == [False] * fewest + [True, True], f"{degrees}: {found}, where {fewest} is the least"


def _every_pattern(degrees: Sequence[int]) -> Iterator[ConnectionPattern]:
    choices = [itertools.combinations(range(i - 1), d - 1) for i, d in enumerate(degrees, start=1)]
    for skips in itertools.product(*choices):
        yield ConnectionPattern.from_sources([[*inputs, i] for i, inputs in enumerate(skips)])


def main() -> None:
    """Check, ask and print the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--far", type=int, required=True, help="largest number of pairs above 2 hops")
    parser.add_argument("--solver", default="cadical195", help="a solver's name in python-sat")
    arguments = parser.parse_args()
    check_small(arguments.solver)
    budget = log_budget(arguments.layers)
    started = time.process_time()
    pattern = find_pattern(budget.per_layer or (), arguments.far, arguments.solver)
    seconds = time.process_time() - started
    question = (
        f"{arguments.layers} layers, at most {arguments.far} pairs above 2 hops, {arguments.solver}, {seconds:.1f} s:"
    )
    if pattern is None:
        print(question, "none")  # noqa: T201
        return
    mean = backprop_distance(pattern).mean
    print(question, f"{count_far(pattern)}, mean BD {mean}, bound {bound_mean(budget)}")  # noqa: T201
    print(pattern.sources)  # noqa: T201


if __name__ == "__main__":
    main()
