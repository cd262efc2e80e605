"""Networks side by side at matched FLOPs: the papers' own, a shortest pattern and learned sparsity."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data.data_set import DataSet
from nas.layouts.condensed import CondenseNet
from nas.model.candidate import Candidate
from nas.model.config import LAYER, NetworkConfig
from nas.model.cost import predict_cost
from nas.records.trial import Outcome, Strengths, Trial
from nas.run.directory import hold_run, open_ledger, prepare_data, train_all
from nas.run.ledger import Ledger
from nas.run.source import Assignment, LedgerSource, Listener
from nas.settings.comparison import CONDENSED, CONDENSENET, DENSE, LOG, TEACHERS, LineupConfig
from nas.workers.trainer import Trainer
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import ConflictError, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from search_spaces.wiring.strongest import average_relative, keep_strongest

_MAX_GROWTH = 1000


@dataclass(frozen=True, slots=True)
class Contender:
    """A network to be compared, at matched FLOPs.

    Args:
        name: its name in the settings.
        template: the name of the pattern's template, or None.
        budget: the budget that the pattern spends.
    """

    name: str
    pattern: ConnectionPattern
    network: NetworkConfig
    template: str | None
    budget: Budget

    def candidate(self, seed: int) -> Candidate:
        """Return one training of the network."""
        return Candidate(self.pattern, self.network, seed, self.template)


def make_contender(name: str, config: LineupConfig, data: DataSet) -> Contender:
    """Return the network of that name, with the growth at which its FLOPs are nearest to those of `log`.

    `dense` is DenseNet-BC: wider stem, transitions that read all and write half. `log`, `optimum` and `learned` have
    the same surroundings, so that only their connections differ. `condensenet` is CondenseNet with its dense pattern,
    and `condensed` is in its surroundings. `learned` and `condensed` need trainings: see Lineup.
    """
    if name in (LOG, "optimum"):
        template = "log" if name == LOG else "annealed"  # of least mean distance at the budget of log
        return surround(name, find_template(template).build(config.layers), template, config, data)
    template = "dense" if name in (DENSE, CONDENSENET) else "log"
    depth = config.layers * (config.blocks if name in ("log-densenet-v1", CONDENSENET) else 1)
    return surround(name, find_template(template).build(depth), template, config, data)


def surround(
    name: str, pattern: ConnectionPattern, template: str | None, config: LineupConfig, data: DataSet
) -> Contender:
    """Put a pattern into the surroundings of the network of that name, at matched FLOPs."""
    plain = config.network(data.n_classes, data.image)

    def around(name: str, growth: int) -> NetworkConfig:
        if name in (CONDENSENET, CONDENSED):
            condensed = {"transition": "all", "layer": LAYER, "growth": growth, "surroundings": CondenseNet()}
            return plain.model_copy(update=condensed)
        crossing = {"log-densenet-v1": "v1", "log-densenet-v2": "v2"}.get(name)
        own: dict[str, Any] = {"transition": crossing or "all", "growth": growth}
        if plain.is_concat:  # nodes that are added have one width
            own |= {"stem_channels": 2 * growth} | ({} if crossing else {"compression": 0.5})
        return plain.model_copy(update=own)

    log = find_template("log").build(config.layers)
    target = predict_cost(Candidate(log, around(LOG, config.growth), 0, "log")).flops
    step = CondenseNet().groups if name in (CONDENSENET, CONDENSED) else 1
    growth = match_growth(
        lambda growth: predict_cost(Candidate(pattern, around(name, growth), 0, template)).flops, target, step
    )
    per_layer = log_budget(pattern.depth)
    budget = per_layer if per_layer.is_met_by(pattern) else Budget(pattern.depth, total=pattern.n_connections)
    return Contender(name, pattern, around(name, growth), template, budget)


def match_growth(count_flops: Callable[[int], int], target: int, step: int = 1) -> int:
    """Return the growth whose FLOPs, which rise with it, have the ratio to a target that is nearest to 1.

    Args:
        count_flops: function that returns the FLOPs of a growth.
        target: FLOPs to come near.
        step: what growth must be a multiple of.

    >>> match_growth(lambda growth: growth**2, 30), match_growth(lambda growth: growth**2, 30, step=4)
    (5, 4)
    """
    growth = step
    while growth < _MAX_GROWTH and count_flops(growth + step) <= target:
        growth += step
    below, above = count_flops(growth), count_flops(growth + step)
    return growth + step if above * below < target**2 else growth


def learn_pattern(dense: ConnectionPattern, strengths: Sequence[Sequence[float]]) -> ConnectionPattern:
    """Keep the strongest connections of a trained dense pattern at the budget of log, as CondenseNet does.

    Args:
        strengths: strengths, or shares that condensation kept, in the order of `dense.connections`, a list for each
            training and block.
    """
    return keep_strongest(dense, average_relative(dense, strengths), log_budget(dense.depth))


def _find_taught(name: str, result: Outcome | Trial) -> Strengths:
    """Return what a training teaches: of dense its strengths, of condensenet the shares that condensation kept."""
    return result.kept if name == CONDENSENET else result.strengths


class Lineup(LedgerSource):
    """All trainings of a comparison: each network with every seed before the next.

    Args:
        config: the run's settings, resolved.
        data: the run's data set.
        ledger, listener: see LedgerSource.

    Raises:
        ConflictError: the ledger has a training that the settings do not ask for.
    """

    def __init__(self, config: LineupConfig, data: DataSet, ledger: Ledger, listener: Listener) -> None:
        super().__init__(ledger, listener, len(config.networks) * config.seeds, config.attempts)
        self._config = config
        self._data = data
        self._contenders: dict[str, Contender] = {
            name: make_contender(name, config, data) for name in config.networks if name not in TEACHERS
        }
        # By name and seed, what those teach that have been trained; empty where a training failed.
        self._taught: dict[tuple[str, int], Strengths] = {}
        entries = self._read_entries()
        foreign = [e.number for e in entries if e.regime not in config.networks or e.seed >= config.seeds]
        if foreign:
            raise ConflictError(
                f"trial {foreign[0]} of {ledger.run} is not asked for: restore the run, or give another --run"
            )
        for entry in entries:
            name = str(entry.regime)
            if name in TEACHERS.values() and not entry.running:
                self._taught[name, entry.seed] = _find_taught(name, entry)
            if name in TEACHERS:  # once learned the pattern stays, also with more seeds of its teacher
                self._contenders[name] = surround(name, entry.pattern, None, config, data)
        entered = {(entry.regime, entry.seed) for entry in entries}
        order = [(name, seed) for name in config.networks for seed in range(config.seeds)]
        self._left = deque(training for training in order if training not in entered)
        self._resume((entry, self._assign(self._contenders[str(entry.regime)], entry.seed)) for entry in entries)

    def _assign(self, contender: Contender, seed: int) -> Assignment:
        candidate = contender.candidate(seed)
        details = {
            "regime": contender.name,
            "growth": contender.network.growth,
            "global_mean_bd": candidate.global_distance.mean,
        }
        names = (contender.name, *(name for name in self._config.networks if name != contender.name))
        return Assignment(
            candidate, "templates", contender.budget, details, names if len(names) > 1 else (), contender.name
        )

    def _next_assignment(self) -> Assignment | None:
        if not self._left:
            return None
        name, seed = self._left[0]
        if name in TEACHERS and name not in self._contenders:
            if any((TEACHERS[name], seed) not in self._taught for seed in range(self._config.seeds)):
                return None  # its teacher is still in training
            self._contenders[name] = self._learn(name, TEACHERS[name])
        self._left.popleft()
        return self._assign(self._contenders[name], seed)

    def _learn(self, name: str, teacher: str) -> Contender:
        strengths = [block for seed in range(self._config.seeds) for block in self._taught[teacher, seed]]
        if not strengths:
            raise NothingUsableError(
                f"no training of {teacher} gave connection strengths: see its errors, or compare without {name}"
            )
        pattern = learn_pattern(self._contenders[teacher].pattern, strengths)
        return surround(name, pattern, None, self._config, self._data)

    def _measured(self, assignment: Assignment, outcome: Outcome) -> None:
        name = str(assignment.details["regime"])
        if name in TEACHERS.values():
            self._taught[name, assignment.candidate.seed] = _find_taught(name, outcome)


def run_lineup(run: Path, config: LineupConfig, listener: Listener) -> None:
    """Start or continue a comparison in a run directory and train all of its networks; see run_search.

    Raises:
        NothingUsableError: a network failed with every seed, and the settings ask for what it teaches.
    """
    data = prepare_data(config, (config.pattern_depth,))
    with hold_run(run, config) as check_stop:
        ledger = open_ledger(run, config, data, len(config.networks) * config.seeds)
        assert isinstance(data, DataSet), "a comparison is of image networks"
        lineup = Lineup(config, data, ledger, listener)
        train_all(ledger, lineup, Trainer(data, config, run.resolve()), check_stop)
