"""The ledger on a real PostgreSQL: how long a row is kept, and how `why` finds and tells it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from common.clock import now_ms
from common.config import Settings
from common.contracts import Attempt
from common.ledger_records import EventRecord, NoteRecord, Record, RowRecord
from common.storage import sql
from common.storage.ledger import Ledger, day_of
from common.storage.migrations import migrate
from tests.records import event_record, note_record, row_record
from workers.cli.why import story
from workers.runtime import Runtime

DAY_MS = 86_400_000
PUSH_ID = "95c67d08ece7251297893ddb2268c6f3"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(settings)
    migrate(runtime.engine)
    yield runtime
    runtime.close()


@pytest.fixture
def app() -> str:
    return "l" + uuid.uuid4().hex[:10]


def event(app: str, event_id: str = "e1", message_id: str = "m1", ts: int | None = None, received: int | None = None) -> EventRecord:
    now = now_ms()
    return event_record(app=app, event_id=event_id, message_id=message_id, ts_ms=ts or now, received_ms=received or now)


def row(about: EventRecord, user: str = "bob", device: str = "phone", decided: int | None = None) -> RowRecord:
    at = decided or about.received_ms
    return row_record(
        app=about.app,
        event_id=about.event_id,
        ts_ms=about.ts_ms,
        user=user,
        device=device,
        vendor="apns",
        business_id="ios",
        decision="accepted",
        class_sent="chat",
        push_id=PUSH_ID,
        presence_ms=at,
        routed_ms=at,
        decided_ms=at,
        note="200",
    )


def note(about: EventRecord, user: str, device: str, words: str) -> NoteRecord:
    named = {"app": about.app, "event_id": about.event_id, "ts_ms": about.ts_ms, "at_ms": about.received_ms}
    return note_record(**named, user=user, device=device, note=words)


def told(runtime: Runtime, app: str, message_id: str = "m1", event_id: str | None = None, user: str | None = None) -> Any:
    return story(runtime, message_id, app, event_id, user)


def today() -> date:
    return datetime.now(UTC).date()


def dropped(ledger: Ledger, keep_days: int) -> set[str]:
    return set(ledger.drop_old(today() - timedelta(days=keep_days)))


def parts(ts_ms: int) -> set[str]:
    return {f"{table}_{day_of(ts_ms):%Y%m%d}" for table in ("events", "ledger", "notes")}


@pytest.mark.parametrize("days_ago", [9, 400])
def test_what_was_written_lately_is_kept_however_old_its_event_is(runtime: Runtime, app: str, days_ago: int) -> None:
    long_ago = now_ms() - days_ago * DAY_MS
    about = event(app, ts=long_ago)
    runtime.ledger.write([about, row(about), note(about, "bob", "phone", "recall: accepted")])
    assert not dropped(runtime.ledger, 7) & parts(long_ago)
    assert [one["decision"] for one in told(runtime, app)["recipients"]] == ["accepted"]


def test_an_old_day_goes_whole_when_nothing_in_it_is_young(runtime: Runtime, app: str) -> None:
    old = now_ms() - 12 * DAY_MS
    about = event(app, ts=old, received=old)
    late: list[Record] = [event(app, "e2", "m2", old - DAY_MS, old - DAY_MS)]
    runtime.ledger.write([about, row(about), *late])
    assert dropped(runtime.ledger, 7) >= parts(old)
    assert told(runtime, app, "m2") is None


def test_history_of_years_makes_no_table_a_day_and_goes_when_it_was_kept_long_enough(runtime: Runtime, app: str) -> None:
    def tables() -> int:
        with runtime.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM pg_inherits").scalar() or 0)

    runtime.ledger.write([event(app, "e0", "m0", now_ms() - 31 * DAY_MS)])
    before = tables()
    old = [event(app, f"e{days}", f"m{days}", now_ms() - days * DAY_MS, now_ms() - 8 * DAY_MS) for days in range(100, 3_000, 100)]
    runtime.ledger.write([*old, *(row(about) for about in old)])
    runtime.ledger.write([row(old[0])])
    assert tables() == before
    assert [one["decision"] for one in told(runtime, app, "m300")["recipients"]] == ["accepted"]
    runtime.ledger.drop_old(today() - timedelta(days=7))
    assert told(runtime, app, "m300") is None
    assert told(runtime, app, "m0") is not None


def test_a_day_that_another_process_dropped_is_made_again(runtime: Runtime, app: str) -> None:
    old = now_ms() - 20 * DAY_MS
    runtime.ledger.write([event(app, ts=old, received=old)])
    assert set(Ledger(runtime.engine).drop_old(today() - timedelta(days=7))) >= parts(old)
    runtime.ledger.write([event(app, "e2", ts=old)])
    assert told(runtime, app)["event_id"] == "e2"


def test_a_vendors_code_with_a_nul_in_it_loses_no_row(runtime: Runtime, app: str) -> None:
    about = event(app)
    odd = msgspec.structs.replace(row(about), note="400 \0", attempts=(Attempt(about.ts_ms, "400", "\0", "\0", "\0"),))
    runtime.ledger.write([about, odd, note(about, "bob", "phone", "\0")])
    (told_of,) = told(runtime, app)["recipients"]
    assert [step["note"] for step in told_of["steps"]][-2:] == ["accepted: 400 \\0", "\\0"]
    assert len(told_of["attempts"]) == 1


def test_a_row_that_is_too_long_for_its_index_is_no_database_that_is_away(runtime: Runtime, app: str) -> None:
    noise = "".join(random.Random(7).choices("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_", k=4_096))
    with pytest.raises(psycopg.DataError) as refused:
        runtime.ledger.write([row(event(app), user=noise)])
    assert not isinstance(refused.value, sql.AWAY)


def test_a_named_event_is_one_of_this_message(runtime: Runtime, app: str) -> None:
    now = now_ms()
    runtime.ledger.write([event(app, "first", received=now), event(app, "again", received=now + 1), event(app, "other", "m2")])
    assert told(runtime, app)["event_id"] == "again"
    assert told(runtime, app, event_id="first")["event_id"] == "first"
    assert told(runtime, app, event_id="other") is None
    runtime.ledger.write([event_record(app=app, event_id="back", type="message.recalled", ts_ms=now, received_ms=now + 2)])
    assert told(runtime, app)["event_id"] == "again"
    recall = told(runtime, app, event_id="back")
    assert (recall["type"], recall["recipients"]) == ("message.recalled", [])


def test_each_row_has_its_own_steps_and_a_push_id_as_apples_header_has_it(runtime: Runtime, app: str) -> None:
    about = event(app)
    steps = [
        note(about, "", "", "again: ignored"),
        note(about, "bob", "", "his"),
        note(about, "bob", "pad", "pads"),
        note(about, "eve", "", "hers"),
    ]
    runtime.ledger.write([about, row(about), row(about, device="pad"), row(about, "eve"), *steps])
    found = {(one["user"], one["device"]): [step["note"] for step in one["steps"]][4:] for one in told(runtime, app)["recipients"]}
    assert {key: sorted(words) for key, words in found.items()} == {
        ("bob", "pad"): ["again: ignored", "his", "pads"],
        ("bob", "phone"): ["again: ignored", "his"],
        ("eve", "phone"): ["again: ignored", "hers"],
    }
    assert {one["push_id"] for one in told(runtime, app, user="eve")["recipients"]} == {"95c67d08-ece7-2512-9789-3ddb2268c6f3"}
