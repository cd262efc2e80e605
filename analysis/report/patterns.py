"""The patterns of a run as Optuna's studies: one trial a pattern, the report's best the best trial."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons.networks import learn_lineup, summarise_lineup
from analysis.comparisons.standing import Standing
from analysis.data.averages import average_curves, average_patterns
from analysis.data.outcomes import is_lower_better, list_outcomes, list_shown
from analysis.data.protocol import ALPHA, CONTROLS, MIN_PATTERNS
from analysis.data.results import Run, parse_sources
from analysis.page.document import escape_markdown
from analysis.page.wording import capitalise, count_nouns, name_briefly, shorten_outcome
from analysis.picks.found import Found, RankedPattern
from analysis.picks.order import sort_found
from analysis.picks.words import answer_found
from analysis.report.findings import Findings
from analysis.stats.guessing import Learning
from analysis.study.plots import choose_curves
from analysis.study.view import View
from analysis.verdict.noise import Resolution, measure_resolution
from search_spaces.pattern import ConnectionPattern

PATTERNS, NETWORKS = "patterns", "networks"  # names of the studies; several strata follow after a comma
COPIED = ("template", "strategy", "budget", "regime", "layers", "connections", "max_bd", "params", "flops", "ntk_trace")
GUIDE = "docs/howto/optuna.md"


@dataclass(frozen=True, slots=True)
class PatternTrial:
    """One pattern, or one network of a comparison.

    Args:
        name: what the report calls it.
        value: what the report ranks it by.
        is_ranked: whether it may be the best: one that lacks seeds may not where plain means decide, and none may
            where nothing was learned.
        measures: numbers of its placement, which are Optuna's parameters where the seeds tell patterns apart.
        attributes: all else, by name.
        n_seeds: number of seeds of its value.
        numbers: its finished trainings, by their number in the ledger; none at a rate between those trained.
        curve: mean learning curve by epoch.
    """

    name: str
    value: float
    is_ranked: bool
    measures: Mapping[str, float]
    attributes: Mapping[str, Any]
    n_seeds: int
    numbers: tuple[int, ...]
    curve: Mapping[int, float]
    pattern: ConnectionPattern


@dataclass(frozen=True, slots=True)
class PatternStudy:
    """The patterns of one stratum, in the report's order.

    Args:
        value_name: what a trial's value is, in words.
        curve_name: what the curves are of; empty without curves.
        verdict: the sentence of the run's conclusion.
        answer: what the report says of this stratum, where it says more; or empty.
        noise: in a sentence, whether the seeds tell the patterns apart.
        has_parameters: whether they do, so that plots by parameters show more than noise.
        caution: what a reader of the plots must know besides; or empty.
    """

    name: str
    value_name: str
    maximize: bool
    curve_name: str
    verdict: str
    answer: str
    noise: str
    has_parameters: bool
    caution: str
    trials: tuple[PatternTrial, ...]

    def write_note(self, picture: str = "") -> str:
        """Return the study's note as Markdown.

        Args:
            picture: address of the best trial's arc diagram; empty for none.
        """
        best = next((trial for trial in self.trials if trial.is_ranked), None)
        parts = [f"**{escape_markdown(self.verdict)}**"]
        parts += [escape_markdown(self.answer)] if self.answer not in ("", self.verdict) else []
        if best is not None:
            text = f"The best trial is the report's best, {best.name}: {self.value_name} {best.value:.4g}"
            parts.append(escape_markdown(f"{text}, from {count_nouns(best.n_seeds, 'seed')}."))
            parts += [f"![Connections of {escape_markdown(best.name)}]({picture})"] if picture else []
        others = (self._describe_trials(), self.noise, self.caution if self.has_parameters else "")
        end = f"This study is made from study.db with every report. More: {GUIDE}."
        parts += [escape_markdown(text) for text in (*others, self._describe_curves(), end) if text]
        return "\n\n".join(parts)

    def name_trial(self, trial: PatternTrial) -> str:
        """Return the note of a trial as Markdown: what the report calls it, and what it is ranked by."""
        value = f"{self.value_name} {trial.value:.4g}, {count_nouns(trial.n_seeds, 'seed')}"
        text = f"**{escape_markdown(trial.name)}**: {escape_markdown(value)}"
        return text + ("" if trial.is_ranked else "; not ranked: it lacks seeds, or nothing was learned")

    def _describe_trials(self) -> str:
        text = (
            f"One trial is one {'network' if self.name == NETWORKS else 'pattern'}. They are numbered in the report's "
            "order, so the history does not show time; the timeline shows from when to when each was trained."
        )
        if all(trial.is_ranked for trial in self.trials):
            return text
        if not any(trial.is_ranked for trial in self.trials):
            return f"{text} All are PRUNED, because no pattern is recommended."
        return f"{text} PRUNED are those that lack a seed: a mean over fewer, luckier seeds must not be the best trial."

    def _describe_curves(self) -> str:
        return f"Intermediate values: {self.curve_name} by epoch, mean over trainings." if self.curve_name else ""


def study_patterns(findings: Findings, verdict: str) -> tuple[PatternStudy, ...]:
    """Return the patterns of a search or a study, one study a stratum; of strata not declared only where all are so.

    Each has the run's verdict, in a sentence.
    """
    views = [view for view in findings.views if not view.stratum.is_exploratory] or list(findings.views)
    return tuple(_study_view(findings, view, verdict, len(views) > 1) for view in views)


def _study_view(findings: Findings, view: View, verdict: str, is_named: bool) -> PatternStudy:
    stratum = view.stratum
    complete = view.candidates[(view.candidates["state"] == "complete").fillna(False)]
    patterns = sort_found(average_patterns(complete), findings.picks)
    found = next((each for each in findings.picks if _is_of(each, view)), None)
    outcome = list_shown(patterns)[0] if found is None else found.objective.outcome
    resolution = _resolve(complete, outcome)
    measures = _choose_measures(patterns, stratum.measures)
    drawn = choose_curves(view.curves, view.candidates)[0]
    curves = average_curves(view.candidates, view.curves[view.curves["metric"] == drawn])
    by_key = {str(key): dict(zip(rows["epoch"], rows["value"], strict=True)) for key, rows in curves.groupby("key")}
    rank = _rank_observed(outcome, stratum.learning) if found is None else _rank_found(found)
    trials = [_describe_row(row, complete, measures, by_key, rank) for _, row in patterns.iterrows()]
    return PatternStudy(
        name=f"{PATTERNS}, {view.name}" if is_named else PATTERNS,
        value_name=_name_value(outcome, found),
        maximize=not is_lower_better(outcome),
        curve_name=drawn if by_key else "",
        verdict=verdict,
        answer=stratum.verdict.sentence if found is None else answer_found(found),
        noise=_describe_noise(resolution, complete, outcome, bool(measures)),
        has_parameters=_tells_apart(resolution) and len(patterns) >= MIN_PATTERNS and bool(measures),
        caution=_describe_caution(found),
        trials=tuple(trials),
    )


def _is_of(found: Found, view: View) -> bool:
    stratum = view.stratum
    return (found.budget, found.layers, found.regime) == (stratum.budget, stratum.layers, stratum.regime)


def _resolve(complete: pd.DataFrame, outcome: str) -> Resolution | None:
    """Test whether all trained patterns differ in an outcome, beyond what seeds do."""
    rows = complete.dropna(subset=[outcome]).drop_duplicates(["key", "seed"])
    table = rows.set_index(["key", "seed"])[outcome].unstack("seed")  # noqa: PD010  no aggregation
    return measure_resolution(table.to_numpy(np.float64))


def _tells_apart(resolution: Resolution | None) -> bool:
    return resolution is not None and resolution.p_value <= ALPHA


def _choose_measures(patterns: pd.DataFrame, declared: Sequence[str]) -> list[str]:
    """Return the declared measures and the controls that all patterns have and that differ between them."""
    names = [name for name in dict.fromkeys((*declared, *CONTROLS)) if name in patterns]
    return [name for name in names if patterns[name].notna().all() and np.ptp(patterns[name].to_numpy()) > 1e-9]


Rank = Callable[["pd.Series[Any]"], tuple[float, bool, dict[str, Any]]]  # value, may it be the best, attributes of it


def _rank_observed(outcome: str, learning: Learning | None) -> Rank:
    """Return what a study, which plans its seeds, ranks patterns by: their means."""
    return lambda row: (float(row[outcome]), bool(row["all_seeds"]) and _may_be_best(learning), {})


def _may_be_best(learning: Learning | None) -> bool:
    """Whether networks learned something, as far as is known, so that one of them may be the best."""
    return learning is None or learning.is_better


def _rank_found(found: Found) -> Rank:
    """Return what a search ranks patterns by: what is expected at a new seed, or plain means without the model."""
    by_key: dict[str, RankedPattern] = {each.key: each for each in found.ranked}

    def rank(row: "pd.Series[Any]") -> tuple[float, bool, dict[str, Any]]:
        ranked = by_key[str(row["key"])]
        expected = ranked.expected
        if expected is None:
            return ranked.observed, bool(row["all_seeds"]) and found.basis != "unlearned", {}
        chance = ranked.chance_better_than_log
        interval = {"expected_low": expected.low, "expected_high": expected.high}
        return expected.value, True, {**interval, **({} if chance is None else {"chance_better_than_log": chance})}

    return rank


def _describe_row(
    row: "pd.Series[Any]",
    complete: pd.DataFrame,
    measures: Sequence[str],
    curves: Mapping[str, Mapping[int, float]],
    rank: Rank,
) -> PatternTrial:
    value, is_ranked, own = rank(row)
    trainings = complete.loc[complete["key"] == row["key"], "number"].dropna().tolist()  # a tuned one has no number
    name, key = name_briefly(row), str(row["key"])
    return PatternTrial(
        name=name,
        value=value,
        is_ranked=is_ranked and math.isfinite(value),
        measures={measure: float(row[measure]) for measure in measures},
        attributes={"key": key, **dict(_list_plain(row)), **own},
        n_seeds=int(row["n_seeds"]),
        numbers=tuple(map(int, trainings)),
        curve={int(epoch): float(each) for epoch, each in sorted(curves.get(key, {}).items())},
        pattern=parse_sources(row["sources"]),
    )


def _list_plain(row: "pd.Series[Any]") -> Iterator[tuple[str, Any]]:
    """List a pattern's facts and means as plain values, without those that are missing."""
    named = {name: row[name] for name in COPIED if name in row}
    for outcome in list_outcomes(row):
        named |= {f"mean_{outcome}": row[outcome], f"sd_{outcome}": row[f"{outcome}_sd"]}
    for name, value in {**named, "n_seeds": row["n_seeds"]}.items():
        if not pd.isna(value):
            yield name, value.item() if isinstance(value, np.generic) else value


def _name_value(outcome: str, found: Found | None) -> str:
    if found is None:
        return f"mean {shorten_outcome(outcome)}"
    if found.basis == "model":
        return f"expected {found.objective}"
    is_geometric = found.objective.is_loss and found.basis != "no_logarithm"
    return f"{'geometric mean' if is_geometric else 'mean'} {found.objective}"


def _describe_noise(resolution: Resolution | None, complete: pd.DataFrame, outcome: str, have_measures: bool) -> str:
    """Say whether the seeds tell patterns apart, and so whether there is anything to attribute to a measure."""
    n_patterns, shown = complete["key"].nunique(), shorten_outcome(outcome)
    if resolution is None:
        reason = _explain_untested(complete.dropna(subset=[outcome]), outcome)
    elif not _tells_apart(resolution):
        reason = f"the seeds cannot tell these patterns apart in {shown} (F test, p = {resolution.p_value:.2g})"
    elif n_patterns < MIN_PATTERNS or not have_measures:
        reason = f"{count_nouns(n_patterns, 'pattern')} are too few, or too alike, for that"
    else:
        return (
            f"The patterns differ in {shown} beyond what seeds do (F test, p = {resolution.p_value:.2g}), so plots "
            "by parameters mean something. Measures that go together share importance, whichever of them matters; the "
            "report's verdict holds the others."
        )
    return (
        f"{capitalise(reason)}. So the trials have no parameters, and Optuna shows no importances, slices or contours: "
        "they would be noise. The measures are among the trials' attributes."
    )


def _explain_untested(complete: pd.DataFrame, outcome: str) -> str:
    """Say why there is no F test of trainings; a sentence without its capital and full stop."""
    if (complete.groupby("key")["seed"].nunique() < 2).all():
        return "no pattern was trained twice, so nobody knows what a seed changes"
    if complete[outcome].nunique() < 2:
        return f"all trainings have the same {shorten_outcome(outcome)}"
    return "too few patterns were trained twice to say what a seed changes"


def _describe_caution(found: Found | None) -> str:
    if found is None:
        return ""
    chosen = "The patterns of a search are no random sample: importances are of these patterns, not of the space."
    if found.basis != "model":
        return chosen
    return (
        f"{chosen} A value is what a model of measures expects at a new seed, so slices look smoother than trainings "
        "are; the plain means are attributes, mean_..."
    )


def study_networks(run: Run, standings: Sequence[Standing], verdict: str) -> PatternStudy:
    """Return the networks of a comparison, the most accurate first; the verdict is the run's."""
    table = run.candidates
    complete = table[(table["state"] == "complete").fillna(False)]
    by_network = complete.assign(key=complete["regime"])  # two networks may share a pattern
    resolution = _resolve(by_network, "validation_accuracy")
    learning = learn_lineup(run)
    drawn = choose_curves(run.curves, table)[0]
    curves = average_curves(by_network, run.curves[run.curves["metric"] == drawn])
    by_name = {str(key): dict(zip(rows["epoch"], rows["value"], strict=True)) for key, rows in curves.groupby("key")}
    trials = []
    for standing in standings:
        if standing.accuracy is None:
            continue
        numbers = complete.loc[complete["regime"] == standing.name, "number"].tolist()
        values = {
            **{name: getattr(standing, name) for name in ("growth", "params", "flops", "flops_ratio", "mean_bd")},
            **{name: getattr(standing, name) for name in ("global_mean_bd", "n_seeds", "n_failed", "p_holm")},
            "mean_validation_loss": standing.loss,
            "accuracy_less_log": standing.difference,
        }
        trials.append(
            PatternTrial(
                name=standing.name,
                value=standing.accuracy,
                is_ranked=_may_be_best(learning),
                measures={},
                attributes={"key": standing.pattern.key} | {k: v for k, v in values.items() if v is not None},
                n_seeds=standing.n_seeds,
                numbers=tuple(map(int, numbers)),
                curve={int(epoch): float(value) for epoch, value in sorted(by_name.get(standing.name, {}).items())},
                pattern=standing.pattern,
            )
        )
    told = "The networks differ" if _tells_apart(resolution) else "The seeds cannot tell the networks apart"
    p_value = "" if resolution is None else f" (F test, p = {resolution.p_value:.2g})"
    return PatternStudy(
        name=NETWORKS,
        value_name="mean accuracy",
        maximize=True,
        curve_name=drawn if by_name else "",
        verdict=verdict,
        answer=summarise_lineup(standings, learning),
        noise=f"{told}{p_value}. Trials have no parameters: networks differ in more than numbers say.",
        has_parameters=False,
        caution="",
        trials=tuple(trials),
    )


def list_sources(pattern: ConnectionPattern) -> str:
    """Return a pattern's connections as JSON without spaces.

    >>> list_sources(ConnectionPattern.from_sources([[0], [0, 1]]))
    '[[0],[0,1]]'
    """
    return json.dumps([list(inputs) for inputs in pattern.sources], separators=(",", ":"))
