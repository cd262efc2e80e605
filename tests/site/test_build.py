"""The site builds without a warning, asks nobody else for anything, and its pages say what their pictures show."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import studies

SCRIPTS = sorted((ROOT / "docs" / "gallery" / "scripts").glob("*.py"))


def _build(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html", *options]
    done = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.ci
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """The scripts of the gallery are left out: they run in the next test, by hand."""
    _build(tmp_path, "-D", "plot_gallery=0")
    site = tmp_path / "site"
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("template", "search", "study", "load_run", "Task.build", "Run.figures", "tables.load"):
        assert f'id="skipsearch.{name}"' in page
    assert "train_examples" in page and "--train-examples" not in page
    assert 'id="cmdoption-skipsearch-search-train-examples"' in (site / "reference" / "search.html").read_text()
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//[^"]*"', html), path
        assert not re.findall(r'<link\b[^>]*\bhref="(?:https?:)?//[^"]*"', html), path
        assert not re.findall(r'<img\b(?![^>]*(?:\balt="[^"]+|_thumb\.))[^>]*>', html), (
            path
        )  # a thumbnail's title follows
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_the_gallery_is_drawn_with_a_text_for_every_picture(tmp_path: Path) -> None:
    _build(tmp_path)
    for script in SCRIPTS:
        page = (tmp_path / "site" / "gallery" / f"{script.stem}.html").read_text(encoding="utf-8")
        pictures = re.findall(r'<img src="\.\./_images/[^>]*\balt="([^"]*)"[^>]*sphx-glr-single-img', page)
        assert pictures and all(len(text) > 10 for text in pictures), script
        assert "Traceback" not in page


def test_a_script_of_the_gallery_is_short() -> None:
    assert len(SCRIPTS) == 7
    for script in SCRIPTS:
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 60


def test_what_a_study_is_called_on_the_site_exists() -> None:
    for page in (ROOT / "docs" / "results").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for folder in re.findall(r"^```\{report\} (.*)$", text, re.MULTILINE):
            assert (ROOT / "docs" / folder).is_dir()
        for file in re.findall(r"^```\{study-page\} (.*)$", text, re.MULTILINE):
            assert (ROOT / "docs" / file).is_file()


def _insert(text: str) -> tuple[str, list[str]]:
    """Return a page at tutorials/a as the site has it, and the files of docs/ that go there with it."""
    metadata: Any = defaultdict(dict)
    pages = {"tutorials/a", "results/race", "results/earlier", "speed"}
    docs = SimpleNamespace(
        found_docs=pages,
        metadata=metadata,
        doc2path=lambda page, base=True: f"{ROOT / 'docs' if base else ''}/{page}.md".lstrip("" if base else "/"),
        note_dependency=lambda *_, **__: None,
    )
    source = [text]
    studies.insert(SimpleNamespace(env=docs), "tutorials/a", source)
    return source[0], metadata["tutorials/a"].get(studies.FOLDER, [])


@pytest.mark.parametrize(
    ("link", "moved", "files"),
    [
        ("[a](../speed.md#b)", "[a](/speed.md#b)", []),
        ("[a `b`](../race/README.md)", "[a `b`](/results/race.md)", []),
        ("[a](../depths.csv)", '<a href="../files/depths.csv">a</a>', ["depths.csv"]),
        (
            "[a](../text/layers-12/report.md)",
            '<a href="../files/text/layers-12/index.html">a</a>',
            ["text/layers-12/index.html"],
        ),
        ("[a](../../nas/model)", "a (`nas/model`)", []),
        ("[a](https://b.org/c)", "[a](https://b.org/c)", []),
        ("![a](../log.svg)", "![a](../log.svg)", []),
        ("`[a](../depths.csv)`", "`[a](../depths.csv)`", []),
        ("```python\nf[0](x)\n```", "```python\nf[0](x)\n```", []),
    ],
)
def test_links_lead_to_what_the_site_has(link: str, moved: str, files: list[str]) -> None:
    assert _insert(f"Before {link} after.\n" if "\n" not in link else link) == (
        f"Before {moved} after.\n" if "\n" not in link else moved,
        files,
    )


def test_a_studys_page_is_written_into_one_of_the_site() -> None:
    text, files = _insert("# A\n\n```{study-page} tables/README.md\n```\n")
    page = (ROOT / "docs" / "tables" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# A\n") and page.splitlines()[2] in text and page.splitlines()[0] not in text
    assert files == ["tables/total-40/seeded.csv"]
