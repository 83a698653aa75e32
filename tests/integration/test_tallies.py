"""Counts by minute and hour, and the rows of one event a page at a time, on a real PostgreSQL."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from common.config import Settings
from common.ledger_records import PageRecord, pack_users
from common.storage import event_rows
from common.storage.event_rows import EventRows
from common.storage.migrations import migrate
from common.storage.tallies import MINUTE_MS, SETTLE_MS, SLOTS, percentile
from tests.builders import present
from tests.records import event_record, note_record, row_record
from tests.waiting import eventually
from workers.reports.trace import message_trace, trace_page
from workers.runtime import Runtime

#: A minute of this day, in the past.
T0 = 1_796_000_040_000 // MINUTE_MS * MINUTE_MS
#: From here the minutes of T0 are over and written.
LATER = T0 + 3 * MINUTE_MS + SETTLE_MS


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(settings)
    migrate(runtime.engine)
    with runtime.engine.begin() as connection:
        connection.execute(text("TRUNCATE tallies, events, ledger, notes, pages"))
    yield runtime
    runtime.close()


@pytest.fixture
def app() -> str:
    return "t" + uuid.uuid4().hex[:10]


def about(app: str, event_id: str = "e1", received: int = T0):
    return event_record(
        app=app, event_id=event_id, message_id=f"m-{event_id}", ts_ms=received, received_ms=received
    )


def of(event, **more) -> dict[str, Any]:
    """What a record of this event says of it."""
    return {"app": event.app, "event_id": event.event_id, "ts_ms": event.ts_ms, **more}


def pushed(
    event, user: str, decided: int, decision: str | None = "accepted", vendor: str = "huawei"
):
    named = of(event, user=user, device="phone", vendor=vendor, business_id="hw")
    return row_record(**named, decision=decision, message_class="chat", decided_ms=decided)


def receipt(event, user: str, at: int, note: str):
    named = of(event, user=user, device="phone", note=note)
    return note_record(**named, kind="receipt", stage="receipts", at_ms=at)


def page(event, people: list[str], decision: str = "online"):
    fields = of(event, note="", message_class="chat", decision=decision)
    return PageRecord(
        **fields, presence_ms=T0, decided_ms=T0, count=len(people), users=pack_users(people)
    )


def counted(runtime: Runtime, kind: str, *by: str, **more):
    rows = runtime.tallies.read(kind, T0 - 60 * MINUTE_MS, T0 + 60 * MINUTE_MS, by, **more)
    return {tuple(row[name] for name in by): row["count"] for row in rows}


def test_a_minute_is_counted_by_tenant_vendor_class_and_outcome(runtime, app):
    one, two = about(app), about(app, "e2", T0 + MINUTE_MS)
    rows = [
        pushed(one, "bob", T0 + 400),
        pushed(one, "eve", T0 + 900, "token_dead"),
        pushed(two, "bob", T0 + MINUTE_MS + 7_000),
    ]
    runtime.ledger.write(
        [one, two, *rows, pushed(two, "ann", T0 + 1, None), page(one, ["kim", "lee"])]
    )
    runtime.ledger.write(
        [receipt(one, "bob", T0 + 5_000, "delivered"), receipt(one, "bob", T0 + 6_000, "clicked")]
    )
    while runtime.tallies.count(LATER, None):
        pass
    assert counted(runtime, "event", "app", "name") == {(app, "message.stored"): 2}
    assert counted(runtime, "push", "vendor", "class", "name") == {
        ("huawei", "chat", "accepted"): 2,
        ("huawei", "chat", "token_dead"): 1,
        ("", "chat", "online"): 2,
    }
    found = counted(runtime, "receipt", "app", "vendor", "name")
    assert found == {(app, "huawei", "delivered"): 1, (app, "huawei", "clicked"): 1}
    steps = runtime.tallies.read(
        "push", T0, LATER, ["name"], step_min=1, where={"name": "accepted", "app": app}
    )
    assert [(row["at_ms"], row["count"]) for row in steps] == [(T0, 1), (T0 + MINUTE_MS, 1)]
    counts = runtime.tallies.read("push", T0, LATER, [], slots=True, where={"name": "accepted"})
    slots = {row["slot"]: row["count"] for row in counts}
    assert slots == {3: 1, 7: 1}, "400 ms and 7 s"


def test_what_is_written_late_is_counted_and_nothing_twice(runtime, app):
    one = about(app)
    runtime.ledger.write([one, pushed(one, "bob", T0 + 1)])
    while runtime.tallies.count(LATER, T0 + 30_000):
        pass
    assert counted(runtime, "push", "name") == {("accepted",): 1}
    runtime.ledger.write([pushed(one, "eve", T0 + 2)])
    while runtime.tallies.count(LATER, T0 + 30_000):
        pass
    runtime.tallies.count(LATER, None)
    runtime.tallies.count(LATER, None)
    assert counted(runtime, "push", "name") == {("accepted",): 2}


def test_what_waits_for_the_ledger_at_the_first_count_is_counted_later(runtime, app):
    runtime.tallies.count(LATER, T0)
    one = about(app)
    runtime.ledger.write([one, pushed(one, "bob", T0 + 1)])
    while runtime.tallies.count(LATER + MINUTE_MS, None):
        pass
    assert counted(runtime, "push", "name") == {("accepted",): 1}


def test_old_minutes_become_hours_that_count_the_same(runtime, app):
    one = about(app)
    runtime.ledger.write([one, pushed(one, "bob", T0 + 1), pushed(one, "eve", T0 + MINUTE_MS)])
    while runtime.tallies.count(LATER, None):
        pass
    before = counted(runtime, "push", "app", "vendor", "class", "name")
    runtime.tallies.fold(T0 + 30 * 60 * MINUTE_MS, days=7)
    runtime.tallies.fold(T0 + 30 * 60 * MINUTE_MS, days=7)
    found = counted(runtime, "push", "app", "vendor", "class", "name")
    assert found == before == {(app, "huawei", "chat", "accepted"): 2}
    with runtime.engine.connect() as connection:
        found = set(connection.execute(text("SELECT DISTINCT span FROM tallies")).scalars())
        assert found == {0, 60}
    runtime.tallies.fold(T0 + 8 * 1440 * MINUTE_MS, days=7)
    assert counted(runtime, "push", "app") == {}


@pytest.mark.parametrize(
    ("slots", "share", "expected"),
    [({}, 0.5, None), ({1: 10}, 0.5, 50), ({1: 5, 3: 5}, 0.95, 475), ({11: 1}, 1.0, 600_000)],
)
def test_a_percentile_lies_within_its_slot(slots, share, expected):
    assert percentile(slots, share) == expected
    assert list(SLOTS) == sorted(SLOTS)


def test_the_pages_of_an_event_are_its_whole_story(runtime, app):
    one = about(app)
    people = [f"p{n:03}" for n in range(40)]
    rows = [
        pushed(one, f"u{n:03}", T0 + n, "accepted" if n % 3 else "token_dead") for n in range(30)
    ]
    # somebody of a page has a row of their own since: it counts, the page's does not
    own = row_record(
        app=app,
        event_id="e1",
        ts_ms=T0,
        user="p001",
        device="",
        decision="no_device",
        message_class="chat",
        decided_ms=T0,
    )
    records = [
        one,
        *rows,
        own,
        page(one, people[:25]),
        page(one, people[25:], "online_elsewhere"),
        receipt(one, "u001", T0, "clicked"),
    ]
    runtime.ledger.write(records)
    whole = present(message_trace(runtime, "m-e1", app, None, None))["recipients"]
    found, after = [], None
    while True:
        told = present(trace_page(runtime, "m-e1", app, None, None, after, 7))
        found += told["recipients"]
        assert len(told["recipients"]) <= 7
        if (after := told["next"]) is None:
            break
    by_person = lambda row: (row["user"], row["device"] or "")  # noqa: E731
    assert sorted(found, key=by_person) == sorted(whole, key=by_person)
    ended = {"online": 25, "accepted": 20, "online_elsewhere": 15, "token_dead": 10, "no_device": 1}
    assert told["counts"] == ended


@pytest.mark.parametrize(
    ("user", "decision", "expected"),
    [(None, "token_dead", 10), (None, "online_elsewhere", 1), ("kim", None, 1), (None, "", 1)],
)
def test_a_page_is_narrowed_by_person_and_decision(runtime, app, user, decision, expected):
    one = about(app)
    rows = [
        pushed(one, f"u{n:03}", T0 + n, "accepted" if n % 3 else "token_dead") for n in range(30)
    ]
    of_zoe = pushed(one, "zoe", T0, None)
    runtime.ledger.write(
        [one, *rows, of_zoe, page(one, ["kim"], "online_elsewhere"), page(one, ["lee"])]
    )
    told = present(trace_page(runtime, "m-e1", app, user, decision, None, 100))
    assert len(told["recipients"]) == expected
    assert (
        present(EventRows(runtime.engine).counts(runtime.ledger.find("m-e1", app, None)))[""] == 1
    )


def test_few_rows_are_counted_anew_however_long_the_last_count_took(runtime, app):
    one = about(app)
    runtime.ledger.write([one, pushed(one, "u1", T0, "accepted")])
    found = runtime.ledger.find("m-e1", app, None)
    with runtime.engine.begin() as connection:  # the database is slow for a moment
        connection.exec_driver_sql("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        slow = ThreadPoolExecutor(1).submit(EventRows(runtime.engine).counts, found)
        time.sleep(0.3)
    assert slow.result(60) == {"accepted": 1}
    runtime.ledger.write([pushed(one, "u2", T0, "accepted")])
    assert EventRows(runtime.engine).counts(found) == {"accepted": 2}


def test_who_asks_for_counts_waits_no_longer_than_a_count_may_take(runtime, app, monkeypatch):
    """The table is locked for minutes, and the counters have work for as long."""
    monkeypatch.setattr(event_rows, "PATIENCE_S", 0.3)
    monkeypatch.setattr(event_rows, "WAITING_MAX", 3)
    events = [about(app, str(number)) for number in range(5)]
    runtime.ledger.write(events)
    rows = EventRows(runtime.engine)
    found = [runtime.ledger.find(event.message_id, app, None) for event in events]
    with runtime.engine.begin() as connection, ThreadPoolExecutor(5) as callers:
        connection.exec_driver_sql("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        assert list(callers.map(rows.counts, found)) == [None] * 5
        assert time.monotonic() - began < 20
        assert sum(key[2] == app for key in list(event_rows._under_way)) == 3
    eventually(lambda: not event_rows._under_way)
    assert rows.counts(found[4]) == {}


def test_a_page_does_not_wait_for_its_counts(runtime, app, monkeypatch):
    monkeypatch.setattr(event_rows, "KEPT_FROM_ROWS", 0)
    one = about(app)
    runtime.ledger.write([one, pushed(one, "u1", T0, "accepted")])
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        counts, counting = EventRows(runtime.engine).counts_soon(
            runtime.ledger.find("m-e1", app, None), 0.05
        )
        assert (counts, counting) == (None, True)
    soon = EventRows(runtime.engine).counts_soon(runtime.ledger.find("m-e1", app, None), 10.0)
    assert soon == ({"accepted": 1}, False)
    key = next(key for key in event_rows._counts if key[2] == app)
    event_rows._counts[key] = (0.0, {"accepted": 1})  # too old
    runtime.ledger.write([pushed(one, "u2", T0, "accepted")])
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        soon = EventRows(runtime.engine).counts_soon(runtime.ledger.find("m-e1", app, None), 0.05)
    assert soon == ({"accepted": 1}, True), "the last ones, meanwhile"
    assert EventRows(runtime.engine).counts(runtime.ledger.find("m-e1", app, None)) == {
        "accepted": 2
    }


def test_a_page_that_shows_all_rows_has_their_counts_however_slow_counting_is(
    runtime, app, monkeypatch
):
    """One reading: no row tells another thing than the counts above it."""
    monkeypatch.setattr(event_rows, "WAITING_MAX", 0)  # nothing is counted
    one = about(app)
    runtime.ledger.write([one, *(pushed(one, f"u{n}", T0, "accepted") for n in (1, 2))])
    runtime.ledger.write([pushed(one, "u3", T0, "expired")])
    told = present(trace_page(runtime, "m-e1", app, None, None, None, 3, 0.0))
    assert (told["counts"], told["counting"]) == ({"accepted": 2, "expired": 1}, False)
    assert list(told["counts"]) == ["accepted", "expired"], "the most first"
    for user, decision, rows in ((None, None, 2), ("u1", None, 3), (None, "expired", 3)):
        told = present(trace_page(runtime, "m-e1", app, user, decision, None, rows, 0.0))
        assert (told["counts"], told["counting"]) == (None, True)


def test_what_was_counted_after_the_page_had_gone_is_on_the_next_one(runtime, app):
    """Where each count takes longer than a page waits, loading again shows the count of before."""
    one = about(app)
    runtime.ledger.write([one, pushed(one, "u1", T0, "accepted")])
    event = runtime.ledger.find("m-e1", app, None)
    seen = []
    for _ in range(2):
        with runtime.engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
            seen.append(EventRows(runtime.engine).counts_soon(event, 0.05))
        eventually(lambda: not any(key[2] == app for key in list(event_rows._under_way)))
    assert seen == [(None, True), ({"accepted": 1}, True)]
