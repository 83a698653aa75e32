"""The commands' common part: the runtime, printing, and errors with an exit code."""

from __future__ import annotations

import codecs
import contextlib
import getpass
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from workers.cli import WRONG_USE

if TYPE_CHECKING:
    from workers.runtime import Runtime


class CliError(Exception):
    """One line for the person, and the exit code."""

    def __init__(self, words: str, exit_code: int = WRONG_USE) -> None:
        super().__init__(words)
        self.exit_code = exit_code


class NotThereError(CliError):
    """The named thing does not exist: the command worked, the answer is no (contract §9)."""

    def __init__(self, words: str) -> None:
        super().__init__(words, exit_code=1)


@contextlib.contextmanager
def opened() -> Iterator[Runtime]:
    """The runtime of one command, on the servers of the settings or of the fleet that runs here."""
    # loaded here: `--help` needs none of it, and it takes most of a second
    from common.config import Settings, resolve
    from workers.runtime import Runtime

    runtime = Runtime(resolve(Settings.load()))
    try:
        yield runtime
    finally:
        runtime.close()


def check_tenant(
    runtime: Runtime, app_id: str | None, rows: Sequence[Any], *, as_json: bool
) -> None:
    """NotThereError where nothing is listed as the tenant is not there; a program gets its empty
    list all the same.
    """
    if app_id is not None and not rows and app_id not in runtime.tenants.all():
        if as_json:
            print_json([])
        raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")


def json_of(path: Path, option: str) -> Any:
    """What a JSON file holds; CliError where it is none, or holds what a database can't keep."""
    import msgspec

    from workers.intake.dialects.reading import fit

    try:
        value = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        raise CliError(f"{option} takes a file with a JSON object") from None
    if not fit(value) or _holds_nul(value):
        raise CliError(
            f"{option}: it is nested too deep, or holds U+0000 or a number beyond 64 bits"
        )
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(one) for key, one in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def noted(
    runtime: Runtime, action: str, app: str = "", subject: str = "", result: str = "done"
) -> None:
    """A line of the audit log by who runs this command (common/storage/audit.py)."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        who = str(os.getuid())
    runtime.audit.note(f"cli:{who}", action, app, subject, result)


def program() -> str:
    """This program as typed: `pushfleet` if the PATH leads to it, else its path."""
    typed = Path(sys.argv[0])
    own = typed if typed.name == "pushfleet" else Path(sys.executable).parent / "pushfleet"
    on_path = shutil.which("pushfleet")
    if not own.exists() or (on_path and Path(on_path).samefile(own)):
        return "pushfleet"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


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


def at(ms: int | None) -> str:
    return (
        ""
        if not ms
        else datetime.fromtimestamp(ms / 1000, UTC)
        .astimezone()
        .isoformat(sep=" ", timespec="milliseconds")
    )


def check_zone(tz: str | None, option: str) -> None:
    """CliError where `tz` names no zone of the IANA database."""
    try:
        ZoneInfo(tz or "UTC")
    except (KeyError, ValueError, OSError):
        raise CliError(
            f"{option} takes a zone name such as Asia/Shanghai or Europe/Berlin, not {tz!r}"
        ) from None
