"""The command line: its list of commands, and how errors and signals end it."""

import atexit
import gc
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

try:
    import skipsearch  # noqa: F401
except ImportError as error:  # another module has the name of one of our packages: said before any of them is imported
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(2)

from commands import files, patterns, runs, scores, speed, tables, training
from commands.flags import Command, with_flags_of
from nas.records.shown import name_program


class Commands(TyperGroup):
    """The commands, whose arguments are refused in our words where typer has pydantic's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            list_problems = getattr(error.__cause__, "errors", None)
            if list_problems is not None:
                from nas.records.checked import describe_argument

                error.message = describe_argument(list_problems()[0])
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, str(command and command.help).partition("\n")[0]) for name, command in commands])


app = typer.Typer(
    cls=Commands,
    name="skipsearch",
    help="Neural architecture search over where skip connections go.",
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=name_program() == "skipsearch",  # a shell completes the words after a command, not after python
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take [default: 24] for a style, and boxes leave no room at 80 columns
)


def _show_version(is_asked: bool) -> None:
    if not is_asked:
        return
    from nas.settings.environment import describe_versions

    versions = describe_versions(("torch",))
    commit = "" if versions["commit"] == "unknown" else f" at {versions['commit']}"
    torch = versions.get("torch", "not installed")
    print(f"skipsearch {versions['skipsearch']}{commit}, Python {versions['python']}, torch {torch}")  # noqa: T201
    raise typer.Exit


@app.callback()
def take_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


NETWORK_FLAGS = with_flags_of("nas.model.candidate:NetworkConfig")
SCORE_FLAGS = with_flags_of("nas.settings.search:SearchConfig", scores.BATCH_FLAGS, NETWORK_FLAGS)
for name, function, kind in (
    ("search", training.search, with_flags_of("nas.settings.search:SearchConfig")),
    ("study", training.study, with_flags_of("nas.settings.study:StudyConfig")),
    ("compare-networks", training.compare_networks, with_flags_of("nas.settings.comparison:LineupConfig")),
    ("status", runs.status, Command),
    ("report", runs.report, Command),
    ("export", files.export, NETWORK_FLAGS),
    ("verify", files.verify, Command),
    ("score", scores.score, SCORE_FLAGS),
    ("recommend", patterns.recommend, Command),
    ("optimize", patterns.optimize, Command),
    ("sample", patterns.sample, Command),
    ("networks", scores.networks, Command),
    ("strengths", runs.strengths, Command),
    ("pattern-from-strengths", runs.pattern_from_strengths, Command),
    ("correlate", tables.correlate, Command),
    ("compare-strategies", tables.compare_strategies, Command),
    ("plugins", scores.plugins, Command),
    ("bench", speed.bench, with_flags_of("nas.settings.search:SearchConfig", frozenset({"device"}))),
):
    app.command(name, cls=kind)(function)


def main() -> None:
    """Run the command line; errors go to standard error, each class with its exit code."""
    from nas.records.shown import find_output_error, guard_outputs

    guard_outputs()
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Cyclic garbage is looked for in all that was loaded, again and again: a quarter of the time of importing torch and
    # the others, and a second at the interpreter's end.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app(arguments)
    except Exception as error:
        if debug:
            raise
        fail(error)
    except BaseException as reason:
        if not hasattr(reason, "exit_code"):
            lost = find_output_error()
            if lost is not None and isinstance(reason, SystemExit) and not reason.code:
                fail(OSError(lost.errno, lost.strerror, "standard output"))
            raise
        print("interrupted", file=sys.stderr, flush=True)  # noqa: T201
        sys.stdout.flush()
        os._exit(reason.exit_code)  # interrupted in its start, Ray may abort when the interpreter takes it down


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001  the signal module's form
    from search_spaces.errors import Interrupted

    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def fail(error: Exception) -> None:
    """Print an error in words and end with the exit code of its class."""
    from commands.terminal import show_message

    code, advice = getattr(error, "exit_code", None), ""
    if code is not None:
        text = str(error)
    elif isinstance(error, OSError):
        code = 3
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    else:
        code = 1
        text = f"a bug of ours, {type(error).__name__}: {error}"
        advice = "\nrun again with --debug and report it"
    print(f"error: {show_message(text)}{advice}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
