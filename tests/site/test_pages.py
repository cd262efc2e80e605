"""The code of README and of the site: every block is read by default, and every page runs by hand."""

from pathlib import Path

import pytest
import typer

from run_search import app
from tests.support.pages import LANGUAGES, REASONS, Block, check_block, list_blocks, list_commands, list_pages, run_page
from tests.support.small import ROOT

PAGES = list_pages()
RUNNABLE = ("sh", "python", "pycon")
COMMANDS = vars(typer.main.get_command(app))["commands"]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _is_run(block: Block) -> bool:
    return block.language in RUNNABLE and not block.skip and not block.is_hidden


def _flags(command: str) -> set[str]:
    parameters = COMMANDS[command].get_params(typer.Context(COMMANDS[command]))
    return {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)} | {"--help", "--debug"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_read(page: Path) -> None:
    blocks = list_blocks(page)
    assert [(block.place, wrong) for block in blocks if (wrong := check_block(block))] == []
    for block in blocks:
        for command, flags in list_commands(block):
            assert command in COMMANDS, block.place
            assert set(flags) <= _flags(command), block.place


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(_is_run, list_blocks(page)))], ids=_name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    done = run_page(page, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _block(language: str, text: str, skip: str = "", add: str = "") -> Block:
    return Block(ROOT / "README.md", 1, language, text, skip=skip, add=add)


@pytest.mark.parametrize(
    "block",
    [
        _block("", "x"),
        _block("bash", "ls"),
        _block("python", "x = ="),
        _block("toml", "a = b"),
        _block("json", "{'a': 1}"),
        _block("sh", "if true"),
        _block("sh", "ls", skip="it is slow"),
    ],
)
def test_a_wrong_block_is_refused(block: Block) -> None:
    assert check_block(block)


def test_a_right_block_is_not() -> None:
    texts = {"sh": "ls", "python": "x = 1", "pycon": ">>> 1", "toml": "a = 1", "json": "[]", "text": "any"}
    assert set(texts) == set(LANGUAGES)
    assert not any(check_block(_block(language, text, skip=REASONS[0])) for language, text in texts.items())


def test_commands_are_found_in_what_a_shell_runs() -> None:
    text = (
        "cd x && skipsearch score --layers 9 \\\n  --json | head -3\npython run_search.py search --lr=.1 --run 'a b'\n"
    )
    found = [*list_commands(_block("sh", f"{text}ls --all\n", add="--epochs 1"))]
    assert found == [("score", ("--layers", "--json")), ("search", ("--lr", "--run"))]
    assert [*list_commands(_block("sh", "skipsearch search --run a\n", add="--epochs 1"))] == [
        ("search", ("--run", "--epochs"))
    ]


def test_a_page_is_one_program(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run: echo 1 > one.txt -->\n\n```python\nx = int(open('one.txt').read())\n```\n\n````{note}\n"
        "<!-- file: two.py -->\n```python\nx = 5\n```\n````\n\n- item\n\n  <!-- add: >> one.txt -->\n"
        "  ```sh\n  echo 2\n  ```\n\n```pycon\n>>> x, open('one.txt').read()\n(1, '1\\n2\\n')\n```\n\n"
        "<!-- skip: needs a GPU -->\n```python\nraise\n```\n"
    )
    blocks = list_blocks(page)
    assert [block.line for block in blocks] == [1, 3, 9, 17, 21, 27]
    (tmp_path / "run").mkdir()
    done = run_page(page, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    page.write_text(page.read_text().replace("(1, ", "(2, "))
    (tmp_path / "other").mkdir()
    assert run_page(page, tmp_path / "other").returncode == 1
