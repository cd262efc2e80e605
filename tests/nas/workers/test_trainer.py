"""Executors: signals."""

import os
import signal

import pytest

from nas.workers.stop import StopFlag
from search_spaces.errors import Interrupted


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
