"""Write the committed reports of runs by this version of the program, from the runs' own ledgers.

python scripts/publish.py FOLDER [FOLDER ...] [--run RUN]

Each folder under docs/ has the ledger of a run, study.db.xz, and of a study its plan.json. From these the script
writes index.html, report.md, summary.json, candidates.csv and the figures. --run first puts a run's ledger into the one
folder, without the place where its data lay. A folder with trainings.csv has that in the place of candidates.csv.
"""

import argparse
import contextlib
import json
import lzma
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from shared import DOCS

from analysis.report.report import write_report
from nas.records.database import hash_attributes
from nas.records.safe_files import write_atomic
from nas.records.trial import HASH
from search_spaces.errors import InputError

LEDGER, PACKED = "study.db", "study.db.xz"
WRITTEN = ("index.html", "report.md", "summary.json", "candidates.csv")
SELECT = 'SELECT "key", value_json FROM study_user_attributes'
UPDATE = 'UPDATE study_user_attributes SET value_json = ? WHERE "key" = ?'
SHORT_TABLE = "trainings.csv"  # the columns that cannot be computed from others


def main() -> None:
    """Publish each folder and print what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a folder under docs/")
    parser.add_argument("--run", type=Path, help="the run to keep in the folder first")
    given = parser.parse_args()
    if given.run is not None:
        if len(given.folders) > 1:
            raise InputError(f"--run is one run, and {len(given.folders)} folders are given: give one")
        keep_ledger(given.run, given.folders[0])
    for folder in given.folders:
        for path in publish(folder):
            print(f"wrote {path}")  # noqa: T201


def keep_ledger(run: Path, folder: Path) -> None:
    """Put a run's ledger and plan into a folder; where its data lay on the machine that trained is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        ledger = Path(place) / LEDGER
        with (
            contextlib.closing(sqlite3.connect(f"file:{run / LEDGER}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(ledger)) as kept,
        ):
            source.backup(kept)
            attributes = {name: json.loads(text) for name, text in kept.execute(SELECT)}
            attributes["config"] |= {"data": None} if "data" in attributes["config"] else {}
            attributes[HASH] |= hash_attributes({"config": attributes["config"]})
            kept.executemany(UPDATE, [(json.dumps(attributes[name]), name) for name in ("config", HASH)])
            kept.commit()
            kept.execute("VACUUM")  # or the page would still have the old text
        write_atomic(folder / PACKED, lzma.compress(ledger.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    if (run / "plan.json").is_file():
        shutil.copy(run / "plan.json", folder)


def publish(folder: Path) -> list[Path]:
    """Write a folder's report from its ledger, and remove figures that the report has no more.

    Returns:
        The paths of the files that changed.
    """
    folder = folder.resolve()
    contents = compute(folder)
    for figure in folder.glob("*.svg"):
        if figure.name not in contents:
            figure.unlink()
    changed = [
        folder / name
        for name, content in contents.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    for path in changed:
        write_atomic(path, contents[path.name])
    return changed


def compute(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder's report, by name, as this version of the program writes them."""
    name = "-".join(folder.relative_to(DOCS).parts)
    table = SHORT_TABLE if (folder / SHORT_TABLE).is_file() else "candidates.csv"
    checklist = "../" * len(folder.relative_to(DOCS).parts) + "checklist.md"
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        run = Path("runs", name)  # as the report's commands name it
        run.mkdir(parents=True)
        (run / LEDGER).write_bytes(lzma.decompress((folder / PACKED).read_bytes()))
        if (folder / "plan.json").is_file():
            shutil.copy(folder / "plan.json", run)
        contents = {
            path.name: path.read_bytes() for path in write_report(run) if path.suffix == ".svg" or path.name in WRITTEN
        }
    if table == SHORT_TABLE:
        del contents["candidates.csv"]
    for page in ("index.html", "report.md"):
        text = contents[page].decode().replace("candidates.csv", table)
        for begin, end in (('href="', '"'), ("](", ")")):
            text = text.replace(f"{begin}checklist.md{end}", f"{begin}{checklist}{end}")
        contents[page] = text.encode()
    return contents


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
