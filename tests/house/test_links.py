"""README, CONTRIBUTING and the site: every file, link and anchor that a page names is there."""

import re
from pathlib import Path

import pytest

from tests.support.small import ROOT

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
WRITTEN = [page for page in PAGES if page.name != "report.md"]  # reports are written by the program
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [*WRITTEN, ROOT / "nas" / "engines" / "README.md"], ids=_name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    folders = "search_spaces|nas|analysis|commands|tests|scripts|docs"
    named = re.findall(rf"`(?:python )?((?:{folders})/[\w./-]*)", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def _anchors(page: Path) -> set[str]:
    """Return what GitHub and the site call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub(_keep_words, page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _keep_words(code: re.Match[str]) -> str:
    """Return inline code without its marks, and nothing of a block."""
    return "" if "```" in code[0] else code[0].strip("`")


def _list_links(page: Path) -> list[tuple[str, str]]:
    """Return file and anchor of each relative link of a page, its code and pictures' descriptions set aside."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    return [link.partition("#")[::2] for link in targets if not re.match(r"\w+:", link)]


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for file, anchor in _list_links(page):
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append((file, anchor))
    assert lost == []


def test_a_lost_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](page.md#a-b-c) ![y](no.svg) [z](https://a.b/c) `[q](code)`\n```sh\n[u](v)\n```\n")
    assert _list_links(page) == [("page.md", "a-b-c"), ("no.svg", "")]
    assert _anchors(page) == {"a-b-c"}


def test_every_page_of_the_site_begins_with_its_name_and_one_sentence() -> None:
    for folder in ("tutorials", "howto", "explanation"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            first, blank, sentence, *_ = page.read_text(encoding="utf-8").splitlines()
            assert first.startswith("# ") and not blank and sentence[0].isupper(), page
            index = (page.parent / "index.md").read_text(encoding="utf-8")
            assert page.name == "index.md" or f"]({page.name})" in index


def test_every_page_that_the_code_names_exists() -> None:
    """Help texts, errors and comments send readers to pages of the site."""
    folders = ("skipsearch", "search_spaces", "nas", "analysis", "commands", "scripts", "tests/support")
    files = [
        ROOT / "run_search.py",
        ROOT / "pyproject.toml",
        *(file for name in folders for file in (ROOT / name).rglob("*.py")),
    ]
    named = {
        (file, page) for file in files for page in re.findall(r"\bdocs/[\w/-]+\.\w+", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert [(file, page) for file, page in named if "NAME" not in page and not (ROOT / page).exists()] == []
