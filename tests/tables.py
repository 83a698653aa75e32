"""A test's table as text: a row a line, its cells between bars, as a vendor's page has it."""

import json
import re
from textwrap import dedent
from typing import Any


def cell(text: str) -> Any:
    """JSON; `-` where there is nothing; else the text itself."""
    try:
        return None if text == "-" else json.loads(text)
    except ValueError:
        return text


def table(text: str) -> dict[str, tuple[Any, ...]]:
    """The first cell of each row -> the others. What is indented goes on with the row above."""
    lines = re.sub(r"\n +", " ", dedent(text).strip()).splitlines()
    rows = [[part.strip() for part in line.split(" | ")] for line in lines]
    assert len({row[0] for row in rows}) == len(rows), "two rows of one name"
    return {name: tuple(map(cell, cells)) for name, *cells in rows}


def spaced(text: str) -> list[str]:
    """A long list whose words stand many on a line."""
    return text.split()
