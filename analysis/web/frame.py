"""The frame of a page: its style, its script and its data, all of it contained and nothing else allowed."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STYLES = ("page.css", "charts.css", "linked.css")
SCRIPT = "page.js"


def wrap_page(title: str, body: str, data: Mapping[str, Any] | None = None) -> str:
    """Return a whole page that loads nothing and runs one script, which is held as a file next to this module.

    The page's policy names the hashes of that script and of its style, so that nothing that a text of a run brings
    along could run or restyle it.

    Args:
        body: HTML, escaped already.
        data: JSON values that the script shows: of the patterns, their sources, measures and outcomes.
    """
    style = "\n" + "".join(read_asset(name) for name in STYLES)
    script = "\n" + read_asset(SCRIPT)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="patterns.json">{_embed(data or {})}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def read_asset(name: str) -> str:
    """Return the text of a file that pages contain."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return a text's hash as a policy names it (Content Security Policy Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embed(data: Mapping[str, Any]) -> str:
    """Return JSON that no text in it can end: inside <script>, only a < could."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
