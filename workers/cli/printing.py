"""What commands print: JSON, tables, times."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_Row = Mapping[str, Any]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def print_json_rows(rows: Iterable[Any]) -> None:
    """One array, written as it comes: what has no bound in bytes must not be held in memory."""
    count = 0
    for count, row in enumerate(rows, 1):
        sys.stdout.write(
            ("[" if count == 1 else ",")
            + "\n"
            + json.dumps(row, ensure_ascii=False, indent=1, default=str)
        )
    sys.stdout.write("\n]\n" if count else "[]\n")


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """A table for people; `empty` when there is nothing."""
    if not rows:
        print(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200, soft_wrap=True).print(table)


def print_list(
    rows: Sequence[_Row],
    columns: Sequence[str],
    empty: str,
    shown: Callable[[_Row], Mapping[str, Any]] = lambda row: row,
    *,
    as_json: bool,
) -> None:
    """The rows for a program, or a table of what is `shown` of each."""
    if as_json:
        print_json(rows)
    else:
        print_table(columns, [shown(row) for row in rows], empty)


def at(ms: int | None) -> str:
    return (
        ""
        if not ms
        else datetime.fromtimestamp(ms / 1000, UTC)
        .astimezone()
        .isoformat(sep=" ", timespec="milliseconds")
    )
