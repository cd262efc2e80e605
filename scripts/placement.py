"""Answer the five questions of docs/placement/plan.md from the committed trainings, as that page declared.

python scripts/placement.py [--add RUN NAME]

docs/placement has a folder for each run: plan.json as the run wrote it, trainings.csv with a row for every training and
run.json with settings, data and environment. --add writes these of a run directory, with its report. Runs that are not
there yet are left out, and the answers say which strata they rest on. It writes answers.json and prints the answers as
a Markdown table.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from publish import keep_ledger, publish
from shared import DOCS, format_row

from analysis.data.csv_files import fill_from_sources
from analysis.data.protocol import ALPHA, MARGIN, SAMPLED
from analysis.data.results import COLUMNS, CURVE_COLUMNS, Run, read_run
from analysis.stats.correlations import adjust_holm
from analysis.stats.guessing import measure_learning, read_guessing
from analysis.stats.intervals import TAILS
from analysis.stats.resampling import Vector
from analysis.tuning.optimum import LOSS
from analysis.tuning.rates import TUNED
from analysis.tuning.tuned import add_tuned, analyse_tunings
from analysis.tuning.turning import Turning
from analysis.verdict.controls import Given, Resampled, estimate_effects
from analysis.verdict.noise import measure_resolution
from analysis.verdict.pooled import PooledEffect, pool_effects
from analysis.verdict.sample import Sample, build_samples
from nas.records.plan import read_cell, read_plan
from nas.records.safe_files import format_json, write_atomic
from search_spaces.distance import describe
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator

FOLDER = DOCS / "placement"
RUNS = ("digits", "fashion")
CONFIRMATION = "colour"
BEST_RATE = "best rate"  # in the place of a regime: the logarithm of the best rate is the outcome
N_RATES = 5
EARLY = "lr 0.05"  # the regime of learning rate x steps up to 10
TURNING_AT = (8.0, 17.0)  # learning rate x steps between which HA expects the sign to change
MEASURES = ("walk_length", "visit_evenness", "mean_bd", "ntk_trace")
WALK_GIVEN: Given = ("visit_evenness", "mean_bd")
W_GIVEN: Given = ("walk_length",)
DISTANCE_GIVEN: Given = ("walk_length", "visit_evenness")
HEADER = ("", "expectation", "strata", "estimate", "95 % interval", "p (Holm)", "verdict")
KEY_DIGITS = 12  # of a pattern's key
TRAINING_COLUMNS = (
    "number", "layers", "key", "regime", "seed", "state", "validation_accuracy", "validation_loss", "epochs", "seconds",
    "error",
)  # fmt: skip
Judge = Callable[[PooledEffect], tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Question:
    """An expectation about one effect.

    Args:
        text: as in the plan.
        of: the regime that it is asked of, or BEST_RATE.
        measure, given: the measure, and what is held.
        judge: gives the p-value and the verdict of the pooled effect.
    """

    text: str
    of: str
    measure: str
    given: Given
    judge: Judge


@dataclass(frozen=True, slots=True)
class Answer:
    """What the data say of one expectation.

    Args:
        name, expectation: as in the plan.
        strata: value, interval and number of patterns of each stratum, by name.
        value, low, high: the declared estimate, pooled over strata where there are several, with its interval.
        p_value, p_holm: of the declared test, and adjusted over the five.
        verdict: in words.
    """

    name: str
    expectation: str
    strata: dict[str, dict[str, Any]]
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    verdict: str
    p_holm: float | None = None
    more: dict[str, Any] | None = None


def main() -> None:
    """Write the answers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", nargs=2, metavar=("RUN", "NAME"), help="a run directory, and its folder's name")
    added = parser.parse_args().add
    if added:
        add_run(Path(added[0]), FOLDER / added[1])
    result = answer()
    write_atomic(FOLDER / "answers.json", format_json(result))
    print(format_answers(result))  # noqa: T201
    print(json.dumps({"gates": result["gates"], "confirmation": result["confirmation"]}, indent=1))  # noqa: T201


def format_answers(result: Mapping[str, Any]) -> str:
    """Return the answers as a Markdown table."""
    lines = [format_row(*HEADER), f"|{'---|' * len(HEADER)}"]
    for each in result["answers"]:
        interval = "" if each["low"] is None else f"[{each['low']:+.2f}, {each['high']:+.2f}]"
        value = "" if each["value"] is None else f"{each['value']:+.2f}"
        p_holm = "" if each["p_holm"] is None else "<0.001" if each["p_holm"] < 0.001 else f"{each['p_holm']:.3f}"
        names = ", ".join(name for name, stratum in each["strata"].items() if stratum.get("is_used", True))
        lines.append(format_row(each["name"], each["expectation"], names, value, interval, p_holm, each["verdict"]))
    return "\n".join(lines)


def add_run(run_dir: Path, folder: Path) -> None:
    """Write a run's plan, trainings, settings and report into a folder."""
    run = read_run(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    existing = read_plan(folder)
    assert existing is None or existing[1] == run.plan_sha256, f"{folder} has the plan of another run"
    done = run.candidates[run.candidates["state"] != "running"]
    trainings = done[list(TRAINING_COLUMNS)].assign(key=done["key"].str[:KEY_DIGITS])
    trainings = trainings.sort_values(["layers", "key", "regime", "seed"])
    write_atomic(folder / "trainings.csv", trainings.to_csv(index=False))
    # Where the data lay on the machine that trained is nobody's business.
    config = {name: value for name, value in run.config.items() if name != "data"}
    about = {"config": config, "data": run.data, "environment": run.environment, "largest_class": run.largest_class}
    write_atomic(folder / "run.json", format_json(about))
    keep_ledger(run_dir, folder)
    publish(folder)


def answer() -> dict[str, Any]:
    """Return the answers to HA to HE, what each stratum's seeds can tell, and the confirmation."""
    runs = {name: load_run(FOLDER / name) for name in RUNS if (FOLDER / name / "trainings.csv").is_file()}
    strata: dict[str, dict[str, pd.DataFrame]] = {TUNED: {}, EARLY: {}, BEST_RATE: {}}
    gates: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        for (layers, regime), rows in add_tuned(run).candidates.groupby(["layers", "regime"]):
            stratum = f"{name} {layers}"
            complete = select_complete(rows)
            gates[f"{stratum}, {regime}"] = _check_stratum(complete, run)
            if regime in strata:
                strata[regime][stratum] = complete
            if regime == TUNED:  # the second outcome in the place of the first
                best = complete.assign(**{LOSS: np.log(complete["best_lr"])})
                strata[BEST_RATE][stratum] = best
                gates[f"{stratum}, {BEST_RATE}"] = _check_stratum(best, run)
    asked = {
        "HB": Question("rho(W, tuned loss given H, BD) > 0.5", TUNED, "walk_length", WALK_GIVEN, _judge_size),
        "HC": Question("rho(H, loss given W) about -0.4 at rate 0.05", EARLY, "visit_evenness", W_GIVEN, _judge_about),
        "HD": Question(
            "the size of rho(BD, tuned loss given W, H) < 0.2", TUNED, "mean_bd", DISTANCE_GIVEN, _judge_small
        ),
        "HE": Question("rho(NTK trace, best rate) about -0.4", BEST_RATE, "ntk_trace", (), _judge_about),
    }
    answers = [_answer_turning(runs, gates)]
    answers += [_answer_effect(name, question, strata[question.of], gates) for name, question in asked.items()]
    p_holm = adjust_holm([each.p_value for each in answers])
    return {
        "gates": gates,
        "answers": [{**asdict(each), "p_holm": p} for each, p in zip(answers, p_holm, strict=True)],
        "confirmation": _confirm(FOLDER / CONFIRMATION),
    }


def select_complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the complete trainings of designed patterns with the seeds that every pattern was trained with.

    A training that diverged was made: it costs its pattern that value, not everybody the seed.
    """
    rows = rows[rows["strategy"].isin(SAMPLED)]
    n_patterns = rows.groupby("seed")["key"].nunique()
    shared = n_patterns.index[n_patterns == rows["key"].nunique()]
    return rows[rows["seed"].isin(shared) & (rows["state"] == "complete")]


def load_run(folder: Path) -> Run:
    """Return the run whose tables lie in a folder, as read_run did, without learning curves."""
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    read = read_plan(folder)
    assert read is not None, f"{folder} has no plan.json"
    plan, sha256 = read
    budgets = {stratum["layers"]: stratum["budget"] for stratum in plan["strata"]}
    patterns = pd.DataFrame([_describe_pattern(pattern, budgets) for pattern in plan["patterns"]])
    trainings = pd.read_csv(folder / "trainings.csv", dtype={"error": "string"}).drop(columns="layers")
    trainings = trainings.rename(columns={"key": "short"})
    table = trainings.merge(patterns.assign(short=patterns["key"].str[:KEY_DIGITS]), on="short", validate="many_to_one")
    table = fill_from_sources(table)
    return Run(
        path=folder,
        candidates=table.reindex(columns=list(COLUMNS)).astype(COLUMNS),
        curves=pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS),
        asked=len(plan["order"]),
        config=about["config"],
        environment=about["environment"],
        data=about["data"],
        plan=plan,
        plan_sha256=sha256,
        largest_class=about["largest_class"],
        kind="study",
    )


def _describe_pattern(planned: Mapping[str, Any], budgets: Mapping[int, str]) -> dict[str, Any]:
    """Return the columns of read_run that a plan's pattern fixes."""
    pattern = ConnectionPattern.from_sources(planned["sources"])
    cell = read_cell(planned)
    return {
        **describe(pattern),
        **{name: planned[name] for name in ("key", "strategy", "template", "matched")},
        "budget": budgets[pattern.depth],
        "cell": None if cell is None else ",".join(map(str, cell)),
        "sources": json.dumps(planned["sources"], separators=(",", ":")),
    }


def _check_stratum(rows: pd.DataFrame, run: Run) -> dict[str, Any]:
    """Say whether a stratum's networks learned, and whether its seeds tell patterns apart."""
    table = rows.set_index(["key", "seed"])[LOSS].unstack("seed")  # noqa: PD010  no aggregation
    resolution = measure_resolution(table.to_numpy(np.float64))
    learning = measure_learning(rows, read_guessing(run))
    assert resolution is not None
    assert learning is not None
    return {
        "n_patterns": len(table),
        "n_seeds": table.shape[1],
        "learned": learning.is_better,
        "f": resolution.f,
        "p_value": resolution.p_value,
        "ceiling": [resolution.ceiling, resolution.low, resolution.high],
        "single_seed": resolution.single_seed,
        "is_used": bool(learning.is_better and resolution.p_value <= ALPHA),
    }


def _estimate(strata: Mapping[str, pd.DataFrame], measure: str, given: Given) -> dict[str, tuple[Sample, Resampled]]:
    """Return each stratum's effect; strata of one depth draw the patterns that they share together."""
    samples = build_samples(strata, MEASURES, 0)
    generators = {name: derive_generator("placement", measure, *given, name) for name in samples}
    return {
        name: (sample, estimate_effects(sample, [(measure, given)], generators[name])[0])
        for name, sample in samples.items()
    }


def _answer_turning(runs: Mapping[str, Run], gates: Mapping[str, Mapping[str, Any]]) -> Answer:
    turnings = {
        f"{name} {tuning.best.rates.layers}": turning
        for name, run in runs.items()
        for tuning in analyse_tunings(run, 0)
        for turning in tuning.turnings
        if turning.measure == "walk_length"
    }
    main = turnings["digits 24"]
    slope, crossing = main.slope, main.crossing
    rises = slope.low is not None and slope.low > 0
    crosses = crossing is not None and TURNING_AT[0] <= crossing.value <= TURNING_AT[1]
    can_tell = [gate["is_used"] for name, gate in gates.items() if name.startswith("digits 24, lr")]
    if len(main.amounts) < N_RATES or not all(can_tell):
        verdict = "unresolved"
    elif rises and crosses:
        verdict = "holds"
    elif rises:
        verdict = "rises, but " + ("does not cross 0" if crossing is None else f"crosses at {crossing.value:.1f}")
    else:
        verdict = "not shown"
    return Answer(
        name="HA",
        expectation="rho(W, loss) rises with log2(learning rate x steps), and crosses 0 between 8 and 17",
        strata={name: _describe_turning(turning) for name, turning in turnings.items()},
        value=slope.value,
        low=slope.low,
        high=slope.high,
        p_value=_tail(slope.value, slope.low, slope.high),
        verdict=verdict,
    )


def _describe_turning(turning: Turning) -> dict[str, Any]:
    return {
        "value": turning.slope.value,
        "low": turning.slope.low,
        "high": turning.slope.high,
        "n": turning.n_patterns[0],
        "amounts": list(turning.amounts),
        "rhos": [[each.value, each.low, each.high] for each in turning.effects],
        "crossing": None if turning.crossing is None else asdict(turning.crossing),
    }


def _tail(value: float | None, low: float | None, high: float | None) -> float | None:
    """Return the one-sided p-value of "above 0" of a normal estimate with this 95 % interval."""
    if value is None or low is None or high is None:
        return None
    error = (high - low) / (2 * NormalDist().inv_cdf(0.975))
    return 1 - NormalDist().cdf(value / error)


def _answer_effect(
    name: str, question: Question, rows: Mapping[str, pd.DataFrame], gates: Mapping[str, Mapping[str, Any]]
) -> Answer:
    """Estimate an effect in every stratum, and pool those whose seeds tell the patterns apart."""
    effects = _estimate(rows, question.measure, question.given)
    strata, used = {}, []
    for stratum, (sample, resampled) in effects.items():
        (effect,) = resampled.effects
        gate = gates[f"{stratum}, {question.of}"]
        strata[stratum] = {
            "value": effect.partial.value,
            "low": effect.partial.low,
            "high": effect.partial.high,
            "p_value": effect.partial.p_value,
            "n": len(sample.keys),
            "ceiling": None if effect.resolution is None else effect.resolution.ceiling,
            "seeds_random": None if effect.seeds is None else effect.seeds.are_random,
            "is_used": gate["is_used"],
        }
        used += [resampled] if gate["is_used"] else []
    pooled = pool_effects(used) if used else ()
    if not pooled:
        return Answer(name, question.text, strata, None, None, None, None, "unresolved")
    p_value, verdict = question.judge(pooled[0])
    z, error = _place(pooled[0])
    inner = [math.tanh(z + sign * NormalDist().inv_cdf(1 - ALPHA) * error) for sign in (-1, 1)]  # 90 %
    more = {"q": pooled[0].q, "q_p_value": pooled[0].q_p_value, "inner": inner}
    low, high = pooled[0].low, pooled[0].high
    return Answer(name, question.text, strata, pooled[0].value, low, high, p_value, verdict, more=more)


class Place(NamedTuple):
    """A pooled correlation as Fisher's z, with its standard error."""

    value: float
    error: float


def _place(pooled: PooledEffect) -> Place:
    error = (math.atanh(pooled.high) - math.atanh(pooled.low)) / (2 * NormalDist().inv_cdf(0.975))
    return Place(math.atanh(pooled.value), error)


def _judge_size(pooled: PooledEffect) -> tuple[float, str]:
    if pooled.low > 0.5:
        return pooled.p_value, "holds"
    return pooled.p_value, "the direction holds, the size is not shown" if pooled.low > 0 else "not shown"


def _judge_about(pooled: PooledEffect) -> tuple[float, str]:
    if pooled.high >= 0:
        return pooled.p_value, "reversed" if pooled.low > 0 else "not shown"
    return pooled.p_value, "holds" if pooled.low <= -0.4 <= pooled.high else "the direction holds, the size differs"


def _judge_small(pooled: PooledEffect) -> tuple[float, str]:
    """Test by two one-sided tests on Fisher's z that the correlation lies inside the margin."""
    z, error = _place(pooled)
    p_value = 1 - NormalDist().cdf((math.atanh(MARGIN) - abs(z)) / error)
    if p_value <= ALPHA:
        return p_value, "holds"
    return p_value, "does not hold" if min(abs(pooled.low), abs(pooled.high)) > MARGIN else "not shown"


def _confirm(folder: Path) -> dict[str, Any] | None:
    """Return whether walk length goes with the tuned loss on colour images; None before they are trained."""
    if not (folder / "trainings.csv").is_file():
        return None
    run = load_run(folder)
    rows = add_tuned(run).candidates
    rows = select_complete(rows[rows["regime"] == TUNED])
    effects = _estimate({CONFIRMATION: rows}, "walk_length", WALK_GIVEN)
    ((sample, resampled),) = effects.values()
    partial = resampled.effects[0].partial
    cells = rows.drop_duplicates("key").set_index("key").loc[list(sample.keys), "cell"]
    bins = cells.str.partition(",")[0].astype(int).to_numpy()  # of walk length, which the plan crosses first
    gate = _check_stratum(rows, run)
    is_above = partial.low is not None and partial.low > 0
    return {
        "gate": gate,
        "rho": [partial.value, partial.low, partial.high, partial.p_value],
        "n": len(sample.keys),
        "long_less_short": _compare_means(sample, bins == bins.max()),
        "verdict": "unresolved" if not gate["is_used"] else "confirmed" if is_above else "not confirmed",
    }


def _compare_means(sample: Sample, is_long: NDArray[np.bool_]) -> list[float]:
    """Return the difference of two groups' mean outcomes in nats, with its bootstrap interval."""

    def compare(weights: Vector) -> Vector:
        groups = (np.where(own, weights, 0.0) for own in (is_long, ~is_long))
        first, second = (own @ sample.means / own.sum(axis=1) for own in groups)
        difference: Vector = first - second
        return difference

    draws = np.concatenate([compare(drawn.patterns) for drawn in sample.draw()])
    return [float(compare(np.ones((1, len(sample.keys))))[0]), *np.quantile(draws, TAILS).tolist()]


if __name__ == "__main__":
    main()
