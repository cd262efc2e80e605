"""The site: the pages of the folders named below, the reference made from the code, and the gallery's scripts.

`python -m sphinx -W docs site` builds it, in half a minute; with `-D plot_gallery=0` no script runs. docs/_ext has what
makes the reference. tests/support/pages.py says how code is written on a page, so that tests run it.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]
os.environ.setdefault("PYTHONPATH", str(HERE.parent))  # for what the gallery's scripts start

from pictures import save_pictures, style_figures  # noqa: E402  of docs/_ext

project = "skipsearch"
release = metadata.version("skipsearch")
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "reference",
    "studies",
]
SECTIONS = ("tutorials", "howto", "explanation", "reference", "gallery", "results")
include_patterns = ["*.md", *(f"{section}/**" for section in SECTIONS)]
exclude_patterns = ["gallery/scripts/**", "**/*.py", "**/*.ipynb", "**/*.md5"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions
default_role = "code"  # of docstrings
python_maximum_signature_line_length = 88

html_title = "skipsearch"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": []}
html_theme_options = {
    "header_links_before_dropdown": len(SECTIONS),
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_depth": 2,
    "show_nav_level": 1,
    "show_prev_next": False,
    "secondary_sidebar_items": {f"{section}/**": ["page-toc"] for section in SECTIONS[:4]},
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copyright = "the authors of skipsearch; MIT license"  # noqa: A001  Sphinx's name

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"AnyPattern": "AnyPattern", "AnyTask": "AnyTask"}
napoleon_google_docstring = True
napoleon_custom_sections = [("Returns", "params_style")]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

sphinx_gallery_conf = {
    "examples_dirs": ["gallery/scripts"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "image_scrapers": (save_pictures,),
    "reset_modules": (),
    "within_subsection_order": "FileNameSortKey",
    "default_thumb_file": str(HERE / "log.svg"),  # where no script runs; a .png would hide the .svg of a later build
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "remove_config_comments": True,
    "min_reported_time": 3600,
    "write_computation_times": False,
    "copyfile_regex": r"index\.rst",
    "only_warn_on_example_error": False,
    "abort_on_example_error": False,
}

style_figures()
