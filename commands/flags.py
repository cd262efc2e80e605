"""Flags of commands: those that are made from the fields of settings, and those that several commands share."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
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
HEADINGS = ("Arguments", "Options", FINAL, NETWORK, SPACE, "Data", "Training", "Machine")  # in the order of help

Run = Annotated[Path, typer.Option("--run", help="The run directory.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Config = Annotated[
    Path | None,
    typer.Option(help="TOML file of settings, with keys named as these flags. Flags win.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the draws.")]


def flag(text: str, heading: str | None = None, *names: str, form: str | None = None) -> Any:
    """Return a flag whose help says itself what the default is."""
    return typer.Option(*names, help=text, rich_help_panel=heading, show_default=False, metavar=form)


Network = Annotated[
    str | None, flag("Published network whose surroundings are used; `networks` lists them. Other flags win.", NETWORK)
]
Budget = Annotated[str | None, flag("Connections to place: log, total:E or layers:d1,d2,... [default: log]", SPACE)]
Layers = Annotated[int | None, flag("Number of layers in a block. [default: 24]", NETWORK)]


class Command(TyperCommand):
    """A command whose help lists flags under headings, in lines of 80 columns."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        lines: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            lines[heading].append((_name(parameter, ctx), _explain(parameter)))
        for heading, records in lines.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _name(parameter: Any, ctx: Any) -> str:
    """Return a parameter as it is given, and the form of its value."""
    names, _ = parameter.get_help_record(ctx)
    if parameter.metavar is not None:
        return f"{', '.join(parameter.opts)} {parameter.metavar}"
    return str(names).replace(" range>", ">")


def _explain(parameter: Any) -> str:
    """Return a parameter's help, and its default unless the help says that itself."""
    if parameter.required:
        return f"{parameter.help} [required]"
    default = parameter.default
    if default is None or default is False or not parameter.show_default:
        return str(parameter.help)
    return (
        f"{parameter.help} [default: {default:g}]"
        if isinstance(default, float)
        else f"{parameter.help} [default: {default}]"
    )


def with_flags_of(module: str, model: str, only: frozenset[str] | None = None) -> type[Command]:
    """Return a class of commands that have a flag for each field of a model of settings.

    The model is imported when the flags are first needed: the list of commands does not need them. The command's
    function finds the values of the flags that were given in its context's `obj`, by the field's name.

    Args:
        module: module of the model.
        model: name of the model.
        only: fields to take; None for all that have a flag.
    """

    class FieldsCommand(Command):
        def get_params(self, ctx: Any) -> list[Any]:
            return [*super().get_params(ctx), *_options(module, model, only)]

        def invoke(self, ctx: Any) -> Any:
            values = {option.name: ctx.params.pop(option.name) for option in _options(module, model, only)}
            ctx.obj = read_flags(getattr(import_module(module), model), values)
            return super().invoke(ctx)

    return FieldsCommand


@cache
def _options(module: str, model: str, only: frozenset[str] | None) -> tuple[Any, ...]:
    """Return typer's options for a model's fields: those of a function with one argument for each."""
    fields = dict(list_flags(getattr(import_module(module), model)))
    arguments = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_describe(name, field))
        for name, field in fields.items()
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
        if isinstance(field.json_schema_extra, dict) and name not in without:
            yield name, field


def _extra(field: "FieldInfo", name: str) -> str | None:
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) and name in extra else None


def _describe(name: str, field: "FieldInfo") -> Any:
    """Return the annotation from which typer makes a field's flag."""
    dashed = (_extra(field, "flag") or name).replace("_", "-")
    text, heading = f"{field.description}{_format_default(field)}", _extra(field, "heading")
    if field.annotation is bool:
        return Annotated[bool | None, flag(text, heading, f"--{dashed}/--no-{dashed}")]
    kind: Any = list[str] if _is_repeated(field) else str
    form = _extra(field, "form") or f"<{_name_form(field.annotation)}>"
    return Annotated[kind | None, flag(text, heading, f"--{dashed}", form=form)]


def _format_default(field: "FieldInfo") -> str:
    default = field.default
    if default is None or "[default:" in (field.description or "") or default == ():
        return ""
    shown = ("no", "yes")[default] if isinstance(default, bool) else default
    if isinstance(default, tuple):
        shown = (_extra(field, "separator") or ",").join(map(str, default))
    return f" [default: {shown:g}]" if isinstance(shown, float) else f" [default: {shown}]"


def _name_form(kind: Any) -> str:
    """Return what help shows for a value of a type.

    >>> _name_form(Literal["auto"] | int), _name_form(tuple[float, ...] | None)
    ('auto|int', 'float')
    """
    if get_origin(kind) is Annotated:
        return _name_form(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    parts = [part for part in get_args(kind) if part not in (NoneType, ...)]
    return "|".join(dict.fromkeys(map(_name_form, parts))) if parts else str(kind.__name__)


def _is_repeated(field: "FieldInfo") -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(get_origin(kind) is tuple for kind in map(_strip, kinds)) and _extra(field, "separator") is None


def _strip(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def read_flags(model: "type[Settings]", values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the flags that were given, read as their fields' types.

    A text that is not of its field's type stays text, which the model refuses together with all else that is wrong.

    >>> from nas.settings.search import SearchConfig
    >>> read_flags(SearchConfig, {"layers": "x", "workers": "2", "lr_drops": "0.5,0.75", "pattern": ["a"], "lr": None})
    {'layers': 'x', 'workers': 2, 'lr_drops': (0.5, 0.75), 'pattern': ('a',)}
    """
    read = {}
    for name, value in values.items():
        if value is None or value in ((), []):
            continue
        field = model.model_fields[name]
        separator = _extra(field, "separator")
        numbers = [kind for kind in (int, float) if kind in _leaves(field.annotation)]
        if isinstance(value, list) or separator is not None:
            parts = value if isinstance(value, list) else value.split(separator)
            read[name] = tuple(_read_number(part, numbers) for part in parts)
        else:
            read[name] = _read_number(value, numbers)
    return read


def _leaves(kind: Any) -> set[Any]:
    parts = get_args(kind)
    return {kind}.union(*map(_leaves, parts)) if parts and get_origin(kind) is not Literal else {kind}


def _read_number(text: Any, kinds: Sequence[Callable[[str], Any]]) -> Any:
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text
