"""What the page's script knows: the same numbers as the tables, in little room."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.data.results import CURVE_COLUMNS, Run, parse_sources
from analysis.page.document import format_html
from analysis.report.conclusion import conclude_findings
from analysis.report.findings import find
from analysis.report.sections import build_blocks
from analysis.study.linked import encode_skips, link_patterns
from analysis.study.plots import MAX_MARKS
from analysis.study.view import view_strata
from search_spaces.seeds import derive_generator
from tests.support.resamples import use_resamples
from tests.support.synthetic_run import make_candidates, propose


def _decode(text: str) -> list[list[int]]:
    layers = text.split(",")
    width = 1 if len(layers) <= 36 else 2
    return [[int(layer[i : i + width], 36) for i in range(0, len(layer), width)] for layer in layers]


@pytest.mark.parametrize("depth", [1, 35, 36, 37, 90])
def test_skips_can_be_read_back(depth: int) -> None:
    generator = derive_generator("skips", depth)
    sources = [sorted({layer - 1, *generator.integers(0, layer, size=4).tolist()}) for layer in range(1, depth + 1)]
    read = _decode(encode_skips(sources))
    assert [[*own, layer] for layer, own in enumerate(read)] == sources


def _make_run(n_random: int, seeds: tuple[int, ...] = (0, 1), n_epochs: int = 3) -> Run:
    proposals = propose(n_random, ["log", "nearest_log_i"])

    def score(place: int, seed: int) -> float | str:
        return "lost" if (place, seed) == (3, 1) else 0.6 + 0.3 * ((7 * place) % 101) / 101 + 0.01 * seed

    table = make_candidates(proposals, score, ["log"] * len(proposals), seeds)
    points = [(n, epoch, "train_loss", 1 / epoch) for n in table["number"] for epoch in range(1, n_epochs + 1)]
    curves = pd.DataFrame(points, columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS)
    return Run(Path("run"), table, curves, len(table), {"seed": 0}, {}, {})


def test_the_page_knows_every_pattern_with_its_outcomes_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 19)
    run = _make_run(4)
    linked = json.loads(json.dumps(link_patterns(view_strata(run, 0).strata)))
    (group,) = linked["groups"].values()
    assert set(linked["patterns"]) == set(run.candidates["key"])
    outcomes = dict(zip(linked["patterns"], group["values"].values(), strict=True))
    assert list(group["values"]) == [str(place) for place in range(6)]
    assert group["seeds"] == [0, 1]
    assert [outcome["name"] for outcome in group["outcomes"]] == ["validation_accuracy", "validation_loss"]
    for _, row in run.candidates.iterrows():
        accuracy, loss = (values[row["seed"]] for values in outcomes[row["key"]])
        if row["state"] == "failed":
            assert accuracy is loss is None
        else:
            assert (accuracy, loss) == pytest.approx((row["validation_accuracy"], row["validation_loss"]), abs=5.1e-5)
        pattern = linked["patterns"][row["key"]]
        assert pattern["measures"][linked["measures"].index("mean BD")] == f"{row['mean_bd']:.3f}"
        chain_too = [sorted([*own, layer]) for layer, own in enumerate(_decode(pattern["skips"]))]
        assert chain_too == [list(inputs) for inputs in parse_sources(row["sources"]).sources]
    assert linked["quantiles"] == pytest.approx([stats.t.ppf(0.975, n - 1) for n in range(2, 7)], abs=1e-5)


@pytest.mark.slow
def test_a_page_of_220_patterns_at_five_seeds_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.synthetic_run.DEPTH", 24)
    use_resamples(monkeypatch, 19)
    findings = find(_make_run(218, (0, 1, 2, 3, 4), 20))
    linked = link_patterns(findings.views, findings.picks)
    page = format_html("t", [*build_blocks(findings, conclude_findings(findings))], linked)
    marks = re.findall(r'<g class="mark [^>]*data-key="([0-9a-f]{64})"', page)
    assert len(marks) == 2 * len(set(marks)) == 2 * 220 < 2 * MAX_MARKS
    assert set(marks) == set(linked["patterns"])
    assert all(pattern["skips"] for pattern in linked["patterns"].values())
    assert len(page.encode()) < 500_000
