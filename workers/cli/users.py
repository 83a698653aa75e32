"""`pushfleet user …`: who may look at the console, and who may act there; and what is stored of a
tenant's person, erased.
"""

from __future__ import annotations

import secrets
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.storage.audit import person_mark
from common.storage.erasure import erase
from common.storage.shards import shard_of
from common.storage.users import NAME, PASSWORD_BYTES_MAX, PASSWORD_CHARACTERS_MIN, ROLES
from workers.cli.account_options import secret_of
from workers.cli.errors import CliError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_list

if TYPE_CHECKING:
    from workers.runtime import Runtime

#: Longest wait for a script's password, seconds.
INPUT_S_MAX = 30.0


def erase_everywhere(runtime: Runtime, app: str, person: str) -> dict[str, int]:
    """As `erase`, in the person's shard: the data in SQL are deleted with it."""
    shard = runtime.shards[shard_of(len(runtime.shards), app, person)]
    return erase(runtime.engine, shard.redis, shard.keys, runtime.dead_letters, app, person)


@click.group()
def user() -> None:
    """People of the console."""


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    required=True,
    help="viewer looks; operator pauses lanes, replays dead letters, retires devices and sends "
    "test pushes, too; admin also adds and rotates accounts.",
)
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Else it is asked for.",
)
def add(name: str, role: str, password_file: Path | None) -> None:
    """Let somebody in, or give them another role and password: their open sessions end.

    Without a terminal the password is the next line of the input; where that is empty, one is made
    and shown.
    """
    if not NAME.fullmatch(name):
        raise CliError("NAME takes 1-64 printable ASCII characters without spaces")
    password, made = (secret_of(password_file, "password"), False) if password_file else _asked()
    if (
        len(password) < PASSWORD_CHARACTERS_MIN
        or len(password.encode("utf-8", "replace")) > PASSWORD_BYTES_MAX
    ):
        raise CliError(
            f"the password takes at least {PASSWORD_CHARACTERS_MIN} characters, and at most "
            f"{PASSWORD_BYTES_MAX} bytes"
        )
    with opened() as runtime:
        new = runtime.users.add(name, role, password)
        noted(runtime, "user added" if new else "user changed", "", name, role)
    print(f"{name} may log in as {role}" if new else f"{name} is {role} now, with the new password")
    if made:
        print(f"the password, shown this once: {password}")


def _asked() -> tuple[str, bool]:
    """The password, and whether we have made it, as a script gave none."""
    if sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True)), False
    given = _line_of_input() if sys.stdin is not None else ""
    return (given, False) if given else (secrets.token_urlsafe(12), True)


def _line_of_input() -> str:
    """A line of input within INPUT_S_MAX: an open pipe may have no writer."""
    try:
        there = bool(select.select([sys.stdin], [], [], INPUT_S_MAX)[0])
    except (OSError, ValueError):  # no file of the system, so it does not wait
        there = True
    if not there:
        raise CliError(
            f"no password came within {INPUT_S_MAX:g} s: --password-file, or a line of input"
        )
    return sys.stdin.readline().strip()


@user.command("list")
@click.option("--json", "as_json", is_flag=True)
def listed(as_json: bool) -> None:
    """Who may log in."""
    with opened() as runtime:
        rows = runtime.users.listed()
    print_list(
        rows,
        ["name", "role", "since"],
        "nobody yet: pushfleet user add NAME --role viewer|operator|admin",
        lambda row: {**row, "since": at(row["created_ms"])},
        as_json=as_json,
    )


@user.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Let somebody in no more: their open sessions end, too."""
    with opened() as runtime:
        if not runtime.users.remove(name):
            raise CliError(f"nobody is called {name}; there are: pushfleet user list", exit_code=1)
        noted(runtime, "user removed", "", name)
    print("removed")


@user.command("erase")
@click.argument("app_id", metavar="APP")
@click.argument("person", metavar="USER")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_person(app_id: str, person: str, yes: bool) -> None:
    """Take a person of a tenant out of every store of the fleet: devices, settings, their rows and
    dead letters.
    """
    if not yes and not click.confirm(f"Delete all that is stored of {person} of {app_id}?"):
        raise click.exceptions.Exit(1)
    with opened() as runtime:
        found = erase_everywhere(runtime, app_id, person)
        noted(runtime, "person erased", app_id, person_mark(app_id, person))
    sealed = found.pop("sealed")
    print(
        ", ".join(f"{store} {count}" for store, count in found.items() if count)
        or "nothing was stored of them"
    )
    print(
        "the core's own keys (presence, members, friends) are the core's; backups keep what "
        "they hold until they are thrown away"
    )
    if sealed:
        raise CliError(
            f"{sealed} dead letters of {app_id}, or of no tenant, may name them: none of the "
            "keys in PUSHFLEET_SECRET_KEYS_FILE opens"
            " them: add the key and erase again, or pushfleet dead-letters drop ID",
            exit_code=1,
        )
