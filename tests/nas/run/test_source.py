"""What is lost is handed out again, so many times and no more; no driver's death counts, and nothing given back."""

from pathlib import Path

import optuna
import pytest

from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.records.database import STUDY_NAME
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, Trial
from nas.run.directory import execute
from nas.run.ledger import Ledger
from nas.search.loop import Search
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Checkpoint, Slot, slot_path
from nas.workers.jobs import Job, failed
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError, Interrupted
from tests.support.small import SMALL

DIGITS = load_data("digits", None)
CONFIG = SearchConfig(**{**SMALL, "attempts": 3})
OUTCOME = Outcome(image_metrics(0.5, 1.0), 1, 0.0)
Told = list[tuple[Trial | None, int, int]]


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
    attempts = _trials(tmp_path / "study.db")[0].user_attrs["~attempts"]
    assert (attempts["lost"], attempts["returned"], attempts["driver_deaths"]) == (["worker died"], False, 0)
    assert "~attempts" not in _trials(tmp_path / "study.db")[1].user_attrs


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
    assert trial.user_attrs["~outcome"]["error"] == "reason 2; given up after 3 attempts"
    assert [n_finished for _, n_finished, _ in told] == [1]


def _deaths(path: Path) -> dict[int, int]:
    """How often the driver died with a candidate, by number, as recorded when it was handed out again."""
    held = {trial.number: trial.user_attrs.get("~attempts", {}).get("driver_deaths", 0) for trial in _trials(path)}
    return {number: n_deaths for number, n_deaths in held.items() if n_deaths}


def test_a_drivers_death_costs_no_attempt_however_often(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    config = CONFIG.model_copy(update={"attempts": 1})
    for _ in range(4):
        assert _open(path, config=config).ask() is not None  # and then the process is gone
    search = _open(path, config=config)
    n_trained = 0
    while (job := search.ask()) is not None:
        search.tell(job.number, OUTCOME)
        n_trained += 1
    assert n_trained == search.n_finished == search.n_asked
    assert {trial.state.name for trial in _trials(path)} == {"COMPLETE"}
    assert sum(_deaths(path).values()) == 4


def test_what_may_kill_the_driver_blocks_nobody_and_is_trained_alone(tmp_path: Path) -> None:
    """Candidates 0 and 3 kill every driver that trains them."""
    path = tmp_path / "study.db"
    handed_out: list[Job] = []
    for _ in range(12):
        search = _open(path)
        while (job := search.ask()) is not None:
            handed_out.append(job)
            if job.number in (0, 3):
                break  # the process is gone
            search.tell(job.number, OUTCOME)
    states = [trial.state.name for trial in _trials(path)]
    assert [number for number, state in enumerate(states) if state != "COMPLETE"] == [0, 3]
    assert set(states) == {"COMPLETE", "RUNNING"}
    fatal = [(job.number, job.is_alone) for job in handed_out if job.number in (0, 3)]
    # Each may be bad luck for once, and once more; then it waits until the others are done, and they take turns.
    assert fatal[:4] == [(0, False), (0, False), (3, False), (3, False)]
    assert {number for number, _ in fatal[-2:]} == {0, 3}
    assert all(is_alone for _, is_alone in fatal[4:])
    assert [job.number for job in handed_out].index(13) < len(handed_out) - 4
    deaths = _deaths(path)
    assert deaths.keys() == {0, 3}
    assert sum(deaths.values()) >= 10
    assert abs(deaths[0] - deaths[3]) <= 1


def test_a_candidate_whose_checkpoint_moves_on_is_no_suspect(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    for number in range(4):
        job = _open(path).ask()
        assert job is not None
        assert (job.number, job.is_alone) == (0, False)
        Slot(slot_path(tmp_path, 0), "", 0.0).write(Checkpoint({}, {}, [{"epoch": number}], 0.0))
    held = slot_path(tmp_path, 0).read_bytes()
    for is_first in (True, True, False):  # and now it does not move any more
        job = _open(path).ask()
        assert job is not None
        assert (job.number == 0) == is_first
    assert slot_path(tmp_path, 0).read_bytes() == held


def _lose_all(search: Search, number: int, n: int) -> None:
    for _ in range(n):
        job = search.ask()
        assert job is not None
        assert job.number == number
        search.lose(number, "worker died")


def test_more_attempts_take_up_from_its_checkpoint_what_was_given_up(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    search = _open(path)
    slot_path(tmp_path, 0).parent.mkdir()
    for number in (0, 1):
        slot_path(tmp_path, number).write_bytes(b"half trained")
    _lose_all(search, 0, 3)
    number, _ = _ask(search)
    search.tell(number, failed("training loss not finite at step 3 of 8"))
    assert slot_path(tmp_path, 0).exists()
    assert not slot_path(tmp_path, 1).exists()
    for attempts in (1, 3):  # as many as it had, or fewer
        search = _open(path, config=CONFIG.model_copy(update={"attempts": attempts}))
        assert search.n_finished == 2
        assert slot_path(tmp_path, 0).exists()
    assert [trial.state.name for trial in _trials(path)] == ["FAIL", "FAIL"]
    more = CONFIG.model_copy(update={"attempts": 4})
    assert _open(path, config=more).n_finished == 1
    assert _trials(path)[0].state.name == "FAIL"  # nothing is written before it is handed out
    search = _open(path, config=more)
    job = search.ask()
    assert job is not None
    assert (job.number, job.is_alone) == (0, True)
    assert slot_path(tmp_path, 0).read_bytes() == b"half trained"
    search.lose(0, "worker died")  # the fourth
    trial = _trials(path)[0]
    assert trial.state.name == "FAIL"
    assert trial.user_attrs["~outcome"]["error"] == "worker died; given up after 4 attempts"
    search = _open(path, config=more.model_copy(update={"attempts": 9}))
    assert _ask(search)[0] == 0
    search.tell(0, OUTCOME)
    search = _open(path)
    assert search.n_finished == 2
    assert _trials(path)[0].value == OUTCOME.metrics.get("validation_accuracy")
    assert not slot_path(tmp_path, 0).exists()


def test_what_was_given_up_and_taken_up_again_may_be_returned_or_killed(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    _lose_all(_open(path), 0, 3)
    more = CONFIG.model_copy(update={"attempts": 4})
    search = _open(path, config=more)
    search.give_back()  # before it was handed out
    assert _trials(path)[0].state.name == "FAIL"
    search = _open(path, config=more)
    assert _ask(search)[0] == 0
    search.give_back()
    assert _trials(path)[0].state.name == "RUNNING"
    assert _ask(_open(path, config=more))[0] == 0  # and then the process is gone
    search = _open(path)  # fewer attempts again: those that it has lost it has lost
    assert _ask(search)[0] == 0
    search.tell(0, OUTCOME)
    assert _trials(path)[0].value == OUTCOME.metrics.get("validation_accuracy")


def test_halving_refuses_to_take_up_what_its_rungs_were_decided_without(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    config = SearchConfig(**{**SMALL, "epochs": 9, "trials": 9, "seeds": 1, "halving": True, "templates": False})
    _lose_all(_open(path, config=config), 0, 3)
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="trial 0 was given up after 3 attempts") as caught:
        _open(path, config=config.model_copy(update={"attempts": 4}))
    assert caught.value.exit_code == 4
    assert path.read_bytes() == before
    assert _ask(_open(path, config=config))[0] == 1
    named = config.model_copy(update={"templates": True})
    _lose_all(_open(tmp_path / "named.db", config=named), 0, 3)  # a template, which is not halved
    assert _ask(_open(tmp_path / "named.db", config=named.model_copy(update={"attempts": 4})))[0] == 0


@pytest.mark.parametrize("n_interruptions", [1, 3])
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
    attempts = _trials(path)[0].user_attrs["~attempts"]
    assert (attempts["lost"], attempts["returned"], attempts["driver_deaths"]) == ([], False, 0)
