"""Settings as checked values, whose problems are all reported at once, by the flag's name."""

import difflib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from search_spaces.errors import InputError

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Any: "anything"}

Conflict = tuple[set[str], Callable[[Any], str | None]]  # the fields a check needs, and what it says of them


class Settings(BaseModel):
    """Immutable values that are checked, with all problems reported at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _take_lists(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given  # TOML and JSON have no tuples

    @model_validator(mode="before")
    @classmethod
    def _infer(cls, given: Any) -> Any:
        return cls.infer(given) if isinstance(given, Mapping) else given

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given values, and those that follow from them."""
        return dict(given)

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        """Yield checks of several fields together, each of which returns what is wrong, or None."""
        yield from ()

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        problems = [said for _, check in self.conflicts() if (said := check(self)) is not None]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def flag(default: Any, text: str, heading: str, **rest: str) -> Any:
    """Make a field of settings that is a flag of the command line too.

    Args:
        default: value where none is given.
        text: help, which says what None means where that is the default.
        heading: heading under which the help lists the flag.
        rest: `flag`, the flag's name where it is not the field's; `form`, what the help shows for a value;
            `separator`, what is between the entries of a list (a flag of a list without one may be repeated).
    """
    return Field(default, description=text, json_schema_extra={"heading": heading, **rest})


Model = TypeVar("Model", bound=Settings)


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the model of these values.

    Raises:
        InputError: the values cannot be used; each problem has a line with the flag's name.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
    wrong = {str(problem["loc"][0]) for problem in problems if problem["loc"]}
    # pydantic has a problem for each type that a setting may have and each entry of a list: one line covers them.
    first: dict[object, Any] = {}
    for number, problem in enumerate(problems):
        first.setdefault(problem["loc"][:1] or number, problem)
    lines = [_describe_problem(problem, model) for problem in first.values()]
    if wrong:
        # Checks of several fields have not run yet; those that need none of the wrong ones can.
        known = model.infer(values)
        sound = model.model_construct(
            **{name: _make_value(model, name, value) for name, value in known.items() if name not in wrong}
        )
        checks = (check for needed, check in model.conflicts() if not needed & wrong)
        lines += [said for check in checks if (said := check(sound)) is not None]
    once = dict.fromkeys("\n".join(lines).splitlines())
    raise InputError("these settings cannot be used:\n" + "\n".join(f"  - {line}" for line in once))


def _make_value(model: type[Settings], name: str, value: Any) -> Any:
    """Return a sound value as its field has it: a table becomes settings of its own."""
    kind: Any = model.model_fields[name].annotation
    return TypeAdapter(kind).validate_python(value) if isinstance(value, Mapping) else value


def _describe_problem(problem: Any, model: type[Model]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    name = str(problem["loc"][0])
    flag = name.replace("_", "-")
    if problem["type"] == "extra_forbidden":
        known = [name.replace("_", "-") for name in model.model_fields]
        near = difflib.get_close_matches(flag, known, n=1)
        return f"{flag}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
    said = describe_problem(model, problem) or f"{message[:1].lower()}{message[1:]}"
    return f"{flag}: {said}, got {problem['input']!r:.200}"


def describe_field(field: FieldInfo) -> str:
    """Return what a model's field takes, in words.

    >>> from pydantic import Field, create_model
    >>> model = create_model("M", workers=(Literal["auto"] | Annotated[int, Field(ge=1, le=8)], "auto"))
    >>> describe_field(model.model_fields["workers"])
    'auto or a whole number from 1 to 8'
    """
    return _describe(field.annotation, field.metadata)


def describe_problem(model: type[BaseModel], problem: Any) -> str | None:
    """Return what is wrong with one field, in words; None where a check of ours has its own words.

    Args:
        model: the model that refused the values.
        problem: an entry of pydantic's ValidationError.errors().
    """
    if problem["type"] == "value_error":
        return None
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], str):  # a place in a list is a number
        return "is missing"
    field = _find_field(model, problem["loc"])
    return "no such entry" if field is None else f"expected {describe_field(field)}"


def describe_argument(problem: Any) -> str:
    """Return what is wrong with one argument of the command line, in words.

    Args:
        problem: an entry of pydantic's ValidationError.errors(), of a number with limits or a check with its own words.
    """
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    limits = problem.get("ctx", {})
    words = {"ge": "or more", "le": "or less"}
    said = [f"{limits[name]} {word}" for name, word in words.items() if name in limits]
    whole = "a whole number" if problem["type"].startswith("int") else "a number"
    return f"expected {said[0] if said else whole}, got {problem['input']!r:.80}"


def _find_field(model: type[BaseModel], place: tuple[int | str, ...]) -> FieldInfo | None:
    """Return the innermost field that a place leads to, through models inside models."""
    field = None
    for name in place:
        by_name = {field.alias or name: field for name, field in model.model_fields.items()}
        if name not in by_name:
            # A key or a number inside a field's value; or, of the outermost value, an entry that no field takes.
            continue
        field = by_name[str(name)]
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)]
        if not inner:
            break
        model = inner[0]
    return field


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
