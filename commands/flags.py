"""Flags of commands: those made from the fields of settings, and those that several commands share."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from nas.records.checked import Settings

NETWORK, SPACE = "Network", "Space and strategy"  # as nas.model.candidate and nas.settings.search say it
FINAL = "With --final"
TYPES = ("int", "float", "str", "path")  # in a flag's form, what a value is; other such words are values
VALUE = re.compile(r"[a-z][a-z0-9:-]*")
HEADINGS = ("Arguments", "Options", FINAL, NETWORK, SPACE, "Data", "Training", "Machine")  # in the order of help


def flag(
    text: str,
    heading: str | None = None,
    *names: str,
    form: str | None = None,
    values: Callable[[], Iterable[str]] | None = None,
) -> Any:
    """Return a flag whose help says itself what the default is.

    Args:
        text: help.
        heading: heading under which the help lists the flag.
        names: the flag, where it is not the argument's name.
        form: what the help shows for a value; words in it that are no type are what a shell completes.
        values: function that returns what a shell completes instead.
    """
    words = [word for word in (form or "").strip("<>").split("|") if VALUE.fullmatch(word) and word not in TYPES]
    listed = values or (words.copy if words else None)

    def complete(incomplete: str) -> list[str]:
        return [value for value in (listed or list)() if value.startswith(incomplete)]

    return typer.Option(
        *names,
        help=text,
        rich_help_panel=heading,
        show_default=False,
        metavar=form,
        autocompletion=complete if listed else None,
    )


def list_networks() -> Iterable[str]:
    """Return the names of the published networks."""
    from nas.presets.registry import PRESETS

    return PRESETS


def list_recipes() -> Iterable[str]:
    """Return the names of the training schedules."""
    from nas.presets.recipes import RECIPES

    return RECIPES


def list_measures() -> Iterable[str]:
    """Return the names of all measures."""
    from search_spaces.measures.registry import list_measures

    return [measure.name for measure in list_measures()]


def list_named() -> Iterable[str]:
    """Return the names of the templates that mean something at any depth."""
    from search_spaces.families import FAMILIES
    from search_spaces.templates import TEMPLATES

    return [*TEMPLATES, *FAMILIES]


Run = Annotated[Path, flag("The run directory.", None, "--run")]
Config = Annotated[Path | None, flag("TOML file of settings, with keys named as these flags. Flags win.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show every column of a table, however long its lines are.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the draws.")]
Network = Annotated[
    str | None,
    flag(
        "Use the stem, transitions and sizes of this published network; `networks` lists them. Other flags win. Some "
        "have options, as condensenet-50:groups=2; docs/howto/networks.md.",
        NETWORK,
        values=list_networks,
    ),
]
Budget = Annotated[
    str | None,
    flag(
        "Connections to place: log, total:E or layers:d1,d2,...; the most inputs of a layer and readers of a node may "
        "follow, as in 'total:60;max-in:4;max-out:6'. [default: log]",
        SPACE,
    ),
]
Layers = Annotated[int | None, flag("Number of layers in a block. [default: 24]", NETWORK)]


class Command(TyperCommand):
    """A command whose help lists flags under headings, in lines of 80 columns."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        lines: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            lines[heading].append(_describe(parameter, ctx))
        for heading, described in lines.items():
            if described:
                with formatter.section(heading):
                    formatter.write_dl(described)


def _describe(parameter: Any, ctx: Any) -> tuple[str, str]:
    """Return a parameter with the form of its value, and its help with the default."""
    names, _ = parameter.get_help_record(ctx)
    if parameter.metavar is not None:
        names = f"{', '.join(parameter.opts)} {parameter.metavar}"
    default, said = parameter.default, ""
    if parameter.required:
        said = " [required]"
    elif parameter.show_default and default is not None and default is not False:
        said = _format_default(default)
    return names.replace(" range>", ">"), f"{parameter.help}{said}"


def with_flags_of(place: str, only: frozenset[str] | None = None, base: type[Command] = Command) -> type[Command]:
    """Return a class of commands that have a flag for each field of a model of settings.

    The model is imported when its flags are first needed: the list of commands does not need them. The command's
    function finds the values that were given in its context's `obj`, by the fields' names.

    Args:
        place: the model, as module:name.
        only: fields to take; None for all that are flags.
        base: class that may have flags of another model already.
    """

    class FieldsCommand(base):  # type: ignore[misc, valid-type]
        def get_params(self, ctx: Any) -> list[Any]:
            return [*super().get_params(ctx), *_make_options(place, only)]

        def invoke(self, ctx: Any) -> Any:
            values = {option.name: ctx.params.pop(option.name) for option in _make_options(place, only)}
            ctx.obj = {**(ctx.obj or {}), **read_flags(_load(place), values)}
            return super().invoke(ctx)

    return FieldsCommand


@cache
def _load(place: str) -> "type[Settings]":
    module, _, name = place.partition(":")
    model: type[Settings] = getattr(import_module(module), name)
    return model


@cache
def _make_options(place: str, only: frozenset[str] | None) -> tuple[Any, ...]:
    """Return typer's options for a model's fields: those of a function with an argument for each."""
    arguments = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotate(name, field))
        for name, field in list_flags(_load(place))
        if only is None or name in only
    ]

    def take(**_: Any) -> None:
        """Stand for a function with these arguments."""

    take.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    take.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    app = typer.Typer(add_completion=False)
    app.command()(take)
    return tuple(typer.main.get_command(app).params)


def list_flags(model: "type[Settings]") -> Iterator[tuple[str, "FieldInfo"]]:
    """Yield the fields of a model that are flags, by name."""
    without: frozenset[str] = getattr(model, "without_flags", frozenset())
    for name, field in model.model_fields.items():
        if field.json_schema_extra is not None and name not in without:
            yield name, field


def _annotate(name: str, field: "FieldInfo") -> Any:
    """Return the annotation from which typer makes a field's flag."""
    extra: Any = field.json_schema_extra
    dashed = extra.get("flag", name).replace("_", "-")
    text = f"{field.description}"
    if field.default not in (None, ()) and "[default:" not in text:
        text += _format_default(field.default, extra.get("separator"))
    if field.annotation is bool:
        return Annotated[bool | None, flag(text, extra["heading"], f"--{dashed}/--no-{dashed}")]
    parts = [*_take_apart(field.annotation)]
    names = [part if isinstance(part, str) else part.__name__ for part in parts if part not in (tuple, NoneType, ...)]
    form = extra.get("form", f"<{'|'.join(dict.fromkeys(names))}>")
    kind: Any = list[str] if tuple in parts and "separator" not in extra else str
    choices = [part for part in parts if isinstance(part, str)]
    values = list_named if name == "pattern" else choices.copy if choices and "|" not in form else None
    return Annotated[kind | None, flag(text, extra["heading"], f"--{dashed}", form=form, values=values)]


def _format_default(default: Any, separator: str | None = None) -> str:
    if isinstance(default, tuple):
        default = str(separator).join(map(str, default))
    shown = ("no", "yes")[default] if isinstance(default, bool) else default
    return f" [default: {shown:g}]" if isinstance(shown, float) else f" [default: {shown}]"


def _take_apart(kind: Any) -> Iterator[Any]:
    """Yield the types that a type is made of, and the values that it may have as texts.

    >>> [*_take_apart(Literal["auto", "cpu"] | tuple[int, ...] | None)]
    ['auto', 'cpu', <class 'tuple'>, <class 'int'>, Ellipsis, <class 'NoneType'>]
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        yield from map(str, parts)
    elif origin is None:
        yield kind
    else:
        if origin is tuple:
            yield tuple
        for part in parts[:1] if origin is Annotated else parts:
            yield from _take_apart(part)


def read_flags(model: "type[Settings]", values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the flags that were given, read as their fields' types.

    A text that is not of its field's type stays text, which the model refuses together with all else that is wrong.

    >>> from nas.settings.search import SearchConfig
    >>> read_flags(SearchConfig, {"layers": "x", "workers": "2", "lr_drops": "0.5,0.75", "pattern": ["a"], "lr": None})
    {'layers': 'x', 'workers': 2, 'lr_drops': (0.5, 0.75), 'pattern': ('a',)}
    """
    read: dict[str, Any] = {}
    for name, value in values.items():
        field = model.model_fields[name]
        extra: Any = field.json_schema_extra
        parts = {*_take_apart(field.annotation)}
        if isinstance(value, str) and "separator" in extra:
            value = value.split(extra["separator"])
        if isinstance(value, list) and value:
            read[name] = tuple(_read_number(text, parts) for text in value)
        elif isinstance(value, str | bool):
            read[name] = _read_number(value, parts)
    return read


def _read_number(text: str | bool, kinds: set[Any]) -> Any:
    for kind in (int, float):
        try:
            if kind in kinds:
                return kind(text)
        except ValueError:
            continue
    return text
