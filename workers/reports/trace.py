"""The trace of a message for every recipient (contract §7): whole, or a page of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.storage.event_rows import PATIENCE_S, Cursor, EventRows
from common.storage.ledger import ROWS_MAX
from workers.intake.event_types import TYPES, Way
from workers.runtime import Runtime
from workers.vendors.ids import uuid_text

#: Pushes to tokens of one message that are paged: a door names each phone in an event of its own.
TOKENS_MAX = 10_000


def message_trace(
    runtime: Runtime,
    message_id: str,
    app: str | None,
    event_id: str | None,
    user: str | None,
    most: int = ROWS_MAX,
) -> dict[str, Any] | None:
    """The trace in the contract's shape, with `most` devices at most; None if unknown."""
    event = runtime.reports.find(message_id, app, event_id)
    if event is None:
        return None
    of_tokens = event_id is None and _is_of_token(event)
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    if of_tokens:
        pairs += runtime.reports.tokens_of(event, user, most)
    if pairs:
        event = {**event, "decision": None}
    elif not event["decision"]:
        pairs = [(event, row) for row in runtime.reports.rows(event, user, most)]
    return {**_head(event), "recipients": _recipients(runtime, pairs, user)}


def _head(event: Mapping[str, Any]) -> dict[str, Any]:
    names = ("app", "message_id", "event_id", "type", "received_ms", "decision")
    return {name: event[name] for name in names}


def _is_of_token(event: Mapping[str, Any]) -> bool:
    return event["type"] in TYPES and TYPES[event["type"]].way is Way.TOKEN


def _recipients(
    runtime: Runtime, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], user: str | None
) -> list[dict[str, Any]]:
    """pairs: a row and its event, in their order."""
    notes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}  # user "": of the whole event
    of = list({event["event_id"]: event for event, _ in pairs}.values())
    for note in runtime.reports.notes(of, user):
        notes.setdefault((note["event_id"], note["user"]), []).append(note)
    return [
        _recipient(event, row, _notes_of(notes, event["event_id"], row["user"]))
        for event, row in pairs
    ]


def _notes_of(
    notes: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], event_id: str, user: str
) -> list[Mapping[str, Any]]:
    return [*notes.get((event_id, ""), ()), *notes.get((event_id, user), ())]


def trace_page(
    runtime: Runtime,
    message_id: str,
    app: str | None,
    user: str | None,
    decision: str | None,
    after: Cursor | None,
    most: int,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any] | None:
    """The trace of up to `most` rows behind `after`, with `counts` and `next`.

    counts: decision -> rows; None: too many to count. decision: only these rows; "" those that
    wait. patience_s: the longest wait for counts; `counting`: they are still being counted. Nothing
    is counted where all rows are on the page: both then tell of the same moment.
    """
    event = runtime.reports.find(message_id, app, None)
    if event is None:
        return None
    if _is_of_token(event) and (pairs := runtime.reports.tokens_of(event, user, TOKENS_MAX)):
        return _page_of_tokens(runtime, event, pairs, user, decision, after, most)
    rows = EventRows(runtime.reports_engine)
    shown, following = (
        ([], None) if event["decision"] else rows.page(event, user, decision, after, most)
    )
    notes: dict[str, list[Mapping[str, Any]]] = {}
    for note in rows.notes(event, sorted({row["user"] for row in shown})) if shown else ():
        notes.setdefault(note["user"], []).append(note)
    recipients = [
        _recipient(event, row, [*notes.get("", ()), *notes.get(row["user"], ())]) for row in shown
    ]
    is_whole = user is None and decision is None and after is None and following is None
    counts, counting = (
        (_counted(shown), False)
        if is_whole or event["decision"]
        else rows.counts_soon(event, patience_s)
    )
    return {
        **_head(event),
        "recipients": recipients,
        "counts": counts,
        "counting": counting,
        "next": following,
    }


def _page_of_tokens(
    runtime: Runtime,
    event: Mapping[str, Any],
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    user: str | None,
    decision: str | None,
    after: Cursor | None,
    most: int,
) -> dict[str, Any]:
    """The same of pushes to tokens; after, `next`: a row's user and event."""
    wanted = [
        (one, row)
        for one, row in pairs
        if decision in (None, row["decision"] or "")
        and (after is None or (row["user"], row["event_id"]) > after)
    ]
    shown, is_last = wanted[:most], len(wanted) <= most
    last = shown[-1][1] if shown else None
    return {
        **_head({**event, "decision": None}),
        "recipients": _recipients(runtime, shown, user),
        "counts": _counted([row for _, row in pairs]),
        "counting": False,
        "next": None if is_last or last is None else (last["user"], last["event_id"]),
    }


def _counted(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """As EventRows.counts."""
    return dict(Counter(row["decision"] or "" for row in rows).most_common())


def _recipient(
    event: Mapping[str, Any], row: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
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
        "receipts": [
            {"status": note["note"], "at_ms": note["at_ms"]}
            for note in own
            if note["kind"] == "receipt"
        ],
    }


def _steps(
    event: Mapping[str, Any], row: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The stages in their order; the last has the decision, or the cause of the wait."""
    steps = [{"stage": "intake", "at_ms": event["received_ms"], "note": event["type"]}]
    decision = row["decision"] or "waiting"
    words = f"{decision}: {row['note']}" if row["note"] else decision
    if row["push_id"]:
        steps += _away(row)
        steps += [
            {
                "stage": "routing",
                "at_ms": row["routed_ms"],
                "note": f"to {row['vendor']} {row['business_id']}",
            },
            {"stage": "delivery", "at_ms": row["decided_ms"], "note": words},
        ]
    elif row["routed_ms"]:
        steps += [*_away(row), {"stage": "routing", "at_ms": row["decided_ms"], "note": words}]
    elif _is_of_token(event):
        steps.append({"stage": "intake", "at_ms": row["decided_ms"], "note": words})
    else:
        steps.append({"stage": "presence", "at_ms": row["decided_ms"], "note": words})
    seen = {
        (note["stage"], note["at_ms"], note["note"]) for note in notes if note["kind"] == "step"
    }
    steps += [
        {"stage": stage, "at_ms": at_ms, "note": note}
        for stage, at_ms, note in sorted(seen, key=lambda step: step[1])
    ]
    return steps


def _away(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The presence step; a push to a token has none."""
    at_ms = row["presence_ms"]
    return [{"stage": "presence", "at_ms": at_ms, "note": "away"}] if at_ms else []
