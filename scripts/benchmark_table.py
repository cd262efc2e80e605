"""Make the table that compare-strategies reads, and its provenance, from runs that trained patterns of a budget.

python scripts/benchmark_table.py RUN [RUN ...] --to FILE.csv    writes FILE.csv and FILE.json
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.csv_files import REQUIRED
from analysis.data.results import Run, read_run
from analysis.replays.regret import measure_noise
from analysis.replays.table import ANY, read_trained
from analysis.replays.wording import REGRET_UNITS, describe_noise
from nas.records.safe_files import format_json, write_atomic
from nas.search.replay import choose_n_visible
from nas.settings.search import RUNNING
from search_spaces.errors import InputError

COLUMNS = [*REQUIRED, "template", "validation_accuracy", "validation_loss", "sources"]
DIGITS = {"mean_bd": 6, "span": 6, "validation_accuracy": 6, "validation_loss": 5}
FREE = RUNNING | {  # they change no training
    "data", "lookahead", "objective", "patience", "pattern", "seed", "seeds", "strategy", "templates", "trainings",
    "trials",
}  # fmt: skip


def main() -> None:
    """Read the runs, write both files, and read the table back as compare-strategies does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run directory of search")
    parser.add_argument("--to", required=True, type=Path, metavar="FILE.csv", help="the table to write")
    arguments = parser.parse_args()
    paths, to = arguments.runs, arguments.to
    if to.suffix != ".csv":
        parser.error(f"--to {to}: the name of the table must end in .csv; its provenance gets .json")
    runs = [read_run(path) for path in paths]
    check_alike(runs)
    table, n_repeated = merge(runs)
    text = table.to_csv(index=False)
    command = f"python scripts/benchmark_table.py {' '.join(map(str, paths))} --to {to}"
    provenance = describe_runs(runs) | {"command": command, "trainings": len(table), "repeated": n_repeated}
    provenance |= {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    write_atomic(to, text)
    write_atomic(to.with_suffix(".json"), format_json(provenance))
    written = read_trained(to, "loss", (ANY,))
    n_seeds, n_visible = len(written.seeds), choose_n_visible(len(written.seeds))
    print(f"wrote {to}: {len(written.patterns)} patterns x {n_seeds} seeds")  # noqa: T201
    for objective, unit in REGRET_UNITS.items():
        noise = measure_noise(written.list_judged(objective), n_visible)
        print(f"{unit}: {describe_noise(noise, n_visible, n_seeds - n_visible)}")  # noqa: T201


def merge(runs: list[Run]) -> tuple[pd.DataFrame, int]:
    """Return the complete trainings by key and seed, only the first of repeated ones, and the number of others."""
    candidates = pd.concat([run.candidates for run in runs], ignore_index=True)
    complete = candidates[candidates["state"] == "complete"]
    once = complete.drop_duplicates(["budget", "layers", "key", "seed"])
    return once.sort_values(["key", "seed"])[COLUMNS].round(DIGITS), len(complete) - len(once)


def check_alike(runs: list[Run]) -> None:
    """Check that runs trained alike.

    Raises:
        InputError: a setting that matters, or the data, differs between two of them.
    """
    first = runs[0]
    for run in runs[1:]:
        differing = [name for name in {*first.config, *run.config} if first.config.get(name) != run.config.get(name)]
        differing = sorted(name for name in differing if name not in FREE)
        differing += [] if run.data == first.data else ["data"]
        if differing:
            raise InputError(f"{first.path} and {run.path} were trained differently: {', '.join(differing)}")


def describe_runs(runs: list[Run]) -> dict[str, Any]:
    """Return settings, environment and data that the runs share, and further environments if they differ."""
    environments = [run.environment for run in runs if run.environment]
    distinct = [environment for i, environment in enumerate(environments) if environment not in environments[:i]]
    config = {name: value for name, value in runs[0].config.items() if name not in FREE}
    more = {"other_environments": distinct[1:]} if len(distinct) > 1 else {}
    return {"config": config, "environment": distinct[0] if distinct else {}, **more, "data": runs[0].data}


if __name__ == "__main__":
    main()
