"""docs/vendors/clients.md names tests that exist, and every package that runs is pinned in the
version that it names.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "vendors" / "clients.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
][2:]
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_each_row_is_held_by_a_test_that_exists(row):
    name = row[-1].strip("`")
    if name.endswith(".py"):
        assert any(path.name == name for path in TESTS)
    else:
        assert any(f"def {name}(" in text for text in TESTS.values()), name
    assert row[4].startswith(("run", "read"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", row[2])


def test_what_runs_is_pinned_in_the_version_that_the_page_names():
    npm = json.loads(
        (ROOT / "tests" / "integration" / "simulators" / "npm" / "package.json").read_text()
    )["dependencies"]
    lock = (ROOT / "requirements-dev.lock").read_text()
    for row in ROWS:
        if row[4].startswith("run"):
            for name, version in re.findall(r"(@?[\w/-]+) (\d+\.\d+\.\d+)", row[1]):
                assert npm.get(name) == version or f"\n{name}=={version} " in lock, name
