"""What the ledger stores of a candidate, sealed by hashes."""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from nas.records.metrics import IMAGE_METRICS, LOSS, Metrics
from search_spaces.errors import ConflictError, InputError
from search_spaces.pattern import ConnectionPattern

# Of the study's and the trials' attributes. 3 has the records only, under names without SORTED_LAST. 2 has no hashes: a
# version that writes it would break those of 3, so it must refuse them. 1 has what a candidate is in many attributes.
SCHEMA = 4
OLDER_SCHEMAS = (1, 2, 3)  # read and continued
HASHED = 3  # the first schema with hashes
SORTED_LAST = (
    "~"  # begins the names of records, the long attributes: Optuna's dashboard sorts by name, and they come last
)
HASH = "sha256"  # in a record: of that record and of what it belongs to; of a study: of each of its attributes by name
RESTORE = "restore it from a copy, or give another --run"
DRIVER_ENDED = "the run ended while it was training"  # a reason in older runs, where a driver's death cost an attempt
_GIVEN_UP = re.compile(r"(.*); given up after (\d+) attempts?", re.DOTALL)  # how an outcome of ours ends in this case

_State = Literal["running", "complete", "failed", "pruned"]
# What is also stored in an attribute of its own, for people: of what is trained, and of its outcome.
SHOWN = (
    "key", "template", "strategy", "seed", "budget", "regime", "cell", "matched", "max_bd", "walk_length",
    "visit_evenness", "ntk_trace", "params", "flops",
)  # fmt: skip
SHOWN_OF_OUTCOME = ("epochs", "seconds", "error")
STATES: Mapping[str, _State] = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "pruned", "RUNNING": "running"}
Strengths = tuple[tuple[float, ...], ...]  # for each block that repeats the pattern, one number a connection


def seal(values: Mapping[str, Any], *covered: object) -> dict[str, Any]:
    """Return values with a hash of them, and of what else they must stay together with.

    >>> sealed = seal({"epochs": 3}, 7)
    >>> is_sealed(sealed, 7), is_sealed(sealed, 8), is_sealed(sealed | {"epochs": 4}, 7)
    (True, False, False)
    """
    own = {name: value for name, value in values.items() if name != HASH}
    return {**own, HASH: hash_plain([own, *covered])}


def is_sealed(values: Mapping[str, Any], *covered: object) -> bool:
    """Return whether values and what they belong to are those that were sealed."""
    return bool(seal(values, *covered)[HASH] == values.get(HASH))


def hash_plain(value: object) -> str:
    """Return the SHA-256 (64 hex digits) of a plain value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one training gave.

    Args:
        metrics: what was measured, by the metrics' names; empty if the training failed.
        epochs: number of finished passes.
        seconds: wall-clock time of the training and its evaluation, including that of lost attempts up to their
            checkpoint; of a cohort an equal share.
        curve: one row an epoch: epoch, what the task reports of it, for images train_loss (mean over its steps); for
            them the metrics are in the last, and where the training paused.
        error: why there is no value, or None.
        paused: whether it was measured before its last epoch, and can continue.
        resumed_epoch: the epoch from whose checkpoint this training continued, 0 for none.
        checkpoint_error: why an existing checkpoint was not used, or None.
        strengths: strengths of the connections, block by block, once the training is done: see strengths.py.
        kept: of a condensed network, likewise, the share of each connection's channels that condensation kept.
        details: what the task keeps of a finished training for the report, as plain values; empty for most.
    """

    metrics: Mapping[str, float]
    epochs: int
    seconds: float
    curve: tuple[dict[str, float], ...] = ()
    error: str | None = None
    paused: bool = False
    resumed_epoch: int = 0
    checkpoint_error: str | None = None
    strengths: Strengths = ()
    kept: Strengths = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and for other processes."""
        strengths, kept = ([list(block) for block in blocks] for blocks in (self.strengths, self.kept))
        values = {**asdict(self), "metrics": dict(self.metrics), "curve": list(self.curve), "strengths": strengths}
        values["kept"] = kept
        # Without what is empty, as versions stored it that knew none.
        return {name: value for name, value in values.items() if value or name not in ("kept", "details")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """Return the outcome that to_dict was called on."""
        strengths, kept = (tuple(map(tuple, values.get(name, ()))) for name in ("strengths", "kept"))
        return cls(**{**values, "curve": tuple(values["curve"]), "strengths": strengths, "kept": kept})


@dataclass(frozen=True, slots=True)
class Attempts:
    """What became of a candidate's trainings that gave no outcome.

    Args:
        lost: why each was lost that was lost by no fault of the driver's, as by a worker's death.
        driver_deaths: how often the driver died while the candidate was in training.
        n_stuck: number of drivers that died since its checkpoint last changed.
        checkpoint: hash of its checkpoint when it was last handed out; None: there was none.
        given_up_after: number of attempts after which it was given up; 0: it was not.
    """

    lost: tuple[str, ...] = ()
    driver_deaths: int = 0
    n_stuck: int = 0
    checkpoint: str | None = None
    given_up_after: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate as the ledger stores it.

    Args:
        number: the trial's number in the study.
        template, strategy, seed, budget: what was entered with the pattern.
        facts: all else that was recorded with it, by name: its key, costs, training regime, cell of a design.
        descriptors: the pattern's distances, and its stratum where there are several: Optuna's parameters.
        outcome: what its training gave at the end, or at the last rung that it reached; None: nothing yet.
        rungs: the primary metric by epoch, where it paused.
        rung_metrics: the other metrics by epoch, where it paused.
        attempts: its trainings that gave no outcome.
        returned: whether the last of them was given back by a run that was asked to end.
        pause_after: the epoch that it was last handed out to be trained to; None: the last; 0: handed out only once.
        schema: the schema that it was entered by.
        declared: metrics of the run's task, the primary one first.
    """

    number: int
    pattern: ConnectionPattern
    template: str | None
    strategy: str
    seed: int
    budget: str
    facts: Mapping[str, Any]
    descriptors: Mapping[str, Any]
    state: _State = "running"
    outcome: Outcome | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
    rung_metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    attempts: Attempts = Attempts()
    returned: bool = False
    pause_after: int | None = 0
    schema: int = field(default=SCHEMA, compare=False)
    declared: Metrics = IMAGE_METRICS

    @property
    def running(self) -> bool:
        """Whether it has no final outcome yet."""
        return self.state == "running"

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was measured by name: only a finished training has metrics."""
        return self.outcome.metrics if self.outcome is not None and self.state == "complete" else {}

    @property
    def value(self) -> float | None:
        """The primary metric: only a finished training has one."""
        return self.metrics.get(self.declared[0].name)

    def metrics_at(self, rung: int) -> dict[str, float]:
        """Return what was measured at a rung, which the training may have left behind."""
        return {self.declared[0].name: self.rungs[rung], **self.rung_metrics.get(rung, {})}

    @property
    def strengths(self) -> Strengths:
        """Strengths of the connections, as in its outcome; empty where there are none."""
        return () if self.outcome is None else self.outcome.strengths

    @property
    def kept(self) -> Strengths:
        """Shares of the connections that condensation kept, as in its outcome; empty where there are none."""
        return () if self.outcome is None else self.outcome.kept

    @property
    def details(self) -> Mapping[str, Any]:
        """What its task kept for the report; empty for most."""
        return {} if self.outcome is None else self.outcome.details

    @property
    def regime(self) -> str | None:
        """The name of its training regime in a study, or of its network in a comparison."""
        return self.facts.get("regime")

    def to_attributes(self) -> dict[str, Any]:
        """Return the trial's records by the names of their attributes, each sealed with what it must stay with."""
        own = {"template": self.template, "strategy": self.strategy, "seed": self.seed, "budget": self.budget}
        record = {**self.facts, **own, "sources": [list(inputs) for inputs in self.pattern.sources]}
        candidate = seal(record, self.number, dict(self.descriptors)) if self.schema >= HASHED else record
        attributes = record if self.schema == 1 else {self.name_record("candidate"): candidate}
        if (self.attempts, self.returned, self.pause_after) != (Attempts(), False, 0):
            attempts = {**asdict(self.attempts), "lost": list(self.attempts.lost)}
            later = {"returned": self.returned, "pause_after": self.pause_after}
            attributes[self.name_record("attempts")] = seal(attempts | later, self.number)
        if self.outcome is not None:
            entered = None if self.schema == 1 else candidate
            covered = _cover(self.number, entered, self.descriptors, self.value, self.rungs)
            attributes[self.name_record("outcome")] = seal(self._store_outcome(self.outcome), *covered)
        return attributes

    def name_record(self, name: str) -> str:
        """Return the name of the attribute that has a record: candidate, attempts or outcome."""
        return name if self.schema < SCHEMA else SORTED_LAST + name

    def _store_outcome(self, outcome: Outcome) -> dict[str, Any]:
        """Return an outcome as it is stored: its primary metric is the trial's value, or the last of its rungs."""
        values = outcome.to_dict()
        metrics = values.pop("metrics")
        metrics.pop(self.declared[0].name, None)
        if self.declared != IMAGE_METRICS:
            values["metrics"] = metrics
            if self.rung_metrics:
                values["rung_metrics"] = {str(epoch): dict(each) for epoch, each in self.rung_metrics.items()}
            return values
        values[LOSS.name] = metrics.get(LOSS.name)  # as versions stored it that knew no other metrics
        if self.rung_metrics:
            values["rung_losses"] = {str(epoch): each[LOSS.name] for epoch, each in self.rung_metrics.items()}
        return values

    @classmethod
    def from_optuna(cls, trial: Any, declared: Metrics = IMAGE_METRICS) -> "Trial":
        """Return what a trial stores, as Optuna loads it, whatever the schema.

        Args:
            declared: metrics of the run's task.

        Raises:
            InputError: no search of ours wrote it.
        """
        where = f"trial {trial.number}"
        attributes, schema = _read_records(trial.user_attrs)
        candidate = attributes.get("candidate")
        record = dict(candidate if schema > 1 and isinstance(candidate, dict) else attributes)
        facts = {name: value for name, value in record.items() if name not in ("outcome", "attempts", HASH)}
        pattern = _read_pattern(facts.pop("sources", None), where)
        state = STATES.get(trial.state.name, "running")  # WAITING: queued by another program
        rungs = dict(sorted(trial.intermediate_values.items()))
        latest = rungs[max(rungs)] if rungs and state in ("running", "pruned") else None
        try:
            own = {name: facts.pop(name) for name in ("template", "strategy", "seed", "budget")}
            value = trial.value if state == "complete" else latest
            primary = {} if value is None else {declared[0].name: float(value)}
            outcome = _read_outcome(attributes.get("outcome"), primary, pattern, where)
            attempts = _as_dict(attributes.get("attempts"))
            return cls(
                number=trial.number,
                pattern=pattern,
                **own,
                facts=facts,
                descriptors=dict(trial.params),
                state=state,
                outcome=outcome,
                rungs=rungs,
                rung_metrics=_read_rungs(_as_dict(attributes.get("outcome"))),
                attempts=_read_attempts(attempts, None if outcome is None else outcome.error),
                returned=attempts.get("returned", False),
                pause_after=attempts.get("pause_after", 0),
                schema=schema,
                declared=declared,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where} is not what a search of ours writes ({error!r:.200})") from None


def _read_records(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """Return a trial's records by their names without SORTED_LAST, and the schema that it was entered by."""
    if SORTED_LAST + "candidate" in attributes:
        begin = len(SORTED_LAST)
        return {name[begin:]: value for name, value in attributes.items() if name.startswith(SORTED_LAST)}, SCHEMA
    candidate = attributes.get("candidate")
    return attributes, 1 if not isinstance(candidate, dict) else HASHED if HASH in candidate else 2


def show_records(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a trial's records is stored in attributes of its own, for people who look with Optuna's tools.

    No program of ours reads them; check_trials compares them with the records. Older schemas have none.

    Args:
        attributes: the trial's attributes, of which its records are read.
    """
    if SORTED_LAST + "candidate" not in attributes:
        return {}
    candidate, outcome = (_as_dict(attributes.get(SORTED_LAST + name)) for name in ("candidate", "outcome"))
    name = f"{candidate.get('template') or str(candidate.get('key'))[:12]}, seed {candidate.get('seed')}"
    metrics = _as_dict(outcome.get("metrics")) or {LOSS.name: outcome.get(LOSS.name)}
    shown = {"Name": name, **{name: candidate.get(name) for name in SHOWN}, **metrics}
    shown |= {name: outcome.get(name) for name in SHOWN_OF_OUTCOME}
    return {name: value for name, value in shown.items() if value is not None}


def _read_pattern(sources: object, where: str) -> ConnectionPattern:
    if not isinstance(sources, list):
        raise InputError(
            f"{where} has no connections (`sources` of user attribute `candidate`), so no search of ours wrote it"
        )
    try:
        return ConnectionPattern.from_sources(sources)
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None


def _read_outcome(
    record: object, primary: Mapping[str, float], pattern: ConnectionPattern, where: str
) -> Outcome | None:
    """Read a stored outcome, whose other metrics an image run has as `validation_loss`; one that failed has none."""
    if not isinstance(record, dict):
        return None
    known = {name: record[name] for name in (known.name for known in fields(Outcome)) if name in record}
    if not isinstance(known.get("details", {}), dict):
        raise InputError(f"{where} records details {known['details']!r:.80}, expected names and values")
    known |= {name: _read_strengths(record, name, pattern, where) for name in ("strengths", "kept")}
    others = _as_dict(record.get("metrics")) or {LOSS.name: record.get(LOSS.name)}
    metrics = {name: float(value) for name, value in others.items() if primary and value is not None}
    return Outcome.from_dict({"curve": [], **known, "metrics": {**primary, **metrics}})


def _read_strengths(record: Mapping[str, Any], name: str, pattern: ConnectionPattern, where: str) -> Strengths:
    strengths = record.get(name)
    strengths = [] if strengths is None else strengths
    if not isinstance(strengths, list) or not all(_are_strengths(block, pattern.n_connections) for block in strengths):
        raise InputError(
            f"{where} records {name} {json.dumps(strengths):.80}, but its pattern has {pattern.n_connections} "
            "connections: each block has one number for each, finite and not negative; the file was edited or written "
            "by another program"
        )
    return tuple(tuple(map(float, block)) for block in strengths)


def _read_rungs(record: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Read the other metrics at the rungs of a stored outcome; an image run has `rung_losses`."""
    losses = {epoch: {LOSS.name: loss} for epoch, loss in _as_dict(record.get("rung_losses")).items()}
    by_epoch = _as_dict(record.get("rung_metrics")) or losses
    return {int(epoch): {name: float(value) for name, value in each.items()} for epoch, each in by_epoch.items()}


def _are_strengths(block: object, n_connections: int) -> bool:
    return (
        isinstance(block, list)
        and len(block) == n_connections
        and all(type(value) in (int, float) and 0 <= value <= sys.float_info.max for value in block)
    )


def _read_attempts(record: Mapping[str, Any], error: str | None) -> Attempts:
    """Read a trial's attempts; in older runs a driver's death was one, and only the error says who was given up."""
    reasons = list(record.get("lost", ()))
    after = record.get("given_up_after", 0)
    if "given_up_after" not in record and error is not None and (match := _GIVEN_UP.fullmatch(error)):
        reasons, after = [*reasons, match[1]], int(match[2])
    return Attempts(
        lost=tuple(reason for reason in reasons if reason != DRIVER_ENDED),
        driver_deaths=record.get("driver_deaths", 0) + reasons.count(DRIVER_ENDED),
        n_stuck=record.get("n_stuck", 0),
        checkpoint=record.get("checkpoint"),
        given_up_after=after,
    )


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cover(
    number: int,
    candidate: object,
    descriptors: Mapping[str, Any],
    value: float | None,
    rungs: Mapping[int, float],
) -> tuple[object, ...]:
    """Return what an outcome must stay together with: what was trained, its value, and its measurements at rungs."""
    return number, candidate, dict(descriptors), value, {str(epoch): rungs[epoch] for epoch in sorted(rungs)}


def check_trials(trials: Iterable[Any], path: Path) -> None:
    """Check trials, as Optuna loads them: none is missing, and each is as its hashes say; older runs have none.

    Raises:
        ConflictError: one is not what was written.
    """
    for place, trial in enumerate(trials):
        if trial.number != place:
            raise ConflictError(f"{path} is damaged: trial {place} is missing; {RESTORE}")
        _check_seals(trial, path)


def _check_seals(trial: Any, path: Path) -> None:
    records, _ = _read_records(trial.user_attrs)
    candidate, outcome, attempts = (records.get(name) for name in ("candidate", "outcome", "attempts"))
    has_hash = isinstance(candidate, dict) and HASH in candidate
    value = trial.value if trial.state.name == "COMPLETE" else None
    covered = _cover(trial.number, candidate, trial.params, value, trial.intermediate_values)
    parts = {
        "what was trained": (candidate, trial.number, dict(trial.params)),
        "its outcome": (outcome, *covered),
        "its attempts": (attempts, trial.number),
    }
    for name, (values, *rest) in parts.items():
        must_be_sealed = has_hash or (isinstance(values, dict) and HASH in values)
        if must_be_sealed and values is not None and not (isinstance(values, dict) and is_sealed(values, *rest)):
            raise ConflictError(f"{path} is damaged: trial {trial.number} is not what was written ({name}); {RESTORE}")
    for name, value in show_records(trial.user_attrs).items():
        if name in trial.user_attrs and trial.user_attrs[name] != value:
            raise ConflictError(f"{path} is damaged: trial {trial.number} is not what was written ({name}); {RESTORE}")
    if has_hash and outcome is None and (trial.state.is_finished() or trial.intermediate_values):
        raise ConflictError(f"{path} is damaged: trial {trial.number} has lost its outcome; {RESTORE}")
