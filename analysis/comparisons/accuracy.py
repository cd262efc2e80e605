"""the chosen few on the test images: accuracies with intervals, beside what their search had measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.results import STRATUM, Run, read_run
from analysis.stats.guessing import Learning, measure_learning, read_guessing
from analysis.stats.intervals import SHARE, SHARES_APART, student_interval
from nas.records.database import FINAL

ACCURACY = "validation_accuracy"  # in RUN/final the column holds that of the test images


@dataclass(frozen=True, slots=True)
class FinalAccuracy:
    """One pattern that was trained on all but the test images and measured on those.

    Args:
        template, strategy, budget, layers, regime: as its run has them.
        n_seeds: of the final trainings.
        test_accuracy: mean over them, 0..1; low, high: interval by student_interval over them, None for one
            seed and for seeds that gave the same.
        test_loss: mean cross-entropy in nats.
        difference, difference_low, difference_high: test accuracy less that of the stratum's best named template by
            validation, paired by seed; None for that template itself and where there is none.
        validation_accuracy: what the search had measured and chosen by; None where it is not known.
        number: of the first seed's training, whose weights an export takes: none was picked.
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


@dataclass(frozen=True, slots=True)
class Final:
    """All that was measured on a run's test images.

    Args:
        at: when they were first looked at, ISO 8601; None where the run does not say.
        n_train, n_test: images trained on and measured on.
        epochs: of the final trainings; several where regimes differ.
        n_left: trainings that have no outcome yet.
        rows: one a pattern and stratum, in the order of the run's own ranking.
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
    """Rows of average_patterns that are worth the test images: the best `top` and all templates of each stratum."""
    patterns = average_patterns(run.candidates)
    best = patterns.groupby(STRATUM, dropna=False, sort=False).head(top)
    return patterns[patterns.index.isin(best.index) | patterns["template"].notna()]


def measure_final(run: Run) -> Final | None:
    """What `export --final` measured for a run; None where it did not, or nothing is complete yet.

    Raises:
        InputError, ConflictError: see read_run.
    """
    if not (Path(run.path) / FINAL / "study.db").is_file():
        return None
    final = read_run(run.path / FINAL)
    complete = final.candidates[(final.candidates["state"] == "complete").fillna(False)]
    if complete.empty:
        return None
    in_search = average_patterns(run.candidates)
    by_search = {_place(row): row for _, row in in_search.iterrows()}
    rows = [
        one
        for _, stratum in complete.groupby(STRATUM, dropna=False, sort=False)
        for one in _measure_stratum(stratum, by_search)
    ]
    order = {place: rank for rank, place in enumerate(by_search)}
    rows.sort(key=lambda one: order.get((one.budget, one.layers, one.regime, one.key), len(order)))
    planned = final.plan or {"strata": [], "order": []}
    return Final(
        at=run.tested_at,
        n_train=final.data.get("n_train"),
        n_test=final.data.get("n_test"),
        epochs=tuple(sorted({one["training"]["epochs"] for one in planned["strata"]})),
        n_left=len(planned["order"]) - int(final.candidates["state"].isin(["complete", "failed"]).sum()),
        rows=tuple(rows),
        learning=measure_learning(complete, read_guessing(final)),
    )


def list_exports(run: Run, top: int, final: Final | None) -> list[tuple[dict[str, Any], FinalAccuracy | None]]:
    """The best `top` patterns of each stratum and all that were measured on the test images, each pattern once.

    Of a pattern that several strata have, the row of one that was measured is taken, and only with its own measurement:
    trained otherwise, it would be another network.

    Returns:
        Rows of average_patterns as plain values, with what was measured of them, or None; in average_patterns' order.
    """
    patterns = average_patterns(run.candidates)
    tested = {} if final is None else {(one.budget, one.layers, one.regime, one.key): one for one in final.rows}
    best = set(patterns.groupby(STRATUM, dropna=False, sort=False).head(top).index)
    rows = [{str(name): value for name, value in row.items()} for row in patterns.to_dict("records")]
    found = [(row, tested.get(_place(row)), number in best) for number, row in zip(patterns.index, rows, strict=True)]
    wanted = [(row, one) for row, one, is_best in found if is_best or one is not None]
    with_test = {row["key"] for row, one in wanted if one is not None}
    chosen: dict[str, tuple[dict[str, Any], FinalAccuracy | None]] = {}
    for row, one in wanted:
        if one is not None or row["key"] not in with_test:
            chosen.setdefault(row["key"], (row, one))
    return list(chosen.values())


def _place(row: "Mapping[str, Any] | pd.Series[Any]") -> tuple[str, int, str | None, str]:
    regime = None if pd.isna(row["regime"]) else str(row["regime"])
    return str(row["budget"]), int(row["layers"]), regime, str(row["key"])


def _measure_stratum(
    complete: pd.DataFrame, by_search: dict[tuple[str, int, str | None, str], "pd.Series[Any]"]
) -> list[FinalAccuracy]:
    accuracies = {str(key): rows.set_index("seed")[ACCURACY] for key, rows in complete.groupby("key")}
    patterns = {str(row["key"]): row for _, row in complete.drop_duplicates("key").iterrows()}
    searched = {key: by_search.get(_place(row)) for key, row in patterns.items()}
    known = {key: float(row[ACCURACY]) for key, row in searched.items() if row is not None}
    # The template to beat is chosen as the search's own patterns were: by validation.
    named = [key for key, row in patterns.items() if isinstance(row["template"], str)]
    best = max(named, key=lambda key: known.get(key, -1.0), default=None)
    found = []
    for key, row in patterns.items():
        own = accuracies[key]
        differences = own.iloc[:0] if best is None or best == key else (own - accuracies[best]).dropna()
        low, high = student_interval(own, SHARE)
        difference_low, difference_high = student_interval(differences, SHARES_APART)
        budget, layers, regime, _ = _place(row)
        rows = complete[complete["key"] == key].sort_values("seed")
        found.append(
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
    return found
