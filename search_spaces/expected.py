"""What a setting, or an entry of a file, is expected to be: its type and limits in words."""

import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Any: "anything"}


def describe_field(field: FieldInfo) -> str:
    """Say what a model's field takes.

    >>> from pydantic import Field, create_model
    >>> model = create_model("M", workers=(Literal["auto"] | Annotated[int, Field(ge=1, le=8)], "auto"))
    >>> describe_field(model.model_fields["workers"])
    'auto or a whole number from 1 to 8'
    """
    return _describe(field.annotation, field.metadata)


def describe_problem(model: type[BaseModel], problem: Any) -> str | None:
    """Say what is wrong with one field, by pydantic's description of it; None where a check of ours has said it.

    Args:
        model: the model that refused the values.
        problem: an entry of ValidationError.errors().
    """
    if problem["type"] == "value_error":
        return None
    if problem["type"] == "missing":
        return "is missing"
    field = _find_field(model, problem["loc"])
    return "no such entry" if field is None else f"expected {describe_field(field)}"


def describe_argument(problem: Any) -> str:
    """Say what is wrong with one argument of the command line, by pydantic's description of it.

    Args:
        problem: an entry of ValidationError.errors(), of a number with limits or of a check with words of its own.
    """
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    limits = problem.get("ctx", {})
    words = {"ge": "or more", "le": "or less"}
    said = [f"{limits[name]} {word}" for name, word in words.items() if name in limits]
    whole = "a whole number" if problem["type"].startswith("int") else "a number"
    return f"expected {said[0] if said else whole}, got {problem['input']!r:.80}"


def _find_field(model: type[BaseModel], place: tuple[int | str, ...]) -> FieldInfo | None:
    """The innermost field of models inside models that a place leads to."""
    found = None
    for name in place:
        by_name = {field.alias or name: field for name, field in model.model_fields.items()}
        if name not in by_name:
            # A key or a number inside a field's value; or, of the outermost value, an entry that no field takes.
            continue
        found = by_name[str(name)]
        inner = [kind for kind in (found.annotation, *get_args(found.annotation)) if _is_model(kind)]
        if not inner:
            break
        model = inner[0]
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _describe(kind: Any, limits: Sequence[Any] = ()) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        noted = [limit for note in parts[1:] for limit in getattr(note, "metadata", [note])]
        return _describe(parts[0], noted)
    if origin is Literal:
        *first, last = map(str, parts)
        return f"{', '.join(first)} or {last}" if first else last
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part, limits) for part in parts if part is not types.NoneType)
    if origin in (list, tuple):
        if len(set(parts)) == 1 and len(parts) > 1:
            return f"{len(parts)} values, each {_describe(parts[0])}"
        least = next((limit.min_length for limit in limits if hasattr(limit, "min_length")), 0)
        return f"a list{f' of {least} or more' if least else ''}, each entry {_describe(parts[0])}"
    if origin is dict:
        return "a table by name" if parts[1] is Any else f"a table by name, each entry {_describe(parts[1])}"
    if _is_model(kind):
        return f"a table of {', '.join(field.alias or name for name, field in kind.model_fields.items())}"
    form = next((limit.pattern for limit in limits if hasattr(limit, "pattern") and limit.pattern), None)
    return WORDS[kind] + (_describe_limits(limits) if form is None else f" of the form {form}")


def _describe_limits(limits: Sequence[Any]) -> str:
    by_name = {
        name: getattr(limit, name) for limit in limits for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    if {"ge", "le"} <= set(by_name):
        return f" from {by_name['ge']} to {by_name['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    said = [f"{word} {by_name[name]}" for name, word in words.items() if name in by_name]
    return f" {' and '.join(said)}" if said else ""
