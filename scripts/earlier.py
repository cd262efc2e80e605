"""Judge the earlier studies by today's rules, and put the table into docs/earlier/README.md.

python scripts/earlier.py
python scripts/earlier.py --tables DIR    writes each stratum as a table for compare-strategies instead

docs/earlier has the studies as two tables, patterns and trainings. Each study is judged by itself, as its report would
be: mean BD is its declared measure, and p-values are adjusted over all declared tests of all of its strata.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from shared import DOCS, format_row

from analysis.data.csv_files import REQUIRED
from analysis.data.outcomes import OUTCOMES
from analysis.data.protocol import CONTROLS, SAMPLED
from analysis.data.results import parse_sources
from analysis.page.wording import format_interval, format_p, format_signed
from analysis.stats.correlations import Estimate
from analysis.stats.guessing import Guessing, measure_learning
from analysis.study.verdict import IN_WORDS
from analysis.verdict.controls import Given, estimate_effects
from analysis.verdict.rules import Evidence, Judgement, gather_evidence, judge_strata
from analysis.verdict.sample import Sample, build_samples
from nas.records.safe_files import format_json, write_atomic
from search_spaces.distance import describe
from search_spaces.measures.registry import measure
from search_spaces.seeds import derive_generator

FOLDER = DOCS / "earlier"
STUDIES = {  # the largest class's share of the validation images, and how many there are
    "digits": Guessing(10, 0.1022964509394572, 479),
    "fashion": Guessing(10, 0.1, 1000),
    "gpu": Guessing(10, 0.1, 6000),
}
NAMES = {"digits": "digits", "fashion": "Fashion-MNIST, 500 images", "gpu": "Fashion-MNIST, 54,000 images"}
RATES = {"high-lr": "0.15", "low-lr": "0.05", "lr0.15": "0.15"}
DECLARED = "mean_bd"
GIVEN: Given = ("span",)
ALONE = ("walk_length", "visit_evenness")
DESCRIBED = ("connections", "max_out_degree")  # of what a table needs, not among a study's measures
HEADER = (
    "stratum", "F test p", "noise ceiling", "verdict on mean BD", "mean BD, span held", "p (Holm)", "walk length W",
    "visit evenness H",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stratum:
    """What one stratum of a study says today.

    Args:
        judgement: of mean BD.
        alone: rank correlation of each measure of ALONE with the validation loss, nothing held.
    """

    study: str
    layers: int
    regime: str
    judgement: Judgement
    alone: dict[str, Estimate]


def main() -> None:
    """Write the table into the page, or the strata as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, metavar="DIR", help="folder for the tables, made if missing")
    folder = parser.parse_args().tables
    if folder is not None:
        write_tables(folder)
        return
    path = FOLDER / "README.md"
    strata = [stratum for study in STUDIES for stratum in judge_study(study)]
    text = path.read_text(encoding="utf-8")
    write_atomic(path, re.sub(r"^\| stratum .*\n(\|.*\n)*", lambda _: format_strata(strata), text, flags=re.MULTILINE))


def read_study(study: str) -> pd.DataFrame:
    """Return the trainings of a study as rows of read_run, with the measures that its verdict takes."""
    patterns, trainings = (pd.read_csv(FOLDER / f"{name}.csv") for name in ("patterns", "trainings"))
    patterns = patterns[patterns["study"] == study].drop(columns="study")
    measured = pd.DataFrame([measure(parse_sources(text), CONTROLS) for text in patterns["sources"]])
    patterns = pd.concat([patterns.reset_index(drop=True), measured], axis=1)
    rows = trainings[trainings["study"] == study].merge(patterns, on="key", validate="many_to_one")
    return rows.assign(budget="log", state="complete")


def write_tables(folder: Path) -> None:
    """Write each stratum of the studies as a CSV that compare-strategies reads, with what its networks trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    for study, guessing in STUDIES.items():
        for (layers, regime), rows in read_study(study).groupby(["layers", "regime"]):
            patterns = [parse_sources(text) for text in rows["sources"]]
            described = pd.DataFrame([describe(pattern) for pattern in patterns])[list(DESCRIBED)]
            table = pd.concat([rows.reset_index(drop=True), described], axis=1)
            table = table.assign(key=[pattern.key for pattern in patterns])
            path = folder / f"{study}-{layers}-lr{RATES[str(regime)]}.csv"
            write_atomic(path, table[[*REQUIRED, "template", *OUTCOMES, "sources"]].to_csv(index=False))
            provenance = {"config": {"dataset": NAMES[study]}, "data": {"n_validation": guessing.n_images}}
            write_atomic(path.with_suffix(".json"), format_json(provenance))


def judge_study(study: str) -> list[Stratum]:
    """Judge mean BD in every stratum of a study, all of them together."""
    groups = {str(key): rows for key, rows in read_study(study).groupby(["layers", "regime"])}
    samples = build_samples({name: rows[rows["strategy"].isin(SAMPLED)] for name, rows in groups.items()}, (), 0)
    evidence = {name: _gather(samples[name], rows, STUDIES[study]) for name, rows in groups.items()}
    judged = judge_strata(evidence).strata
    return [
        Stratum(study, *_place(rows), judged[name][0], _correlate(samples[name], rows)) for name, rows in groups.items()
    ]


def format_strata(strata: list[Stratum]) -> str:
    """Return the strata as a Markdown table."""
    lines = [format_row(*HEADER), f"|{'---|' * len(HEADER)}"]
    for stratum in strata:
        seen, effect = stratum.judgement.resolution, stratum.judgement.find(*GIVEN)
        assert seen is not None
        assert effect is not None
        lines.append(
            format_row(
                f"{NAMES[stratum.study]}, {stratum.layers} layers, lr {RATES[stratum.regime]}",
                format_p(seen.p_value),
                f"{seen.ceiling:.2f} [{seen.low:.2f}, {seen.high:.2f}]",
                IN_WORDS[stratum.judgement.status],
                _format_estimate(effect.partial),
                format_p(effect.p_holm),
                *(_format_estimate(stratum.alone[name]) for name in ALONE),
            )
        )
    return "\n".join(lines) + "\n"


def _place(rows: pd.DataFrame) -> tuple[int, str]:
    """Return layers and regime of a stratum."""
    return int(rows["layers"].iloc[0]), str(rows["regime"].iloc[0])


def _gather(sample: Sample, complete: pd.DataFrame, guessing: Guessing) -> Evidence:
    generator = derive_generator(0, "tests", "log", *_place(complete))
    return gather_evidence(sample, (DECLARED,), measure_learning(complete, guessing), generator)


def _correlate(sample: Sample, rows: pd.DataFrame) -> dict[str, Estimate]:
    generator = derive_generator(0, "alone", "log", *_place(rows))
    alone = estimate_effects(sample, [(name, ()) for name in ALONE], generator)
    return {each.measure: each.effects[0].partial for each in alone}


def _format_estimate(estimate: Estimate) -> str:
    return f"{format_signed(estimate.value)} [{format_interval(estimate.low, estimate.high).replace(' to ', ', ')}]"


if __name__ == "__main__":
    main()
