"""A small study that several tests of the analysis read; made once, so not to be changed."""

from pathlib import Path

import pytest

from analysis.data.results import read_run
from analysis.report.findings import Findings, find
from tests.support.resamples import use_resamples
from tests.support.synthetic_study import make_study, score_by_span


@pytest.fixture(scope="session")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study in which span alone decides, with a check."""
    run = tmp_path_factory.mktemp("study") / "run"
    regimes = ("one=lr:0.1", "two=lr:0.05")
    return make_study(run, score_by_span, check_epochs=3, check_patterns=5, regime=regimes)


@pytest.fixture(scope="session")
def study_findings(study_run: Path) -> Findings:
    """What its report shows, from few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        use_resamples(patch, 399)
        return find(read_run(study_run))
