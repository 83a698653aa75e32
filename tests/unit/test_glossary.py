"""The glossary names files that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_of_the_glossary_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []
