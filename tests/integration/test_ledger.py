"""The ledger on a real PostgreSQL: how long a row is kept, and how `why` finds and tells it."""

import random
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from common.clock import now_ms
from common.contracts import Attempt
from common.ledger_records import EventRecord, NoteRecord, PageRecord, Record, pack_users
from common.model import Vendor
from common.push_ids import event_tag
from common.storage import sql
from common.storage.ledger import Ledger, day_of
from common.storage.migrations import migrate
from tests.conftest import own_database
from tests.records import accepted_row as row
from tests.records import event_record, note_record
from workers.cli.why import message_trace
from workers.runtime import Runtime

DAY_MS = 86_400_000


@pytest.fixture
def app() -> str:
    return "l" + uuid.uuid4().hex[:10]


def event(
    app: str,
    event_id: str = "e1",
    message_id: str = "m1",
    ts: int | None = None,
    received: int | None = None,
) -> EventRecord:
    now = now_ms()
    return event_record(
        app=app,
        event_id=event_id,
        message_id=message_id,
        ts_ms=ts or now,
        received_ms=received or now,
    )


def note(about: EventRecord, user: str, device: str, words: str) -> NoteRecord:
    named = {
        "app": about.app,
        "event_id": about.event_id,
        "ts_ms": about.ts_ms,
        "at_ms": about.received_ms,
    }
    return note_record(**named, user=user, device=device, note=words)


def told(
    runtime: Runtime,
    app: str,
    message_id: str = "m1",
    event_id: str | None = None,
    user: str | None = None,
) -> Any:
    return message_trace(runtime, message_id, app, event_id, user)


def today() -> date:
    return datetime.now(UTC).date()


def dropped(ledger: Ledger, keep_days: int) -> set[str]:
    return set(ledger.drop_old(today() - timedelta(days=keep_days)))


def parts(ts_ms: int) -> set[str]:
    return {f"{table}_{day_of(ts_ms):%Y%m%d}" for table in ("events", "ledger", "notes")}


@pytest.mark.parametrize("days_ago", [9, 400])
def test_what_was_written_lately_is_kept_however_old_its_event_is(
    runtime: Runtime, app: str, days_ago: int
) -> None:
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


def test_a_ledger_over_its_bytes_loses_its_oldest_days_and_never_todays(
    runtime: Runtime, app: str
) -> None:
    """However young what stands in them is."""
    old, now = now_ms() - 29 * DAY_MS, now_ms()
    runtime.ledger.write([event(app, "old", "old", old), event(app, "new", "new", now)])
    size = sum(size for _, size in runtime.ledger._sizes().values())
    assert runtime.ledger.drop_over(size, today()) == []
    gone = set(runtime.ledger.drop_over(size - 1, today()))
    assert parts(old) <= gone
    assert len({name.rsplit("_", 1)[-1] for name in gone}) == 1
    assert (told(runtime, app, "old"), told(runtime, app, "new")["event_id"]) == (None, "new")
    assert not parts(now) & set(runtime.ledger.drop_over(1, today()))
    runtime.ledger.write([event(app, "again", "again", old)])
    assert told(runtime, app, "again") is not None


def test_history_of_years_makes_no_table_a_day_and_goes_when_it_was_kept_long_enough(
    runtime: Runtime, app: str
) -> None:
    def tables() -> int:
        with runtime.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM pg_inherits").scalar() or 0)

    runtime.ledger.write([event(app, "e0", "m0", now_ms() - 31 * DAY_MS)])
    before = tables()
    old = [
        event(app, f"e{days}", f"m{days}", now_ms() - days * DAY_MS, now_ms() - 8 * DAY_MS)
        for days in range(100, 3_000, 100)
    ]
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
    odd = msgspec.structs.replace(
        row(about), note="400 \0", attempts=(Attempt(about.ts_ms, "400", "\0", "\0", "\0"),)
    )
    runtime.ledger.write([about, odd, note(about, "bob", "phone", "\0")])
    (told_of,) = told(runtime, app)["recipients"]
    assert [step["note"] for step in told_of["steps"]][-2:] == ["accepted: 400 \\0", "\\0"]
    assert len(told_of["attempts"]) == 1


def test_a_row_that_is_too_long_for_its_index_is_no_database_that_is_away(
    runtime: Runtime, app: str
) -> None:
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
    noise = "".join(random.Random(7).choices(letters, k=4_096))
    with pytest.raises(psycopg.DataError) as refused:
        runtime.ledger.write([row(event(app), user=noise)])
    assert not isinstance(refused.value, sql.DATABASE_UNAVAILABLE)


def test_a_named_event_is_one_of_this_message(runtime: Runtime, app: str) -> None:
    now = now_ms()
    first = event(app, "first", received=now)
    runtime.ledger.write([first, event(app, "again", received=now + 1), event(app, "other", "m2")])
    assert told(runtime, app)["event_id"] == "again"
    assert told(runtime, app, event_id="first")["event_id"] == "first"
    assert told(runtime, app, event_id="other") is None
    record = event_record(
        app=app, event_id="back", type="message.recalled", ts_ms=now, received_ms=now + 2
    )
    runtime.ledger.write([record])
    assert told(runtime, app)["event_id"] == "again"
    recall = told(runtime, app, event_id="back")
    assert (recall["type"], recall["recipients"]) == ("message.recalled", [])


def test_each_row_has_its_own_steps_and_a_push_id_as_apples_header_has_it(
    runtime: Runtime, app: str
) -> None:
    about = event(app)
    steps = [
        note(about, "", "", "again: ignored"),
        note(about, "bob", "", "his"),
        note(about, "bob", "pad", "pads"),
        note(about, "eve", "", "hers"),
    ]
    runtime.ledger.write([about, row(about), row(about, device="pad"), row(about, "eve"), *steps])
    found = {
        (one["user"], one["device"]): [step["note"] for step in one["steps"]][4:]
        for one in told(runtime, app)["recipients"]
    }
    assert {key: sorted(words) for key, words in found.items()} == {
        ("bob", "pad"): ["again: ignored", "his", "pads"],
        ("bob", "phone"): ["again: ignored", "his"],
        ("eve", "phone"): ["again: ignored", "hers"],
    }
    seen = {one["push_id"] for one in told(runtime, app, user="eve")["recipients"]}
    assert seen == {"95c67d08-ece7-2512-9789-3ddb2268c6f3"}


# ---------------------------------------------------------------- what is written straight in, and


WORDS = [
    "plain",
    "tab\there",
    "new\nline",
    "back\\slash",
    "\\N",
    "\x01",
    "carriage\rreturn",
    "\\.",
    "emoji 👨‍👩‍👧",
    "汉字",
    "\u200b",
    "",
]


@pytest.mark.parametrize("words", WORDS)
def test_every_text_comes_back_as_it_was(runtime: Runtime, app: str, words: str) -> None:
    about = msgspec.structs.replace(event(app), conversation=f"c2c:{words}", note=words)
    one = msgspec.structs.replace(
        row(about, user=f"u{words}", device=f"d{words}"),
        note=words,
        attempts=(Attempt(at_ms=1, status="200", code=words, words=words, vendor_message_id=None),),
    )
    for again in (False, True):
        runtime.ledger.write([about, one, note(about, one.user, one.device, words)], again)
    (found,) = told(runtime, app)["recipients"]
    assert (found["user"], found["device"]) == (one.user, one.device)
    seen = (found["attempts"][0]["words"], found["attempts"][0]["vendor_message_id"])
    assert seen == (words, None)
    stored = runtime.ledger.find("m1", app, None)
    assert stored is not None
    assert (stored["conversation"], stored["note"]) == (about.conversation, words)


def test_what_is_written_again_changes_nothing_whatever_stands_beside_it(
    runtime: Runtime, app: str
) -> None:
    about = event(app)
    rows = [row(about, user=f"u{number}") for number in range(5)]
    runtime.ledger.write([about, *rows[:3]])
    runtime.ledger.write([about, *rows])  # some are new, some are not
    runtime.ledger.write([*rows, *rows], again=True)
    runtime.ledger.write([*rows, *rows])
    found = [one["user"] for one in told(runtime, app)["recipients"]]
    assert found == [f"u{number}" for number in range(5)]


@pytest.mark.parametrize("another", [False, True], ids=["the same process", "another process"])
@pytest.mark.parametrize("late", [False, True], ids=["in order", "the wait comes late"])
def test_a_wait_becomes_a_decision_and_never_the_other_way(
    runtime: Runtime, app: str, another: bool, late: bool
) -> None:
    about = event(app)
    final = row(about)
    waits = msgspec.structs.replace(final, decision=None, note="waits: rate")
    for each in (final, waits) if late else (waits, final):
        (Ledger(runtime.engine) if another else runtime.ledger).write([about, each])
    both = msgspec.structs.replace(final, user="eve"), msgspec.structs.replace(waits, user="eve")
    runtime.ledger.write([about, *(both if late else both[::-1])])
    assert [one["decision"] for one in told(runtime, app)["recipients"]] == ["accepted", "accepted"]


def page(about: EventRecord, users: list[str], **more: Any) -> PageRecord:
    shown = {
        "decision": "online",
        "message_class": "chat",
        "presence_ms": 5,
        "decided_ms": about.received_ms,
        "note": "",
    }
    named = {
        "app": about.app,
        "event_id": about.event_id,
        "ts_ms": about.ts_ms,
        "count": len(users),
        "users": pack_users(users),
    }
    return PageRecord(**{**shown, **named, **more})  # type: ignore[arg-type]


def test_people_of_a_page_are_told_as_if_each_had_a_row(runtime: Runtime, app: str) -> None:
    about = event(app)
    people = [f"u{number:04d}" for number in range(2_000)]
    for _ in range(2):
        runtime.ledger.write([about, page(about, people), row(about, user="u9999")])
    found = told(runtime, app)["recipients"]
    assert [one["user"] for one in found] == [*people, "u9999"]
    first = found[0]
    note = first["steps"][-1]["note"]
    assert (first["decision"], first["device"], first["class"], first["push_id"], note) == (
        *("online", None, "chat", None),
        "online",
    )
    assert [one["user"] for one in told(runtime, app, user="u0042")["recipients"]] == ["u0042"]
    assert told(runtime, app, user="nobody")["recipients"] == []
    stored = runtime.ledger.find("m1", app, None)
    assert stored is not None
    assert len(runtime.ledger.rows(stored, most=100)) == 100


def test_a_person_on_two_pages_has_one_row_and_one_with_a_row_has_that(
    runtime: Runtime, app: str
) -> None:
    about = event(app)
    runtime.ledger.write(
        [about, page(about, ["a", "b"]), page(about, ["b", "c"]), row(about, user="c", device="")]
    )
    found = told(runtime, app)["recipients"]
    seen = [(one["user"], one["decision"]) for one in found]
    assert seen == [("a", "online"), ("b", "online"), ("c", "accepted")]


def test_pages_count_by_their_people_and_go_with_their_day(runtime: Runtime, app: str) -> None:
    before = runtime.ledger.last_hour(now_ms()).decisions.get("", {}).get("online", 0)
    about = event(app)
    runtime.ledger.write([about, page(about, [f"u{number}" for number in range(70)])])
    assert runtime.ledger.last_hour(now_ms()).decisions[""]["online"] == before + 70
    old = event(app, ts=now_ms() - 9 * DAY_MS, received=now_ms() - 9 * DAY_MS, message_id="old")
    runtime.ledger.write([old, page(old, ["a"], decided_ms=old.received_ms)])
    assert f"pages_{day_of(old.ts_ms):%Y%m%d}" in dropped(runtime.ledger, 7)


@pytest.mark.parametrize(("vendor", "found"), [("huawei", 1), ("vivo", 1), ("apns", 0), ("fcm", 0)])
def test_only_lanes_that_send_receipts_are_looked_up_by_their_push(
    runtime: Runtime, app: str, vendor: str, found: int
) -> None:
    about, push_id = event(app), uuid.uuid4().hex
    runtime.ledger.write(
        [about, msgspec.structs.replace(row(about), vendor=vendor, push_id=push_id)]
    )
    assert len(runtime.ledger.find_pushes([push_id])) == found


# ---------------------------------------------------------------- tables of an earlier version


_OF_VERSION_1 = """
DROP VIEW ledger_all; DROP TABLE pages; DROP INDEX events_by_collapse, ledger_by_tag, events_by_tag, ledger_by_push;
ALTER TABLE events DROP COLUMN collapse; ALTER TABLE ledger DROP COLUMN tag;
CREATE INDEX events_by_tag ON events (tag); CREATE INDEX events_by_conversation ON events (app, conversation, ts_ms);
CREATE INDEX ledger_by_push ON ledger (push_id) WHERE push_id IS NOT NULL;
UPDATE alembic_version SET version_num = '0001'
"""  # noqa: E501


def test_an_upgrade_keeps_what_recalls_and_receipts_look_up(database_url: str, app: str) -> None:
    with own_database(database_url) as url:
        engine = sql.engine(url)
        migrate(engine)
        about = msgspec.structs.replace(event(app), screen='{"collapse_key": "k"}')
        store = Ledger(engine)
        store.write([about, msgspec.structs.replace(row(about), vendor="huawei")])
        with engine.begin() as connection:
            for statement in _OF_VERSION_1.split(";"):
                connection.exec_driver_sql(statement)
            tag = event_tag(app, "e1", "message")
            connection.exec_driver_sql("UPDATE events SET tag = %s", (tag,))
            columns = (
                'app, "user", device_id, platform, vendor, business_id, token, registered_ms, '
                "state, state_ms"
            )
            values = f"'{app}', 'bob', 'phone', 'android', 'huawei', 'ios', 'tok', 0, 'active', 0"
            connection.exec_driver_sql(f"INSERT INTO devices ({columns}) VALUES ({values})")
        migrate(engine)
        assert set(store.find_tagged(app, Vendor.HUAWEI, [(tag, "tok"), ("f" * 32, "tok")])) == {0}
        assert store.covered(
            app, "c2c:ann", about.ts_ms - 1, "k", {("bob", "phone"), ("eve", "phone")}
        ) == {("bob", "phone")}
        later = msgspec.structs.replace(event(app, event_id="e2", message_id="m2"))
        store.write([later, msgspec.structs.replace(row(later), vendor="huawei")])
        assert set(
            store.find_tagged(app, Vendor.HUAWEI, [(event_tag(app, "e2", "message"), "tok")])
        ) == {0}
        engine.dispose()
