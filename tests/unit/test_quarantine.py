"""tests/quarantine.toml: each entry names tests that exist, a day, a reason and who looks; nothing
else is run again.
"""

import datetime
import tomllib
from pathlib import Path

from tests.conftest import QUARANTINE

ROOT = Path(__file__).parents[2]


def test_each_entry_names_tests_a_day_a_reason_and_somebody() -> None:
    for entry in tomllib.loads(QUARANTINE.read_text())["test"]:
        assert set(entry) == {"id", "since", "reason", "who"}
        assert (ROOT / entry["id"].partition("::")[0]).exists(), entry
        assert type(entry["since"]) is datetime.date, entry
        assert len(entry["reason"]) >= 20, entry
        assert entry["who"], entry
        _, _, name = entry["id"].rpartition("::")
        assert (
            "::" not in entry["id"]
            or f"def {name.partition('[')[0]}"
            in (ROOT / entry["id"].partition("::")[0]).read_text()
        )


def test_nothing_else_runs_again() -> None:
    for path in (".ci/run", "Makefile", "pyproject.toml"):
        assert "--reruns" not in (ROOT / path).read_text(), path
