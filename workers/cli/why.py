"""`pushfleet why`: what became of a message, for every recipient (contract §7)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from common.storage.dead_letters import DeadLetter
from workers.cli.errors import NotThereError
from workers.cli.opening import opened
from workers.cli.printing import at, print_json
from workers.intake.event_types import TYPES
from workers.reports.trace import message_trace as message_trace
from workers.runtime import Runtime

#: Interval of `--wait`, seconds; dead letters that are searched for an id, the newest first.
LOOK_S = 0.2
LETTERS_SEARCHED = 2000
#: Cures of a dead letter's reasons.
CURES = {
    "unknown_app": "its `app` is no tenant: pushfleet app add APP",
    "no_app": "it names no tenant and there are several: the stream entry's field `app`",
    "app_conflict": "entry, query and body name different tenants",
    "unknown_type": "its `type` is none of the contract's",
}


@click.command()
@click.argument("message_id", metavar="ID")
@click.argument("user", required=False)
@click.option("--app", "app_id", default=None)
@click.option("--event", "event_id", default=None, help="Another event of this message, by its id.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=0.0,
    help="Seconds to wait for a decision on each recipient.",
)
@click.option("--json", "as_json", is_flag=True)
def why(
    message_id: str,
    user: str | None,
    app_id: str | None,
    event_id: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Show the trace of a message or call, by its id: who got it, who did not, and why."""
    with opened() as runtime:
        trace = decided_trace(
            runtime, message_id, app_id, time.monotonic() + wait_s, event_id, user
        )
        is_open = trace is None or (user is None and _has_nothing_of(trace))
        letters = letters_of(runtime, message_id, app_id, event_id) if is_open else []
    if trace is None and not letters:
        raise NotThereError(_nothing_known(message_id, event_id))
    if as_json:
        more = {"dead_letters": letters} if letters else {}
        print_json({**trace, **more} if trace else _refused_trace(message_id, letters))
    else:
        told = [as_words(trace)] if trace else []
        print("\n".join([*told, *([letters_as_words(message_id, letters)] if letters else [])]))
    if user is not None and trace and _has_nothing_of(trace):
        raise NotThereError(f"{message_id} has nothing of {user}: no recipient, or not read yet")


def _nothing_known(message_id: str, event_id: str | None) -> str:
    causes = "not published, not read yet, or older than the ledger keeps"
    if event_id is None:
        return f"nothing is known of {message_id}: {causes}"
    return (
        f"nothing is known of event {event_id} of {message_id}: {causes}; "
        f"without --event: what is known of {message_id}"
    )


def _has_nothing_of(trace: Mapping[str, Any]) -> bool:
    """Whether the trace, perhaps one person's, tells of nobody.

    A recall or the end of a call names no person: what it took back stands in other rows.
    """
    quiet = trace["type"] in TYPES and TYPES[trace["type"]].trace
    return not (trace["recipients"] or trace["decision"] or quiet)


def decided_trace(
    runtime: Runtime,
    message_id: str,
    app: str | None,
    until: float,
    event_id: str | None = None,
    user: str | None = None,
) -> dict[str, Any] | None:
    """The trace once each recipient that is known has a decision, or a dead letter names it; until:
    monotonic, at the latest.
    """
    while True:
        trace = message_trace(runtime, message_id, app, event_id, user)
        rows = trace["recipients"] if trace else []
        final = trace and (trace["decision"] or (rows and all(row["decision"] for row in rows)))
        if (
            final
            or time.monotonic() >= until
            or (trace is None and letters_of(runtime, message_id, app, event_id))
        ):
            return trace
        time.sleep(LOOK_S)


def letters_of(
    runtime: Runtime, message_id: str, app: str | None, event_id: str | None = None
) -> list[dict[str, Any]]:
    """[{id, stage, reason, app, at_ms}] of the newest dead letters of this id.

    The id is a message's, call's or event's. event_id: only those that name this event, too. Where
    no event can be read in a letter, or its fields are a cloud's own, any text of it counts.
    """
    wanted = [_spellings(one) for one in (message_id, event_id) if one is not None]
    found = []
    for letter in runtime.dead_letters.each(None, None, LETTERS_SEARCHED):
        of_app = app is None or letter.app in (None, app)
        named = of_app and all(any(name in letter.raw for name in names) for names in wanted)
        if named and _may_be_of(letter, message_id, event_id):
            found.append(
                {name: getattr(letter, name) for name in ("id", "stage", "reason", "app", "at_ms")}
            )
    return found


def _spellings(name: str) -> set[bytes]:
    """As the core writes it, and as it travels between the stages."""
    core = {json.dumps(name).encode(), json.dumps(name, ensure_ascii=False).encode()}
    return core | {msgspec.msgpack.encode(name)}


def _may_be_of(letter: DeadLetter, message_id: str, event_id: str | None) -> bool:
    """False where a native event can be read and an id is none of its own, but a tenant's, a
    person's or a wrong value's.
    """
    if letter.fields.get("d", "native") != "native":
        return True
    try:
        event = json.loads(letter.raw)
    except (ValueError, RecursionError):
        return True
    if not isinstance(event, dict):
        return True
    own = [event.get("id")]
    for holder in (event, event.get("data")):
        if isinstance(holder, dict):
            own += [holder.get("message_id"), holder.get("call_id")]
    return message_id in own and event_id in (None, event.get("id"))


def _refused_trace(message_id: str, letters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The contract's shape for what never came past its first stage, with its dead letters."""
    last = letters[0]
    shape = {
        "app": last["app"],
        "message_id": message_id,
        "event_id": None,
        "type": None,
        "received_ms": last["at_ms"],
    }
    return {**shape, "decision": None, "recipients": [], "dead_letters": list(letters)}


def letters_as_words(message_id: str, letters: Sequence[Mapping[str, Any]]) -> str:
    """For a person: why it is a dead letter, and what to do."""
    lines = [f"{message_id} is a dead letter: it was refused, nobody got it"]
    for letter in letters:
        cure = CURES.get(letter["reason"].partition(":")[0], "")
        lines.append(
            f"  {at(letter['at_ms'])}  {letter['stage']:9} {letter['reason']}"
            + (f": {cure}" if cure else "")
        )
        lines.append(f"  its content: pushfleet dead-letters show {letter['id']}")
        lines.append(f"  once it is cured: pushfleet dead-letters replay {letter['id']}")
    return "\n".join(lines)


def as_words(trace: Mapping[str, Any]) -> str:
    """The trace for a person."""
    lines = [
        f"{trace['type']} {trace['message_id']} of {trace['app']} (event "
        f"{trace['event_id']}), received {at(trace['received_ms'])}"
    ]
    if trace["decision"]:
        lines.append(f"decided at intake: {trace['decision']}")
    elif trace["type"] in TYPES and TYPES[trace["type"]].trace:
        lines.append(TYPES[trace["type"]].trace)
    elif not trace["recipients"]:
        lines.append("no recipient is decided yet")
    for one in trace["recipients"]:
        lane = f"{one['vendor']} {one['business_id']}" if one["vendor"] else "no lane"
        down = (
            f", sent as {one['class_sent']} (downgraded from {one['class']})"
            if one["downgraded"]
            else ""
        )
        lines.append(
            f"\n{one['user']}  {one['device'] or 'no device'}  {lane}: "
            f"{one['decision'] or 'waiting'}{down}"
        )
        if one["push_id"]:
            lines.append(f"  push {one['push_id']}")
        lines += [
            f"  {at(at_ms)}  {stage:9} {note}".rstrip() for at_ms, stage, note in in_order(one)
        ]
    return "\n".join(lines)


def in_order(one: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """(ms, stage, text) of all that a recipient's row has, in order."""
    found = [(step["at_ms"], step["stage"], step["note"]) for step in one["steps"]]
    found += [
        (each["at_ms"], "attempt", f"{each['status']} {each['code']} {each['words']}".strip())
        for each in one["attempts"]
    ]
    found += [(each["at_ms"], "receipt", each["status"]) for each in one["receipts"]]
    return sorted(found, key=lambda line: line[0])
