"""docs/compatibility.md speaks of tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
NAMED = set(re.findall(r"`(test_\w+)`", DOC))
WRITTEN = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.M)
}


def test_every_named_test_exists():
    assert len(NAMED) > 80
    assert not NAMED - WRITTEN
    assert "planned" not in DOC


def test_every_promise_names_a_test():
    rows = [
        line
        for line in DOC.splitlines()
        if line.startswith("| ") and not line.startswith(("| Promise", "| ---"))
    ]
    assert len(rows) > 80
    found = [row for row in rows if row.count(" | ") != 2 or "`test_" not in row.split(" | ")[1]]
    assert found == []
