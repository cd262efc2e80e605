"""Race whole searches by strategy model against random search, and judge what they pick by seeds that none has seen.

python scripts/strategy_race.py FOLDER [--pairs N] [--trainings N] [--judges N] [--to NAME] [-- flags of search]

Each pair is two runs of the command `search` in FOLDER with the same number of trainings: strategy model as it comes,
named templates included, and strategy random, one training a pattern, without templates. Both start from the seed of
the pair. Then the pick and the best four of every search are trained with the same further seeds, next to the templates
geometric and log. Everything is resumed when the same command is given again. --to writes docs/race/NAME.json and
NAME.csv.
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from shared import DOCS, ROOT, format_row

from analysis.data.averages import average_patterns
from analysis.data.results import Run, read_run
from analysis.picks.found import judge_search
from analysis.stats.intervals import student_quantile
from analysis.stats.resampling import Vector
from nas.model.candidate import Candidate
from nas.records.safe_files import format_json, write_atomic
from nas.run.directory import hold_run, open_ledger, prepare_images, train_all
from nas.run.source import Assignment
from nas.search.stratum import list_budgets
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.studies.study import Study
from nas.workers.trainer import Trainer
from search_spaces.families import fit_family
from search_spaces.pattern import ConnectionPattern
from search_spaces.surrogate.choice import Z_95
from search_spaces.templates import find_template

MODEL, RANDOM = "model", "random"
GEOMETRIC, LOG = "geometric", "log"
SETTING = shlex.split("--layers 24 --growth 4 --train-examples 300 --epochs 9 --lr .15 --budget total:40")
FIRST_JUDGE = 5_000  # searches have seeds 0, 1, ...; final measurements 10,000 and more
TOP = 4


class Judged(NamedTuple):
    """Outcomes at the judging seeds.

    Args:
        loss: logarithm of the validation loss, by key and seed.
        accuracy: in percent, by key and seed.
    """

    loss: Mapping[str, Vector]
    accuracy: Mapping[str, Vector]


def main() -> None:
    """Run the searches, judge them, print the answers, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the runs are")
    parser.add_argument("--pairs", type=int, default=12, help="number of paired searches (12)")
    parser.add_argument("--trainings", type=int, default=24, help="trainings of each search (24)")
    parser.add_argument("--judges", type=int, default=8, help="further seeds that judge (8)")
    parser.add_argument("--first", type=int, default=100, help="run seed of the first pair (100)")
    parser.add_argument("--to", metavar="NAME", help="name of the files to write in docs/race")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)  # argparse loses what comes after it
    arguments = parser.parse_args(words[:end])
    setting = words[end + 1 :] or SETTING
    seeds = range(arguments.first, arguments.first + arguments.pairs)
    for seed in seeds:
        for strategy in (MODEL, RANDOM):
            run_search(arguments.folder, strategy, seed, arguments.trainings, setting)
    runs = {(name, seed): read_run(locate(arguments.folder, name, seed)) for name in (MODEL, RANDOM) for seed in seeds}
    tops = {place: list_top(run, place[0]) for place, run in runs.items()}
    config = settle_config(locate(arguments.folder, MODEL, seeds[0]), None, {}, SearchConfig)
    judged = judge(arguments.folder / "judges", config, tops, arguments.judges)
    answers = answer(tops, judged, config, list(seeds)) | {"setting": " ".join(setting), "judges": arguments.judges}
    answers |= {"pairs": arguments.pairs, "trainings": arguments.trainings}
    answers |= {"environment": runs[MODEL, seeds[0]].environment, "medians": measure_proposals(runs)}
    answers |= {"claims": check_claims([runs[MODEL, seed] for seed in seeds], judged, answers["geometric"])}
    for name, row in answers["differences"].items():
        print(format_row(name, *(f"{row[part]:+.3f}" for part in ("difference", "low", "high"))))  # noqa: T201
    print(answers["medians"], answers["claims"])  # noqa: T201
    if arguments.to is not None:
        target = DOCS / "race" / f"{arguments.to}.json"
        write_atomic(target, format_json(answers))
        write_atomic(target.with_suffix(".csv"), tabulate(tops, judged).to_csv(index=False))


def locate(folder: Path, strategy: str, seed: int) -> Path:
    """Return the run directory of a search."""
    return folder / f"{strategy}-{seed}"


def run_search(folder: Path, strategy: str, seed: int, n_trainings: int, setting: Sequence[str]) -> None:
    """Run the command search, or continue it; nothing is done where it is complete."""
    run = locate(folder, strategy, seed)
    own = ["--seeds", "1", "--no-templates"] if strategy == RANDOM else []
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), "--strategy", strategy]
    command += ["--seed", str(seed), "--trainings", str(n_trainings), *own, *setting]
    if (run / "report" / "index.html").exists():
        return
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def list_top(run: Run, strategy: str) -> list[ConnectionPattern]:
    """Return the best patterns of a search, the pick first: by the posterior, of random search as observed."""
    patterns = dict(zip(run.candidates["key"], run.candidates["sources"], strict=True))
    if strategy == MODEL:
        keys = [ranked.key for ranked in judge_search(run)[0].ranked[:TOP]]
    else:
        keys = average_patterns(run.candidates).sort_values("validation_loss")["key"].tolist()[:TOP]
    return [ConnectionPattern.from_sources(json.loads(patterns[key])) for key in keys]


def judge(
    run: Path, config: SearchConfig, tops: Mapping[tuple[str, int], list[ConnectionPattern]], n_judges: int
) -> Judged:
    """Train every pattern of the tops, geometric and log with the judging seeds, as far as that is not done."""
    config = config.model_copy(update={"strategy": "templates", "trainings": None, "trials": None, "seeds": n_judges})
    (budget,) = list_budgets(config)
    named = {GEOMETRIC: fit_family(GEOMETRIC, budget)}
    log = find_template(LOG).build(config.layers)
    named |= {LOG: log} if budget.is_met_by(log) else {}
    patterns = {pattern.key: pattern for pattern in (*named.values(), *(p for top in tops.values() for p in top))}
    data = prepare_images(config, (config.layers,))
    network = config.network(data.n_classes, data.image)
    tasks = [
        Assignment(Candidate(pattern, network, seed), "judged", budget, {"regime": None})
        for seed in range(FIRST_JUDGE, FIRST_JUDGE + n_judges)
        for pattern in patterns.values()
    ]
    with hold_run(run, config) as check_stop:
        ledger = open_ledger(run, config, data, len(tasks))
        source = Study(tasks, ledger, lambda *_: None, config.attempts)
        train_all(ledger, source, Trainer(data, config, run.resolve()), check_stop)
    table = read_run(run).candidates
    rows = table[table["state"] == "complete"].sort_values("seed").groupby("key")
    loss = {str(key): np.log(group["validation_loss"].to_numpy(float)) for key, group in rows}
    return Judged(loss, {str(key): 100 * group["validation_accuracy"].to_numpy(float) for key, group in rows})


def answer(
    tops: Mapping[tuple[str, int], list[ConnectionPattern]],
    judged: Judged,
    config: SearchConfig,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return every comparison by name, each a mean difference with its interval; below 0 the model loses less."""
    (budget,) = list_budgets(config)
    geometric = fit_family(GEOMETRIC, budget).key

    def outcomes(values: Mapping[str, Vector], strategy: str, n_best: int) -> Vector:
        return np.array([np.mean([values[p.key] for p in tops[strategy, seed][:n_best]], axis=0) for seed in seeds])

    differences = {}
    for name, values in (("log loss", judged.loss), ("accuracy (points)", judged.accuracy)):
        for what, n_best in (("pick", 1), ("top four", TOP)):
            model, random = (outcomes(values, strategy, n_best) for strategy in (MODEL, RANDOM))
            differences[f"{what}, {name}, model less random"] = compare(model - random)
        pick = outcomes(values, MODEL, 1)
        differences[f"pick, {name}, model less geometric"] = compare(pick - values[geometric])
    keys = {key: [p.key for p in top] for key, top in tops.items()}
    picks = {f"{strategy} {seed}": keys[strategy, seed][0] for strategy, seed in keys}
    return {"differences": differences, "picks": picks, "geometric": geometric}


def compare(differences: Vector) -> dict[str, float]:
    """Return the mean of differences, shape (pairs, judging seeds), with an interval over both.

    Both are samples. The variances of the means over each are added, which counts what is particular to a pair and
    a seed twice: the interval is too wide rather than too narrow. The smaller sample gives the degrees of freedom.
    """
    of_pairs, of_seeds = differences.mean(axis=1), differences.mean(axis=0)
    error = math.sqrt(sum(float(means.var(ddof=1)) / len(means) for means in (of_pairs, of_seeds)))
    half = student_quantile(min(differences.shape) - 1) * error
    middle = float(differences.mean())
    return {"difference": middle, "low": middle - half, "high": middle + half}


def check_claims(runs: Sequence[Run], judged: Judged, geometric: str) -> dict[str, dict[str, float]]:
    """Return how often the intervals in the reports of searches held what the judging seeds found.

    The judges' own error widens an interval: what they found is a mean over few seeds.

    Returns:
        For the pick's expected log loss, and its difference to `geometric`: number of claims and of those that held,
        the mean difference between claim and finding, and the root mean square of it in standard deviations.
    """
    claims: dict[str, list[tuple[float, float]]] = {"expected loss of the pick": [], "pick less geometric": []}
    for run in runs:
        found = judge_search(run)[0]
        expected, over = found.pick.expected, found.over_template
        assert expected is not None, "the model is asked in every run of the race"
        losses = judged.loss[found.pick.key]
        bounds = np.log([expected.value, expected.low, expected.high])
        claims["expected loss of the pick"].append(measure_miss(bounds, losses))
        if over is not None and found.template is not None and found.template.key == geometric:
            bounds = np.log1p([over.change, over.low, over.high])
            claims["pick less geometric"].append(measure_miss(bounds, losses - judged.loss[geometric]))
    return {what: summarise_claims(misses) for what, misses in claims.items()}


def measure_miss(claim: Vector, found: Vector) -> tuple[float, float]:
    """Return by how much a claim (value, low, high) exceeds the mean of what was found, and its standard deviation."""
    value, low, high = claim.tolist()
    claimed = (high - low) / 2 / Z_95
    return value - float(found.mean()), math.hypot(claimed, float(found.std(ddof=1)) / math.sqrt(len(found)))


def summarise_claims(misses: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return how many claims there are and held, their mean miss, and the root mean square of misses in deviations."""
    errors, sds = np.array(misses).T
    scaled = errors / sds
    return {
        "claims": len(misses),
        "held": int((np.abs(scaled) <= Z_95).sum()),
        "mean_miss": float(errors.mean()),
        "scaled_miss": float(np.sqrt(np.square(scaled).mean())),
    }


def measure_proposals(runs: Mapping[tuple[str, int], Run]) -> dict[str, list[float]]:
    """Return each search's median validation loss, of one training each, over the patterns that it proposed."""
    medians: dict[str, list[float]] = {MODEL: [], RANDOM: []}
    for (strategy, _), run in runs.items():
        rows = run.candidates[run.candidates["strategy"] == strategy].drop_duplicates("key")
        medians[strategy].append(round(float(rows["validation_loss"].median()), 4))
    return medians


def tabulate(tops: Mapping[tuple[str, int], list[ConnectionPattern]], judged: Judged) -> pd.DataFrame:
    """Return one row for each judged training: the pattern, the judging seed, its outcomes, and who picked it."""
    who: dict[str, list[str]] = {}
    for (strategy, seed), top in tops.items():
        for place, pattern in enumerate(top, start=1):
            who.setdefault(pattern.key, []).append(f"{strategy} {seed} place {place}")
    return pd.DataFrame(
        [
            {
                "key": key,
                "seed": FIRST_JUDGE + number,
                "validation_loss": round(math.exp(loss), 6),
                "validation_accuracy": round(accuracy / 100, 6),
                "picked_by": "; ".join(who.get(key, [])),
            }
            for key, losses in judged.loss.items()
            for number, (loss, accuracy) in enumerate(zip(losses, judged.accuracy[key], strict=True))
        ]
    )


if __name__ == "__main__":
    main()
