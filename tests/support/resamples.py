"""Fewer resamples than a report takes, for tests that ask often."""

import pytest

MODULES = ("stats.correlations", "stats.inference", "stats.resampling", "replays.searches")


def use_resamples(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Have every bootstrap and permutation test draw n times."""
    for module in MODULES:
        monkeypatch.setattr(f"analysis.{module}.N_RESAMPLES", n)
