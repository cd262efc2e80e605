"""What came out of a run, of whatever kind: the sentence, the numbers behind it, the best five and what it cost."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparisons.accuracy import Final, measure_final
from analysis.comparisons.networks import learn_lineup, summarise_lineup
from analysis.comparisons.standing import REFERENCE, Standing, rank_networks
from analysis.comparisons.words import conclude_final, conclude_lineup, find_rival
from analysis.data.outcomes import Objective, list_shown
from analysis.data.results import Run, read_run
from analysis.page.document import escape_markdown
from analysis.page.wording import NONE, choose_digits, count_nouns, name_outcome, share_digits
from analysis.picks.expect import Gain
from analysis.picks.found import Found, RankedPattern, judge_search
from analysis.picks.order import round_values
from analysis.picks.words import conclude_found, describe_over_template, list_answers, name_found
from analysis.report.cost import describe_cost
from analysis.report.findings import Findings, find
from analysis.stats.guessing import read_guessing
from analysis.stats.intervals import SHARES_APART, UNBOUNDED, range_of, student_interval
from analysis.study.overview import judge_others
from analysis.study.view import View
from analysis.tradeoff.points import Tradeoff, measure_tradeoffs
from analysis.tradeoff.section import answer_tradeoff
from analysis.tradeoff.words import conclude_tradeoff

N_ROWS = 5
PICKED = "Rows are picked by these means, so expect less of the first ones on new data."
DIRECTED = ("supported", "reversed", "u_shaped")  # statuses of a measure that say which side of it is better


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its 95 % interval, whose ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RankedRow:
    """One of the best patterns or networks of a run.

    Args:
        key: key of its pattern.
        name: its template's or network's name, or the beginning of its key; of several budgets, after the budget.
        outcome: what is expected of it at a new seed, or else its observed mean; in the unit of Conclusion.outcome.
        gain: what it gains, in the unit of Conclusion.gain: above 0 it is better; None where it is not known.
        trainings: number of its trainings.
    """

    key: str
    name: str
    outcome: Amount
    gain: Amount | None
    trainings: int


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What came out of a run, as its report, the terminal, Optuna's notes and Python say it.

    Args:
        sentence: the answer for everybody, at most 20 words, never stronger than its interval.
        numbers: the sentences with estimates, intervals and chances behind it.
        rows: up to N_ROWS, the best first.
        cost: what it cost: trainings, patterns, time, size of a network; without a full stop.
        outcome: what the rows' outcomes are, with their unit.
        gain: what their gains are, with their unit; empty where none has one.
    """

    sentence: str
    numbers: tuple[str, ...]
    rows: tuple[RankedRow, ...]
    cost: str
    outcome: str = ""
    gain: str = ""


def format_amounts(amounts: Sequence[Amount | None]) -> list[str]:
    """Return a column of numbers with their intervals, with as many decimals as most of them are worth.

    >>> format_amounts([Amount(0.1211, 0.1098, 0.1335), Amount(0.1221), None])
    ['0.121 (0.110 to 0.134)', '0.122', '-']
    """
    known = [amount for amount in amounts if amount is not None]
    usual = max((choose_digits(amount.value) for amount in known), default=0)
    digits = share_digits([(amount.low, amount.high) for amount in known], usual)
    return [NONE if amount is None else _format_amount(amount, digits) for amount in amounts]


def _format_amount(amount: Amount, digits: int) -> str:
    if amount.low is None or amount.high is None:
        return f"{amount.value:z.{digits}f}"
    return f"{amount.value:z.{digits}f} ({amount.low:z.{digits}f} to {amount.high:z.{digits}f})"


def conclude(run: Run) -> Conclusion:
    """Say what came out of a run of any kind; of a final measurement, what came out of the run that it measures.

    Raises:
        NothingUsableError: no candidate is complete.
    """
    if run.kind == "final":
        return conclude(read_run(run.path.parent))
    if run.kind == "comparison":
        return conclude_networks(run, rank_networks(run))
    picks = judge_search(run)
    if not picks:
        return conclude_findings(find(run))
    final = measure_final(run)
    return _conclude_search(run, picks, measure_tradeoffs(run.candidates, read_guessing(run), picks), final)


def conclude_findings(findings: Findings) -> Conclusion:
    """Say what came out of a search or a study, given all that its report shows."""
    if findings.picks:
        return _conclude_search(findings.run, findings.picks, findings.tradeoffs, findings.final)
    return _conclude_study(findings)


def conclude_networks(run: Run, standings: Sequence[Standing]) -> Conclusion:
    """Say what came out of a comparison of networks, given as rank_networks orders them."""
    learning = learn_lineup(run)
    rows = [
        RankedRow(
            key=standing.pattern.key,
            name=standing.name,
            outcome=_percent(standing.accuracy, standing.low, standing.high),
            gain=None
            if standing.difference is None
            else _percent(standing.difference, standing.difference_low, standing.difference_high),
            trainings=standing.n_seeds,
        )
        for standing in standings[:N_ROWS]
        if standing.accuracy is not None
    ]
    return Conclusion(
        sentence=conclude_lineup(standings, learning),
        numbers=(summarise_lineup(standings, learning),),
        rows=tuple(rows),
        cost=describe_cost(run),
        outcome="accuracy (%)",
        gain=f"over {REFERENCE} (points)" if any(row.gain for row in rows) else "",
    )


def _conclude_search(
    run: Run, picks: Sequence[Found], tradeoffs: Sequence[Tradeoff], final: Final | None
) -> Conclusion:
    objective = picks[0].objective
    whom = "log"
    if len(picks) == 1:
        sentence = conclude_found(picks[0])
        rows = [_rank_found(ranked, ranked.name, ranked.over_log) for ranked in picks[0].ranked[:N_ROWS]]
    else:
        sentence = conclude_tradeoff(tradeoffs[0]) if tradeoffs else _conclude_budgets(picks)
        is_with_log = all(found.log is not None or found.pick.template == "log" for found in picks)
        whom = "log" if is_with_log else "a random draw"
        rows = [_rank_pick(found, is_with_log) for found in picks[:N_ROWS]]
    is_expected = all(found.pick.expected is not None for found in picks)
    unit = " (%)" if objective.is_share else ""
    own = Conclusion(
        sentence=sentence,
        numbers=(*map(answer_tradeoff, tradeoffs), *list_answers(picks), *_list_over_templates(picks)),
        rows=tuple(rows),
        cost=describe_cost(run),
        outcome=f"{'expected' if is_expected else 'mean'} {name_outcome(objective)}{unit}",
        gain=_name_gain(objective, whom) if any(row.gain for row in rows) else "",
    )
    return own if final is None else _conclude_final(own, final)


def _list_over_templates(picks: Sequence[Found]) -> Iterator[str]:
    for found in picks:
        if text := describe_over_template(found):
            yield f"{name_found(found)}: {text}" if len(picks) > 1 else text


def _conclude_budgets(picks: Sequence[Found]) -> str:
    """Say at how many budgets the pattern found is told apart from `log`."""
    compared = [found.log for found in picks if found.log is not None]
    better = sum(gain.is_shown and gain.change < 0 for gain in compared)
    if not compared:
        return f"Each of {len(picks)} budgets has its own best pattern; none is compared with template log."
    return f"At {better or 'none'} of {len(picks)} budgets the pattern found is shown better than template log."


def _rank_pick(found: Found, is_with_log: bool) -> RankedRow:
    """Return the row of one budget of several: its pick, and what that gains over `log` or over a random draw."""
    random = None if found.random is None else found.random.gain
    name = f"{found.regime or found.budget}: {found.pick.name}"
    return _rank_found(found.pick, name, found.log if is_with_log else random)


def _rank_found(ranked: RankedPattern, name: str, gain: Gain | None) -> RankedRow:
    scale = 100 if ranked.objective.is_share else 1
    outcome, expected = Amount(scale * ranked.observed), ranked.expected
    if expected is not None:
        outcome = Amount(scale * expected.value, scale * expected.low, scale * expected.high)
    gained = None
    if gain is not None:
        unit = 100 if ranked.objective.is_ratio else 1
        gained = Amount(-unit * gain.change, -unit * gain.high, -unit * gain.low)
    return RankedRow(ranked.key, name, outcome, gained, ranked.n_trainings)


def _name_gain(objective: Objective, whom: str) -> str:
    if objective.is_share:
        return f"fewer errors than {whom} (%)"
    side = "higher" if objective.outcome.maximize else "lower"
    return f"{side} {name_outcome(objective)} than {whom}" + (" (%)" if objective.is_ratio else "")


def _conclude_final(own: Conclusion, final: Final) -> Conclusion:
    """Put what the test images said before what the search had found."""
    rows = [
        RankedRow(
            key=row.key,
            name=row.template or row.key[:12],
            outcome=_percent(row.test_accuracy, row.low, row.high),
            gain=None if row.difference is None else _percent(row.difference, row.difference_low, row.difference_high),
            trainings=row.n_seeds,
        )
        for row in final.rows[:N_ROWS]
    ]
    rival = find_rival(final, final.rows[0])
    return dataclasses.replace(
        own,
        sentence=conclude_final(final),
        numbers=(own.sentence, *(text for text in own.numbers if text != PICKED)),
        rows=tuple(rows),
        cost=f"{own.cost}; then {count_nouns(sum(row.n_seeds for row in final.rows), 'training')} for the test images",
        outcome="test accuracy (%)",
        gain="" if rival is None else f"over {rival.template} (points)",
    )


def _conclude_study(findings: Findings) -> Conclusion:
    views = [view for view in findings.views if not view.stratum.is_exploratory] or list(findings.views)
    everything = (findings.verdict, *judge_others(views, findings.pooled))
    # P-values are adjusted over all declared measures, so the first that shows something may come first.
    first = next((each for each in everything if each.status in DIRECTED), findings.verdict)
    numbers = [
        *(each.sentence for each in everything if each.sentence != first.sentence),
        *(each.numbers for each in everything),
        findings.verdict.basis,
        PICKED,
    ]
    objective = Objective(list_shown(views[0].patterns)[0])
    rows = list(_rank_patterns(views[0], objective))
    named = f", {views[0].name}" if views[0].name else ""
    unit = " (%)" if objective.is_share else ""
    own = Conclusion(
        sentence=first.sentence,
        numbers=tuple(dict.fromkeys(filter(None, numbers))),
        rows=tuple(rows),
        cost=describe_cost(findings.run),
        outcome=f"mean {name_outcome(objective)}{unit}{named}",
        gain=_name_study_gain(objective) if any(row.gain for row in rows) else "",
    )
    return own if findings.final is None else _conclude_final(own, findings.final)


def _name_study_gain(objective: Objective) -> str:
    return "over log (points)" if objective.is_share else _name_gain(objective, "log")


def _rank_patterns(view: View, objective: Objective) -> Iterator[RankedRow]:
    """Return the best patterns of a stratum with plain means over seeds, and gains paired by seed."""
    outcome = objective.outcome
    complete = view.candidates[(view.candidates["state"] == "complete").fillna(False)].drop_duplicates(["key", "seed"])
    by_seed = {str(key): rows.set_index("seed")[outcome].dropna() for key, rows in complete.groupby("key")}
    logs = view.patterns.loc[(view.patterns["template"] == "log").fillna(False), "key"]
    log = None if logs.empty else str(logs.iloc[0])
    for _, row in view.patterns.head(N_ROWS).iterrows():
        key = str(row["key"])
        own = by_seed[key]
        gain = None if log is None or log == key else _measure_gain(own, by_seed[log], objective)
        low, high = student_interval(own, range_of(outcome))
        estimate = Amount(float(own.mean()), low, high)
        yield RankedRow(
            key=key,
            name=key[:12] if pd.isna(row["template"]) else str(row["template"]),
            outcome=_percent(estimate.value, low, high) if objective.is_share else estimate,
            gain=gain,
            trainings=len(own),
        )


def _measure_gain(own: "pd.Series[float]", log: "pd.Series[float]", objective: Objective) -> Amount | None:
    """Return what a pattern gains over `log`, paired by seed: points of accuracy, a share of a loss, or as it is.

    None where they have no seed in common, or a loss is not above 0.
    """
    if objective.is_loss:
        if min(log.min(), own.min()) <= 0:
            return None  # it has no logarithm
        differences = (log.map(math.log) - own.map(math.log)).dropna()
    else:
        differences = ((own - log) if objective.outcome.maximize else (log - own)).dropna()
    if differences.empty:
        return None
    mean = float(differences.mean())
    low, high = student_interval(differences, SHARES_APART if objective.is_share else UNBOUNDED)
    if objective.is_share:
        return _percent(mean, low, high)
    if not objective.is_loss:
        return Amount(mean, low, high)
    return _percent(*(None if end is None else -math.expm1(-end) for end in (mean, low, high)))


def _percent(value: float | None, low: float | None, high: float | None) -> Amount:
    return Amount(100 * (value or 0.0), None if low is None else 100 * low, None if high is None else 100 * high)


def write_study_note(conclusion: Conclusion) -> str:
    """Return a conclusion as Markdown, for the study whose trials are a run's single trainings."""
    caution = (
        "One trial here is one training, so the best trial is one lucky seed. The study of patterns in "
        "optuna/patterns.db has the report's best as its best trial, and plots by parameters only where the seeds tell "
        "patterns apart; importances of the trainings here are mostly noise."
    )
    others = (*conclusion.numbers, f"{conclusion.cost}.", caution)
    return "\n\n".join([f"**{escape_markdown(conclusion.sentence)}**", *map(escape_markdown, others)])


def summarise_conclusion(conclusion: Conclusion) -> dict[str, Any]:
    """Return a conclusion as JSON values."""
    rounded: dict[str, Any] = round_values(dataclasses.asdict(conclusion))
    return rounded
