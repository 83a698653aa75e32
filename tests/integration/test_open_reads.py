"""Reads of the core's stream without a list of their entries: nothing of them is lost, and nobody
writes what another has taken over.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from common.storage import open_reads
from common.storage.commits import Commits, LostError
from common.storage.keys import Keys
from common.storage.raw_pipe import RawPipe
from common.storage.streams import GROUP, CoreStreams, Entry, StreamStore
from tests.waiting import eventually

LEASE_MS = 400
MANY = 100


class Reader:
    """One process of intake, as far as its reads go."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.redis, self.name = client, keys.stream("core")
        self.streams = CoreStreams(client, keys, 10_000, 4_000, LEASE_MS)
        self.streams.reads_open = True
        self.streams.make(self.name)
        self.commits = Commits(StreamStore(client, keys), self.streams)

    def put(self, count: int = MANY) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for number in range(count):
                pipe.xadd(self.name, {"e": b"%d" % number})
            pipe.execute()

    def read(self, count: int = MANY) -> list[Entry]:
        return self.streams.read_weighted({self.name: count})

    def reads_open(self) -> list[Entry]:
        """The entries of an open read, after those that make a backlog and take the lease."""
        for _ in range(2):
            self.put()
            self.write(self.read())
        self.put()
        found = self.read()
        assert len(found) == MANY
        assert not self.listed()
        return found

    def listed(self) -> int:
        pending: Any = self.redis.xpending(self.name, GROUP)
        return int(pending["pending"])

    def write(self, entries: Sequence[Entry]) -> None:
        def fill(pipe: Pipeline) -> None:
            pipe.incrby(self.name + ":written", len(entries))

        self.commits.begin()
        self.commits.write(entries, fill, lambda pipe: self.streams.acknowledge(pipe, entries))

    def finish(self, entries: Sequence[Entry]) -> None:
        """As `write`, of those that are still its own."""
        try:
            self.write(entries)
        except LostError as lost:
            if lost.mine:
                self.finish(lost.mine)

    def overtakes(self) -> list[Entry]:
        """Entries that are taken before their turn."""
        return self.streams.overtake(self.name, "0-0", MANY, 10, ())[-1]

    def written(self) -> int:
        return int(self.redis.get(self.name + ":written") or 0)

    def takes_over(self) -> list[Entry]:
        """What silent readers left."""
        names = self.streams.with_pending([self.name])
        return [one for name in names for one in self.streams.take_over(name, 10 * MANY)]

    def takes_over_soon(self) -> list[Entry]:
        end = time.monotonic() + 10
        while not (found := self.takes_over()) and time.monotonic() < end:
            time.sleep(0.05)
        return found


@pytest.fixture
def make(redis_client: redis.Redis, space: str) -> Callable[[], Reader]:
    return lambda: Reader(redis_client, Keys(f"{space}:"))


def names(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.id for entry in entries]


def test_what_is_written_leaves_the_stream_and_nothing_is_left_to_take_over(
    make: Callable[[], Reader],
) -> None:
    one, other = make(), make()
    one.write(one.reads_open())
    time.sleep(2 * LEASE_MS / 1000)
    assert not other.takes_over()
    assert not one.redis.xlen(one.name)
    assert one.written() == 3 * MANY
    assert not one.redis.exists(one.streams.keys.open_reads), "nobody has to look again"


def test_entries_of_a_killed_reader_come_to_the_next_one_once_its_lease_is_over(
    make: Callable[[], Reader],
) -> None:
    one, other = make(), make()
    other.takes_over()
    lost = one.reads_open()
    assert not other.takes_over(), "its reader lives"
    found = other.takes_over_soon()
    assert names(found) == names(lost)
    assert {entry.deliveries for entry in found} == {2}
    other.write(found)
    assert not one.redis.xlen(one.name)
    assert not other.listed()


def test_a_process_that_has_just_started_looks_although_nobody_is_known_to_have_read(
    make: Callable[[], Reader],
) -> None:
    one = make()
    lost = one.reads_open()
    one.redis.delete(one.streams.keys.open_reads, one.streams.keys.open_read)
    assert names(make().takes_over()) == names(lost)


def test_a_reader_that_stood_still_writes_nothing_of_what_was_taken_over(
    make: Callable[[], Reader],
) -> None:
    one, other = make(), make()
    late = one.reads_open()
    one.commits.begin()
    taken = other.takes_over_soon()
    assert len(taken) == MANY
    with pytest.raises(LostError) as lost:
        one.write(late)
    assert not lost.value.mine
    other.write(taken)
    assert one.written() == 3 * MANY


def test_a_reader_that_stood_still_and_lost_nothing_writes(make: Callable[[], Reader]) -> None:
    one = make()
    late = one.reads_open()
    time.sleep(2 * LEASE_MS / 1000)
    one.write(late)
    assert one.written() == 3 * MANY


def test_what_is_renewed_is_listed_and_what_is_released_is_anybodys_at_once(
    make: Callable[[], Reader],
) -> None:
    one, other = make(), make()
    found = one.reads_open()
    assert one.streams.renew(found) == found
    assert one.listed() == MANY
    one.write(found[:10])
    one.streams.release(found[10:])
    again = other.takes_over()
    assert names(again) == names(found[10:])
    assert {entry.deliveries for entry in again} == {1}


def test_one_reader_at_a_time_reads_so(make: Callable[[], Reader]) -> None:
    one, other = make(), make()
    one.reads_open()
    other.put(3 * MANY)
    for number in range(1, 4):
        other.read()
        assert other.listed() == number * MANY


def test_entries_whose_answer_was_lost_are_found(
    make: Callable[[], Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_reads, "AGAIN_S", 0.0)
    one, other = make(), make()
    one.write(one.reads_open())
    one.put(2 * MANY)
    whole = RawPipe.ask_each

    def breaks(self: RawPipe, commands: str | bytes, count: int) -> list[Any]:
        answers = whole(self, commands, count)
        if "NOACK" in str(commands):
            raise RedisConnectionError("the server did it, and its answer is lost")
        return answers

    with monkeypatch.context() as broken:
        broken.setattr(RawPipe, "ask_each", breaks)
        with pytest.raises(RedisConnectionError):
            one.read()
    one.write(one.read())
    lost = other.takes_over_soon()
    assert len(lost) == MANY
    other.write(lost)
    assert one.written() == 5 * MANY
    assert not one.redis.xlen(one.name)
    one.write(one.reads_open())


def in_a_commit_of(one: Reader, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does it once, when this reader has asked what is its own."""
    left, acknowledge = [do], CoreStreams.acknowledge

    def acknowledging(self: CoreStreams, pipe: Pipeline, done: Sequence[Entry]) -> None:
        if self is one.streams and left:
            left.pop()()
        acknowledge(self, pipe, done)

    monkeypatch.setattr(CoreStreams, "acknowledge", acknowledging)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "listed"])
@pytest.mark.parametrize("moment", ["before", "checked", "front checked", "after"])
def test_what_one_takes_before_its_turn_and_another_reads_in_turn_is_written_once(
    make: Callable[[], Reader], monkeypatch: pytest.MonkeyPatch, moment: str, *, is_open: bool
) -> None:
    """moment: where the front's read and write are between those of who has overtaken."""
    front, early = make(), make()
    front.streams.reads_open = is_open
    early.streams.reads_open = False
    for one in (early, front, front):  # from now on they ask only after a takeover
        one.put()
        one.finish(one.read())
    front.put(2 * MANY)
    before, older = front.written(), [front.read()]
    found = early.overtakes()

    def in_turn() -> None:
        if older:
            front.finish(older.pop())
        front.finish(front.read())

    if moment == "checked":
        in_a_commit_of(early, in_turn, monkeypatch)
    elif moment == "before":
        in_turn()
    elif moment == "front checked":
        front.finish(older.pop())
        in_a_commit_of(front, lambda: early.finish(found), monkeypatch)
        in_turn()
    if moment != "front checked":
        early.finish(found)
    in_turn()
    early.finish(early.takes_over())
    assert front.written() - before == 2 * MANY
    assert not front.redis.xlen(front.name)


def test_of_several_streams_all_are_looked_at(make: Callable[[], Reader]) -> None:
    """The fleet of the killed reader had one stream; a second one stands in front by now."""
    one, other = make(), make()
    names_now = [one.name + ":calls", one.name]
    other.streams.with_pending(names_now)
    lost = one.reads_open()

    def found() -> list[Entry]:
        other.streams.with_pending(names_now)
        return other.streams.take_over(one.name, 10 * MANY)

    assert names(eventually(found, 10)) == names(lost)
