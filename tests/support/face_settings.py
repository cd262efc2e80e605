"""The settings of the Python face, as text made from the fields of the settings.

`python -m tests.support.face_settings` writes skipsearch/settings.py.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from nas.model.config import NetworkConfig
from nas.records.checked import Settings
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from tests.support.small import ROOT

HEAD = '''"""Settings as keyword arguments, for type checkers and editors: the fields of the settings, by their names.

A test compares this file with the fields; `python -m tests.support.face_settings` writes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict
'''
BATCH = ("dataset", "data", "train_examples", "batch_size")


def make_settings() -> str:
    """Return what skipsearch/settings.py has to be."""
    search = _list_types(SearchConfig, frozenset({"task"}))
    without = StudyConfig.without_flags | {"task"}
    study = _list_types(StudyConfig, frozenset(without))
    network = _list_types(NetworkConfig, frozenset())
    score = {name: kind for name, kind in search.items() if name in BATCH}
    shared = {name: kind for name, kind in search.items() if study.get(name) == kind}
    own_search, own_study = (
        {name: kind for name, kind in types.items() if name not in shared} for types in (search, study)
    )
    classes = [
        ("NetworkSettings", "TypedDict, total=False", "The network around a pattern.", network),
        ("ScoreSettings", "NetworkSettings, total=False", "The network, and the data of a first batch.", score),
        ("SharedSettings", "TypedDict, total=False", "What a search and a study both have.", shared),
        (
            "SearchSettings",
            "SharedSettings, total=False",
            "Settings of a search; None counts as not given.",
            own_search,
        ),
        ("StudySettings", "SharedSettings, total=False", "Settings of a study; None counts as not given.", own_study),
    ]
    text = HEAD + "".join(f"\n\n{_write_class(*each)}" for each in classes)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "settings.py", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _write_class(name: str, bases: str, doc: str, types: dict[str, str]) -> str:
    lines = "\n".join(f"{field}: {kind}" for field, kind in types.items())
    return f'class {name}({bases}):\n    """{doc}"""\n\n{textwrap.indent(lines, "    ")}\n'


def _list_types(model: type[Settings], without: frozenset[str]) -> dict[str, str]:
    types = {}
    for name, field in model.model_fields.items():
        if name in without or field.json_schema_extra is None:
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        is_path = str(extra.get("form")).startswith("<path")
        kinds = [*dict.fromkeys(_name_parts(field.annotation, is_path))]
        if name == "train_examples":
            kinds.insert(0, 'Literal["all"]')
        if name == "set":
            kinds.insert(0, "Mapping[str, Any]")
        types[name] = " | ".join([*(kind for kind in kinds if kind != "None"), "None"])
    return types


def _name_parts(kind: Any, is_path: bool) -> Iterator[str]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _name_parts(parts[0], is_path)
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _name_parts(part, is_path)
    elif origin is Literal:
        yield f"Literal[{', '.join(map(repr, parts))}]"
    elif origin is tuple:
        inner = " | ".join(dict.fromkeys(_name_parts(parts[0], is_path)))
        yield f"Sequence[{inner}]"
    elif kind is str and is_path:
        yield from ("str", "Path")
    else:
        yield "None" if kind is NoneType else kind.__name__


if __name__ == "__main__":
    (ROOT / "skipsearch" / "settings.py").write_text(make_settings(), encoding="utf-8")
