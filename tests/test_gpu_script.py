"""scripts/gpu.py goes all its way, on a CPU."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_all_of_it_runs_without_a_gpu_and_writes_nothing() -> None:
    pages = [ROOT / "docs" / name for name in ("gpu.csv", "gpu.md")]
    before = [page.read_bytes() if page.exists() else None for page in pages]
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), "--device", "cpu", "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 13
    assert not any("other losses" in row for row in rows)
    assert "5 of 5 trainings complete" in result.stdout
    assert [page.read_bytes() if page.exists() else None for page in pages] == before
