"""An event's only row stands in the event's own: what is read is the same, whatever came in
whatever order.
"""

import contextlib
import functools
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.event import listens_for

from common.clock import now_ms
from common.config import Settings
from common.contracts import Attempt, encode
from common.ledger_records import EventRecord, Record
from common.model import Decision
from common.storage import keys
from common.storage.erasure import erase
from common.storage.leases import JointLease, Lease
from common.storage.ledger import FENCE_CLASS, Fence, NotTheWriterError, day_of
from common.storage.ledger_copy import RANK
from common.storage.migrations import migrate
from common.storage.streams import Entry
from common.storage.unavailable import store_unavailable
from tests.records import accepted_row as row
from tests.records import at_once, event_columns, event_record, row_columns
from tests.waiting import eventually
from workers.maintenance import ledger_writer, role
from workers.maintenance.ledger_writer import HOLD_S, READ_MAX, LedgerHandler, LedgerWriter
from workers.runtime import Runtime
from workers.upkeep import Upkeep


@pytest.fixture(autouse=True)
def _short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits for its stream sees soon that it is to stop."""
    monkeypatch.setattr(ledger_writer, "BLOCK_MS", 100)


@pytest.fixture
def another(runtime: Runtime) -> Iterator[Runtime]:
    """Another process of the same fleet."""
    other = Runtime(runtime.settings)
    yield other
    other.close()


@pytest.fixture
def app() -> str:
    return "o" + uuid.uuid4().hex[:10]


TODAY_MS = now_ms() // 86_400_000 * 86_400_000


def stored(app: str, event_id: str, **named: Any) -> EventRecord:
    now = now_ms()
    return event_record(
        app=app, event_id=event_id, message_id=f"m-{event_id}", ts_ms=now, received_ms=now, **named
    )


def rows_in(table: str, runtime: Runtime, app: str) -> int:
    counted = text(f"SELECT count(*) FROM {table} WHERE app = :app")
    with runtime.engine.connect() as connection:
        return int(connection.execute(counted, {"app": app}).scalar_one())


in_ledger, events_of = (functools.partial(rows_in, table) for table in ("ledger", "events"))


def told(runtime: Runtime, app: str) -> list[tuple[Any, ...]]:
    with runtime.engine.connect() as connection:
        query = text(
            'SELECT event_id, "user", device, decision, note FROM ledger_all WHERE app = :app'
        )
        found = connection.execute(query, {"app": app})
        return sorted(tuple(one) for one in found)


def test_a_row_that_comes_with_its_event_stands_there_with_all_its_columns(
    runtime: Runtime, app: str
) -> None:
    about = stored(app, "e1", screen='{"collapse_key": "a\\tb"}')
    tries = (Attempt(about.ts_ms, "200", "", 'a "word"\t\\', "id-1", "accepted"),)
    mine = row(about, user="böb\\", attempts=tries, downgraded=True, note="line\nfeed")
    runtime.ledger.write([about, mine])
    assert in_ledger(runtime, app) == 0
    found = runtime.ledger.find("m-e1", app, None)
    assert found is not None
    assert (found["collapse"], found["decision"]) == ("a\tb", None)
    (seen,) = runtime.ledger.rows(found)
    other = stored(app, "e2", screen=about.screen)
    runtime.ledger.write([other])
    runtime.ledger.write(
        [row(other, user="böb\\", attempts=tries, downgraded=True, note="line\nfeed")]
    )
    (apart,) = runtime.ledger.rows(runtime.ledger.find("m-e2", app, None) or {})
    assert in_ledger(runtime, app) == 1
    times = {"event_id", "presence_ms", "routed_ms", "decided_ms", "day"}
    shown = {name: seen[name] for name in seen.keys() - times}
    assert shown == {name: apart[name] for name in apart.keys() - times}
    assert seen.keys() == apart.keys()


@pytest.mark.parametrize(
    "named",
    [
        {"vendor": "xiaomi", "decision": "accepted"},  # its receipts ask for the row by its push
        {"decision": None, "note": "waits: throttled"},
    ],
)
def test_what_is_looked_up_by_its_push_or_not_final_stands_apart(
    runtime: Runtime, app: str, named: dict[str, Any]
) -> None:
    about = stored(app, "e1")
    runtime.ledger.write([about, row(about, **named)])
    assert in_ledger(runtime, app) == 1
    assert len(told(runtime, app)) == 1


def test_a_later_word_of_the_same_device_is_merged_and_of_another_is_added(
    runtime: Runtime, app: str
) -> None:
    about = stored(app, "e1")
    runtime.ledger.write([about, row(about, decision="uncertain", note="silent")])
    runtime.ledger.write([row(about, device="pad")])
    pad = ("e1", "bob", "pad", "accepted", "200")
    assert told(runtime, app) == [pad, ("e1", "bob", "phone", "uncertain", "silent")]
    runtime.ledger.write([row(about)])
    runtime.ledger.write([row(about, decision="no_device", note="late")])
    assert told(runtime, app) == [pad, ("e1", "bob", "phone", "accepted", "200")]


@pytest.mark.parametrize("as_columns", [False, True])
@pytest.mark.parametrize("decisions", [["accepted"], [None, "accepted"]], ids=["at once", "waited"])
def test_a_row_that_came_before_its_event_and_comes_again_with_it_is_one_row(
    runtime: Runtime, app: str, decisions: list[str | None], as_columns: bool
) -> None:
    about = event_record(
        app=app, event_id="e1", ts_ms=TODAY_MS, received_ms=7, message_id="m", conversation="c2c:a"
    )
    mine = row(about, decided_ms=TODAY_MS + 5, attempts=at_once())
    for decision in decisions:
        runtime.ledger.write([msgspec.structs.replace(mine, decision=decision)])
    both: list[Record] = [about, mine]
    if as_columns:
        both = [event_columns([about]), row_columns([mine])]
    for _ in range(2):
        runtime.ledger.write(both)
        assert [one[:4] for one in told(runtime, app)] == [("e1", "bob", "phone", "accepted")]
    assert events_of(runtime, app) == 1


@pytest.mark.parametrize("seed", [*range(6), 103])
def test_any_order_any_repeats_give_each_device_its_highest_row(
    runtime: Runtime, app: str, seed: int
) -> None:
    random_of = random.Random(seed)
    best: dict[tuple[str, str, str], tuple[int, str]] = {}
    records: list[Record] = []
    for number in range(40):
        about = stored(app, f"e{number}")
        records.append(about)
        for user in random_of.sample(["ann", "bob", "eve"], random_of.choice([1, 1, 1, 2, 3])):
            for decision in random_of.sample(
                ["accepted", "uncertain", "no_device", None], random_of.choice([1, 1, 2])
            ):
                records.append(row(about, user, decision=decision))
                rank = RANK[Decision(decision)] if decision else 10
                best[(about.event_id, user, "phone")] = max(
                    best.get((about.event_id, user, "phone"), (0, "")), (rank, decision or "")
                )
    for _ in range(4):  # neighbours swap: outcomes before their events, and far behind them
        place = random_of.randrange(len(records) - 3)
        records[place : place + 3] = reversed(records[place : place + 3])
    while records:
        size = random_of.randint(1, 30)
        batch, records = records[:size], records[size:]
        runtime.ledger.write(batch)
        if random_of.random() < 0.3:
            runtime.ledger.write(batch, again=random_of.random() < 0.5)
    expected = sorted((*name, decision or None) for name, (_, decision) in best.items())
    assert [one[:4] for one in told(runtime, app)] == expected
    assert runtime.ledger.counts()[0] >= len([one for one in expected if one[3]])


#: What of one of three pushes in columns, or of all, is not as usual; how many rows stand apart.
ODD: dict[str, tuple[dict[str, Any], int]] = {
    "nothing": ({}, 0),
    "no class": ({"class_sent": None}, 0),
    "a tab": ({"user": "a\tb"}, 0),
    "a backslash": ({"device": "a\\"}, 0),
    "a NUL": ({"user": "a\0b"}, 0),
    "the sign of NULL": ({"user": "a\x01"}, 0),
    "a quote": ({"attempts": at_once('"')}, 0),
    "an id beyond ASCII": ({"attempts": at_once("多")}, 0),
    "another time": ({"ts_ms": TODAY_MS + 1}, 1),
    "receipts": ({"vendor": "xiaomi"}, 3),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("beside", ["nothing", "event", "row", "second row", "wait"])
def test_what_comes_in_columns_is_stored_as_if_it_came_singly(
    runtime: Runtime, app: str, odd: str, beside: str
) -> None:
    named, apart = ODD[odd]
    tables = []
    for own, packed in ((app, True), (f"{app[:-1]}-", False)):
        events = [
            event_record(app=own, event_id=f"e{n}", ts_ms=TODAY_MS, received_ms=7, message_id="m")
            for n in range(3)
        ]
        common: dict[str, Any] = {"decided_ms": TODAY_MS + 5, "attempts": at_once()}
        common |= {name: value for name, value in named.items() if name in ("class_sent", "vendor")}
        rows = [row(one, **common) for one in events]
        rows[1] = row(events[1], **{**common, **named})
        given: list[Record] = [*events, *rows]
        if packed:
            given = [event_columns(events), row_columns(rows)]
        if beside == "event":
            given.append(msgspec.structs.replace(events[0], event_id="e9"))
        elif beside == "row":
            given.append(msgspec.structs.replace(rows[0], event_id="e9"))
        elif beside == "second row":
            given.append(msgspec.structs.replace(rows[0], device="pad"))
        elif beside == "wait":
            runtime.ledger.write([msgspec.structs.replace(rows[0], decision=None)])
        runtime.ledger.write(given)
        more = {"row": 1, "second row": 2, "wait": 1}.get(beside, 0)
        assert in_ledger(runtime, own) == min(apart + more, 3 + (beside in ("row", "second row")))
        tables.append(stored_rows(runtime, own))
        runtime.ledger.write(given, again=odd == "nothing")
        tables.append(stored_rows(runtime, own))
    assert all(one == tables[0] for one in tables)
    assert len(tables[0]) == 6 + (beside in ("event", "row", "second row"))


def stored_rows(runtime: Runtime, app: str) -> list[list[tuple[str, str]]]:
    """All events and rows, in whichever table the rows stand."""
    events = (
        "day, event_id, message_id, type, conversation, ts_ms, received_ms, decision, note, screen"
    )
    with runtime.engine.connect() as connection:
        found = [
            sorted((name, str(value)) for name, value in one.items() if name not in ("app", "tag"))
            for statement in (f"SELECT {events} FROM events", "SELECT * FROM ledger_all")
            for one in connection.execute(
                text(f"{statement} WHERE app = :app"), {"app": app}
            ).mappings()
        ]
    return sorted(found)


@pytest.mark.parametrize("columns", [False, True])
def test_an_outcome_within_a_second_meets_its_event(
    runtime: Runtime, app: str, columns: bool
) -> None:
    writer = LedgerWriter(runtime)
    add = runtime.streams.redis.xadd
    early, late = stored(app, "e1"), stored(app, "e2")
    stream = runtime.keys.stream(keys.LEDGER)
    add(stream, {"b": encode([event_columns([early, late])] if columns else [early, late])})
    first = row(early, attempts=at_once())
    add(stream, {"b": encode([row_columns([first])] if columns else [first])})
    writer.turn()  # e1 is met; e2 waits its time
    assert {one[0] for one in told(runtime, app)} <= {"e1"}
    add(stream, {"b": encode([row(late)])})
    while writer.consumer.holds or runtime.streams.redis.xlen(stream):
        writer.turn()
    assert [one[0] for one in told(runtime, app)] == ["e1", "e2"]
    assert in_ledger(runtime, app) <= 1, "the first's row stands in its event"
    runtime.ledger.write([early, late, row(early), row(late)], again=True)
    assert [one[0] for one in told(runtime, app)] == ["e1", "e2"]


def hold_back(runtime: Runtime, app: str, writer: LedgerWriter) -> str:
    """The writer holds events back for their outcomes; the stream's key."""
    stream = runtime.keys.stream(keys.LEDGER)
    about = [stored(app, f"e{number}") for number in range(3)]
    runtime.streams.redis.xadd(stream, {"b": encode([about[0], row(about[0])])})
    runtime.streams.redis.xadd(stream, {"b": encode(about[1:])})
    writer.turn()
    return stream


def test_what_is_held_is_written_when_the_writer_stops(runtime: Runtime, app: str) -> None:
    stopped = [False]
    writer = LedgerWriter(runtime, lambda: stopped[0])
    stream = hold_back(runtime, app, writer)
    stopped[0] = True
    writer.turn()
    assert not writer.consumer.holds
    assert (events_of(runtime, app), runtime.streams.redis.xlen(stream)) == (3, 0)


def test_what_is_held_goes_to_the_next_writer_when_another_has_the_role(
    runtime: Runtime, another: Runtime, app: str
) -> None:
    writer = LedgerWriter(runtime)
    stream = hold_back(runtime, app, writer)
    writer.rest()
    assert not writer.consumer.holds
    other = LedgerWriter(another)
    eventually(lambda: not runtime.streams.redis.xlen(stream), 60, other.turn)
    assert events_of(runtime, app) == 3


def test_an_outcome_that_is_written_before_an_older_one_with_its_event_makes_no_second_row(
    runtime: Runtime, app: str
) -> None:
    """A store was away: what was read then was given back, and comes after what came behind it."""
    writer = LedgerWriter(runtime)
    stream = runtime.keys.stream(keys.LEDGER)
    about = stored(app, "e1")
    runtime.streams.redis.xadd(stream, {"b": encode([about, row(about, decision="uncertain")])})
    runtime.streams.release(runtime.streams.read([keys.LEDGER], 10))
    runtime.streams.redis.xadd(stream, {"b": encode([row(about)])})
    writer.consumer._reclaim_at = float("inf")
    writer.turn()
    writer.consumer._reclaim_at = 0.0
    writer.turn()
    assert told(runtime, app) == [("e1", "bob", "phone", "accepted", "200")]


@contextlib.contextmanager
def standing_still_at_its_commit(runtime: Runtime) -> Iterator[threading.Event]:
    """The runtime's next commit of rows waits until the block ends. Yields: it does."""
    stands, goes_on = threading.Event(), threading.Event()

    @listens_for(runtime.engine, "commit")
    def wait(_connection: Any) -> None:
        stands.set()
        goes_on.wait(60)

    try:
        yield stands
    finally:
        goes_on.set()


@contextlib.contextmanager
def standing_still_in_its_statement(runtime: Runtime) -> Iterator[threading.Event]:
    """The runtime's writer waits for a table until the block ends, and may write no more."""
    stands = threading.Event()
    with runtime.engine.connect() as connection:
        connection.execute(text("LOCK TABLE events IN SHARE MODE"))
        stands.set()
        yield stands
        connection.rollback()


def write_all(writer: LedgerWriter, lease: Lease, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done() and time.monotonic() < end:
        lease.hold()
        writer.consumer._reclaim_at = 0.0
        writer.turn(lease)


@pytest.mark.parametrize(
    "standing_still", [standing_still_in_its_statement, standing_still_at_its_commit]
)
def test_a_writer_that_stood_still_writes_nothing_beside_the_next_one(
    runtime: Runtime, another: Runtime, app: str, standing_still: Any
) -> None:
    """Neither sees what the other has not committed: one push would have two rows."""
    stream = runtime.keys.stream(keys.LEDGER)
    slow, next_ = (
        Lease(runtime.redis, runtime.keys, f"ledger-{app}", lease_ms)
        for lease_ms in (1_300, 20_000)
    )
    about = stored(app, "e1")
    for one in (runtime, another):
        one.ledger.ready_for(day_of(about.ts_ms))
    runtime.streams.redis.xadd(stream, {"b": encode([about, row(about, decision="uncertain")])})
    first, second = LedgerWriter(runtime), LedgerWriter(another)
    raised = list[BaseException]()

    def turn() -> None:
        try:
            first.turn(slow)
        except store_unavailable() as error:
            raised.append(error)

    with standing_still(runtime) as stands:
        assert slow.hold()
        still = threading.Thread(target=turn)
        still.start()
        assert stands.wait(60)
        while not next_.hold():
            time.sleep(0.05)
        runtime.streams.redis.xadd(stream, {"b": encode([row(about)])})
        second.turn(next_)
    still.join(60)
    assert len(raised) == 1
    write_all(second, next_, lambda: not runtime.streams.redis.xlen(stream))
    assert told(runtime, app) == [("e1", "bob", "phone", "accepted", "200")]


def test_a_writer_without_the_role_does_not_end_the_one_after_it(
    runtime: Runtime, another: Runtime, app: str
) -> None:
    """The lock passed from one holder to the next after this writer had seen it held."""
    lock = {"class": FENCE_CLASS, "key": 7}
    take = text("SELECT pg_advisory_xact_lock(:class, :key)")
    about = stored(app, "e1")
    runtime.ledger.ready_for(day_of(about.ts_ms))
    with another.engine.connect() as before, another.engine.connect() as after:
        before.execute(take, lock)
        has_role = [True, False]

        def may() -> bool:
            if len(has_role) == 2:
                before.rollback()
                after.execute(take, lock)
            return has_role.pop(0)

        with pytest.raises(NotTheWriterError):
            runtime.ledger.write([about], fence=Fence(7, may))
        assert after.execute(text("SELECT 1")).scalar() == 1, "it goes on"


def test_what_can_not_be_read_takes_no_row_of_its_neighbours_with_it(
    runtime: Runtime, app: str
) -> None:
    """An event waits on for its outcome, what came in its entry is written meanwhile, and an entry
    beside it breaks that.
    """
    writer, stream = LedgerWriter(runtime), runtime.keys.stream(keys.LEDGER)
    first, waits, whole = stored(app, "e0"), stored(app, "e1"), stored(app, "e2")

    def comes_later() -> None:
        runtime.streams.redis.xadd(stream, {"b": encode([waits, whole, row(whole)])})
        runtime.streams.redis.xadd(stream, {"b": b"\xc1"})

    runtime.streams.redis.xadd(stream, {"b": encode([first])})
    later = threading.Timer(HOLD_S / 2, comes_later)
    later.start()
    writer.turn()  # the first has waited its time, what came later has not
    later.join()
    eventually(
        lambda: not (writer.consumer.holds or runtime.streams.redis.xlen(stream)), 60, writer.turn
    )
    assert [one[0] for one in told(runtime, app)] == ["e2"]
    assert runtime.ledger.find("m-e1", app, None)


def test_no_event_waits_for_an_outcome_that_came_before_it_in_a_read(
    runtime: Runtime, app: str
) -> None:
    """Its row from another shard's stream, or that it was decided as a whole."""
    rowed, ended, waits = (stored(app, name) for name in ("e1", "e2", "e3"))
    whole = stored(app, "e2", decision="no_device")
    entries = [
        Entry(keys.LEDGER, f"1-{number}".encode(), encode(records))
        for number, records in enumerate(([row(rowed)], [rowed], [ended], [whole], [waits]))
    ]
    handler = LedgerHandler(runtime)
    handler.gather(entries)
    assert handler.hold(entries) == entries[-1:]


def test_who_is_erased_stands_in_no_event_either(runtime: Runtime, app: str) -> None:
    first, second = stored(app, "e1"), stored(app, "e2")
    runtime.ledger.write(
        [first, row(first), second, row(second, user="eve"), row(first, device="pad")]
    )
    with runtime.engine.begin() as connection:  # other tests' letters are under other keys
        connection.execute(text("DELETE FROM dead_letters"))
    found = erase(runtime.engine, runtime.redis, runtime.keys, runtime.dead_letters, app, "bob")
    assert found["ledger"] == 2
    assert [one[:3] for one in told(runtime, app)] == [("e2", "eve", "phone")]
    with runtime.engine.connect() as connection:
        left = connection.execute(
            text("SELECT count(row_device) FROM events WHERE app = :app"), {"app": app}
        ).scalar_one()
    assert left == 1


def test_the_writer_of_all_shards_waits_for_one_that_serves_a_shard_by_itself(
    settings_with: Callable[..., Settings], database_url: str, app: str
) -> None:
    """A process of the release before has a lease, a thread and a writer for each shard."""
    settings = settings_with(
        DATABASE_URL=database_url, SECRET_KEYS=Fernet.generate_key().decode(), SHARDS="3"
    )
    before, now = Runtime(settings), Runtime(settings)
    migrate(before.engine)
    shard, about = before.shards[1], stored(app, "e1")
    for one in (before, now):
        one.ledger.ready_for(day_of(about.ts_ms))
    stream = shard.keys.stream(keys.LEDGER)
    own = Lease(shard.redis, shard.keys, "ledger", 20_000)
    joint = JointLease(now.redis, [one.keys for one in now.shards], "ledger", 20_000)
    first, second = LedgerWriter(shard), LedgerWriter(now, shards=now.shards)
    shard.redis.xadd(stream, {"b": encode([about, row(about, decision="uncertain")])})
    with before.engine.connect() as connection:
        connection.execute(text("LOCK TABLE events IN SHARE MODE"))
        assert own.hold()
        still = threading.Thread(target=first.turn, args=(own,))
        still.start()
        time.sleep(0.5)
        assert not joint.hold()
        connection.rollback()
    still.join(60)
    own.give_back()
    shard.redis.xadd(stream, {"b": encode([row(about)])})
    assert joint.hold()
    assert joint.left_s > 19
    second.turn(joint)
    assert told(now, app) == [("e1", "bob", "phone", "accepted", "200")]
    joint.give_back()
    assert all(one.hold() for one in (own, Lease(shard.redis, now.shards[2].keys, "ledger", 1_000)))
    before.close()
    now.close()


def test_a_row_s_first_state_that_lags_behind_its_last_one_makes_no_second_row(
    runtime: Runtime, app: str
) -> None:
    """It came in another shard's stream than the other, which lanes of many shards share."""
    about = stored(app, "e1")
    runtime.ledger.write([event_columns([about]), row_columns([row(about, attempts=at_once())])])
    assert not in_ledger(runtime, app)
    runtime.ledger.write([row(about, decision=None, note="waits: throttled")])
    assert told(runtime, app) == [("e1", "bob", "phone", "accepted", "200")]


def test_an_event_that_lags_behind_its_row_s_first_state_gets_no_second_row(
    settings_with: Callable[..., Settings], database_url: str, app: str
) -> None:
    """It lies in another shard's stream, which is longer; the writer of before is killed."""
    settings = settings_with(
        DATABASE_URL=database_url, SECRET_KEYS=Fernet.generate_key().decode(), SHARDS="3"
    )
    before, now = Runtime(settings), Runtime(settings)
    migrate(before.engine)
    about = stored(app, "e1")
    long, short = (before.shards[number].keys.stream(keys.LEDGER) for number in (1, 2))
    for number in range(READ_MAX):
        before.redis.xadd(long, {"b": encode([stored(app, f"a{number}", decision="ignored")])})
    before.redis.xadd(long, {"b": encode([event_columns([about])])})
    before.redis.xadd(short, {"b": encode([row(about, decision=None)])})
    for one in (before, now):
        lease = JointLease(one.redis, [each.keys for each in one.shards], "ledger")
        assert lease.hold()
        LedgerWriter(one, shards=one.shards).turn(lease)
        lease.give_back()
        rows = [row_columns([row(about, attempts=at_once())])]
        one.redis.xadd(short, {"b": encode(rows)})
    assert told(now, app) == [("e1", "bob", "phone", "accepted", "200")]
    before.close()
    now.close()


def test_a_slow_database_gets_the_rows_in_halves_for_as_long_as_it_takes(
    runtime: Runtime, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bounds are forty times shorter, the lease's less. Each part goes on, so the writer keeps
    its lease.
    """
    monkeypatch.setattr(role, "TURN_MAX_S", role.TURN_MAX_S / 40)
    monkeypatch.setattr(Lease.__init__, "__defaults__", (1_500,))
    monkeypatch.setattr(role, "RENEW_EVERY_S", 0.5)
    monkeypatch.setattr(ledger_writer, "COMMIT_S", 0.3)

    @listens_for(runtime.engine, "checkout")
    def bounded(connection: Any, *_: Any) -> None:
        connection.execute("SET statement_timeout = 750")
        connection.commit()

    about = stored(app, "e0")
    runtime.ledger.ready_for(day_of(about.ts_ms))
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION slow() RETURNS trigger AS $$ "
            "BEGIN PERFORM pg_sleep(0.04); RETURN NEW; END $$ LANGUAGE plpgsql"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER slow BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    stream = runtime.keys.stream(keys.LEDGER)
    for number in range(64):
        one = stored(app, f"e{number}")
        runtime.streams.redis.xadd(stream, {"b": encode([row(one)])})
    over = threading.Event()
    thread = threading.Thread(target=Upkeep(runtime, over, ["ledger"]).run)
    thread.start()
    try:
        eventually(lambda: not runtime.streams.redis.xlen(stream))
    finally:
        over.set()
        thread.join(30)
        with runtime.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER slow ON ledger")
