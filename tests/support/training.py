"""Training of a single candidate, as a cohort of one."""

from collections.abc import Callable
from typing import Any

from torch import nn

from nas.data.splits import Split
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.records.trial import Outcome
from nas.training.checkpoints import Slot
from nas.training.stepping import Engine
from nas.training.train import Member, train_cohort


def train_candidate(
    candidate: Candidate,
    split: Split,
    config: TrainingConfig,
    check_stop: Callable[[], None] = lambda: None,
    slot: Slot | None = None,
    pause_after: int | None = None,
    keep_trained: Callable[[nn.Module], None] = lambda _: None,
    **engine: Any,
) -> Outcome:
    """Train a candidate and return its outcome; see train_cohort, Member and Engine."""
    member = Member(candidate, split, slot, keep_trained)
    (outcome,) = train_cohort([member], config, check_stop, pause_after, Engine(**engine))
    return outcome
