"""The notebook runs, and is the script; tests/site has the pages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import skipsearch
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from make_notebook import make_notebook

DOCS = ROOT / "docs"
SCRIPT = (DOCS / "notebook.py").read_text(encoding="utf-8")


def test_the_notebook_is_made_from_the_script() -> None:
    assert (DOCS / "notebook.ipynb").read_text(encoding="utf-8") == make_notebook(SCRIPT)
    cells = json.loads(make_notebook(SCRIPT))["cells"]
    code = {line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()}
    kept = {line for line in SCRIPT.splitlines() if line and not line.startswith("#")}
    assert kept <= code and not any("%%" in line for line in code)
    assert [*dict.fromkeys(cell["id"] for cell in cells)] == [cell["id"] for cell in cells]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    notebook = nbformat.reads(make_notebook(SCRIPT), as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", ())}
    assert {"image/svg+xml", "text/html"} <= shown
    texts = [output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
    assert any("24/24" in text for text in texts)  # the bar
    assert "def objective(trial" in (tmp_path / "runs" / "notebook-search" / "task.py").read_text()
    assert skipsearch.load_run(tmp_path / "runs" / "notebook-search").status["complete"] == 24


@pytest.mark.slow
def test_the_notebook_is_a_script_too(tmp_path: Path) -> None:
    command = [sys.executable, str(DOCS / "notebook.py")]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "HOME": "/"}
    )
    assert done.returncode == 0, done.stderr
    assert skipsearch.load_run(tmp_path / "runs" / "notebook-study").verdict in done.stdout
