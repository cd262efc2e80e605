"""Executors: signals, and whose checkpoint a training continues from."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nas.model.candidate import Candidate
from nas.records.checked import validate
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Slot, slot_path
from nas.workers.jobs import Job
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer
from search_spaces.errors import InputError, Interrupted
from search_spaces.templates import find_template
from tests.support.small import SMALL
from tests.support.small_study import DIGITS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_flag_and_handlers_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    flag = StopFlag()
    with flag.installed():
        flag()
        os.kill(os.getpid(), number)
        assert flag.signal_number == number
        assert signal.getsignal(number) == signal.SIG_DFL  # so that the second one ends the process
        with pytest.raises(Interrupted) as caught:
            flag()
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_nothing_is_written_a_signal_does_not_wait(number: signal.Signals) -> None:
    flag = StopFlag()
    with flag.installed():
        with pytest.raises(Interrupted) as caught, flag.installed(), flag.at_once():
            os.kill(os.getpid(), number)
            pytest.fail("it waited")
        assert signal.getsignal(number) == signal.SIG_DFL  # the inner block did not undo it
        with pytest.raises(Interrupted), flag.at_once():
            pytest.fail("it forgot")
    assert caught.value.exit_code == 128 + number


def test_after_such_a_block_it_waits_again() -> None:
    flag = StopFlag()
    with flag.installed():
        with flag.at_once():
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.signal_number == signal.SIGINT


OLDER_TRAINING = {"epochs": 2, "lr": 0.15, "batch_size": 16, "weight_decay": 1e-4, "lr_drops": None}


@pytest.mark.parametrize(("given", "is_taken"), [({}, True), ({"warm_up": 0.0}, False), ({"warm_up": 0.5}, False)])
def test_a_training_without_a_warm_up_of_its_own_is_known_as_before(
    given: dict[str, Any], is_taken: bool, tmp_path: Path
) -> None:
    """So that an interrupted run of an older version continues from its checkpoints, and from no others."""
    config = validate(SearchConfig, {**SMALL, "epochs": 2, **given})
    candidate = Candidate(find_template("log").build(5), config.network(DIGITS.n_classes, DIGITS.image), 3, "log")
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    Trainer(DIGITS, config, tmp_path).train(Job(7, candidate, pause_after=1))
    older = {
        "key": candidate.pattern.key,
        "seed": 3,
        "training": OLDER_TRAINING,
        "network": candidate.network.identify(),
        "train_examples": 64,
        "data": DIGITS.sha256,
    }
    identity = hashlib.sha256(json.dumps(older, sort_keys=True).encode()).hexdigest()
    slot = Slot(slot_path(tmp_path, 7), identity, 0)
    if is_taken:
        checkpoint = slot.read("cpu")
        assert checkpoint is not None and len(checkpoint.curve) == 1
    else:
        with pytest.raises(InputError, match="checkpoint of another training"):
            slot.read("cpu")
