"""The stream consumer on a real server: what counts as a delivery, who stands alone, what becomes a
dead letter, how much is read.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from common.ledger_records import DeadRecord
from common.storage import keys
from common.storage import waits as sql_waits
from common.storage.delayed import Delayed
from common.storage.keys import Keys
from common.storage.redis import connect
from common.storage.streams import ALONE, GROUP, CoreStreams, Entry, StreamStore
from common.storage.unavailable import store_unavailable
from common.storage.vault import Vault
from tests.records import records_of
from tests.waiting import eventually
from workers.queues.consumer import Commit, Letter, Policy, Stores, StreamConsumer
from workers.queues.lease_renewer import LeaseRenewer

STREAM = keys.ROUTING
IDLE_MS = 60


class Numbers:
    """Entries are numbers separated by blanks. `broken`: raise; `away`: the store is away for so
    many calls.
    """

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.broken: set[str] = set()
        self.away = 0
        self.left: list[str | None] = []
        self.more: list[Callable[[Pipeline], object]] = []

    def handle(self, entries: Sequence[Entry]) -> Commit:
        items = [item for entry in entries for item in entry.blob.decode().split()]
        self.calls.append([entry.blob.decode() for entry in entries])
        if self.away:
            self.away -= 1
            raise RedisConnectionError
        if self.broken & set(items):
            raise ValueError(items)
        return Commit(extra=self.more)

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        return [{b"b": item} for item in entry.blob.split()]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.stream})

    def on_leave(self, entry: Entry, reason: str | None) -> Commit:
        self.left.append(reason)
        return Commit()


class Bench:
    def __init__(self, client: redis.Redis, space: str) -> None:
        self.redis, self.keys = client, Keys(f"push{space}")
        self.streams = self.reader()
        self.vault = Vault([Fernet.generate_key().decode()])
        self.handler = Numbers()
        self.wakes: list[str] = []

    def reader(self) -> StreamStore:
        return StreamStore(self.redis, self.keys, IDLE_MS)

    def consumer(self, **policy: Any) -> StreamConsumer:
        delayed = Delayed(self.redis, self.keys)
        stores = Stores(
            self.streams, delayed, self.vault, lambda stage, _: self.wakes.append(stage)
        )
        return StreamConsumer(
            self.handler, Policy("routing", {STREAM: 10}, reclaim_every_s=0.0, **policy), stores
        )

    def put(self, *blobs: str) -> None:
        self.streams.hand_on((), [(STREAM, blob.encode()) for blob in blobs])

    def counts(self) -> list[int]:
        self.streams.make(STREAM)
        pending = self.redis.xpending_range(self.keys.stream(STREAM), GROUP, "-", "+", 100)
        return [int(one["times_delivered"]) for one in pending]

    def is_kept(self) -> bool:
        """The only entry is renewed all the time: it has waited for less than we have now."""
        time.sleep(0.5)
        (found,) = self.redis.xpending_range(self.keys.stream(STREAM), GROUP, "-", "+", 100)
        return int(found["time_since_delivered"]) < 400

    def dies(self) -> None:
        """A reader takes all there is and is heard of no more."""
        reader = self.reader()
        reader.read([STREAM], 100)
        reader.take_over(STREAM, 100)
        time.sleep(1.5 * IDLE_MS / 1000)

    def left(self) -> int:
        return int(self.redis.xlen(self.keys.stream(STREAM)))

    def letters(self) -> list[DeadRecord]:
        found = records_of(self.redis, self.keys.stream(keys.LEDGER))
        return [one for one in found if isinstance(one, DeadRecord)]


@pytest.fixture
def bench(redis_client: redis.Redis, space: str) -> Bench:
    return Bench(redis_client, space)


def test_waiting_for_a_store_is_no_delivery_and_keeps_the_order(bench: Bench) -> None:
    consumer = bench.consumer(keeps_order=True)
    bench.put("1", "2")
    bench.handler.away = 8
    for _ in range(8):
        with pytest.raises(store_unavailable()):
            consumer.once()
        assert bench.counts() == [1, 1]
        bench.put("3")
    consumer.once()
    assert bench.handler.calls[8] == ["1", "2"]
    assert bench.handler.calls[9] == ["3"] * 8
    assert not bench.left()


def test_what_a_stores_absence_gives_back_is_not_counted(bench: Bench) -> None:
    bench.put("1")
    for _ in range(8):
        bench.handler.away = 1
        with pytest.raises(store_unavailable()):
            bench.consumer().once()
        assert bench.counts() == [0]
    bench.consumer().once()
    assert not bench.left()
    assert not bench.letters()


def test_what_another_took_over_while_a_store_was_away_is_the_others(bench: Bench) -> None:
    consumer = bench.consumer(keeps_order=True)
    bench.put("1")
    bench.handler.away = 1
    with pytest.raises(store_unavailable()):
        consumer.once()
    time.sleep(1.5 * IDLE_MS / 1000)
    (other,) = bench.reader().take_over(STREAM, 10)
    assert other.deliveries == 2
    consumer._reclaim_at = time.monotonic() + 60
    assert consumer.once() == 0
    assert len(bench.handler.calls) == 1


def test_an_entry_that_kills_its_readers_is_tried_alone_then_split_then_a_dead_letter(
    bench: Bench,
) -> None:
    """The death of a reader is played by one that is heard of no more; an exception would be
    isolated at once.
    """
    bench.put("1 9 2", "3")
    bench.dies()
    bench.dies()
    consumer, tried = bench.consumer(), list[list[str]]()

    def dies(entries: Sequence[Entry]) -> Commit:
        tried.append([entry.blob.decode() for entry in entries])
        if any("9" in entry.blob.decode().split() for entry in entries):
            raise SystemExit
        return Commit()

    setattr(bench.handler, "handle", dies)  # noqa: B010
    deaths = 0
    while bench.left():
        try:
            consumer.once()
        except SystemExit:
            deaths += 1
            consumer = bench.consumer()
        time.sleep(1.5 * IDLE_MS / 1000)
        assert deaths < 20
    assert ["3"] in tried, "its neighbour went alone, and through"
    assert all(len(entries) == 1 for entries in tried[:4])
    (letter,) = bench.letters()
    assert bench.vault.decrypt(letter.raw) == b"9"
    assert letter.reason.startswith("poison")
    assert bench.handler.left == [None, letter.reason], "split, then buried"
    assert bench.wakes == ["routing"]


@pytest.mark.parametrize("count", [3, 8, 700])
def test_nothing_is_buried_that_was_not_tried_alone(bench: Bench, count: int) -> None:
    bench.put("1", "2")
    reader = bench.reader()
    first, _ = reader.read([STREAM], 10)
    reader.set_delivery_count(first, count)
    time.sleep(1.5 * IDLE_MS / 1000)
    bench.consumer().once()
    assert bench.handler.calls == [["2"], ["1"]]
    assert not bench.left()
    assert not bench.letters()


def test_a_death_while_the_database_is_waited_for_is_not_the_entrys(bench: Bench) -> None:
    bench.put("1")
    (entry,) = bench.streams.read([STREAM], 1)
    renewer = LeaseRenewer(bench.streams, renew_s=0.05)
    release = threading.Event()

    def waits() -> None:
        with renewer.holding([entry]), sql_waits.marked(time.monotonic() - 10):
            release.wait(60)

    thread = threading.Thread(target=waits)
    thread.start()
    # who kills the process now is counted as its first reader
    eventually(lambda: bench.counts() == [0])
    eventually(bench.is_kept, what="and it is kept")
    release.set()
    thread.join()


def test_the_count_comes_back_once_the_database_has_answered(bench: Bench) -> None:
    bench.put("1")
    (entry,) = bench.streams.read([STREAM], 1)
    renewer = LeaseRenewer(bench.streams, renew_s=0.05)
    with renewer.holding([entry]):
        with sql_waits.marked(time.monotonic() - 10):
            eventually(lambda: bench.counts() == [0])
        eventually(lambda: bench.counts() == [1])


def test_what_breaks_its_stage_is_isolated_and_the_others_are_done(bench: Bench) -> None:
    bench.put("1", "2 9 3", "4")
    bench.handler.broken = {"9"}
    consumer = bench.consumer()
    while bench.left():
        consumer.once()
    (letter,) = bench.letters()
    assert bench.vault.decrypt(letter.raw) == b"9"
    assert letter.reason == "broke_stage: ValueError"
    done = [items for items in bench.handler.calls if not any("9" in item for item in items)]
    assert sorted(item for items in done for item in items) == ["1", "2", "3", "4"]


def test_what_follows_a_commit_is_not_what_broke_it(bench: Bench) -> None:
    bench.put("1")

    def breaks() -> None:
        raise ZeroDivisionError

    broken = Commit(after=[breaks])
    calls: list[int] = []

    def handle(entries: Sequence[Entry]) -> Commit:
        calls.append(len(entries))
        return broken

    setattr(bench.handler, "handle", handle)  # noqa: B010
    bench.consumer().once()
    assert calls == [1]
    assert not bench.left()
    assert not bench.letters()


def test_a_process_that_is_to_end_gives_back_the_suspects_that_it_did_not_begin_with(
    bench: Bench,
) -> None:
    bench.put("1", "2")
    for _ in range(3):
        bench.dies()
    consumer = bench.consumer()
    consumer.stopping = lambda: bool(bench.handler.calls)
    consumer.once()
    assert len(bench.handler.calls) == 1
    assert bench.counts() == [3]


def test_a_look_for_dead_readers_goes_on_where_the_last_one_ended(bench: Bench) -> None:
    """Else what is given back again and again at the front hides all that is behind it."""
    bench.put(*(str(number) for number in range(6)))
    bench.dies()
    streams = bench.reader()
    seen = []
    for _ in range(3):
        entries = streams.take_over(STREAM, 2)
        seen += [entry.blob for entry in entries]
        streams.release(entries)
    assert seen == [b"%d" % number for number in range(6)]
    found = [entry.blob for entry in streams.take_over(STREAM, 2)]
    assert found == [b"0", b"1"], "and from the front again"


def test_a_read_is_bounded_in_bytes_whatever_the_count(bench: Bench) -> None:
    for _ in range(40):
        bench.redis.xadd(bench.keys.stream(STREAM), {"b": b"x" * 100_000})
    streams = bench.reader()
    found = streams.read_weighted({STREAM: 500}, 1_000_000)
    assert 10 <= len(found) <= 12
    time.sleep(1.5 * IDLE_MS / 1000)
    assert 5 <= len(bench.reader().take_over(STREAM, 500, 500_000)) <= 6
    rest = streams.read_weighted({STREAM: 500}, 100_000_000)
    assert len(found) + len(rest) == 40


def test_an_entry_over_the_limit_comes_cut_in_every_kind_of_read(bench: Bench) -> None:
    stream = bench.keys.stream("core")
    core = CoreStreams(bench.redis, bench.keys, 10_000, 4_000, IDLE_MS)
    for size in (100, 1_000_000, 100):
        bench.redis.xadd(stream, {"e": b"x" * size, "d": b"nim"})
    found = core.read_weighted({stream: 500})
    seen = [(len(entry.blob), entry.size > 0, entry.fields[b"d"]) for entry in found]
    assert seen == [(100, False, b"nim"), (4_000, True, b"nim"), (100, False, b"nim")]
    time.sleep(1.5 * IDLE_MS / 1000)
    other = CoreStreams(bench.redis, bench.keys, 10_000, 4_000, IDLE_MS)
    assert [len(entry.blob) for entry in other.take_over(stream, 500)] == [100, 4_000, 100]
    bench.redis.xadd(stream, {"e": b"x" * 1_000_000})
    assert [entry.size > 0 for entry in other.wait([stream], 10)] == [True]


def test_a_stream_without_its_group_loses_nothing_of_what_was_read_beside_it(bench: Bench) -> None:
    other = keys.PRESENCE
    bench.put("1")
    assert not bench.streams.read_weighted({other: 1})
    bench.redis.xgroup_destroy(bench.keys.stream(other), GROUP)
    assert [entry.blob for entry in bench.streams.read_weighted({STREAM: 1, other: 1})] == [b"1"]
    assert not bench.streams.read_weighted({STREAM: 1, other: 1}), "the group is there again"


def test_a_reader_that_holds_something_is_not_forgotten(bench: Bench) -> None:
    idle, busy = bench.reader(), bench.reader()
    idle.read([STREAM], 1)
    bench.put("1")
    busy.read([STREAM], 1)
    time.sleep(0.05)
    bench.streams.forget_dead_readers(STREAM, 10)
    (left,) = bench.redis.xinfo_consumers(bench.keys.stream(STREAM), GROUP)
    assert left["name"] == busy.consumer.encode()


def test_the_marks_of_being_alone_are_out_of_reach_of_usual_counts() -> None:
    assert ALONE > 100


@pytest.mark.parametrize("elsewhere", [False, True])
def test_nothing_is_acknowledged_before_what_follows_is_written(
    bench: Bench, redis_url: str, elsewhere: bool
) -> None:
    source = StreamStore(connect(redis_url), bench.keys, IDLE_MS) if elsewhere else None
    stores = Stores(
        bench.streams, Delayed(bench.redis, bench.keys), bench.vault, lambda *_: None, source
    )
    consumer = StreamConsumer(bench.handler, Policy("routing", {STREAM: 10}), stores)
    bench.put("1")

    def refuse(_pipe: object) -> None:
        raise RedisConnectionError

    bench.handler.more = [refuse]
    with pytest.raises(store_unavailable()):
        consumer.once()
    assert bench.left() == 1
    assert bench.counts() == [0]
