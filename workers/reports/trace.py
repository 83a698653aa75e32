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
    rows = [] if event["decision"] else runtime.reports.rows(event, user, most)
    notes: dict[str, list[Mapping[str, Any]]] = {}  # by user, "": of the whole event
    for note in runtime.reports.notes(event, user) if rows else ():
        notes.setdefault(note["user"], []).append(note)
    of_all = notes.get("", [])
    return {
        "app": event["app"],
        "message_id": event["message_id"],
        "event_id": event["event_id"],
        "type": event["type"],
        "received_ms": event["received_ms"],
        "decision": event["decision"],
        "recipients": [
            _recipient(event, row, [*of_all, *notes.get(row["user"], ())]) for row in rows
        ],
    }


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
    rows = EventRows(runtime.reports_engine)
    shown, following = (
        ([], None) if event["decision"] else rows.page(event, user, decision, after, most)
    )
    notes: dict[str, list[Mapping[str, Any]]] = {}
    for note in rows.notes(event, sorted({row["user"] for row in shown})) if shown else ():
        notes.setdefault(note["user"], []).append(note)
    event_fields = {
        name: event[name]
        for name in ("app", "message_id", "event_id", "type", "received_ms", "decision")
    }
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
        **event_fields,
        "recipients": recipients,
        "counts": counts,
        "counting": counting,
        "next": following,
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
    elif event["type"] in TYPES and TYPES[event["type"]].way is Way.TOKEN:
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
