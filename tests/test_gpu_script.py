"""scripts/gpu.py goes all its way, on a CPU."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_all_of_it_runs_without_a_gpu_and_writes_nothing() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), "--device", "cpu", "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 11
    assert not any("other losses" in row for row in rows)
    assert "5 of 5 trainings complete" in result.stdout
    assert not (ROOT / "docs" / "gpu.md").exists() or "CPU, Python" not in (ROOT / "docs" / "gpu.md").read_text()
