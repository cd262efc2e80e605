"""What one training is, for the run that makes it: its candidates, their cost and their metrics."""

from dataclasses import dataclass, field
from typing import Protocol

from nas.data.data_set import DataSet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.model.cost import Cost, predict_cost
from nas.records.metrics import IMAGE_METRICS, Metrics
from nas.tasks.candidate import TaskCandidate, Transition
from nas.tasks.costs import Costs
from nas.tasks.loaded import LoadedTask
from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern


class Task(Protocol):
    """What a search or a study asks of its task."""

    @property
    def metrics(self) -> Metrics:
        """Metrics of every training, the first one primary."""

    @property
    def n_validation(self) -> int:
        """Number of examples that the metrics are measured on; 1 where it is not known."""

    @property
    def has_equal_cost(self) -> bool:
        """Whether all patterns of one budget must cost the same, or the program is wrong."""

    def candidate(
        self, pattern: ConnectionPattern, seed: int, template: str | None, training: TrainingConfig | None = None
    ) -> Candidate:
        """Return the training of a pattern with a seed."""

    def find_cost(self, candidate: Candidate, budget: Budget) -> Cost | None:
        """Return the cost of a candidate's network; None where it is not known."""


@dataclass(frozen=True)
class ImageTask:
    """Classification of images by our own networks.

    Args:
        data: the data set.
        network: the network around the patterns.
        n_validation: number of validation images.
    """

    data: DataSet
    network: NetworkConfig
    n_validation: int
    metrics: Metrics = IMAGE_METRICS
    _networks: dict[int, NetworkConfig] = field(default_factory=dict, compare=False, repr=False)  # by depth

    @property
    def has_equal_cost(self) -> bool:
        """Whether the cost depends on the budget only."""
        return self.network.has_equal_cost

    def candidate(
        self, pattern: ConnectionPattern, seed: int, template: str | None, training: TrainingConfig | None = None
    ) -> Candidate:
        """Return the training of a pattern with a seed."""
        depth = pattern.depth
        if depth not in self._networks:
            self._networks[depth] = self.network.with_pattern_depth(depth)
        return Candidate(pattern, self._networks[depth], seed, template, training)

    def find_cost(self, candidate: Candidate, budget: Budget) -> Cost | None:  # noqa: ARG002  the protocol's form
        """Return the cost of a candidate's network."""
        return predict_cost(candidate)


@dataclass(frozen=True)
class OwnTask:
    """A task of the user's own in a run.

    Args:
        loaded: the task.
        transition: policy by which the output reads a pattern's nodes.
        costs: what networks of each budget cost.
    """

    loaded: LoadedTask
    transition: Transition
    costs: Costs
    n_validation: int = 1
    has_equal_cost: bool = False  # it is measured, and said, but not ours to assert

    @property
    def metrics(self) -> Metrics:
        """Metrics of the task."""
        return self.loaded.metrics

    def candidate(
        self, pattern: ConnectionPattern, seed: int, template: str | None, training: TrainingConfig | None = None
    ) -> TaskCandidate:
        """Return the training of a pattern with a seed."""
        return TaskCandidate.of(pattern, self.transition, seed, template, training)

    def find_cost(self, candidate: Candidate, budget: Budget) -> Cost | None:
        """Return the cost of a candidate's network; None where the task does not say it."""
        return self.costs.find(candidate.pattern, budget)
