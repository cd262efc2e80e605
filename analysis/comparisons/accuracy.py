"""Accuracies of a few chosen patterns on the test images, next to what their search had measured."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.results import STRATUM, Run, read_run
from analysis.picks.found import Place, judge_search
from analysis.picks.order import describe_expected, find_place, index_places, order_patterns
from analysis.stats.guessing import ACCURACY, Learning, measure_learning, read_guessing
from analysis.stats.intervals import SHARE, SHARES_APART, student_interval
from nas.records.database import FINAL


@dataclass(frozen=True, slots=True)
class FinalAccuracy:
    """One pattern that was trained on all but the test images and measured on those.

    Args:
        test_accuracy: mean over seeds, 0..1.
        low, high: interval of test_accuracy by student_interval; None for one seed and for seeds that gave the same.
        test_loss: mean cross-entropy in nats.
        difference: test accuracy less that of the stratum's best named template by validation, paired by seed; None
            for that template itself and where there is none. Its interval as above.
        validation_accuracy: what the search had measured and chosen by; None where it is not known.
        number: number of the first seed's training, whose weights an export takes, so that none is picked.
    """

    key: str
    template: str | None
    strategy: str
    budget: str
    layers: int
    regime: str | None
    n_seeds: int
    test_accuracy: float
    low: float | None
    high: float | None
    test_loss: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    validation_accuracy: float | None
    number: int

    @property
    def place(self) -> Place:
        """Budget, layers, regime and key, which no other row of the run has."""
        return self.budget, self.layers, self.regime, self.key


@dataclass(frozen=True, slots=True)
class Final:
    """All that was measured on a run's test images.

    Args:
        at: when they were first looked at, ISO 8601; None where the run does not say.
        epochs: epochs of the final trainings; several where regimes differ.
        n_left: number of trainings that have no outcome yet.
        rows: one for each pattern and stratum, in the order of the run's own ranking.
        learning: mean accuracy of all of them, next to what guessing reaches on the test images.
    """

    at: str | None
    n_train: int | None
    n_test: int | None
    epochs: tuple[int, ...]
    n_left: int
    rows: tuple[FinalAccuracy, ...]
    learning: Learning | None = None


def choose_patterns(run: Run, top: int) -> pd.DataFrame:
    """Return the rows of average_patterns to measure on the test images: the best `top` and all templates."""
    patterns = order_patterns(run)
    best = patterns.groupby(STRATUM, dropna=False, sort=False).head(top)
    return patterns[patterns.index.isin(best.index) | patterns["template"].notna()]


def measure_final(run: Run) -> Final | None:
    """Return what `export --final` measured for a run; None where it did not, or nothing is complete yet.

    Raises:
        InputError, ConflictError: as read_run.
    """
    if not (run.path / FINAL / "study.db").is_file():
        return None
    final = read_run(run.path / FINAL)
    complete = final.candidates[(final.candidates["state"] == "complete").fillna(False)]
    if complete.empty:
        return None
    by_search = {find_place(row): row for _, row in order_patterns(run).iterrows()}
    rows = [
        accuracy
        for _, stratum in complete.groupby(STRATUM, dropna=False, sort=False)
        for accuracy in _measure_stratum(stratum, by_search)
    ]
    order = {place: rank for rank, place in enumerate(by_search)}
    rows.sort(key=lambda row: order.get(row.place, len(order)))
    planned = final.plan or {"strata": [], "order": []}
    return Final(
        at=run.tested_at,
        n_train=final.data.get("n_train"),
        n_test=final.data.get("n_test"),
        epochs=tuple(sorted({stratum["training"]["epochs"] for stratum in planned["strata"]})),
        n_left=len(planned["order"]) - int(final.candidates["state"].isin(["complete", "failed"]).sum()),
        rows=tuple(rows),
        learning=measure_learning(complete, read_guessing(final)),
    )


def list_exports(run: Run, top: int, final: Final | None) -> list[tuple[dict[str, Any], FinalAccuracy | None]]:
    """List the best `top` patterns of each stratum and all that were measured on the test images, each pattern once.

    Where several strata have a pattern, a row that was measured is taken, and only with its own measurement: trained
    in another way, it would be another network.

    Returns:
        Rows of average_patterns as plain values, of a search with describe_expected's, each with what was measured of
        it, or None; in the order of order_patterns.
    """
    picks = judge_search(run)
    patterns = order_patterns(run, picks)
    expected = {place: describe_expected(ranked) for place, ranked in index_places(picks).items()}
    tested = {} if final is None else {row.place: row for row in final.rows}
    best = set(patterns.groupby(STRATUM, dropna=False, sort=False).head(top).index)
    rows = [{str(name): value for name, value in row.items()} for row in patterns.to_dict("records")]
    rows = [row | expected.get(find_place(row), {}) for row in rows]
    measured = [tested.get(find_place(row)) for row in rows]
    keys_measured = {row["key"] for row, final_accuracy in zip(rows, measured, strict=True) if final_accuracy}
    chosen: dict[str, tuple[dict[str, Any], FinalAccuracy | None]] = {}
    for number, row, final_accuracy in zip(patterns.index, rows, measured, strict=True):
        if final_accuracy or (number in best and row["key"] not in keys_measured):
            chosen.setdefault(row["key"], (row, final_accuracy))
    return list(chosen.values())


def _measure_stratum(complete: pd.DataFrame, by_search: dict[Place, "pd.Series[Any]"]) -> list[FinalAccuracy]:
    accuracies = {str(key): rows.set_index("seed")[ACCURACY] for key, rows in complete.groupby("key")}
    patterns = {str(row["key"]): row for _, row in complete.drop_duplicates("key").iterrows()}
    searched = {key: by_search.get(find_place(row)) for key, row in patterns.items()}
    known = {key: float(row[ACCURACY]) for key, row in searched.items() if row is not None}
    # The template to beat is chosen as the search's own patterns were: by validation.
    named = [key for key, row in patterns.items() if isinstance(row["template"], str)]
    ranks = {place: rank for rank, place in enumerate(by_search)}
    best = min(named, key=lambda key: ranks.get(find_place(patterns[key]), len(ranks)), default=None)
    measured = []
    for key, row in patterns.items():
        own = accuracies[key]
        differences = own.iloc[:0] if best is None or best == key else (own - accuracies[best]).dropna()
        low, high = student_interval(own, SHARE)
        difference_low, difference_high = student_interval(differences, SHARES_APART)
        budget, layers, regime, _ = find_place(row)
        rows = complete[complete["key"] == key].sort_values("seed")
        measured.append(
            FinalAccuracy(
                key=key,
                template=row["template"] if isinstance(row["template"], str) else None,
                strategy=str(row["strategy"]),
                budget=budget,
                layers=layers,
                regime=regime,
                n_seeds=len(own),
                test_accuracy=float(own.mean()),
                low=low,
                high=high,
                test_loss=float(rows["validation_loss"].mean()),
                difference=float(differences.mean()) if len(differences) else None,
                difference_low=difference_low,
                difference_high=difference_high,
                validation_accuracy=known.get(key),
                number=int(rows["number"].iloc[0]),
            )
        )
    return measured
