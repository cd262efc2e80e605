from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.loggers.logger import ShownTraining


class PlainText:
    """Write one line a training into a file of the run directory."""

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        self.file = run / "plain.txt"

    def finish(self, training: ShownTraining) -> None:
        with self.file.open("a") as stream:
            stream.write(f"{training.name} {training.metrics}\n")

    def end(self, run: Path, report: Sequence[Path]) -> None:
        pass
