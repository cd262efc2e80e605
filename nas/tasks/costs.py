"""What the networks of a task class cost: measured for random patterns of a budget, which should all cost the same."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nas.model.cost import Cost
from nas.tasks.candidate import TaskPattern
from nas.tasks.loaded import LoadedTask
from nas.tasks.loop import DataPart, build_own, find_loss, take_data
from nas.tasks.reference import describe_error, divert_output
from nas.tasks.task_trial import TaskError
from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

N_MEASURED = 3  # random patterns of each budget
N_EXAMPLES = 2


@dataclass
class Costs:
    """The costs of a task's networks, by budget and pattern.

    Args:
        task: the task.
        transition: see OwnTask.
    """

    task: LoadedTask
    transition: str
    measured: dict[Budget, tuple[Cost, ...]] = field(default_factory=dict)  # of random patterns
    problems: dict[Budget, str] = field(default_factory=dict)  # why they could not be measured
    _batch: Any = None
    _by_key: dict[str, Cost] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether there is a module to measure, or the task says its cost itself."""
        return not self.task.is_objective

    def measure(self, budgets: Iterable[Budget]) -> None:
        """Measure random patterns of each budget, as far as the task can build and run their networks.

        Raises:
            InputError: a task of ours says that its settings do not fit patterns of so many layers.
        """
        for budget in budgets if self.is_known else ():
            generator = derive_generator(0, "cost", budget.depth, str(budget))
            patterns = [sample_uniform(budget, generator) for _ in range(N_MEASURED)]
            try:
                self.measured[budget] = tuple(map(self._measure, patterns))
            except TaskError as error:
                self.problems[budget] = str(error)

    def find(self, pattern: ConnectionPattern, budget: Budget) -> Cost | None:
        """Return a pattern's cost: that of its budget where all measured patterns cost the same, else its own."""
        costs = self.measured.get(budget, ())
        if not costs:
            return None
        if len(set(costs)) == 1:
            return costs[0]
        try:
            return self._measure(pattern)
        except TaskError:  # its training will say why
            return None

    def describe(self) -> dict[str, Any]:
        """Return what was measured, for the run's record; empty where the cost is not known.

        Returns:
            By layers and budget: number of patterns, and the least and the largest params and flops.
        """
        described = {}
        for budget, costs in self.measured.items():
            params, flops = [cost.params for cost in costs], [cost.flops for cost in costs]
            described[_label(budget)] = {
                "patterns": len(costs),
                "params": [min(params), max(params)],
                "flops": [min(flops), max(flops)],
            }
        return described

    def list_sentences(self) -> list[str]:
        """Say of each budget whether its patterns cost the same."""
        if not self.is_known:
            return ["cost: not known, because the task trains by itself; compare patterns of equal cost only"]
        sentences = [
            f"cost: not known at {_label(budget)}: the network of a random pattern cannot be built and run: {why}"
            for budget, why in self.problems.items()
        ]
        for budget, costs in self.measured.items():
            around = f"cost: {len(costs)} random patterns of {_label(budget)} take"
            params, flops = sorted({cost.params for cost in costs}), sorted({cost.flops for cost in costs})
            if len(params) == len(flops) == 1:
                sentences.append(
                    f"{around} {params[0]:,} parameters and {flops[0]:,} FLOPs an example each: equal cost"
                )
            else:
                what = "size" if len(params) > 1 else "computation"
                sentences.append(
                    f"{around} {_span(params)} parameters and {_span(flops)} FLOPs an example: NOT of equal cost, so a "
                    f"difference between patterns may be one of {what}"
                )
        return sentences

    def _measure(self, pattern: ConnectionPattern) -> Cost:
        if pattern.key not in self._by_key:
            try:
                with divert_output():
                    self._by_key[pattern.key] = self._measure_network(TaskPattern.of(pattern, self.transition))
            except (Exception, SystemExit) as error:
                if isinstance(error, InputError) and self.task.source.is_built_in:
                    raise
                is_said = isinstance(error, TaskError)
                raise TaskError(str(error) if is_said else describe_error(error, self.task.source.path)) from None
        return self._by_key[pattern.key]

    def _measure_network(self, pattern: TaskPattern) -> Cost:
        task = self.task.target
        if hasattr(task, "cost"):
            cost = task.cost(pattern)
            return Cost(int(cost.params), int(cost.flops))
        from torch.utils.flop_counter import FlopCounterMode  # loads Triton, if it is installed

        network = build_own(task, pattern, 0, "cpu")
        batch = self._take_batch()
        network.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            find_loss(task, network, batch)
        n_params = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        return Cost(n_params, int(counter.get_total_flops()) // max(1, len(batch[0])))

    def _take_batch(self) -> Any:
        if self._batch is None:
            training: DataPart = take_data(self.task.target, 0, "cpu")[0]
            batch = next(iter(training.train(0, N_EXAMPLES, 0)))
            self._batch = tuple(part[:N_EXAMPLES] if isinstance(part, Tensor) else part for part in batch)
        return self._batch


def _span(values: Sequence[int]) -> str:
    """Return ascending values as the least and the largest; a single one by itself."""
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _label(budget: Budget) -> str:
    return f"{budget.depth} layers, budget {budget}"
