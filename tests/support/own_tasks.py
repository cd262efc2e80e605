"""Tasks of a user's own, as files: one that is quick, and ones that go wrong in every way."""

from pathlib import Path

from nas.model.config import TrainingConfig
from nas.records.trial import Outcome
from nas.tasks.candidate import TaskCandidate
from nas.tasks.loaded import LoadedTask, load_task
from search_spaces.pattern import ConnectionPattern

SPIRALS = Path(__file__).parents[2] / "docs" / "tasks" / "spirals.py"
PATTERN = ConnectionPattern(3, ((0,), (0, 1), (1, 2)))

# Its loss follows from the pattern and the seed: no training is needed.
QUICK = """
import hashlib

def objective(trial, *, width: int = 8, spoil: str = ""):
    text = f"{trial.pattern.sources} {trial.seed} {width}"
    loss = 0.5 + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8
    print("a task may print")
    start = trial.load() or {"epoch": 0}
    for epoch in range(start["epoch"], trial.epochs):
        trial.save({"epoch": epoch + 1})
        trial.report(epoch + 1, loss=loss / (epoch + 1), accuracy=1 - loss / 2)
    return {"loss": loss / trial.epochs, "accuracy": 1 - loss / 2}

objective.maximize = ("accuracy",)
"""

WRONG = """
import sys, time

def raises(trial): raise ValueError("no such\\nlayer")
def leaves(trial): sys.exit("gone")
def nothing(trial): pass
def number(trial): return 0.5
def other(trial): return {"los": 0.5}
def more(trial): return {"loss": 0.5, "f1": 0.5}
def text(trial): return {"loss": "low"}
def nan(trial): return {"loss": float("nan")}
def reports_nan(trial):
    try:
        trial.report(1, loss=float("inf"))
    except Exception:
        pass
    return {"loss": 0.5}
def saves_a_function(trial):
    trial.save({"function": time.sleep})
    return {"loss": 0.5}
def some(trial):
    if trial.seed == 1:
        raise ValueError("seed one")
    return {"loss": 0.5 + len(trial.pattern.reads)}
def hangs(trial):
    if trial.seed == 1:
        time.sleep(1000)
    return {"loss": 0.5}
def full(trial): raise MemoryError("full")
"""


def write_task(folder: Path, text: str = QUICK, name: str = "own.py") -> Path:
    """Write a task's file."""
    path = folder / name
    path.write_text(text)
    return path


def load_from(folder: Path, name: str, text: str = QUICK, *texts: str) -> LoadedTask:
    """Load a task from a file that is written for it."""
    return load_task(f"{write_task(folder, text)}:{name}", texts)


def train_once(task: LoadedTask, epochs: int = 2, seed: int = 0) -> Outcome:
    """Train a small pattern."""
    training = TrainingConfig(**{**task.defaults, "epochs": epochs})
    return task.train(TaskCandidate.of(PATTERN, "log", seed), training, "cpu")
