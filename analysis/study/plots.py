"""A stratum's pictures: outcomes against measures, and learning curves."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.charts.curves import Curve, Curves, Faint, Points, draw_curves
from analysis.charts.drawing import Chart, choose_looks
from analysis.charts.scatter import Mark, Ramp, Scatter, ScatterPanel, draw_scatter
from analysis.data.averages import average_curves
from analysis.data.outcomes import is_lower_better, is_of_images, list_outcomes, list_shown
from analysis.page.wording import (
    LABELS,
    capitalise,
    count_nouns,
    format_with_error,
    label_outcome,
    name_measure,
    name_outcome,
)
from analysis.stats.intervals import Range, range_of, seed_error
from search_spaces.surrogate.target import is_loss

DISTANCE = "mean backprop distance (hops)"
MAX_LINES = 120  # trainings whose curves are drawn one by one: more of them are a smear, and a large file
MAX_MARKS = 300  # patterns without a name that are drawn as marks of their own: more hide one another
# strategy -> shape, word in the legend; in drawing order, the few over the many
SHAPES_OF = {
    "design": ("dot", "design"),
    "random": ("up", "random"),
    "tpe": ("down", "tpe"),
    "evolve": ("plus", "evolve"),
    "other": ("circle", "other"),
    "control": ("diamond", "control"),
    "reversal": ("cross", "reversal"),
    "templates": ("square", "template"),
    "optimum": ("star", "optimum"),
}
SINGLED_OUT = ("control", "reversal", "templates", "optimum")


def draw_distances(
    patterns: pd.DataFrame,
    candidates: pd.DataFrame,
    uniform_range: Range | None = None,
    caption: str = "",
    group: str = "",
) -> Chart:
    """Draw every outcome against mean BD, one panel each.

    Args:
        patterns: rows of average_patterns, one stratum, the best first.
        candidates: the same stratum's rows of read_run; single trainings are drawn faintly.
        uniform_range: mean BDs between which 98 % of uniformly random patterns lie, shaded.
        group: name of the stratum on its page.
    """
    looks = choose_looks(patterns["template"].dropna().tolist())
    shown = select_marked(patterns)
    panels = []
    for outcome in (name for name in list_shown(patterns) if patterns[name].notna().any()):
        rows = shown.dropna(subset=[outcome])
        marks = []
        for _, row in pd.concat([rows[rows["template"].isna()][::-1], rows[rows["template"].notna()]]).iterrows():
            look = ("plain", "dot") if pd.isna(row["template"]) else looks[row["template"]]
            marks.append(_mark(row, outcome, "mean_bd", f"{outcome}_sd", look))
        single = candidates.dropna(subset=[outcome])
        singles = tuple(zip(_floats(single["mean_bd"]), _floats(single[outcome]), strict=True))
        panels.append(ScatterPanel(str(outcome), label_outcome(outcome), tuple(marks), singles, range_of(outcome)))
    legend = (("dot", "pattern"), ("error", "one standard error"))  # templates have their names next to them
    return draw_scatter(
        Scatter(
            tuple(panels),
            DISTANCE,
            group,
            (uniform_range, "98 % of uniformly random patterns") if uniform_range else None,
            legend,
            caption=caption,
        )
    )


def select_marked(patterns: pd.DataFrame) -> pd.DataFrame:
    """Return the patterns that are marks of their own: all with a name, and the MAX_MARKS best of the others."""
    unnamed = patterns["template"].isna()
    return patterns[~unnamed | (unnamed.cumsum() <= MAX_MARKS)]


def draw_outcome(
    patterns: pd.DataFrame, outcome: str, x: str, colour: str, caption: str = "", group: str = ""
) -> Chart:
    """Draw an outcome against one measure: colour shows another one, shape the strategy; templates are named.

    Args:
        patterns: rows of average_patterns, one stratum; those without the outcome or a measure are left out.
        x, colour: columns of measures.
        group: name of the stratum on its page.
    """
    rows = patterns.dropna(subset=[outcome, x, colour])
    values = _floats(rows[colour]) or [1.0]
    ramp = Ramp(name_measure(colour), min(values), max(values))
    kinds = [_kind(row) for _, row in rows.iterrows()]
    order = sorted(range(len(rows)), key=lambda place: (list(SHAPES_OF).index(kinds[place]), -place))
    marks = tuple(
        _mark(
            rows.iloc[place], outcome, x, f"{outcome}_centred_sd",  # marks have each seed's own mean taken out
            (ramp.shade(values[place]), SHAPES_OF[kinds[place]][0]),
        )
        for place in order
    )  # fmt: skip
    legend = [(shape, word) for kind, (shape, word) in SHAPES_OF.items() if kind in kinds]
    panel = ScatterPanel(str(outcome), label_outcome(outcome), marks, (), range_of(outcome))
    label = capitalise(name_measure(x))
    return draw_scatter(
        Scatter((panel,), label, group, None, (*legend, ("error", "one standard error")), ramp, caption)
    )


def _mark(row: "pd.Series[Any]", outcome: str, x: str, deviation: str, look: tuple[str, str]) -> Mark:
    return Mark(
        key=row["key"],
        x=float(row[x]),
        y=float(row[outcome]),
        error=float(seed_error(row, deviation)),
        text=_describe(row, outcome, deviation),
        shape=look[1],
        colour=look[0],
        name="" if pd.isna(row["template"]) else row["template"],
    )


def _describe(row: "pd.Series[Any]", outcome: str, deviation: str) -> str:
    """Return what the pointer shows on a pattern; `deviation` is the column of the spread between seeds."""
    name = row["key"][:12] if pd.isna(row["template"]) else row["template"]
    error = seed_error(row, deviation)
    value = format_with_error(row[outcome], None if pd.isna(error) else error, 4)
    strategy = "" if pd.isna(row["strategy"]) else f" ({row['strategy']})"
    graph = f"mean BD {row['mean_bd']:.3f}, span {row['span']:.2f}"
    return f"{name}{strategy}: {graph}, {label_outcome(outcome)} {value}, {count_nouns(row['n_seeds'], 'seed')}"


def _kind(row: "pd.Series[Any]") -> str:
    """Return a pattern's key in SHAPES_OF: its strategy, or `templates` for a named one that is not singled out."""
    strategy = "other" if pd.isna(row["strategy"]) else row["strategy"]
    if strategy in SINGLED_OUT:
        return str(strategy)
    return "templates" if not pd.isna(row["template"]) else strategy if strategy in SHAPES_OF else "other"


def draw_learning(
    curves: pd.DataFrame, candidates: pd.DataFrame, best_key: str | None = None, caption: str = ""
) -> Chart:
    """Draw training loss by epoch: faint lines for the candidates, and means of the templates and the best pattern.

    Where a task reports no training loss, its primary outcome is drawn. Losses have a logarithmic axis. Where
    candidates are many, a band that contains 95 % of them stands for the lines.

    Args:
        curves, candidates: rows of read_run; candidates that failed are drawn as far as they came.
        best_key: the pattern to single out besides the templates.
    """
    drawn, outcome = choose_curves(curves, candidates)
    trained = curves[curves["metric"] == drawn].merge(candidates[["number", "key"]], on="number")
    averages = average_curves(candidates, curves)
    lines = {str(key): _points(rows) for key, rows in averages[averages["metric"] == drawn].groupby("key")}
    marked = averages[averages["metric"] == outcome] if outcome != drawn else averages.iloc[:0]
    measured = {str(key): _points(rows) for key, rows in marked.groupby("key")}
    named = tuple(
        Curve(key, name, lines[key], measured.get(key, ()), colour, shape)
        for key, name, (colour, shape) in _single_out(candidates, best_key)
        if key in lines
    )
    is_crowded = trained["number"].nunique() > MAX_LINES
    faint: list[Faint] = []
    if not is_crowded:
        faint = [
            Faint(str(key), tuple(_points(line) for _, line in rows.groupby("number")))
            for key, rows in trained.groupby("key")
        ]
    elif len(lines) <= MAX_MARKS:
        known = {curve.key for curve in named}
        faint = [Faint(key, (line,), is_hidden=True) for key, line in lines.items() if key not in known]
    label = LABELS["train_loss"] if is_of_images(candidates) else name_outcome(drawn)
    is_log = (drawn == "train_loss" or (is_loss(drawn) and is_lower_better(outcome))) and bool(
        (trained["value"].dropna() > 0).all()
    )
    band = _band(trained) if is_crowded else ()
    return draw_curves(
        Curves(label, named, tuple(faint), band, name_outcome(outcome) if measured else "", is_log, caption)
    )


def choose_curves(curves: pd.DataFrame, candidates: pd.DataFrame) -> tuple[str, str]:
    """Return the metric that is drawn as lines, and the outcome that is marked on them, of a task's curves."""
    primary = list_outcomes(candidates)[0]
    names = set(curves["metric"])
    return ("train_loss" if is_of_images(candidates) or "train_loss" in names else str(primary)), str(primary)


def _single_out(candidates: pd.DataFrame, best_key: str | None) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield key, name and look of the templates and of the best pattern, which comes last."""
    rows = candidates.dropna(subset=["template"]).drop_duplicates("template")
    names: dict[str, str] = dict(zip(rows["key"].tolist(), rows["template"].tolist(), strict=True))
    looks = choose_looks([*names.values()])
    for key, name in names.items():
        if key != best_key:
            yield key, name, looks[name]
    if best_key in names:
        yield best_key, f"{names[best_key]} (best)", looks[names[best_key]]
    elif best_key is not None:
        yield best_key, "best", ("ink", "circle")


def _points(rows: pd.DataFrame) -> Points:
    return tuple(zip(_floats(rows["epoch"]), _floats(rows["value"]), strict=True))


def _band(trained: pd.DataFrame) -> tuple[tuple[float, float, float], ...]:
    by_epoch = trained.groupby("epoch")["value"]
    ends = pd.DataFrame({"low": by_epoch.quantile(0.025), "high": by_epoch.quantile(0.975)}).reset_index()
    triples = zip(*(_floats(ends[name]) for name in ("epoch", "low", "high")), strict=True)
    return tuple((epoch, low, high) for epoch, low, high in triples if math.isfinite(low) and math.isfinite(high))


def _floats(column: "pd.Series[float]") -> list[float]:
    return [float(value) for value in column.astype("float64").tolist()]
