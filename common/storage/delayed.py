"""Delayed work: retries after their back-off, second looks (Redis sorted set, until due).

A member names its destination: the stream, or the lane's queue. Members and parking lots of
releases before 0.2 used a number; they are read for one more release.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from common.contracts import Batch, decode_batch
from common.model import Urgency, Vendor
from common.storage.keys import LEDGER, OLD_STREAMS, WORK_STREAMS, Keys
from common.storage.lane_entries import LaneEntry, NewBatch, Taken, entry_id
from common.storage.lane_queues import LaneQueues
from common.storage.raw_pipe import command, first_score, read_all
from common.storage.scripts import script

RELEASE_MAX: Final = 200
#: First byte of a member with a header.
_MARK: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Later:
    """One entry for `stream`, due at `due_ms` by this machine's clock at the time of the write."""

    stream: str
    blob: bytes
    due_ms: int


class Header(msgspec.Struct, frozen=True, array_like=True):
    """A member's destination. urgency "": `name` is a stream, else a lane.

    The numbers are as in NewBatch. counted: its bytes are in the lane's load already.
    """

    name: str
    urgency: str = ""
    pushes: int = 0
    requests: int = 0
    expires_ms: int = 0
    counted: bool = True


def retry_member(batch: NewBatch, *, counted: bool = True) -> bytes:
    """A retry's member of the delayed set: it goes (back) to its lane's queue when it is due."""
    return _member(
        Header(batch.lane, batch.urgency, batch.pushes, batch.requests, batch.expires_ms, counted),
        batch.blob,
    )


def _member(header: Header, blob: bytes) -> bytes:
    packed = msgspec.msgpack.encode(header)
    return _MARK + len(packed).to_bytes(2) + packed + os.urandom(8) + blob


def parts_of(member: bytes) -> tuple[Header, bytes]:
    """A member's destination and its blob. Raises ValueError for an invalid one."""
    header, start = _read(member)
    return header, member[start:]


def with_batch(member: bytes, batch: NewBatch) -> bytes:
    """A part of a retry's member; the same part of the same member is the same one."""
    header, start = _read(member)
    again = Header(
        batch.lane, batch.urgency, batch.pushes, batch.requests, batch.expires_ms, header.counted
    )
    packed = msgspec.msgpack.encode(again)
    return _MARK + len(packed).to_bytes(2) + packed + member[start - 8 : start] + batch.blob


def _read(member: bytes) -> tuple[Header, int]:
    """A member's destination and the start of its blob. Raises ValueError for an invalid one."""
    if member[:1] != _MARK:
        number = int(member[:2])
        if number >= len(OLD_STREAMS):
            raise ValueError("a stream without a name")
        return _old(OLD_STREAMS[number], member[10:]), 10
    size = int.from_bytes(member[1:3])
    header = msgspec.msgpack.decode(member[3 : 3 + size], type=Header)
    if header.urgency:
        Urgency(header.urgency), _vendor(header.name)
    elif header.name not in WORK_STREAMS:
        raise ValueError("a stream without a reader")
    return header, 3 + size + 8


def _vendor(lane: str) -> Vendor:
    """The vendor of a lane's id. Raises ValueError for an invalid one."""
    _, vendor, _ = lane.split(":", 2)
    return Vendor(vendor)


def _old(stream: str, blob: bytes) -> Header:
    if not stream.startswith("send:"):
        return Header(stream)
    batch = decode_batch(blob)
    new = as_new(batch, Urgency(stream.rsplit(":", 1)[1]), blob)
    return Header(new.lane, new.urgency, new.pushes, new.requests, new.expires_ms, counted=False)


def as_new(batch: Batch, urgency: Urgency, blob: bytes) -> NewBatch:
    """The batch as an entry of its lane's queue."""
    lane = f"{batch.app}:{batch.vendor}:{batch.business_id}"
    pushes = sum(len(push.targets) for push in batch.pushes)
    expires_ms = max((push.note.expires_at_ms for push in batch.pushes), default=0)
    return NewBatch(lane, urgency, blob, pushes, len(batch.pushes), expires_ms)


_UNREADABLE: Final = (ValueError, msgspec.MsgspecError)
#: The bytes of an unreadable member, and the reason -> the ledger's entry of its dead letter.
MakeDeadLetter = Callable[[bytes, str], bytes]


class Delayed:
    """Delayed entries: nothing waits in a worker's memory, members move atomically.

    All times are by Redis' clock. make_dead_letter: makes the dead letter of an unreadable member;
    without it the caller gets the error.
    """

    def __init__(
        self, redis: Redis, keys: Keys, make_dead_letter: MakeDeadLetter | None = None
    ) -> None:
        self._redis = redis
        self._make_dead_letter = make_dead_letter
        self._keys = keys
        self._queues = LaneQueues(redis, keys)
        self._delay = script(redis, "delay")
        self._move = script(redis, "delayed_move")
        self._add = script(redis, "delayed_add")
        self._pick = script(redis, "delayed_pick")

    def put(self, pipe: Pipeline, waiting: Sequence[Later]) -> None:
        """Inside the caller's MULTI."""
        delays: list[int | bytes] = []
        now = int(time.time() * 1000)
        for later in waiting:
            delays += [max(later.due_ms - now, 0), _member(Header(later.stream), later.blob)]
        if delays:
            # adds nothing, but a full server refuses the whole MULTI for it; a script, refused when
            # it runs, would leave the acknowledgement before it standing
            pipe.zadd(self._keys.delayed, {b"": 0}, xx=True)
            self._delay(
                keys=[self._keys.delayed, self._keys.timer_wake_up], args=delays, client=pipe
            )

    def release_due(self) -> set[str]:
        """Moves due members; returns the streams that got one, at most RELEASE_MAX entries a call.

        A lane's queue is named by its vendor's (`send:<vendor>:<urgency>`).
        """
        seconds, micros = cast(Any, self._redis.time())
        now = seconds * 1000 + micros // 1000
        due = cast(
            list[bytes], self._redis.zrangebyscore(self._keys.delayed, "-inf", now, 0, RELEASE_MAX)
        )
        groups: dict[tuple[str, str], list[tuple[bytes, Header, int]]] = {}
        for member in due:
            try:
                header, start = _read(member)
            except _UNREADABLE as error:
                self._dead_lettered(self._keys.delayed, member, error)
                continue
            groups.setdefault((header.name, header.urgency), []).append((member, header, start))
        return {self._released(name, urgency, group) for (name, urgency), group in groups.items()}

    def dead_letter_unreadable(self) -> None:
        """Dead-letters unreadable members now, due or not."""
        for member, _ in list(self._redis.zscan_iter(self._keys.delayed, count=RELEASE_MAX)):
            try:
                _read(member)
            except _UNREADABLE as error:
                self._dead_lettered(self._keys.delayed, member, error)

    def _dead_lettered(self, key: str, member: bytes, error: Exception) -> None:
        """Dead-letters an unreadable member, so that it blocks nothing behind it."""
        if self._make_dead_letter is None:
            raise error
        letter = self._make_dead_letter(member, f"unreadable: {type(error).__name__}")
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(key, member)
            pipe.xadd(self._keys.stream(LEDGER), {"b": letter})
            pipe.execute()

    def _released(self, name: str, urgency: str, group: Sequence[tuple[bytes, Header, int]]) -> str:
        keys = self._keys
        if not urgency:
            args: list[bytes | int] = [
                part for member, _, start in group for part in (member, start + 1)
            ]
            self._add(keys=[keys.delayed, keys.stream(name)], args=args)
            return name
        vendor = _vendor(name)
        # A member of an earlier release, or of another lane, is not counted yet.
        parts: list[Any] = [
            name,
            sum(len(member) - start for member, one, start in group if not one.counted),
        ]
        for member, one, start in group:
            entry = entry_id(
                NewBatch(
                    name, Urgency(urgency), member[start:], one.pushes, one.requests, one.expires_ms
                )
            )
            parts += (member, start + 1, entry)
        queue = keys.lane_queue(name, urgency)
        names = [keys.delayed, queue, keys.lane_blobs(name), keys.lane_load(name)]
        self._move(keys=[*names, keys.loaded_lanes, keys.ready(vendor, urgency)], args=parts)
        return f"send:{vendor}:{urgency}"

    def window(self, start: int, count: int) -> list[tuple[Header, bytes, bytes]]:
        """Destination, batch and member of so many, the soonest first; unreadable ones are skipped.
        Each is for one lane, or (urgency "") for a stream.
        """
        found: list[tuple[Header, bytes, bytes]] = []
        members = self._redis.zrange(self._keys.delayed, start, start + count - 1)
        for member in cast(list[bytes], members):
            with contextlib.suppress(*_UNREADABLE):
                header, at = _read(member)
                found.append((header, member[at:], member))
        return found

    def pick(
        self, lane: str, urgency: Urgency, members: Sequence[bytes]
    ) -> tuple[Taken, dict[str, int]]:
        """Leases these retries of a lane before they are due, to end pushes of them; by entry, in
        how many ms it is.
        """
        keys, queues = self._keys, self._queues
        word, args = queues.new_word(), list[Any]()
        for member in members:
            one, start = _read(member)
            batch = NewBatch(
                lane, urgency, member[start:], one.pushes, one.requests, one.expires_ms
            )
            args += (member, start + 1, int(one.counted), entry_id(batch))
        names = [keys.delayed, keys.lane_blobs(lane), keys.lane_leases(lane)]
        names += [keys.lane_holders(lane), keys.lane_load(lane), keys.loaded_lanes]
        names.append(keys.popped(_vendor(lane)))
        reply = cast(Any, self._pick(keys=names, args=[word, queues.lease_ms, lane, *args]))
        taken = Taken(lane, urgency, word, "go", 0)
        due_ms: dict[str, int] = {}
        for at in range(0, len(reply), 3):
            entry = LaneEntry(reply[at].decode(), reply[at + 1])
            taken.entries.append(entry)
            due_ms[entry.id] = int(reply[at + 2])
        return taken, due_ms

    def waiting_count(self) -> int:
        return int(self._redis.zcard(self._keys.delayed))

    def oldest_due_ms(self) -> int | None:
        first = self._redis.zrange(self._keys.delayed, 0, 0, withscores=True)
        return int(first[0][1]) if first else None

    def all_waiting(self, owners: Sequence[Delayed]) -> tuple[int, int | None]:
        """As waiting_count and oldest_due_ms, of some shards on this server: the number of all, and
        when the first is due.
        """
        names = [own._keys.delayed for own in owners]  # noqa: SLF001 - its own class
        looks = [command("ZCARD", name) for name in names]
        looks += [command("ZRANGE", name, "0", "0", "WITHSCORES") for name in names]
        reply = read_all(self._redis, "".join(looks), len(looks))
        firsts = [int(first_score(first)) for first in reply[len(names) :] if first]
        return sum(map(int, reply[: len(names)])), min(firsts, default=None)

    # ------------------------------------------------------------ parking lots of releases before 0

    def adopt_on_hold(self, count: int = 50) -> set[Vendor]:
        """Moves pushes that an earlier release held for a stopped lane to the lane's queue.

        Returns the vendors that got some.
        """
        got = set[Vendor]()
        for lane in self._lots():
            for urgency in Urgency:
                got |= self._adopt(lane, urgency, count)
            if not self._redis.exists(*(self._keys.parked(lane, urgency) for urgency in Urgency)):
                self._redis.srem(self._keys.parked_lanes, lane)
        return got

    def _lots(self) -> Iterator[str]:
        for lane in sorted(cast(set[bytes], self._redis.smembers(self._keys.parked_lanes))):
            yield lane.decode()

    def _adopt(self, lane: str, urgency: Urgency, count: int) -> set[Vendor]:
        """Of two processes that adopt at once the later one adds nothing, and looks again soon."""
        key = self._keys.parked(lane, urgency)
        fit: list[bytes] = []
        batches: list[NewBatch] = []
        with self._redis.pipeline(transaction=True) as pipe:
            cast(Any, pipe).watch(key)  # untyped in redis-py
            for member in cast(list[bytes], pipe.zrange(key, 0, count - 1)):
                try:
                    batches.append(as_new(decode_batch(member[10:]), urgency, member[10:]))
                    fit.append(member)
                except _UNREADABLE as error:
                    self._dead_lettered(key, member, error)
            if fit:
                pipe.multi()
                pipe.zrem(key, *fit)
                self._queues.put(pipe, batches)
                with contextlib.suppress(WatchError):
                    pipe.execute()
        return {_vendor(batch.lane) for batch in batches}
