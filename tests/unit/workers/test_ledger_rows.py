"""Decisions of presence as ledger records: one a person, or one a page of people whom no device
came near.
"""

from common.contracts import Message
from common.ledger_records import PageRecord, RowRecord, unpack_users
from common.model import Decision
from tests.builders import stored_message
from workers.handlers.ledger_rows import PAGE_MAX, PAGE_MIN, presence_records
from workers.presence.offline_recipients import Deviceless


def message(event_id: str = "e1") -> Message:
    named = {"event_id": event_id, "received_ms": 2, "expires_at_ms": 3}
    return stored_message("group:g", 1, app="a", **named)


def rows(
    count: int, event_id: str = "e1", decision: Decision = Decision.ONLINE
) -> list[Deviceless]:
    """In two parts, as two chunks of people."""
    names = [f"u{number}" for number in range(count)]
    return [Deviceless(message(event_id), decision, part) for part in (names[:5], names[5:])]


def users(record: object) -> list[str]:
    return (
        unpack_users(record.users)
        if isinstance(record, PageRecord)
        else [record.user]
        if isinstance(record, RowRecord)
        else []
    )


def test_few_people_have_a_record_each_and_many_share_them() -> None:
    found = [type(one) for one in presence_records([], rows(PAGE_MIN - 1), 5, lambda: False)]
    assert found == [RowRecord] * (PAGE_MIN - 1)
    pages = presence_records([], rows(2 * PAGE_MAX + 3), 5, lambda: False)
    assert [one.count for one in pages if isinstance(one, PageRecord)] == [PAGE_MAX, PAGE_MAX, 3]
    seen = [user for one in pages for user in users(one)]
    assert seen == [f"u{number}" for number in range(2 * PAGE_MAX + 3)]


def test_a_ledger_of_a_release_before_pages_gets_a_record_for_each() -> None:
    found = [type(one) for one in presence_records([], rows(PAGE_MIN), 5, lambda: True)]
    assert found == [RowRecord] * PAGE_MIN


def test_events_and_decisions_are_never_mixed_on_a_page() -> None:
    mixed = [*rows(9), *rows(9, "e2"), *rows(9, decision=Decision.SENDER)]
    records = presence_records([], mixed, 5, lambda: False)
    found = {
        (one.event_id, one.decision): users(one) for one in records if isinstance(one, PageRecord)
    }
    everybody = [f"u{number}" for number in range(9)]
    assert found == dict.fromkeys([("e1", "online"), ("e2", "online"), ("e1", "sender")], everybody)
