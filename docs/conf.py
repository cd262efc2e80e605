"""The site: the pages of the folders named below, and the API from the docstrings.

tests/support/pages.py says how code is written on a page, so that tests run it.
"""

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "skipsearch"
release = metadata.version("skipsearch")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
include_patterns = ["*.md", "tutorials/*.md", "howto/*.md", "explanation/*.md", "*/README.md", "placement/plan.md"]
suppress_warnings = ["myst.xref_missing"]  # the committed reports are no pages here; tests/house follows every link
html_title = "skipsearch"
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"**": []}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"AnyPattern": "AnyPattern", "AnyTask": "AnyTask"}
napoleon_google_docstring = True
napoleon_custom_sections = [("Returns", "params_style")]
myst_heading_anchors = 3
SETTINGS = {"search": "nas.settings.search:SearchConfig", "study": "nas.settings.study:StudyConfig"}


def add_settings(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Add the list of settings, with their help, to a function that takes them."""
    place = SETTINGS.get(name.rpartition(".")[2])
    if what == "function" and place is not None:
        lines += list_settings(place)


def list_settings(place: str) -> Sequence[str]:
    """Return the settings of a model as lines of reStructuredText."""
    from importlib import import_module

    from commands.flags import list_flags
    from skipsearch.words import word_for_python

    module, _, name = place.partition(":")
    lines = ["", ".. rubric:: Settings", ""]
    for field_name, field in list_flags(getattr(import_module(module), name)):
        if field_name == "task":
            continue
        default = "" if field.default in (None, ()) else f" Default: ``{field.default!r}``."
        text = word_for_python(str(field.description)).replace("May be repeated", "May be a list")
        text = text.replace("*", r"\*").replace("`", "")
        lines += [f"``{field_name}``", f"    {text}{default}", ""]
    return lines


def setup(app: Any) -> None:
    """Let Sphinx call what is here."""
    app.connect("autodoc-process-docstring", add_settings)
