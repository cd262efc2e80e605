"""The code of README and of the site's pages: what each block is, and the page as one program.

A block begins with three backticks and its language:

    sh            commands for bash; `skipsearch` and `python` are there, and it ends at the first error
    python        run; the blocks of a page share their names, as one script does
    pycon         a session with >>>, whose output is compared as doctests compare it
    toml, json    read
    text          anything else that is shown, such as what a command prints; not read

A page is one program, run from top to bottom in an empty folder. A comment before a block, which no reader sees, says
what else a test should do:

    <!-- file: own.py -->                         write the block into this file instead of running it
    <!-- skip: needs a GPU -->                    only check it; the reason must be one of REASONS
    <!-- add: --trainings 8 --epochs 1 -->        add this to the block's last command, to make it short
    <!-- run: skipsearch search --run runs/a -->  commands that only the test runs, for what the page takes for granted
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

from tests.support.small import ROOT

LANGUAGES = ("sh", "python", "pycon", "toml", "json", "text")
REASONS = (
    "installs packages",
    "needs a cluster",
    "needs a GPU",
    "needs an account",
    "needs data of your own",
    "starts a server",
    "takes hours",
    "tests the checkout",
)
MARK = re.compile(r"<!--\s*(\w+):\s*(.*?)\s*-->", re.DOTALL)
COMMAND = re.compile(r"(?:\S*python3?\s+(?:run_search\.py|-m skipsearch)|\S*skipsearch)(?:\s+(.*))?", re.DOTALL)
PREAMBLE = """
import doctest as _doctest
import subprocess as _subprocess


def _run(commands):
    _subprocess.run(["bash", "-euo", "pipefail", "-c", commands], check=True)


def _compare(session):
    flags = _doctest.ELLIPSIS | _doctest.NORMALIZE_WHITESPACE
    test = _doctest.DocTestParser().get_doctest(session, globals(), "page", "page", 0)
    assert not _doctest.DocTestRunner(optionflags=flags).run(test, clear_globs=False).failed
    globals().update(test.globs)

"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code.

    Args:
        line: line of the page where it begins.
        file: name of the file that it is, if it is one.
        skip: reason not to run it.
        add: what a test adds to its last command.
        is_hidden: whether only the test has it.
    """

    page: Path
    line: int
    language: str
    text: str
    file: str = ""
    skip: str = ""
    add: str = ""
    is_hidden: bool = False

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def list_pages() -> tuple[Path, ...]:
    """Return README and the pages of the site that people write."""
    folders = ("tutorials", "howto", "explanation", "reference", "results")
    pages = [page for folder in folders for page in sorted((ROOT / "docs" / folder).rglob("*.md"))]
    return (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *pages)


def list_blocks(page: Path) -> tuple[Block, ...]:
    """Return the blocks of a page from top to bottom, also those inside of directives."""
    blocks: list[Block] = []
    marked = Block(page, 0, "", "")
    for kind, text, line in _walk(page.read_text(encoding="utf-8"), 1):
        if kind == "comment":
            for mark, said in MARK.findall(text):
                if mark == "run":
                    blocks.append(Block(page, line, "sh", said, is_hidden=True))
                else:
                    marked = replace(marked, **{mark: said})  # an unknown mark is an error
        else:
            blocks.append(replace(marked, line=line, language=kind, text=text))
            marked = Block(page, 0, "", "")
    assert marked == Block(page, 0, "", ""), f"{page.name} ends with a mark and no block"
    return tuple(blocks)


def _walk(text: str, first: int) -> Iterator[tuple[str, str, int]]:
    """Yield comments and blocks as kind, text and line; a directive is a page in a page."""
    for token in MarkdownIt().parse(text):
        line = first + (token.map or [0])[0]
        if token.type == "html_block" and "<!--" in token.content:
            yield "comment", token.content, line
        elif token.type == "fence" and not token.info.startswith("{"):
            yield token.info.strip(), token.content, line
        elif token.type == "fence" and not token.info.startswith("{eval-rst}"):
            assert not token.info.startswith("{code"), f"line {line}: write ```python, not {token.info}"
            yield from _walk(token.content, line + 1)
        elif token.type == "code_block":
            yield "indented", token.content, line


def check_block(block: Block) -> str:
    """Return what is wrong with a block that was only read, or nothing."""
    if block.language not in LANGUAGES:
        return f"language {block.language!r}: begin it with one of {', '.join(LANGUAGES)}"
    if block.skip and block.skip not in REASONS:
        return f"no known reason to skip it: {block.skip!r}"
    try:
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "sh":
            subprocess.run(["/bin/bash", "-n", "-c", block.text], check=True, capture_output=True, text=True)
    except (SyntaxError, ValueError, subprocess.CalledProcessError) as error:
        return f"{block.language}: {getattr(error, 'stderr', None) or error}"
    return ""


def list_commands(block: Block) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the commands of this program in a block of sh, each with its flags."""
    if block.language != "sh":
        return
    for line in f"{block.text.rstrip()} {block.add}".replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||[|;](?=\s)", line):
            found = COMMAND.fullmatch(part.strip())
            words = shlex.split(found[1] or "", comments=True) if found else []
            if words and not words[0].startswith("-"):
                flags = (word.partition("=")[0] for word in words[1:] if re.match(r"--[a-z]", word))
                yield words[0], tuple(flags)


def write_program(blocks: tuple[Block, ...]) -> str:
    """Return the blocks of a page as one program."""
    parts = [PREAMBLE]
    for block in blocks:
        if block.skip or block.language == "text":
            continue
        parts.append(f"# {block.place}")
        if block.file:
            parts.append(f"__import__('pathlib').Path({block.file!r}).write_text({block.text!r})")
        elif block.language == "sh":
            commands = f"{block.text.rstrip()} {block.add}".rstrip()
            parts.append(f"_run({commands!r})")
        elif block.language == "pycon":
            parts.append(f"_compare({block.text!r})")
        elif block.language == "python":
            parts.append(block.text)
    return "\n".join(parts) + "\n"


def run_page(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the code of a page in a folder, with this checkout's packages."""
    program = folder / "page.py"
    program.write_text(write_program(list_blocks(page)), encoding="utf-8")
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    (folder / "run_search.py").symlink_to(ROOT / "run_search.py")
    return subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        env={**os.environ, **paths, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
