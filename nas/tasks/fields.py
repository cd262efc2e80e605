"""The settings of a user's task: its typed fields, or its function's typed keyword-only parameters."""

import dataclasses
import difflib
import inspect
import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from nas.records.checked import WORDS
from search_spaces.errors import InputError

MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class TaskField:
    """One setting of a task.

    Args:
        name: its name in --set.
        kind: its type.
        default: its value where none is given; MISSING: it must be given.
    """

    name: str
    kind: Any
    default: Any = MISSING


def list_fields(target: Any, label: str) -> tuple[TaskField, ...]:
    """Return the settings of a task: a class's typed fields, a function's keyword-only parameters.

    Args:
        label: name of the task in messages.

    Raises:
        InputError: a setting has no type, or the class makes its instances in a way of its own.
    """
    try:
        hints = typing.get_type_hints(
            target if inspect.isclass(target) or inspect.isfunction(target) else target.__call__, include_extras=True
        )
    except NameError as error:
        raise InputError(f"task {label}: a type of its settings is not known ({error})") from None
    if not inspect.isclass(target):
        named = [each for each in inspect.signature(target).parameters.values() if each.kind is each.KEYWORD_ONLY]
        return tuple(_make_field(each.name, hints, each.default, label) for each in named)
    if dataclasses.is_dataclass(target):
        return tuple(
            _make_field(each.name, hints, _find_default(each), label)
            for each in dataclasses.fields(target)
            if each.init
        )
    if "__init__" in vars(target) or target.__init__ is not object.__init__:
        raise InputError(
            f"task {label} has an __init__ of its own, so its settings are not known: give it typed fields with "
            "defaults instead, as `width: int = 64` in the class"
        )
    fields = (name for name, kind in hints.items() if get_origin(kind) is not ClassVar and kind is not ClassVar)
    return tuple(TaskField(name, hints[name], getattr(target, name, MISSING)) for name in fields)


def _find_default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING if field.default is dataclasses.MISSING else field.default


def _make_field(name: str, hints: Mapping[str, Any], default: Any, label: str) -> TaskField:
    if name not in hints:
        raise InputError(f"task {label}: setting {name} has no type: write one, as `{name}: int = 64`")
    return TaskField(name, hints[name], default)


def read_settings(fields: Sequence[TaskField], texts: Sequence[str], label: str) -> dict[str, Any]:
    """Return the values of all settings of a task, given some as texts NAME=VALUE.

    Raises:
        InputError: a text has another form, names no setting or one twice, or is not of its type; or one is missing.

    >>> read_settings([TaskField("width", int, 64), TaskField("act", str, "relu")], ["width=32"], "t")
    {'width': 32, 'act': 'relu'}
    """
    by_name = {field.name: field for field in fields}
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"set {text!r:.100}: expected NAME=VALUE, as --set width=32")
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            known = f"it has {', '.join(by_name)}" if by_name else "it has none"
            raise InputError(
                f"set {text!r:.100}: task {label} has no setting {name!r:.60}"
                + (f"; did you mean {near[0]}?" if near else f"; {known}")
            )
        if name in given:
            raise InputError(f"set {text!r:.100}: {name} is given twice")
        given[name] = _read(by_name[name], value.strip(), label)
    missing = [field.name for field in fields if field.name not in given and field.default is MISSING]
    if missing:
        raise InputError(f"task {label} needs --set {missing[0]}=VALUE: it has no default")
    return {field.name: given.get(field.name, field.default) for field in fields}


def _read(field: TaskField, text: str, label: str) -> Any:
    """Return a text as a setting's value: as it stands, as JSON, or as entries between commas."""
    adapter = _adapt(field, label)
    problem = ""
    for take in (lambda: text, lambda: json.loads(text), lambda: text.split(",")):
        try:
            value = adapter.validate_python(take())
        except ValidationError as error:
            problem = problem or error.errors()[0]["msg"]
            continue
        except ValueError:  # no JSON
            continue
        if isinstance(value, Path):
            value = value.absolute()  # workers, and a continued run, may be in another folder
        if isinstance(value, float) and not math.isfinite(value):
            problem = "a finite number"
            break
        return value
    words = WORDS.get(field.kind) if isinstance(field.kind, type) else None
    said = f"expected {words}" if words else f"{problem[:1].lower()}{problem[1:]}"
    raise InputError(f"set {field.name}: {said}, got {text!r:.100}")


def _adapt(field: TaskField, label: str) -> "TypeAdapter[Any]":
    try:
        return TypeAdapter(field.kind)
    except (PydanticSchemaGenerationError, PydanticUserError):
        raise InputError(
            f"task {label}: setting {field.name} is of type {field.kind!r:.100}, which --set cannot give: use int, "
            "float, bool, str, Literal or a tuple of these"
        ) from None


def dump_settings(fields: Sequence[TaskField], values: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the values of a task's settings as plain values, by name, for the run's record.

    Raises:
        InputError: a value cannot be written.
    """
    plain = {}
    for field in fields:
        try:
            plain[field.name] = _adapt(field, label).dump_python(values[field.name], mode="json", warnings=False)
            json.dumps(plain[field.name], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"task {label}: setting {field.name} cannot be recorded ({error!s:.100})") from None
    return plain
