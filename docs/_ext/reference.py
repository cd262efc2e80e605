"""The reference, made from the code: commands with flags and settings, exit codes, schemas, settings of the API."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS = Path(__file__).parents[1] / "reference" / "schemas"
SETTINGS = {
    "search": "nas.settings.search:SearchConfig",
    "study": "nas.settings.study:StudyConfig",
    "compare-networks": "nas.settings.comparison:LineupConfig",
}
MODELS = {"template": "nas.records.template:TemplateFile", "manifest": "nas.export.manifest:Manifest"}


def load(place: str) -> Any:
    """Return what stands at module:name."""
    from importlib import import_module

    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def list_commands() -> Mapping[str, Any]:
    """Return the commands by name."""
    import typer

    from run_search import app

    return dict(vars(typer.main.get_command(app))["commands"])


class _Recorder:
    """A formatter of help that keeps what a command lists, heading by heading."""

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[str, str]]] = {}
        self.heading = ""

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.heading = name
        yield

    def write_dl(self, rows: Sequence[tuple[str, str]], *_: Any, **__: Any) -> None:
        self.parts.setdefault(self.heading, []).extend(rows)


def list_options(name: str, command: Any) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return what the help of a command lists, by heading: names with the form of the value, and text."""
    import typer

    recorder = _Recorder()
    command.format_options(typer.Context(command, info_name=name), recorder)
    return recorder.parts


def format_text(text: str) -> str:
    """Return a help text as Markdown: flags and defaults as code, and nothing else that Markdown would read.

    >>> format_text("Rate of --lr for <x>. [default: 0.1]")
    'Rate of `--lr` for \\\\<x>. Default: `0.1`.'
    """
    text = " ".join(text.split()).replace(" [required]", " Required.")
    text, _, default = text.partition(" [default: ")
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [
        re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", re.sub(r"([*<\[\]_$])", r"\\\1", part)) for part in parts[::2]
    ]
    text = "".join(parts)
    if default:
        value, _, rest = default.partition("]")
        text = f"{text.rstrip()} Default: `{value}`.{format_text(rest) if rest.strip() else ''}"
    return text


def write_commands(_: str) -> Iterator[str]:
    """Yield a table of all commands, each linked to its flags."""
    yield from ("| command | |", "|---|---|")
    for name, command in list_commands().items():
        yield f"| {{ref}}`{name} <command-{name}>` | {format_text(str(command.help).partition(chr(10))[0])} |"


def write_command(name: str) -> Iterator[str]:
    """Yield what a command does and its flags; for * of all commands without a page of their own."""
    commands = list_commands()
    for each in [name] if name != "*" else [each for each in commands if each not in SETTINGS]:
        if name == "*":
            yield from (f"(command-{each})=", f"## {each}", "")
        yield from _describe_command(each, commands[each])


def _describe_command(name: str, command: Any) -> Iterator[str]:
    title, _, rest = inspect.cleandoc(str(command.help)).partition("\n")
    yield from (format_text(title), "")
    for paragraph in re.split(r"\n\s*\n", rest.replace("\b", "").strip()):
        yield from (format_text(paragraph), "")
    keys = _describe_keys(SETTINGS[name]) if name in SETTINGS else {}
    yield from ("```{program} skipsearch " + name, "```", "")
    for heading, rows in list_options(name, command).items():
        rows = [row for row in rows if not re.match(r"(-h, )?--help", row[0])]
        if not rows:
            continue
        if name in SETTINGS:
            yield from (f"## {heading}", "")
        elif heading != "Options":
            yield from (f"**{heading}**", "")
        for names, text in rows:
            yield from _write_option(names, text, keys)


def _write_option(names: str, text: str, keys: Mapping[str, str]) -> Iterator[str]:
    if not names.startswith("-"):
        yield from (f"`{names}`", f": {format_text(text)}", "")
        return
    flags = names.replace(" / ", ", ").replace("/--", ", --")
    yield from (f"````{{option}} {flags}", format_text(text))
    key = keys.get(re.split(r"[ ,=]", flags)[0])
    yield from (*(("", key) if key else ()), "````", "")


def _describe_keys(place: str) -> Mapping[str, str]:
    """Return how each flag is written in a TOML file, and what it takes."""
    import tomli_w

    from commands.flags import list_flags
    from nas.records.checked import describe_field

    keys = {}
    for name, field in list_flags(load(place)):
        extra: Any = field.json_schema_extra
        key = name.replace("_", "-")
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        example = f"`{key}`" if default is None else f"`{tomli_w.dumps({key: default}).strip()}`"
        keys["--" + extra.get("flag", name).replace("_", "-")] = (
            f"In a file: {' '.join(example.split())}, {_escape(describe_field(field))}."
        )
    return keys


def _escape(text: str) -> str:
    return re.sub(r"([*<\[\]_$|`\\])", r"\\\1", text)


def write_exit_codes(_: str) -> Iterator[str]:
    """Yield a table of the exit codes, of which the errors' classes say their own."""
    import signal

    from search_spaces import errors

    rows = {0: "The command did what it was asked to do.", 1: "A bug of ours: run again with `--debug` and report it."}
    for error in vars(errors).values():
        code = getattr(error, "exit_code", None)
        if inspect.isclass(error) and code is not None:
            rows[code] = f"{format_text(inspect.getdoc(error) or '')} From Python: `{error.__name__}`."
    for number in (signal.SIGINT, signal.SIGTERM):
        code = errors.Interrupted(number).exit_code
        rows[code] = f"{(inspect.getdoc(errors.Interrupted) or '').partition('.')[0]}: {number.name}."
    yield from ("| exit code | |", "|---|---|")
    yield from (f"| `{code}` | {text} |" for code, text in sorted(rows.items()))


def make_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of a file: a model's own, or the one that is committed."""
    if name not in MODELS:
        return dict(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))
    model = load(MODELS[name])
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    described = _read_arguments(model)
    for entry, part in schema["properties"].items():
        if "const" not in part:
            part["description"] = described[entry].replace("; see bounds.Certificate", "")
    schema["required"] = list(schema["properties"])  # a default may be left out of what is read, not of what is written
    title = f"{name}.json"
    return {"$schema": DRAFT, **schema, "title": title, "description": (inspect.getdoc(model) or "").splitlines()[0]}


def write_schema(name: str) -> Iterator[str]:
    """Yield a table of a file's entries, and its JSON schema folded below."""
    schema = make_schema(name)
    yield from ("| entry | type | |", "|---|---|---|")
    for entry, part in schema["properties"].items():
        absent = "" if entry in schema["required"] else " May be absent."
        text = format_text(part.get("description", ""))
        yield f"| `{entry}` | {_name_type(part, schema)} | {text}{absent} |"
    yield from (
        "",
        f"````{{dropdown}} JSON schema: {schema['title']}",
        "```json",
        json.dumps(schema, indent=1),
        "```",
        "````",
    )


def _name_type(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _name_type(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return " or ".join(f"`{json.dumps(value)}`" for value in part["enum"])
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_name_type(each, schema) for each in part["anyOf"]))
    kind = part.get("type", "any")
    if kind == "array" and "items" in part:
        return f"array of {_name_type(part['items'], schema)}"
    return kind if isinstance(kind, str) else " or ".join(kind)


def _read_arguments(model: Any) -> Mapping[str, str]:
    """Return what a class's docstring says of each argument, by name."""
    said: dict[str, str] = {}
    _, _, listed = (inspect.getdoc(model) or "").partition("Args:\n")
    for entry in re.split(r"\n {4}(?=\S)", "\n" + listed):
        names, _, text = entry.partition(": ")
        if ";" in text and re.search(r"; (\w+): ", text):  # two on a line
            text, other, rest = re.split(r"; (\w+): ", text, maxsplit=1)
            said[other] = _capitalize(rest)
        said |= {name.strip(): _capitalize(text) for name in names.split(",")}
    return said


def _capitalize(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def add_settings(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Add the list of settings, with their help, to a function of the API that takes them."""
    place = SETTINGS.get(name.rpartition(".")[2])
    if what == "function" and place is not None:
        lines += list_settings(place)


def list_settings(place: str) -> Sequence[str]:
    """Return the settings of a model as lines of reStructuredText."""
    from commands.flags import list_flags
    from skipsearch.words import word_for_python

    lines = ["", ".. rubric:: Settings", ""]
    for field_name, field in list_flags(load(place)):
        if field_name == "task":
            continue
        default = "" if field.default in (None, ()) else f" Default: ``{field.default!r}``."
        text = word_for_python(str(field.description)).replace("May be repeated", "May be a list")
        text = text.replace("*", r"\*").replace("`", "")
        lines += [f"``{field_name}``", f"    {text}{default}", ""]
    return lines


WRITERS = {
    "commands": write_commands,
    "command": write_command,
    "exit-codes": write_exit_codes,
    "schema": write_schema,
}
PLACE = re.compile(rf"^```\{{({'|'.join(WRITERS)})\}} ?(.*)\n```$", re.MULTILINE)


def insert(app: Any, docname: str, source: list[str]) -> None:  # noqa: ARG001
    """Put what is written from the code where a page has a block such as ```{command} search."""
    source[0] = PLACE.sub(lambda place: "\n".join(WRITERS[place[1]](place[2])), source[0])


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx call what is here."""
    app.connect("source-read", insert)
    app.connect("autodoc-process-docstring", add_settings)
    return {"parallel_read_safe": True}
