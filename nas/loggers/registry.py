"""The loggers by name: ours and those of other packages."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from nas.loggers.logger import Logger
from search_spaces.errors import InputError
from search_spaces.plugins import Plugins, load_plugins, require_callable


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A logger of ours.

    Args:
        place: its class, as module:name.
        module: module of the tracker's library that it imports.
        package: what to install if that is missing.
    """

    place: str
    module: str
    package: str

    def load(self) -> type[Logger]:
        """Import the logger's class."""
        module, _, name = self.place.partition(":")
        logger: type[Logger] = getattr(import_module(module), name)
        return logger


TRACKERS = {
    "tensorboard": BuiltIn("nas.loggers.tensorboard:TensorBoardLogger", "tensorboardX", "tensorboardX tensorboard"),
    "mlflow": BuiltIn("nas.loggers.mlflow:MlflowLogger", "mlflow", "mlflow"),
    "wandb": BuiltIn("nas.loggers.wandb:WandbLogger", "wandb", "wandb"),
    "trackio": BuiltIn("nas.loggers.wandb:TrackioLogger", "trackio", "trackio"),
}


def find_loggers(names: Sequence[str]) -> dict[str, type[Logger]]:
    """Return the classes of loggers by name; the libraries of trackers are not imported yet.

    Raises:
        InputError: there is no such logger, or its tracker is not installed.
    """
    found = {}
    for name in names:
        built_in = TRACKERS.get(name)
        if built_in is None:
            found[name] = _find_plugin(name)
        elif find_spec(built_in.module) is None:
            raise InputError(
                f"--log {name} needs a package that is not installed: pip install {built_in.package}, or go without "
                "it by --log none"
            )
        else:
            found[name] = built_in.load()
    return found


def load_loggers() -> Plugins:
    """Load the loggers of other packages, without a warning of those that cannot be used."""
    return load_plugins("loggers", frozenset(TRACKERS), require_callable)


def _find_plugin(name: str) -> type[Logger]:
    """Return the logger of that name that another package brings.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    plugins = load_loggers()
    logger: type[Logger] | None = plugins.find(name)
    if logger is None:
        *first, last = [*TRACKERS, *plugins.objects]
        raise InputError(f"--log {name}: there is no such tracker; give {', '.join(first)} or {last}")
    return logger
