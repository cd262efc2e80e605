"""Measure what Ray adds to a training, against the same trainings in the process itself, paired in one run.

python scripts/ray_overhead.py
"""

import statistics
import time

import torch
from shared import format_range

from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.ray_executor import run_ray
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer, run_serial
from search_spaces.templates import TEMPLATES

N_ROUNDS = 6  # the first is dropped
N_JOBS = 60
TRAINING_SECONDS = 10.0  # training that the share is reported for


class Clock:
    """A source of equal jobs that notes when outcomes arrive."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._n_asked = 0
        self.times = [time.perf_counter()]
        self.outcomes: list[tuple[float | None, float | None]] = []

    def ask(self) -> Job | None:
        if self._n_asked == N_JOBS:
            return None
        self._n_asked += 1
        return Job(self._n_asked - 1, self._candidate)

    def tell(self, number: int, outcome: Outcome) -> None:  # noqa: ARG002  the protocol's form
        self.times.append(time.perf_counter())
        self.outcomes.append((outcome.metrics.get("validation_accuracy"), outcome.metrics.get("validation_loss")))

    def lose(self, number: int, reason: str) -> None:
        raise RuntimeError(f"training {number} was lost: {reason}")

    def put_back(self, number: int) -> None:
        raise RuntimeError(f"the node of training {number} died")

    def give_back(self) -> None:
        pass

    @property
    def seconds_each(self) -> float:
        """Seconds a training, once everything has started."""
        return (self.times[-1] - self.times[1]) / (N_JOBS - 1)


def main() -> None:
    """Take rounds of both executors in turn; print medians with their ranges."""
    config = SearchConfig(layers=5, epochs=1, train_examples=64, device="cpu", workers=1)
    data = load_data("digits", None)
    candidate = Candidate(TEMPLATES["log"].build(5), config.network(data.n_classes, data.image), seed=0)
    trainer = Trainer(data, config)
    torch.set_num_threads(1)
    rounds = []
    for _ in range(N_ROUNDS):
        serial, parallel = Clock(candidate), Clock(candidate)
        run_serial(serial, trainer, StopFlag())
        run_ray(parallel, trainer, StopFlag(), 1)
        # No speed for wrong numbers.
        assert parallel.outcomes == serial.outcomes
        rounds.append((serial.seconds_each, parallel.seconds_each, parallel.times[1] - parallel.times[0]))
    added = [parallel - serial for serial, parallel, _ in rounds[1:]]
    started = [start for _, _, start in rounds[1:]]
    print(  # noqa: T201
        f"a training of {1000 * statistics.median(serial for serial, _, _ in rounds[1:]):.0f} ms: Ray adds "
        f"{format_range((1000 * seconds for seconds in added), 0)} ms, "
        f"{100 * statistics.median(added) / TRAINING_SECONDS:.1f} % of one of {TRAINING_SECONDS:g} s; once a run, "
        f"{format_range(started)} s until the first is done"
    )


if __name__ == "__main__":
    main()
