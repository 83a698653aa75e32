"""`pushfleet why`: what became of a message, for every recipient (contract §7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from common.storage.ledger import ROWS_MAX
from workers.cli.base import CliError, at, opened, print_json
from workers.runtime import Runtime
from workers.vendors.base import uuid_text


@click.command()
@click.argument("message_id", metavar="ID")
@click.argument("user", required=False)
@click.option("--app", "app_id", default=None)
@click.option("--event", "event_id", default=None, help="Another event of this message, by its id.")
@click.option("--json", "as_json", is_flag=True)
def why(message_id: str, user: str | None, app_id: str | None, event_id: str | None, as_json: bool) -> None:
    """Tell the story of a message or call, by its id: who got it, who did not, and why."""
    with opened() as runtime:
        told = story(runtime, message_id, app_id, event_id, user)
    if told is None:
        raise CliError(f"nothing is known of {message_id}: not published, not read yet, or older than the ledger keeps", exit_code=1)
    if as_json:
        print_json(told)
    else:
        print(as_words(told))


def story(
    runtime: Runtime, message_id: str, app: str | None, event_id: str | None, user: str | None, most: int = ROWS_MAX
) -> dict[str, Any] | None:
    """The story in the contract's shape, of at most so many recipients' devices; None when nothing is known."""
    event = runtime.ledger.find(message_id, app, event_id)
    if event is None:
        return None
    rows = [] if event["decision"] else runtime.ledger.rows(event, user, most)
    notes: dict[str, list[Mapping[str, Any]]] = {}  # by user, "": of the whole event
    for note in runtime.ledger.notes(event, user) if rows else ():
        notes.setdefault(note["user"], []).append(note)
    of_all = notes.get("", [])
    return {
        "app": event["app"],
        "message_id": event["message_id"],
        "event_id": event["event_id"],
        "type": event["type"],
        "received_ms": event["received_ms"],
        "decision": event["decision"],
        "recipients": [_recipient(event, row, [*of_all, *notes.get(row["user"], ())]) for row in rows],
    }


def _recipient(event: Mapping[str, Any], row: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """notes: those of the row's person and of the whole event."""
    own = [note for note in notes if note["device"] in ("", row["device"])]
    attempts = json.loads(row["attempts"]) if row["attempts"] else []
    names = ("at_ms", "status", "code", "words", "vendor_message_id")
    return {
        "user": row["user"],
        "device": row["device"] or None,
        "vendor": row["vendor"] or None,
        "business_id": row["business_id"] or None,
        "decision": row["decision"],
        "downgraded": row["downgraded"],
        "class": row["class"],
        "class_sent": row["class_sent"],
        "push_id": uuid_text(row["push_id"]) if row["push_id"] else None,
        "attempts": [dict(zip(names, attempt, strict=True)) for attempt in attempts],
        "steps": _steps(event, row, own),
        "receipts": [{"status": note["note"], "at_ms": note["at_ms"]} for note in own if note["kind"] == "receipt"],
    }


def _steps(event: Mapping[str, Any], row: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages in the order in which they saw it; the last says what was decided, or what it waits for."""
    steps = [{"stage": "intake", "at_ms": event["received_ms"], "note": event["type"]}]
    said = row["decision"] or "waiting"
    words = f"{said}: {row['note']}" if row["note"] else said
    if row["push_id"]:
        steps += _away(row)
        steps += [
            {"stage": "routing", "at_ms": row["routed_ms"], "note": f"to {row['vendor']} {row['business_id']}"},
            {"stage": "delivery", "at_ms": row["decided_ms"], "note": words},
        ]
    elif row["routed_ms"]:
        steps += [*_away(row), {"stage": "routing", "at_ms": row["decided_ms"], "note": words}]
    elif event["type"] == "push.direct":
        steps.append({"stage": "intake", "at_ms": row["decided_ms"], "note": words})
    else:
        steps.append({"stage": "presence", "at_ms": row["decided_ms"], "note": words})
    seen = {(note["stage"], note["at_ms"], note["note"]) for note in notes if note["kind"] == "step"}
    steps += [{"stage": stage, "at_ms": at_ms, "note": note} for stage, at_ms, note in sorted(seen, key=lambda step: step[1])]
    return steps


def _away(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a push to a token nobody's presence was asked."""
    return [{"stage": "presence", "at_ms": row["presence_ms"], "note": "away"}] if row["presence_ms"] else []


def as_words(told: Mapping[str, Any]) -> str:
    """The story for a person."""
    lines = [f"{told['type']} {told['message_id']} of {told['app']} (event {told['event_id']}), received {at(told['received_ms'])}"]
    if told["decision"]:
        lines.append(f"decided at intake: {told['decision']}")
    elif told["type"] in ("message.recalled", "call.ended"):
        lines.append("what it took back stands in the steps of its message's recipients")
    elif not told["recipients"]:
        lines.append("no recipient is decided yet")
    for one in told["recipients"]:
        lane = f"{one['vendor']} {one['business_id']}" if one["vendor"] else "no lane"
        down = f", sent as {one['class_sent']} (downgraded from {one['class']})" if one["downgraded"] else ""
        lines.append(f"\n{one['user']}  {one['device'] or 'no device'}  {lane}: {one['decision'] or 'waiting'}{down}")
        if one["push_id"]:
            lines.append(f"  push {one['push_id']}")
        lines += [f"  {at(at_ms)}  {stage:9} {note}".rstrip() for at_ms, stage, note in in_order(one)]
    return "\n".join(lines)


def in_order(one: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """(ms, stage, words) of all that a recipient's row knows, as it happened."""
    found = [(step["at_ms"], step["stage"], step["note"]) for step in one["steps"]]
    found += [(each["at_ms"], "attempt", f"{each['status']} {each['code']} {each['words']}".strip()) for each in one["attempts"]]
    found += [(each["at_ms"], "receipt", each["status"]) for each in one["receipts"]]
    return sorted(found, key=lambda line: line[0])
