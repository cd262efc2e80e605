"""Ask the committed studies how good a pattern is that a rule or a model would have chosen, for `recommend`.

python scripts/recommend.py [--add RUN]

It reads docs/placement, docs/text and docs/tables. It writes analysis/recommend/evidence.json, which the command reads,
and the table of docs/recommend/README.md, which explains how this is asked.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from placement import FOLDER as PLACEMENT
from placement import load_run
from scipy.stats import spearmanr
from shared import DOCS, format_row
from sklearn.linear_model import BayesianRidge

from analysis.data.results import parse_sources
from analysis.recommend.comparable import draw_uniform, standardise
from analysis.recommend.evidence import (
    DISTANCE,
    FILE,
    MODEL,
    WALK,
    LossChange,
    MeanOverData,
    Merit,
    Setting,
    read_lessons,
)
from analysis.recommend.reasons import describe_beaten, describe_merit
from analysis.stats.intervals import UNBOUNDED, Range, student_interval
from analysis.tuning.rates import TUNED
from analysis.tuning.tuned import add_tuned
from analysis.verdict.noise import measure_resolution
from nas.records.safe_files import format_json, write_atomic
from search_spaces.budget import parse_budget
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.surrogate.features import PREDICTORS
from search_spaces.surrogate.posterior import Floats

PAGE, CHECK = DOCS / "recommend" / "README.md", DOCS / "recommend" / "check.csv"
FILES = {"model": "best of 400 draws", "searched": MODEL}  # the first version's choice, and today's
CHECK_COLUMNS = [
    "layers",
    "budget",
    "key",
    "strategy",
    "template",
    "seed",
    "validation_loss",
    "validation_accuracy",
    "sources",
]
STUDIES = {"digits": "digits", "fashion": "Fashion-MNIST", "colour": "colour images"}  # of docs/placement
TABLES = {"total-40": "digits 24 total:40", "layers-12": "digits 12 of 15 connections"}  # of docs/tables
LOWEST_RATE = "lr 0.05"
LOG = "log"
RULES = {WALK: "walk_length", DISTANCE: "mean_bd"}
SHARES: Range = (0.0, 1.0)
CLIP = 3.0  # robust standard deviations above the median at which a loss is cut off before the model learns


@dataclass(frozen=True, slots=True)
class Trained:
    """The trainings of a setting.

    Args:
        names: what proposed each pattern, the template's name for a template.
        is_draw: whether a pattern is one of the draws, shape (patterns,).
        costs: log losses, shape (patterns, seeds).
        points: measures that other settings share, shape (patterns, measures).
    """

    setting: Setting
    patterns: tuple[ConnectionPattern, ...]
    names: tuple[str, ...]
    is_draw: NDArray[np.bool_]
    costs: Floats
    points: Floats

    @property
    def means(self) -> Floats:
        """Mean cost of each pattern, shape (patterns,)."""
        return np.asarray(self.costs.mean(axis=1), np.float64)

    def measure(self, name: str) -> Floats:
        """Return a measure of each pattern, shape (patterns,)."""
        return np.array([measure(pattern, [name])[name] for pattern in self.patterns])


def main() -> None:
    """Write what the studies say, and show it in the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="RUN", help="a search whose --pattern files are what was offered")
    added = parser.parse_args().add
    if added is not None:
        add_check(added)
    write_atomic(FILE, format_json(gather([*read_settings()], [*read_checks()], [*read_undertrained()])))
    read_lessons.cache_clear()
    lessons = read_lessons()
    text = PAGE.read_text(encoding="utf-8")
    for heading, merits in (("choice", lessons.merits), ("row", lessons.checks)):
        text = re.sub(rf"^\| {heading} .*\n(\|.*\n)*", format_merits(heading, merits), text, flags=re.MULTILINE)
    write_atomic(PAGE, text)


def format_merits(heading: str, merits: Sequence[Merit]) -> str:
    """Return what came of every choice as a Markdown table."""
    places = list(dict.fromkeys(merit.setting for merit in merits))
    shares = read_lessons().shares if heading == "choice" else {}
    last = ["mean over data sets"] if shares else []
    lines = [format_row(heading, *places, *last), f"|{'---|' * (len(places) + len(last) + 1)}"]
    for choice in dict.fromkeys(merit.choice for merit in merits):
        by_place = {merit.setting: describe_merit(merit) for merit in merits if merit.choice == choice}
        beaten = [describe_beaten(shares[choice])] if choice in shares else []
        lines.append(format_row(choice, *(by_place.get(place, "") for place in places), *beaten))
    return "\n".join(lines) + "\n"


def read_settings() -> Iterable[Trained]:
    """Yield the trainings of every committed setting."""
    for folder, data in STUDIES.items():
        tuned = add_tuned(load_run(PLACEMENT / folder)).candidates
        for layers, rows in tuned[tuned["regime"] == TUNED].groupby("layers"):
            yield make_setting(f"{data} {layers} log", data, rows, "validation_loss")
    for layers in (12, 24):
        rows = pd.read_csv(DOCS / "text" / f"layers-{layers}" / "candidates.csv")
        yield make_setting(f"text {layers} {rows['budget'][0]}", "text", rows, "loss")
    for table, name in TABLES.items():
        rows = pd.read_csv(DOCS / "tables" / f"{table}.csv")
        yield make_setting(name, "digits", rows, "validation_loss")


def read_checks() -> Iterable[Trained]:
    """Yield the trainings of what `recommend` offered, next to uniform draws."""
    rows = pd.read_csv(CHECK)
    for (layers, budget), own in rows.groupby(["layers", "budget"]):
        yield make_setting(f"digits {layers} {budget}", "digits", own.assign(state="complete"), "validation_loss")


def add_check(run_dir: Path) -> None:
    """Add a run to the trainings of what was offered; a pattern given as X-NAME.json is NAME."""
    rows = pd.read_csv(run_dir / "report" / "candidates.csv")
    files = (
        rows["template"].fillna("").str.removesuffix(".json").str.partition("-")[2].replace(FILES).str.replace("-", " ")
    )
    kept = rows[CHECK_COLUMNS].assign(template=rows["template"].where(files == "", files))
    existing = [pd.read_csv(CHECK)] if CHECK.exists() else []
    write_atomic(CHECK, pd.concat([*existing, kept]).drop_duplicates(["key", "seed"]).to_csv(index=False))


def read_undertrained() -> Iterable[Trained]:
    """Yield the settings of docs/placement at their lowest learning rate."""
    for folder, data in STUDIES.items():
        candidates = load_run(PLACEMENT / folder).candidates
        for layers, rows in candidates[candidates["regime"] == LOWEST_RATE].groupby("layers"):
            yield make_setting(f"{data} {layers} log, {LOWEST_RATE}", data, rows, "validation_loss")


def make_setting(name: str, data: str, rows: pd.DataFrame, loss: str) -> Trained:
    """Return the trainings of a setting, patterns that were picked by their losses left out."""
    templates = rows["template"].astype("string").fillna("")
    rows = rows[(rows["state"] == "complete") & ~templates.str.startswith("neighbour")]
    table = rows.pivot_table(index="key", columns="seed", values=loss)
    assert table.notna().all(axis=None), f"{name}: a pattern lacks a seed"
    first = rows.drop_duplicates("key").set_index("key").loc[table.index]
    patterns = tuple(parse_sources(text) for text in first["sources"])
    strategies = first["strategy"].to_numpy()
    is_file = first["template"].astype("string").fillna(".json").str.endswith(".json")
    names = tuple(np.where(is_file, first["strategy"], first["template"].astype("string").fillna("")).tolist())
    is_draw = strategies == ("random" if "random" in strategies else "design")
    costs = np.log(table.to_numpy(np.float64))
    budget = parse_budget(str(first["budget"].iloc[0]), patterns[0].depth)
    points = standardise(patterns, draw_uniform(budget))
    resolution = measure_resolution(costs[is_draw])
    assert resolution is not None
    walks = np.array([measure(each, ["walk_length"])["walk_length"] for each in patterns])
    rho = float(spearmanr(walks[is_draw], costs[is_draw].mean(axis=1)).statistic)
    sizes = (int(is_draw.sum()), costs.shape[1])
    setting = Setting(name, data, budget.depth, str(budget), *sizes, resolution.p_value, rho)
    return Trained(setting, patterns, names, is_draw, costs, points)


def gather(
    settings: Sequence[Trained], checks: Sequence[Trained], undertrained: Sequence[Trained]
) -> dict[str, object]:
    """Return all that the file holds."""
    merits = [each for trained in settings for each in judge(trained, settings)]
    data = {trained.setting.name: trained.setting.data for trained in settings if trained.setting.is_resolved}
    resolved = [each for each in merits if each.setting in data]
    by_choice = {
        choice: {each.setting: each.share for each in resolved if each.choice == choice}
        for choice in dict.fromkeys(each.choice for each in resolved)
    }
    apart = {name: by_choice[MODEL][name] - by_choice[WALK][name] for name in data}
    rhos = {trained.setting.name: trained.setting.rho for trained in settings if trained.setting.is_resolved}
    weights = learn([trained for trained in settings if trained.setting.is_resolved])
    return {
        "by": "scripts/recommend.py",
        "settings": [asdict(trained.setting) for trained in settings],
        "merits": [asdict(each) for each in merits],
        "shares": {choice: asdict(pool(shares, data, SHARES)) for choice, shares in by_choice.items()},
        "model_less_walk": asdict(pool(apart, data, UNBOUNDED)),
        "rho": asdict(pool(rhos, data, (-1.0, 1.0))),
        "checked": [asdict(trained.setting) for trained in checks],
        "checks": [asdict(each) for trained in checks for each in compare_all(trained, list_named(trained))],
        "undertrained": [asdict(trained.setting) for trained in undertrained],
        "weights": dict(zip(PREDICTORS, weights.tolist(), strict=True)),
    }


def judge(trained: Trained, settings: Sequence[Trained]) -> Iterable[Merit]:
    """Yield how each way to choose would have done in a setting."""
    others = [each for each in settings if each.setting.data != trained.setting.data and each.setting.is_resolved]
    rows = {choice: int(trained.measure(name).argmin()) for choice, name in RULES.items()}
    rows[MODEL] = int((trained.points @ learn(others)).argmin())
    return compare_all(trained, rows | list_named(trained))


def list_named(trained: Trained) -> dict[str, int]:
    """Return the rows of the patterns that have a name of their own."""
    return {name: row for row, name in enumerate(trained.names) if trained.names.count(name) == 1}


def compare_all(trained: Trained, rows: dict[str, int]) -> Iterable[Merit]:
    """Yield how patterns did in a setting, given their rows by what chose them."""
    for choice, row in rows.items():
        against = trained.costs[trained.is_draw].mean(axis=0)
        log = trained.names.index(LOG) if LOG in trained.names and choice != LOG else None
        yield Merit(
            choice=choice,
            setting=trained.setting.name,
            key=trained.patterns[row].key,
            share=float((trained.means[trained.is_draw] < trained.means[row]).mean()),
            from_draws=compare(trained.costs[row], against),
            from_log=None if log is None else compare(trained.costs[row], trained.costs[log]),
        )


def compare(costs: Floats, others: Floats) -> LossChange:
    """Return the mean difference of two costs, seed by seed, with its interval."""
    return LossChange(float((costs - others).mean()), *student_interval(costs - others))


def pool(values: dict[str, float], data: dict[str, str], bounds: Range) -> MeanOverData:
    """Return the mean over data sets of the mean over their settings, with its interval."""
    of_data = [[value for name, value in values.items() if data[name] == each] for each in dict.fromkeys(data.values())]
    means = np.array([np.mean(own) for own in of_data if own], np.float64)
    return MeanOverData(len(values), len(means), float(means.mean()), *student_interval(means, bounds))


def learn(settings: Sequence[Trained]) -> Floats:
    """Fit the linear model to settings that weigh alike, each of its own level and scale; shape (measures,)."""
    points, costs, weights = [], [], []
    for trained in settings:
        cost = scale(trained.means)
        points.append(trained.points - trained.points.mean(axis=0))
        costs.append(cost)
        weights.append(np.full(len(cost), 1 / len(cost)))
    weight = np.concatenate(weights)
    model = BayesianRidge(fit_intercept=False)
    model.fit(np.concatenate(points), np.concatenate(costs), sample_weight=weight * len(weight) / weight.sum())
    return np.asarray(model.coef_, np.float64)


def scale(costs: Floats) -> Floats:
    """Return costs with mean 0 and standard deviation 1, cut off where a training went badly wrong."""
    median = float(np.median(costs))
    costs = np.minimum(costs, median + CLIP * 1.4826 * float(np.median(np.abs(costs - median))))
    return np.asarray((costs - costs.mean()) / costs.std(), np.float64)


if __name__ == "__main__":
    main()
