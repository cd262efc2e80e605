"""Tables for --from-table: rows by sources or names, any separator, and in words what cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.table import match_budgets, read_earlier
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template

LOG = log_budget(5)
NAMED = "template,seed,validation_loss\nlog,0,0.5\nlog,1,0.25\nnearest,0,1\n"


def read(path: Path, text: str | bytes, budgets: tuple[Budget, ...] = (LOG,), **changes: Any) -> Any:
    """What a run of 5 layers would learn from a table of this content."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    config = settle_config(path.parent / "run", None, {"layers": 5, "from_table": str(path), **changes}, SearchConfig)
    table = read_earlier(path.parent / "run", config, "validation_loss")
    assert table is not None
    return match_budgets(table, config, budgets, lambda outcome: outcome if outcome > 0 else None)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_may_name_templates_and_be_separated_by_anything(separator: str, tmp_path: Path) -> None:
    matched = read(tmp_path / "a.csv", b"\xef\xbb\xbf" + NAMED.replace(",", separator).encode())
    (trainings,) = matched.by_budget.values()
    assert [(each.seed, each.cost) for each in trainings] == [(0, 0.5), (1, 0.25), (0, 1.0)]
    assert trainings[0].pattern == find_template("log").build(5)
    assert LOG.is_met_by(trainings[2].pattern)


def test_each_budget_takes_its_rows_and_settings_stay_apart(tmp_path: Path) -> None:
    text = "sources;regime;seed;validation_loss\n[[0],[0,1],[1,2],[3],[4]];a;;1\n[[0],[1],[2],[3],[4]];b;2;-1\n"
    text += "[[0],[1],[2],[3],[4]];b;2;3\n[[0],[1]];;;1\n"
    matched = read(tmp_path / "a.csv", text, (Budget(5, total=7), Budget(5, total=5)))
    first, other = ([(each.setting, each.seed, each.cost) for each in rows] for rows in matched.by_budget.values())
    assert (first, other) == ([("a", None, 1.0)], [("b", 2, 3.0)])
    assert (matched.described["other"], matched.described["unusable"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("template,seed\nlog,0\n", "validation_loss, which the search improves"),
        ("key,validation_loss\na,1\n", "sources, the inputs of each layer"),
        ("sources,validation_loss\n[[5]],1\n", "row 1 cannot be read"),
        ("sources,validation_loss\n{,1\n", "row 1 cannot be read"),
        ("template,validation_loss\nlog,1\nlog,high\n", "row 2 cannot be read"),
        ("key,sources,validation_loss\nffff,[[0]],1\n", "row 1 has the key ffff"),
        ("template,validation_loss\nnone,1\n", "none is left"),
        ("", "no column"),
        (b"\xff\xfe\x00template", "not a CSV"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.csv", text)


def test_a_missing_table_and_other_strategies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.csv cannot be read"):
        settle_config(tmp_path / "run", None, {"from_table": str(tmp_path / "b.csv")}, SearchConfig)
    (tmp_path / "a.csv").write_text(NAMED)
    for strategy in ("random", "evolve"):
        with pytest.raises(InputError, match=f"from-table .* {strategy} learns from no table"):
            read(tmp_path / "a.csv", NAMED, strategy=strategy)


def test_a_config_file_with_the_hash_of_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(NAMED)
    (tmp_path / "config.toml").write_text(f'from-table = "{tmp_path / "a.csv"}"\ntable-sha256 = "{"0" * 64}"\n')
    config = settle_config(tmp_path / "run", tmp_path / "config.toml", {}, SearchConfig)
    with pytest.raises(ConflictError, match="0" * 12):
        read_earlier(tmp_path / "run", config, "validation_loss")
    flags = {"from_table": str(tmp_path / "a.csv")}  # a flag wins, with its own hash
    config = settle_config(tmp_path / "run", tmp_path / "config.toml", flags, SearchConfig)
    assert read_earlier(tmp_path / "run", config, "validation_loss") is not None


def test_a_table_is_found_by_name_in_flags_and_in_files(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(NAMED)
    file = tmp_path / "mine.toml"
    file.write_text('layers = 5\nfrom-table = "ours"\n')

    def find(table: Path) -> Path:
        return tmp_path / f"{table}.csv"

    for given in ({"layers": 5, "from_table": "ours"}, {}):
        config = settle_config(tmp_path / "run", None if given else file, given, SearchConfig, find)
        assert config.from_table == str(tmp_path / "ours.csv")
