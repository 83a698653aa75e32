"""Ledger records with the usual values of everything that a test does not name."""

from typing import Any

from common.ledger_records import DeadRecord, EventRecord, NoteRecord, RowRecord, decode_records

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
