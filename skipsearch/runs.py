"""Runs that exist, as tables and pictures."""

import html
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipsearch.patterns import Figure, draw
from skipsearch.words import in_python

if TYPE_CHECKING:
    import pandas as pd

    from analysis.data.results import Run as Results
    from analysis.picks.found import Found
    from analysis.report.conclusion import Conclusion
    from analysis.report.report import Report
    from search_spaces.pattern import ConnectionPattern

N_SHOWN = 5  # patterns in a notebook


@dataclass(frozen=True)
class Best:
    """The pattern that a run recommends, and the outcome to expect of it.

    Args:
        pattern: the pattern.
        name: its template's name, or the beginning of its key.
        outcome: name of the outcome.
        observed: mean outcome over its trainings.
        expected: outcome to expect at a new seed; None where the run cannot say it.
        low, high: 95 % interval of what is expected; None where expected is.
        n_trainings: number of its trainings.
        chance_better_than_log: chance that it is better than template `log`; None where that is not known.
    """

    pattern: "ConnectionPattern"
    name: str
    outcome: str
    observed: float
    expected: float | None
    low: float | None
    high: float | None
    n_trainings: int
    chance_better_than_log: float | None


class Run:
    """A run directory, as it was when it was read."""

    def __init__(self, results: "Results") -> None:
        self._results = results

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._results.path

    @property
    def kind(self) -> str:
        """What the run was made for: search, study, comparison or final."""
        return self._results.kind

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings, by name."""
        return self._results.config

    @property
    def candidates(self) -> "pd.DataFrame":
        """One row for each training: pattern, measures, costs, outcomes."""
        return self._results.candidates

    @property
    def curves(self) -> "pd.DataFrame":
        """One row for each measurement of a training: number, epoch, metric, value."""
        return self._results.curves

    @cached_property
    def patterns(self) -> "pd.DataFrame":
        """One row for each pattern, outcomes averaged over its seeds, the recommended one first."""
        from analysis.picks.order import order_patterns

        return order_patterns(self._results, self._picks)

    @cached_property
    def status(self) -> dict[str, Any]:
        """How many trainings are complete, failed, pruned, running and asked for, and the best pattern."""
        from analysis.picks.order import summarise_status

        return summarise_status(self._results, self._picks)

    @cached_property
    def _picks(self) -> "tuple[Found, ...]":
        from analysis.picks.found import judge_search

        return judge_search(self._results)

    @cached_property
    def _report(self) -> "Report":
        from analysis.report.report import compose_report

        with in_python():
            return compose_report(self._results)

    def pattern(self, key: str) -> "ConnectionPattern":
        """Return a trained pattern by its template's name, or by the first digits of its key.

        Raises:
            InputError: none, or more than one, has it.
        """
        from analysis.data.results import parse_sources
        from search_spaces.errors import InputError

        rows = self.candidates.drop_duplicates("key")
        is_meant = (rows["template"] == key).fillna(False) | rows["key"].str.startswith(key)
        found = rows.loc[is_meant, "sources"].tolist()
        if len(found) != 1:
            raise InputError(f"{len(found)} trained patterns are called {key!r:.80}: give a template's name or a key")
        return parse_sources(found[0])

    @property
    def best(self) -> Best | None:
        """The pattern that the run recommends, of the cheapest budget where it has several; None where none is done."""
        import pandas as pd

        from analysis.data.outcomes import list_shown
        from analysis.data.results import parse_sources

        if not len(self.patterns):
            return None
        row, told = self.patterns.iloc[0], self.status["best"]
        objective, interval = told.get("objective"), told.get("interval") or {}
        outcome = list_shown(self.patterns)[0] if objective is None else objective.outcome
        return Best(
            pattern=parse_sources(row["sources"]),
            name=str(row["key"])[:12] if pd.isna(row["template"]) else str(row["template"]),
            outcome=str(outcome),
            observed=float(row[outcome]),
            expected=told.get("expected"),
            low=interval.get("low"),
            high=interval.get("high"),
            n_trainings=int(row["n_seeds"]),
            chance_better_than_log=told.get("chance_better_than_log"),
        )

    @property
    def verdict(self) -> str:
        """What came out of the run, in a sentence: the one that its report begins with.

        Raises:
            NothingUsableError: no training is complete.
        """
        return self.conclusion.sentence

    @cached_property
    def conclusion(self) -> "Conclusion":
        """The verdict with the numbers behind it, up to five rows, the best first, and what the run cost.

        Raises:
            NothingUsableError: no training is complete.
        """
        from analysis.report.conclusion import conclude

        with in_python():
            return conclude(self._results)

    @property
    def summary(self) -> dict[str, Any]:
        """All numbers of the report, by name."""
        return self._report.summary

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The report's pictures by name; each shows itself in a notebook.

        Raises:
            NothingUsableError: no training is complete.
        """
        from analysis.page.document import Picture, walk_blocks

        pictures = [block for block in walk_blocks(self._report.blocks) if isinstance(block, Picture)]
        return {picture.file.removesuffix(".svg"): Figure(picture.svg, picture.description) for picture in pictures}

    def write_report(self) -> list[Path]:
        """Write RUN/report, and return the paths of its files."""
        from analysis.report.report import write_report

        with in_python():
            return write_report(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}): {self._describe()}"

    def _repr_html_(self) -> str:
        line, best = f"<p>{html.escape(self._describe())}</p>", self.best
        if best is None:
            return line
        columns = ["template", "key", "n_seeds", best.outcome, "mean_bd", "walk_length"]
        shown = self.patterns[[name for name in columns if name in self.patterns]].head(N_SHOWN)
        table = shown.assign(key=shown["key"].str[:12]).to_html(index=False, float_format="{:.4g}".format, na_rep="")
        return f"{line}{table}{draw(best.pattern, best.name).svg}"

    def _describe(self) -> str:
        """Return the verdict, or how far a run is of which none can be given yet."""
        if self.status["complete"]:
            return self.verdict
        return f"{self.status['complete']} of {self.status['asked']} trainings are complete."


def load_run(path: str | Path) -> Run:
    """Read a run directory, which may be in use, without changing it.

    Args:
        path: the run directory.

    Raises:
        InputError: there is no run.
        ConflictError: its ledger is lost, empty or damaged.
    """
    import_bar()  # first: Optuna imports it too, and not silently
    from analysis.data.results import read_run

    with in_python():
        return Run(read_run(Path(path)))


def import_bar() -> Any:
    """Import tqdm's bar for a terminal or a notebook, and return it.

    A notebook without ipywidgets gets a bar of text; tqdm warns of that when it is first imported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm
