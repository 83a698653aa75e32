"""`pushfleet dead-letters …`: what could not be done, shown, tried again or
dropped (contract §9).
"""

from __future__ import annotations

import base64
from typing import Any

import click

from common.storage.dead_letters import LISTED_MAX, DeadLetter
from workers.cli.errors import CliError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_json, print_json_rows, print_table
from workers.replay import SEALED, NotReplayableError, replay
from workers.runtime import Runtime

#: Rows of the table that a person reads, unless more are asked for.
TABLE_ROWS = 100

#: Who buries: a wrong name would choose no letter, and say so as if all were well.
STAGES = ("intake", "presence", "routing", "delivery", "ledger", "receipts", "gateway")
_STAGE = click.option("--stage", type=click.Choice(STAGES), help="Those of one stage.")
_APP = click.option("--app", "app_id", help="Those of one tenant, where the tenant is known.")
_IDS = click.argument("ids", nargs=-1, metavar="ID…")
_ALL = click.option(
    "--all", "everything", is_flag=True, help="All of them, or all that --stage and --app choose."
)


@click.group("dead-letters")
def dead_letters() -> None:
    """What could not be done, with its reason."""


@dead_letters.command("list")
@_STAGE
@_APP
@click.option(
    "--limit",
    type=click.IntRange(1, LISTED_MAX),
    help=f"How many.  [default: {TABLE_ROWS}; with --json: {LISTED_MAX}]",
)
@click.option("--json", "as_json", is_flag=True)
def listed(stage: str | None, app_id: str | None, limit: int | None, as_json: bool) -> None:
    """The newest dead letters. --json has their content, too."""
    with opened() as runtime:
        if as_json:
            print_json_rows(
                as_contract(letter)
                for letter in runtime.dead_letters.each(stage, app_id, limit or LISTED_MAX)
            )
            return
        heads = runtime.dead_letters.heads(stage, app_id, limit or TABLE_ROWS)
        rows = [{**row, "at": at(row["at_ms"])} for row in heads]
        count = len(runtime.dead_letters.ids(stage, app_id))
    print_table(["id", "at", "stage", "app", "reason"], rows, "no dead letter")
    if count > len(rows):
        print(f"{count - len(rows)} older ones: --limit N, --stage, --app")


def as_contract(letter: DeadLetter) -> dict[str, Any]:
    """{id, entry_id, stage, reason, app, at_ms, raw}, with `raw_b64` instead of `raw` where the
    bytes are not UTF-8.

    `raw` is null where none of our keys opens the letter.
    """
    shown = {
        name: getattr(letter, name)
        for name in ("id", "entry_id", "stage", "reason", "app", "at_ms")
    }
    if letter.sealed:
        return {**shown, "raw": None}
    try:
        return {**shown, "raw": letter.raw.decode()}
    except UnicodeDecodeError:
        return {**shown, "raw_b64": base64.b64encode(letter.raw).decode()}


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True)
def show(letter_id: str, as_json: bool) -> None:
    """One letter with its content."""
    with opened() as runtime:
        letter = runtime.dead_letters.get(letter_id)
    if letter is None:
        raise _unknown(letter_id)
    shown = as_contract(letter)
    if as_json:
        print_json({**shown, "fields": dict(letter.fields)})
        return
    for name in ("id", "entry_id", "stage", "reason", "app"):
        print(f"{name:<9} {shown[name] or ''}")
    print(f"{'at':<9} {at(letter.at_ms)}")
    for name, value in letter.fields.items():
        print(f"{name:<9} {value}")
    if letter.sealed:
        print(SEALED)
        return
    print(shown.get("raw") or f"{len(letter.raw)} bytes, base64:\n{shown.get('raw_b64', '')}")


@dead_letters.command("replay")
@_IDS
@_ALL
@_STAGE
@_APP
def replayed(ids: tuple[str, ...], everything: bool, stage: str | None, app_id: str | None) -> None:
    """Try letters again, the oldest first: events as fresh entries of the core's stream, the rest
    on its own.
    """
    done, kept = 0, []
    with opened() as runtime:
        for letter_id in _chosen(runtime, ids, everything, stage, app_id):
            try:
                if replay(runtime, letter_id) is None:
                    raise _unknown(letter_id)
                done += 1
            except NotReplayableError as error:
                kept.append(str(error))
        noted(
            runtime,
            "letters replay",
            app_id or "",
            " ".join(ids) or stage or "all",
            f"{done} of {done + len(kept)}",
        )
    print(f"{done} replayed")
    if kept:
        raise CliError("\n".join(kept), exit_code=1)


@dead_letters.command("drop")
@_IDS
@_ALL
@_STAGE
@_APP
def dropped(ids: tuple[str, ...], everything: bool, stage: str | None, app_id: str | None) -> None:
    """Forget letters for good."""
    with opened() as runtime:
        chosen = _chosen(runtime, ids, everything, stage, app_id)
        for letter_id in ids:
            if runtime.dead_letters.get(letter_id) is None:
                raise _unknown(letter_id)
        count = runtime.dead_letters.drop(chosen)
        noted(runtime, "letters drop", app_id or "", " ".join(ids) or stage or "all", str(count))
    print(f"{count} dropped")


def _chosen(
    runtime: Runtime, ids: tuple[str, ...], everything: bool, stage: str | None, app_id: str | None
) -> list[str]:
    """Either ids, or --all with what narrows it."""
    if bool(ids) == everything:
        raise CliError("name letters by their ids, or say --all (with --stage, --app)")
    if ids and (stage or app_id):
        raise CliError("--stage and --app go with --all")
    return list(ids) or runtime.dead_letters.ids(stage, app_id)


def _unknown(letter_id: str) -> CliError:
    return CliError(
        f"no dead letter {letter_id}; there are: pushfleet dead-letters list", exit_code=1
    )
