"""Every link between our pages leads somewhere, and every command that a page names is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workers.cli.commands import FILES

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    wrong = [target for target in targets if target and "://" not in target and not (page.parent / target).exists()]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_commands(page: Path) -> None:
    named = set(re.findall(r"(?:`|\$ |^)(?:\.venv/bin/)?pushfleet ([a-z][a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= set(FILES), named - set(FILES)
