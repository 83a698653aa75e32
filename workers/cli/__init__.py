"""The `pushfleet` command (contract §9): one small file a group of commands; errors that name the
cure; exit codes.

0 done, 1 done but the answer is no, 2 wrong use or configuration, 3 a server can't be reached.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

DONE, NO, WRONG_USE, UNREACHABLE = 0, 1, 2, 3
NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")


def run(arguments: Sequence[str]) -> int:
    """Runs one command; what is wrong is one line on stderr."""
    import click

    from workers.cli.commands import cli
    from workers.cli.help_texts import PROGRAM, made_text

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or a file without some letters
            stream.reconfigure(errors="backslashreplace")
    if any(not _is_typable(one) for one in arguments):
        print("an argument is not UTF-8: type it again, or set LANG=C.UTF-8", file=sys.stderr)
        return WRONG_USE
    if (text := made_text(arguments)) is not None:
        click.echo(text)
        return DONE
    try:
        return cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False) or DONE
    except click.exceptions.Exit as ended:
        return int(ended.exit_code)
    except click.exceptions.Abort:
        return NO
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        refusal = _refusal_of(error)
        if refusal is None:
            raise
        print(refusal[0], file=sys.stderr)
        return refusal[1]


def _is_typable(argument: str) -> bool:
    """Whether an argument is a text; the path of a file may be any bytes."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.path.lexists(argument)
    return True


def _refusal_of(error: Exception) -> tuple[str, int] | None:
    """(one line, exit code) of an error that a person can do something about. The kinds are loaded
    here: `--help` needs none.
    """
    from redis.exceptions import RedisError
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from common.config import SettingError
    from common.running_fleet import NothingRunning
    from common.storage.migrations import SchemaError
    from common.storage.vault import VaultError
    from workers.cli.errors import CliError

    if isinstance(error, CliError | SchemaError | SettingError | VaultError):
        return str(error), getattr(error, "exit_code", WRONG_USE)
    if isinstance(error, NothingRunning):
        return str(error), UNREACHABLE
    if isinstance(error, RedisError):
        return (
            f"Redis can't be reached ({type(error).__name__}): is it running, and is "
            "PUSHFLEET_REDIS_URL right?",
            UNREACHABLE,
        )
    if (
        isinstance(error, ProgrammingError)
        and getattr(error.orig, "sqlstate", None) in NO_SUCH_TABLE_OR_COLUMN
    ):
        return _of_tables(), WRONG_USE
    if isinstance(error, OperationalError):
        return (
            f"PostgreSQL can't be reached ({_why(error)}): is it running, and is "
            "PUSHFLEET_DATABASE_URL right?",
            UNREACHABLE,
        )
    return None


def _of_tables() -> str:
    """Where a replica is asked, too, it may be that one."""
    from common.config import Settings

    words = "the database has not the tables of this version: pushfleet migrate"
    if Settings.load().database_reports_url is None:
        return words
    return f"{words}; PUSHFLEET_DATABASE_REPORTS_URL names a replica of it"


def _why(error: DBAPIError) -> str:
    """The server's own message in one line, without a password.

    An example: the password or the database is wrong.
    """
    from common.logs import scrub

    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return scrub(lines[0])[:200] if lines else type(error.orig).__name__
