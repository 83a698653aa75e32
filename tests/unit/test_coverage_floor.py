"""`make coverage`: which folders are held at 100 %, and that the floor of the rest is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_the_pure_folders_do_no_io_by_the_import_contract() -> None:
    (pure,) = re.findall(r"^PURE := (.+)$", MAKEFILE, re.MULTILINE)
    contracts = SETTINGS["importlinter"]["contracts"]
    (contract,) = [
        one for one in contracts if one["name"].startswith("Stages and vendors do no I/O")
    ]
    folders = pure.split()
    assert len(folders) >= 2
    assert {folder.replace("/", ".") for folder in folders} <= set(contract["source_modules"])
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_branches_count_and_there_is_a_floor() -> None:
    assert SETTINGS["coverage"]["run"]["branch"] is True
    assert set(SETTINGS["coverage"]["run"]["source"]) == {"common", "workers"}
    assert SETTINGS["coverage"]["report"]["fail_under"] >= 49.7
    assert "--fail-under=100" in MAKEFILE
