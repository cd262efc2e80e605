"""What is lost is handed out again, so many times and no more; what is given back does not count."""

from pathlib import Path

import optuna
import pytest
from conftest import SMALL

from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.executors import Job, StopFlag, Trainer
from nas.ledger import STUDY_NAME, Ledger
from nas.readers import load_data
from nas.run_directory import execute
from nas.search import Search
from nas.source import DRIVER_ENDED
from nas.train import Outcome
from search_spaces.errors import Interrupted

DIGITS = load_data("digits", None)
CONFIG = SearchConfig(**{**SMALL, "attempts": 3})
OUTCOME = Outcome(0.5, 1.0, 1, 0.0)
Told = list[tuple[Candidate | None, Outcome | None, int, int]]


def _open(path: Path, told: Told | None = None, config: SearchConfig = CONFIG) -> Search:
    heard: Told = [] if told is None else told
    return Search(config, DIGITS, Ledger(path, {}, frozenset()), lambda *one: heard.append(one))


def _trials(path: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}").trials


def _ask(search: Search) -> tuple[int, Candidate]:
    job = search.ask()
    assert job is not None
    return job.number, job.candidate


def test_a_lost_candidate_comes_again_before_anything_new(tmp_path: Path) -> None:
    search = _open(tmp_path / "study.db")
    (first, candidate), (second, _) = _ask(search), _ask(search)
    search.lose(first, "worker died")
    assert _ask(search) == (first, candidate)
    search.tell(first, OUTCOME)
    search.tell(second, OUTCOME)
    assert _ask(search)[0] == 2
    assert _trials(tmp_path / "study.db")[0].user_attrs["attempts"] == {
        "lost": ["worker died"],
        "returned": False,
        "pause_after": None,
    }
    assert "attempts" not in _trials(tmp_path / "study.db")[1].user_attrs


def test_after_so_many_attempts_it_has_failed_with_the_last_reason(tmp_path: Path) -> None:
    told: Told = []
    search = _open(tmp_path / "study.db", told)
    for attempt in range(3):
        number, _ = _ask(search)
        assert number == 0
        search.lose(number, f"reason {attempt}")
    assert _ask(search)[0] == 1
    trial = _trials(tmp_path / "study.db")[0]
    assert trial.state == optuna.trial.TrialState.FAIL
    assert trial.user_attrs["outcome"]["error"] == "reason 2; given up after 3 attempts"
    assert [n_finished for _, _, n_finished, _ in told] == [1]


def test_a_killed_run_costs_an_attempt_and_the_last_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    for _ in range(3):
        assert _ask(_open(path))[0] == 0  # and then the process is gone
    search = _open(path)
    assert search.n_finished == 1
    assert _ask(search)[0] == 1
    assert _trials(path)[0].user_attrs["outcome"]["error"] == f"{DRIVER_ENDED}; given up after 3 attempts"


def test_more_attempts_may_be_allowed_later(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    for _ in range(3):
        _ask(_open(path))
    assert _ask(_open(path, config=CONFIG.model_copy(update={"attempts": 5})))[0] == 0


@pytest.mark.parametrize("n_interruptions", [1, 6])
def test_what_a_run_gives_back_when_asked_to_end_costs_nothing(tmp_path: Path, n_interruptions: int) -> None:
    path = tmp_path / "study.db"

    class Interrupting(Trainer):
        def train(self, job: Job, check_stop: object = None) -> Outcome:  # noqa: ARG002
            raise Interrupted(15)

    for _ in range(n_interruptions):
        search = _open(path)
        with pytest.raises(Interrupted):
            execute(search, Interrupting(DIGITS, CONFIG), StopFlag(), search.n_asked)
    search = _open(path)
    assert search.n_finished == 0
    number, candidate = _ask(search)
    assert (number, candidate.seed) == (0, 0)
    search.tell(number, OUTCOME)
    attempts = _trials(path)[0].user_attrs["attempts"]
    assert attempts == {"lost": [], "returned": False, "pause_after": None}
