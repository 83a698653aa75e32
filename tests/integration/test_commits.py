"""Two readers of one entry: what follows from it is written once, whoever is slow, and wherever the
entry comes from.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from redis.client import Pipeline

from common.storage import keys
from common.storage.commits import Commits, LostError
from common.storage.delayed import Delayed
from common.storage.keys import Keys
from common.storage.redis import connect
from common.storage.streams import Entry, StreamStore
from common.storage.vault import Vault
from tests.integration.test_consumer import Numbers
from tests.records import fields_of
from workers.queues.consumer import Commit, Policy, Stores, StreamConsumer

IN, OUT = keys.ROUTING, keys.PRESENCE
IDLE_MS = 60


class Forwarding(Numbers):
    """Hands every number on. slow: what happens while it is worked on, once."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: Callable[[], object] = lambda: None
        self.writing: Callable[[], object] = lambda: None

    def handle(self, entries: Sequence[Entry]) -> Commit:
        super().handle(entries)
        slow, self.slow = self.slow, lambda: None
        slow()
        return Commit(forward=[(OUT, entry.blob) for entry in entries], extra=[self._write])

    def _write(self, _pipe: Pipeline) -> None:
        writing, self.writing = self.writing, lambda: None
        writing()


class Town:
    """Readers of one stream. elsewhere: it lies on a server of its own (here: behind other
    connections).
    """

    def __init__(
        self, client: redis.Redis, space: str, elsewhere: Callable[[], redis.Redis] | None
    ) -> None:
        self.redis, self.keys, self._elsewhere = client, Keys(f"push{space}"), elsewhere
        self.streams = StreamStore(client, self.keys, IDLE_MS)
        self._vault = Vault([Fernet.generate_key().decode()])

    def reader(self, handler: Forwarding | None = None) -> tuple[StreamConsumer, Forwarding]:
        handler = handler or Forwarding()
        streams = StreamStore(self.redis, self.keys, IDLE_MS)
        source = StreamStore(self._elsewhere(), self.keys, IDLE_MS) if self._elsewhere else None
        stores = Stores(
            streams, Delayed(self.redis, self.keys), self._vault, lambda *_: None, source
        )
        return StreamConsumer(
            handler, Policy("routing", {IN: 10}, reclaim_every_s=0.0, reclaim_max=10), stores
        ), handler

    def put(self, *blobs: str) -> None:
        self.streams.hand_on((), [(IN, blob.encode()) for blob in blobs])

    def silence(self) -> None:
        """The reader at work is stopped, so long that its entries are anybody's."""
        time.sleep(1.5 * IDLE_MS / 1000)

    def forwarded(self) -> list[bytes]:
        return [fields[b"b"] for fields in fields_of(self.redis, self.keys.stream(OUT))]

    def left(self) -> int:
        return int(self.redis.xlen(self.keys.stream(IN)))


@pytest.fixture(params=[False, True], ids=["here", "elsewhere"])
def town(
    request: pytest.FixtureRequest, redis_client: redis.Redis, redis_url: str, space: str
) -> Town:
    return Town(redis_client, space, (lambda: connect(redis_url)) if request.param else None)


@pytest.mark.parametrize("when", ["slow", "writing"])
def test_of_two_readers_of_one_entry_one_adds_something(town: Town, when: str) -> None:
    """writing: after the slow one has asked whether the entries are its own, and
    before it writes.
    """
    town.put("1", "2", "3")
    consumer, handler = town.reader()

    def other() -> None:
        town.silence()
        town.reader()[0].once()

    setattr(handler, when, other)
    consumer.once()
    assert sorted(town.forwarded()) == [b"1", b"2", b"3"]
    assert not town.left()


def test_what_is_still_the_slow_ones_is_written_by_it(town: Town) -> None:
    town.put("1", "2")
    consumer, handler = town.reader()

    def other() -> None:
        town.silence()
        source = town.reader()[0]._source
        (entry,) = source.take_over(IN, 1)
        Commits(town.streams, source).write(
            [entry],
            lambda pipe: town.streams.add(pipe, [(OUT, b"other")]),
            lambda pipe: source.acknowledge(pipe, [entry]),
        )

    handler.slow = other
    consumer.once()
    assert town.forwarded() == [b"other", b"2"]
    assert handler.calls == [["1", "2"], ["2"]]
    assert not town.left()


def test_a_slow_reader_neither_buries_nor_splits_what_is_anothers(town: Town) -> None:
    town.put("8 9", "9")
    consumer, handler = town.reader()
    handler.broken = {"9"}

    def taken_over(_entry: Entry) -> list[dict[bytes, bytes]]:
        town.silence()
        town.reader()[0].once()
        return [{b"b": b"8"}, {b"b": b"9"}]

    setattr(handler, "split", taken_over)  # noqa: B010
    consumer.once()
    assert sorted(town.forwarded()) == [b"8 9", b"9"]
    assert not town.left()
    assert not town.redis.xlen(town.keys.stream(keys.LEDGER)), "no dead letter"


def test_who_writes_and_dies_before_it_acknowledges_is_not_repeated(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another server the acknowledgement is a second step; here there is no moment between the
    two.
    """
    if town._elsewhere is None:
        pytest.skip("one MULTI")
    town.put("1")
    consumer, _ = town.reader()
    with monkeypatch.context() as patch:
        patch.setattr(Commits, "_leave", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            consumer.once()
    assert town.left() == 1
    town.silence()
    town.reader()[0].once()
    assert town.forwarded() == [b"1"]
    assert not town.left()


def test_entries_that_are_ours_are_asked_for_only_after_a_takeover(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked once a commit would be paid by every push of a fleet at rest."""
    asked: list[int] = []
    renew = StreamStore.renew

    def counts(self: StreamStore, entries: Any, counted: Any = None) -> Any:
        asked.append(len(entries))
        return renew(self, entries, counted)

    monkeypatch.setattr(StreamStore, "renew", counts)
    consumer, _ = town.reader()
    for number in range(5):
        town.put(str(number))
        consumer.once()
    assert sum(asked) <= 1
    assert len(town.forwarded()) == 5


def test_two_writers_meet_and_both_go_on(town: Town) -> None:
    town.put("1")
    consumer, handler = town.reader()

    def other() -> None:
        town.put("2")
        town.reader()[0].once()

    handler.writing = other
    consumer.once()
    assert sorted(town.forwarded()) == [b"1", b"2"]


def test_a_dead_letter_is_replayed_once(redis_client: redis.Redis, space: str) -> None:
    streams = StreamStore(redis_client, Keys(f"push{space}"))
    assert [
        streams.add_once("letter", IN, b"1"),
        streams.add_once("letter", IN, b"1"),
        streams.add_once("other", IN, b"2"),
    ] == [True, False, True]
    found = [fields[b"b"] for fields in fields_of(redis_client, streams.keys.stream(IN))]
    assert found == [b"1", b"2"]


def test_a_commit_that_lost_everything_says_so(town: Town) -> None:
    town.put("1")
    source = town.reader()[0]._source
    (entry,) = source.read([IN], 1)
    town.silence()
    town.reader()[0].once()
    with pytest.raises(LostError) as lost:
        Commits(town.streams, source).write(
            [entry], lambda _: None, lambda pipe: source.acknowledge(pipe, [entry])
        )
    assert (list(lost.value.mine), lost.value.count) == ([], 1)


class Ending(Forwarding):
    """Nothing follows from a number."""

    def handle(self, entries: Sequence[Entry]) -> Commit:
        super().handle(entries)
        return Commit()


def test_an_entry_from_which_nothing_follows_leaves_in_four_commands(
    redis_client: redis.Redis, space: str
) -> None:
    town = Town(redis_client, space, None)
    commits, cost = Commits(town.streams, town.streams), 0
    for _ in range(2):  # the first time the server does not know the script
        town.put("1", "2")
        entries = town.streams.read([IN], 10)
        commits._since = b"0"
        before = redis_client.info("stats")["total_commands_processed"]
        commits.leave(entries)
        cost = redis_client.info("stats")["total_commands_processed"] - before - 1
    assert cost <= 4
    assert not redis_client.xlen(town.keys.stream(IN))


def test_what_another_took_over_does_not_leave(redis_client: redis.Redis, space: str) -> None:
    town = Town(redis_client, space, None)
    (mine, slow), (other, others) = town.reader(Ending()), town.reader(Ending())
    town.put("1")
    mine.once()  # from here on it knows how often entries were taken over
    found = list[int]()

    def taken_over() -> None:
        town.silence()
        others.slow = lambda: found.append(redis_client.xlen(town.keys.stream(IN)))
        other.once()

    town.put("2")
    slow.slow = taken_over
    mine.once()
    assert (slow.calls, others.calls) == ([["1"], ["2"]], [["2"]])
    assert found == [1]
    assert not redis_client.xlen(town.keys.stream(IN)), "the other one has ended it"
