"""Settings of a user's task: which there are, and texts read as their types."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from nas.tasks.fields import TaskField, dump_settings, list_fields, read_settings
from search_spaces.errors import InputError


class Plain:
    metrics: ClassVar = {"loss": "min"}
    width: int = 64
    act: Literal["relu", "tanh"] = "relu"


@dataclass
class Data:
    name: str
    rates: tuple[float, ...] = (0.1,)
    cap: int | None = None
    early: bool = False


def objective(trial: Any, *, width: int = 8, share: float = 0.5) -> None: ...


def untyped(trial, *, width=8): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Plain, ["width", "act"]),
        (Data, ["name", "rates", "cap", "early"]),
        (objective, ["width", "share"]),
    ],
)
def test_settings_are_typed_fields_or_keyword_only_parameters(target: Any, names: list[str]) -> None:
    assert [field.name for field in list_fields(target, "t")] == names


def test_texts_are_read_as_their_types() -> None:
    texts = ["name=a=b", "rates=0.5,0.25", "cap=3", "early=true"]
    values = read_settings(list_fields(Data, "t"), texts, "t")
    assert values == {"name": "a=b", "rates": (0.5, 0.25), "cap": 3, "early": True}
    assert dump_settings(list_fields(Data, "t"), values, "t") == {**values, "rates": [0.5, 0.25]}
    assert read_settings(list_fields(Data, "t"), ["name=x", "rates=[2, 1]", "cap=null"], "t")["cap"] is None


@pytest.mark.parametrize(
    ("target", "texts", "named"),
    [
        (Plain, ["width=wide"], "'wide'"),
        (Plain, ["width=1.5"], "'1.5'"),
        (Plain, ["act=gelu"], "'gelu'"),
        (Plain, ["widht=3"], "did you mean width"),
        (Plain, ["width"], "'width'"),
        (Plain, ["width=1", "width=2"], "given twice"),
        (objective, ["share=nan"], "'nan'"),
        (Data, [], "name"),
    ],
)
def test_other_texts_are_refused(target: Any, texts: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_settings(list_fields(target, "t"), texts, "t")


def test_a_path_is_taken_from_the_folder_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fields = (TaskField("file", Path | None, None),)
    assert read_settings(fields, ["file=mine.txt"], "own") == {"file": tmp_path / "mine.txt"}
    assert read_settings(fields, [], "own") == {"file": None}


def test_a_setting_without_a_type_is_refused() -> None:
    with pytest.raises(InputError, match="width"):
        list_fields(untyped, "t")


def test_a_class_that_makes_its_instances_itself_is_refused() -> None:
    class Own:
        def __init__(self, width: int) -> None:
            self.width = width

    with pytest.raises(InputError, match="__init__"):
        list_fields(Own, "t")


def test_a_type_that_no_text_can_be_is_refused() -> None:
    with pytest.raises(InputError, match="setting odd"):
        read_settings([TaskField("odd", Plain, None)], ["odd=1"], "t")
