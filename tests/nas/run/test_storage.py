"""What is used of Optuna and is not its public interface: here is the only list of it."""

import ast
import sqlite3
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from nas.records.database import STUDY_NAME
from nas.records.metrics import IMAGE_METRICS
from nas.run.storage import open_study
from tests.support.small import ROOT

# Not in RDBStorage's reference. The engine's transaction is lent to the session, so that many writes are one commit.
UNDOCUMENTED = {"engine", "scoped_session", "remove_session"}
# Names of RDBStorage's reference that the ledger calls, where a study's and a trial's own would read more than once.
DOCUMENTED = {
    *("create_new_trial", "get_study_id_from_name", "get_trial", "get_trial_id_from_study_id_trial_number"),
    *("set_trial_state_values", "set_trial_user_attr"),
}
TABLES = {  # read or changed by SQL of our own
    "studies": {"study_id", "study_name"},
    "study_user_attributes": {"study_id", "key", "value_json"},
    "trials": {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"},
    "trial_user_attributes": {"trial_id", "key", "value_json"},
    "trial_intermediate_values": {"trial_id", "step", "intermediate_value", "intermediate_value_type"},
    "trial_params": {"trial_id", "param_name", "param_value", "distribution_json"},  # of the study of patterns
    "trial_values": {"trial_id", "objective", "value", "value_type"},
}


def _attributes_of_storage(file: Path) -> set[str]:
    """Names that a file takes from what it calls a storage."""
    return {
        node.attr
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("storage", "self._storage")
    }


def test_what_is_used_of_optunas_storage_is_listed_and_there(tmp_path: Path) -> None:
    """Written with Optuna 5.0: a version that lacks any of it needs another nas/run/storage.py."""
    assert optuna.__version__.startswith("5.")
    sources = (file for folder in ("nas", "analysis") for file in (ROOT / folder).rglob("*.py"))
    files = [file for file in sources if "import optuna" in file.read_text()]
    assert set().union(*map(_attributes_of_storage, files)) == UNDOCUMENTED | DOCUMENTED
    storage, study = open_study(tmp_path / "study.db", IMAGE_METRICS[0])
    assert study.study_name == STUDY_NAME
    assert isinstance(storage, RDBStorage)
    assert {name for name in UNDOCUMENTED | DOCUMENTED if not hasattr(storage, name)} == set()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        for table, columns in TABLES.items():
            described = connection.execute(f"PRAGMA table_info({table})").fetchall()
            assert columns <= {row[1] for row in described}
    connection.close()
