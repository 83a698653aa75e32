"""Ledger records with the usual values of everything that a test does not name."""

from collections.abc import Sequence
from typing import Any

from common.contracts import Attempt
from common.ledger_records import (
    DeadRecord,
    EventColumns,
    EventRecord,
    NoteRecord,
    RowColumns,
    RowRecord,
    decode_records,
)

#: As ours; Apple's header has it with dashes.
PUSH_ID = "95c67d08ece7251297893ddb2268c6f3"


def row_record(**named: Any) -> RowRecord:
    usual: dict[str, Any] = {
        "event_id": "e1",
        "device": "",
        "vendor": "",
        "business_id": "",
        "decision": None,
        "downgraded": False,
        "message_class": "chat",
        "class_sent": None,
        "push_id": None,
        "attempts": (),
        "presence_ms": 0,
        "routed_ms": 0,
        "note": "",
    }
    return RowRecord(**{**usual, **named})


def accepted_row(
    about: EventRecord, user: str = "bob", device: str = "phone", **named: Any
) -> RowRecord:
    """Of a push that Apple took 5 ms after its event came."""
    usual: dict[str, Any] = {"vendor": "apns", "business_id": "ios", "push_id": PUSH_ID}
    usual |= {"app": about.app, "event_id": about.event_id, "ts_ms": about.ts_ms}
    usual |= {"decision": "accepted", "class_sent": "chat", "note": "200"}
    usual |= dict.fromkeys(("presence_ms", "routed_ms", "decided_ms"), about.received_ms + 5)
    return row_record(**{**usual, "user": user, "device": device, **named})


def event_record(**named: Any) -> EventRecord:
    usual: dict[str, Any] = {
        "event_id": "e1",
        "message_id": "m1",
        "type": "message.stored",
        "conversation": "c2c:ann",
        "decision": None,
        "note": "",
    }
    return EventRecord(**{**usual, **named})


def event_columns(events: Sequence[EventRecord]) -> EventColumns:
    """Undecided events of one app and type."""
    return EventColumns(
        app=events[0].app,
        type=events[0].type,
        event_ids=[one.event_id for one in events],
        message_ids=[one.message_id for one in events],
        conversations=[one.conversation for one in events],
        times_ms=[one.ts_ms for one in events],
        received_ms=[one.received_ms for one in events],
    )


def row_columns(rows: Sequence[RowRecord]) -> RowColumns:
    """Accepted rows with one attempt each (`at_once`), alike in all that is no push's own."""
    first, (attempt,) = rows[0], rows[0].attempts
    return RowColumns(
        app=first.app,
        vendor=first.vendor,
        business_id=first.business_id,
        downgraded=first.downgraded,
        message_class=first.message_class,
        class_sent=first.class_sent,
        attempt=(attempt.at_ms, attempt.status, attempt.verdict),
        presence_ms=first.presence_ms,
        routed_ms=first.routed_ms,
        decided_ms=first.decided_ms,
        event_ids=[one.event_id for one in rows],
        times_ms=[one.ts_ms for one in rows],
        users=[one.user for one in rows],
        devices=[one.device for one in rows],
        push_ids=[one.push_id or "" for one in rows],
        vendor_ids=[one.attempts[0].vendor_message_id or "" for one in rows],
    )


def at_once(vendor_id: str = "id-1") -> tuple[Attempt, ...]:
    """The attempts of a push that was accepted at its first."""
    return (Attempt(9, "200", "", "", vendor_id, "accepted"),)


def note_record(**named: Any) -> NoteRecord:
    return NoteRecord(**{"event_id": "e1", "kind": "step", "stage": "delivery", **named})


def dead_record(**named: Any) -> DeadRecord:
    return DeadRecord(**{"entry_id": "1-0", "app": None, "fields": {}, **named})


def fields_of(client: Any, stream: str) -> list[dict[bytes, bytes]]:
    """The entries of a stream, oldest first."""
    return [fields for _, fields in client.xrange(stream)]


def records_of(client: Any, stream: str) -> list[Any]:
    """The records of a ledger's stream, oldest first."""
    return [one for fields in fields_of(client, stream) for one in decode_records(fields[b"b"])]
