"""Writes docs/notebook.ipynb from docs/notebook.py, a script whose cells begin with # %%."""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def make_notebook(script: str) -> str:
    """Return a notebook, without outputs, of a script in the percent format."""
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(re.split(r"^# %%", script, flags=re.MULTILINE)[1:]):
        head, _, body = part.partition("\n")
        cell: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
        if "[markdown]" in head:
            cell = {"cell_type": "markdown"}
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        source = body.strip("\n").splitlines(keepends=True)
        cells.append({**cell, "id": f"cell-{number}", "metadata": {}, "source": source})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    text = (DOCS / "notebook.py").read_text(encoding="utf-8")
    (DOCS / "notebook.ipynb").write_text(make_notebook(text), encoding="utf-8")
