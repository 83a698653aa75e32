"""The streams between stages (Redis Streams, until acknowledged): read, forward, claim, wake up."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, ResponseError

from common.storage.keys import Keys
from common.storage.open_reads import OpenReads
from common.storage.plain_reads import PlainReads, entries_of_one
from common.storage.raw_pipe import command, read_all
from common.storage.scripts import Call, run_all, script
from common.values import Value

GROUP = "pushfleet"
#: An entry whose reader was silent for this long may be claimed (send 10 s < lease 12 s < claim 15
#: s).
TAKEOVER_IDLE_MS = 15_000
#: Readers that an entry may outlive before it is split into single items to find the culprit, then
#: refused.
DELIVERIES_MAX = 5
#: An entry delivered more often is handled alone: its neighbours are not blamed for it.
SUSPECT_AFTER = 2
#: The delivery counter of an entry that was tried alone; from there on it counts the readers that
#: died of it alone.
ALONE = 1_000
ALONE_MAX = DELIVERIES_MAX - SUSPECT_AFTER
#: Bytes of one read, whatever the number of its entries.
READ_BYTES_MAX = 8 * 1024 * 1024
#: Most bytes of a name, and of another field than the text, in an entry that is cut.
CUT_FIELD_BYTES = 4096
#: Seconds for which a replayed dead letter is known as such.
REPLAYED_S = 90 * 86_400
#: A blocking read for 0 s would last for ever.
HEAR_MIN_S = 0.005
#: Upkeep sends a lost wake-up again after this.
WAKE_UP_MS = 2_000


class Entry(Value, frozen=True):
    """One stream entry. deliveries: number of deliveries, 1 for a fresh one.

    single: it was split off already. reclaimed: out of its turn: another reader had it, or this one
    has released it or has overtaken with it. fields, size: of the core's entries only: all
    fields; the bytes of one over the limit, whose fields are cut (0: it is whole).
    """

    stream: str
    id: bytes
    blob: bytes
    deliveries: int = 1
    single: bool = False
    fields: Mapping[bytes, bytes] = msgspec.field(default_factory=dict)
    size: int = 0
    reclaimed: bool = False

    @property
    def is_suspect(self) -> bool:
        """Readers died while they held it, more than once."""
        return self.deliveries > SUSPECT_AFTER

    @property
    def is_poison(self) -> bool:
        """Readers died while they held it and nothing else."""
        return self.deliveries >= ALONE + ALONE_MAX


@dataclass(frozen=True, slots=True)
class StreamDepth:
    """unread: not yet read; pending: read, not acknowledged; stale: idle past the claim time."""

    unread: int
    pending: int
    oldest_ms: int | None


class StreamStore:
    """Reads and writes the streams as one consumer of the group, with a new name per process."""

    def __init__(self, redis: Redis, keys: Keys, takeover_idle_ms: int = TAKEOVER_IDLE_MS) -> None:
        self.redis = redis
        self.keys = keys
        self.takeover_idle_ms = takeover_idle_ms
        self.entry_bytes_max = self.kept_bytes = 0
        self._hold = script(redis, "hold")
        self._take = script(redis, "take", "bounded")
        self._reclaim = script(redis, "reclaim", "bounded")
        self._forget = script(redis, "forget_readers")
        self._looked: dict[str, str] = {}
        self._missed = script(redis, "missed")
        self._ring = script(redis, "ring")
        self._make_group = script(redis, "make_group")
        self._add_once = script(redis, "add_once")
        self.consumer = uuid.uuid4().hex[:12]
        self._made: set[str] = set()

    def _key(self, stream: str) -> str:
        return self.keys.stream(stream)

    def name_of(self, stream: str) -> str:
        """The stream's key in Redis."""
        return self._key(stream)

    def _takeovers(self, _stream: str) -> str:
        """The key that counts the claims of the stream's entries."""
        return self.keys.takeovers

    def _make(self, streams: Iterable[str]) -> None:
        for stream in streams:
            if stream in self._made:
                continue
            self.make(stream)
            self._made.add(stream)

    def make(self, stream: str) -> None:
        """Creates the stream's group from 0 if missing, also on a full server: whoever reads it
        makes room.
        """
        try:
            self.redis.xgroup_create(self._key(stream), GROUP, id="0", mkstream=True)
        except OutOfMemoryError:
            if not self._has_group(stream):
                self._make_group(keys=[self._key(stream)], args=[GROUP])
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _has_group(self, stream: str) -> bool:
        try:
            groups: Any = self.redis.xinfo_groups(self._key(stream))
        except ResponseError:  # no such stream
            return False
        return any(one["name"] in (GROUP, GROUP.encode()) for one in groups)

    def read(self, streams: Sequence[str], count: int, block_ms: int | None = None) -> list[Entry]:
        """Up to `count` fresh entries of each stream; waits up to `block_ms` for the first."""
        found = self.read_weighted(dict.fromkeys(streams, count))
        return found if found or block_ms is None else self.wait(streams, block_ms)

    def wait(self, streams: Sequence[str], block_ms: int) -> list[Entry]:
        """Waits for the next entry of any stream: one of each at most."""
        self._make(streams)
        names = {self._key(stream).encode(): stream for stream in streams}
        try:
            answer: Any = self.redis.xreadgroup(
                GROUP, self.consumer, dict.fromkeys(names, ">"), count=1, block=block_ms
            )
        except ResponseError as error:
            self._lost_group(error)
            raise
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        return [self._whole(names[key], *raw) for key, raws in pairs for raw in raws]

    def _whole(self, stream: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        return Entry(stream, entry_id, fields.get(b"b", b""), 1, b"s" in fields)

    def read_weighted(
        self, counts: Mapping[str, int], bytes_max: int = READ_BYTES_MAX
    ) -> list[Entry]:
        """Up to `counts[stream]` fresh entries per stream, about `bytes_max` in all.

        One round trip, in the mapping's order.
        """
        self._make(counts)
        args: list[str | int] = [
            GROUP,
            self.consumer,
            bytes_max,
            self.entry_bytes_max,
            self.kept_bytes,
            *counts.values(),
        ]
        try:
            reply = self._take(keys=[self._key(stream) for stream in counts], args=args)
        except ResponseError as error:
            self._lost_group(error)
            raise
        if len(reply) > len(counts):
            self._made.clear()
        return [
            self._entry(stream, *raw)
            for stream, raws in zip(counts, reply, strict=False)
            for raw in raws
        ]

    def _lost_group(self, error: ResponseError) -> None:
        if "NOGROUP" in str(error):  # the server lost its data: make the groups again
            self._made.clear()

    def take_over(self, stream: str, count: int, bytes_max: int = READ_BYTES_MAX) -> list[Entry]:
        """Claims entries of silent readers, with their delivery counts.

        Each call continues after the last one: an entry that cannot be handled now does not hide
        others.
        """
        self._make([stream])
        start = self._looked.pop(stream, "-")
        args: list[str | int] = [
            GROUP,
            self.consumer,
            self.takeover_idle_ms,
            start,
            count,
            bytes_max,
            self.entry_bytes_max,
            self.kept_bytes,
        ]
        try:
            further, raws = self._reclaim(
                keys=[self._key(stream), self._takeovers(stream)], args=args
            )
        except ResponseError as error:
            self._lost_group(error)
            raise
        if further != b"-":
            self._looked[stream] = further.decode()
        elif not raws and start != "-":  # that was the end
            return self.take_over(stream, count, bytes_max)
        found = [
            self._entry(stream, entry_id, fields, size, int(deliveries))
            for entry_id, fields, deliveries, size in raws
        ]
        return [_reclaimed(entry) for entry in found]

    def with_pending(self, streams: Sequence[str]) -> list[str]:
        """Those from which something was read that is not acknowledged. One round trip."""
        self._make(streams)
        asked = "".join([command("XPENDING", self._key(stream), GROUP) for stream in streams])
        try:
            answers = read_all(self.redis, asked, len(streams))
        except ResponseError as error:
            self._lost_group(error)
            raise
        return [one for one, (count, *_) in zip(streams, answers, strict=True) if count]

    def _entry(
        self, stream: str, entry_id: bytes, raw: Sequence[bytes], _size: int, deliveries: int = 1
    ) -> Entry:
        fields = dict(zip(raw[::2], raw[1::2], strict=True))
        return Entry(stream, entry_id, fields.get(b"b", b""), deliveries, b"s" in fields)

    def hand_on(
        self,
        done: Sequence[Entry],
        adds: Sequence[tuple[str, bytes]] = (),
        more: Callable[[Pipeline], None] | None = None,
    ) -> None:
        """In one MULTI: adds to the next streams, runs `more`, acknowledges and deletes entries."""
        with self.redis.pipeline(transaction=True) as pipe:
            self.add(pipe, adds)
            if more is not None:
                more(pipe)
            self.acknowledge(pipe, done)
            pipe.execute()

    def add(self, pipe: Pipeline, adds: Sequence[tuple[str, bytes]]) -> None:
        """Entries (stream, blob), inside the caller's MULTI."""
        for stream, blob in adds:
            pipe.xadd(self._key(stream), {"b": blob})

    def add_once(self, letter: str, stream: str, blob: bytes) -> bool:
        """Adds the bytes of a dead letter; False when a process that died has added them before."""
        return bool(
            self._add_once(
                keys=[self.keys.replayed(letter), self._key(stream)], args=[REPLAYED_S, blob]
            )
        )

    def acknowledge(self, pipe: Pipeline, done: Sequence[Entry]) -> None:
        """Acknowledges and deletes, inside the caller's MULTI."""
        by_stream: dict[str, list[bytes]] = {}
        for entry in done:
            by_stream.setdefault(entry.stream, []).append(entry.id)
        for stream, ids in by_stream.items():
            if listed := self._listed(stream, ids):
                pipe.xack(self._key(stream), GROUP, *listed)
            pipe.xdel(self._key(stream), *ids)

    def _listed(self, _stream: str, ids: Sequence[bytes]) -> Sequence[bytes]:
        """Those of our entries that the server lists as ours."""
        return ids

    def split(self, pipe: Pipeline, entry: Entry, singles: Sequence[Mapping[bytes, bytes]]) -> None:
        """Within a MULTI: replaces an entry that kills its readers by one entry per item."""
        for fields in singles:
            pipe.xadd(self._key(entry.stream), cast(Any, {**fields, b"s": b"1"}))
        self.acknowledge(pipe, [entry])

    def release(self, entries: Sequence[Entry]) -> None:
        """Releases our entries without counting this delivery; used when a store is unavailable."""
        self._kept(entries, self.takeover_idle_ms, lambda entry: entry.deliveries - 1)

    def set_delivery_count(self, entry: Entry, deliveries: int) -> bool:
        """Sets the delivery counter of our entry, resets its idle time; False if claimed."""
        return bool(self._kept([entry], 0, lambda _entry: deliveries))

    def renew(self, entries: Sequence[Entry], counted: bool | None = None) -> list[Entry]:
        """Renews the entries that are still ours; returns them. The others were claimed.

        counted: True when a death of this process from now on counts as a delivery (None: as
        before).
        """
        counts = {
            None: lambda _entry: -1,
            True: lambda entry: entry.deliveries,
            False: lambda entry: entry.deliveries - 1,
        }
        return self._kept(entries, 0, counts[counted])

    def _kept(
        self, entries: Sequence[Entry], idle_ms: int, count: Callable[[Entry], int]
    ) -> list[Entry]:
        """Those of the entries that are still ours, with their idle time and delivery counters (-1:
        as they are) set.
        """
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        ours: set[tuple[str, bytes]] = set()
        for stream, those in by_stream.items():
            args = [
                GROUP,
                self.consumer,
                idle_ms,
                *(part for entry in those for part in (entry.id, count(entry))),
            ]
            ours |= {
                (stream, entry_id) for entry_id in self._hold(keys=[self._key(stream)], args=args)
            }
        return [entry for entry in entries if (entry.stream, entry.id) in ours]

    def backlog(self, streams: Sequence[str]) -> dict[str, StreamDepth]:
        """Depth of each stream and the time of its oldest entry."""
        self._make(streams)
        lengths = self._lengths(streams)
        filled = [stream for stream in streams if lengths[stream]]
        with self.redis.pipeline(transaction=False) as pipe:
            for stream in filled:
                pipe.xpending(self._key(stream), GROUP)
                pipe.xrange(self._key(stream), count=1)
            answers = pipe.execute(raise_on_error=False)
        found = dict.fromkeys(streams, StreamDepth(0, 0, None))
        for stream, pending, oldest in zip(filled, answers[::2], answers[1::2], strict=True):
            if isinstance(pending, Exception):
                self._made.discard(stream)
                del found[stream]
                continue
            taken = int(pending["pending"])
            found[stream] = StreamDepth(
                max(lengths[stream] - taken, 0),
                taken,
                int(oldest[0][0].split(b"-")[0]) if oldest else None,
            )
        return found

    def _lengths(self, streams: Sequence[str]) -> dict[str, int]:
        """Entries of each stream, taken or not. One round trip: as a rule there are none."""
        asked = [command("XLEN", self._key(stream)) for stream in streams]
        found = read_all(self.redis, "".join(asked), len(asked)) if asked else []
        return dict(zip(streams, map(int, found), strict=True))

    def any_filled(self, streams: Sequence[str]) -> bool:
        """True when one of them has an entry, taken or not. One command."""
        names = [self._key(stream) for stream in streams]
        asked = command("XREAD", "COUNT", "1", "STREAMS", *names, *["0"] * len(names))
        return bool(read_all(self.redis, asked, 1)[0])

    def untaken_s(self, streams: Sequence[str]) -> dict[str, float]:
        """Seconds that each stream's first unread entry has waited; 0 where all are read.

        XINFO's lag is unknown once entries are deleted out of order, as many readers do.
        """
        self._make(streams)
        lengths = self._lengths(streams)
        filled = [stream for stream in streams if lengths[stream]]
        waited = dict.fromkeys(streams, 0.0)
        if not filled:
            return waited
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for stream in filled:
                pipe.xinfo_groups(self._key(stream))
            (seconds, micros), *reply = pipe.execute(raise_on_error=False)
        with self.redis.pipeline(transaction=False) as pipe:
            for stream, groups in zip(filled, reply, strict=True):
                pipe.xrange(self._key(stream), f"({_delivered(groups)}", count=1)
            firsts = pipe.execute()
        now = seconds * 1000 + micros // 1000
        for stream, first in zip(filled, firsts, strict=True):
            if first:
                waited[stream] = max(now - int(first[0][0].split(b"-")[0]), 0) / 1000
        return waited

    def missed_call(self, streams: Sequence[str]) -> Call:
        """The script call for streams with unread entries, or with entries of silent readers; the
        answer has their indexes.
        """
        return (
            self._missed,
            [self._key(stream) for stream in streams],
            [GROUP, self.takeover_idle_ms],
        )

    def forget_dead_readers(self, stream: str, idle_ms: int) -> None:
        """Deletes consumers without entries, silent for `idle_ms`: each process leaves one."""
        self.forget_all_dead_readers([stream], idle_ms)

    def forget_all_dead_readers(self, streams: Sequence[str], idle_ms: int) -> None:
        """The same of several streams, in one round trip."""
        calls = [(self._forget, [self._key(stream)], [GROUP, idle_ms]) for stream in streams]
        run_all(self.redis, calls)

    def wake_up_is_ours(self, queue: str) -> bool:
        """True when no wake-up of this queue is pending; marks one, which the caller sends.

        A worker that listens (`listen`) is notified here and needs no wake-up.
        """
        return bool(
            self._ring(keys=[self.keys.wake_up(queue), self.keys.ring(queue)], args=[WAKE_UP_MS])
        )

    def listen(self, queue: str, seconds: float = WAKE_UP_MS / 1000) -> None:
        """Has producers notify the caller, which calls `hear` next, for so long; from then on they
        send wake-ups.
        """
        self.redis.set(self.keys.wake_up(queue), b"l", px=max(int(seconds * 1000), 1))

    def hear(self, queue: str, seconds: float) -> bool:
        """Waits up to `seconds` for a notification of work; True when it came."""
        return (
            self.redis.brpop([self.keys.ring(queue)], timeout=max(seconds, HEAR_MIN_S)) is not None
        )

    def clear_wake_up(self, queue: str) -> None:
        self.redis.delete(self.keys.wake_up(queue))


def _reclaimed(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, reclaimed=True)


def _delivered(groups: Any) -> str:
    """The last entry that the group has read."""
    if isinstance(groups, Exception):
        return "0-0"
    return next(
        (str(one["last-delivered-id"].decode()) for one in groups if one["name"] == GROUP.encode()),
        "0-0",
    )


def fleet_of(consumer: bytes) -> str:
    """The prefix of the fleet whose intake has this name in the group of a core's stream; "" of a
    process that is older than its name.
    """
    return consumer.decode("utf-8", "replace").rpartition(":")[0].partition(":{s")[0]


class Overtaken(Enum):
    """What is taken before its turn (lua/overtake.lua).

    URGENT: no message to a group, or of a class that can wait. NEWEST_CALLS: invitations among the
    newest entries behind the position. CALLS: calls, and events of people, which they must not pass
    unread. NEWEST_CALLS_THERE: as NEWEST_CALLS, but nothing is taken. CALLS_THERE: as that, among
    the oldest entries behind the position.
    """

    URGENT = "0"
    NEWEST_CALLS = "1"
    CALLS = "2"
    NEWEST_CALLS_THERE = "3"
    CALLS_THERE = "4"


class CoreStreams(StreamStore):
    """The streams that the core writes, by their own names. An entry over the limit comes cut.

    The consumer's name begins with the fleet's prefix (fleet_of): doctor sees who else reads.
    reads_open: its reads may be open ones (open_reads.py). sweeps: it looks for what such left.
    """

    reads_open = False
    sweeps = True

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        entry_bytes_max: int,
        kept_bytes: int,
        takeover_idle_ms: int = TAKEOVER_IDLE_MS,
    ) -> None:
        """kept_bytes: of the text of an entry over the limit."""
        super().__init__(redis, keys, takeover_idle_ms)
        self.entry_bytes_max, self.kept_bytes = entry_bytes_max, kept_bytes
        self._overtake = script(redis, "overtake", "bounded")
        self.consumer = f"{keys.prefix}:{self.consumer}"
        self._plain = PlainReads(redis, GROUP, self.consumer)
        self._open = OpenReads(redis, keys, GROUP, self.consumer, takeover_idle_ms)

    def read_weighted(
        self, counts: Mapping[str, int], bytes_max: int = READ_BYTES_MAX
    ) -> list[Entry]:
        """As StreamStore.read_weighted; small streams use plain reads (plain_reads.py)."""
        self._make(counts)
        if not self._plain.may(counts, bytes_max):
            entries = super().read_weighted(counts, bytes_max)
            self._plain.found(len(entries))
            return entries
        entries, lost = [], list[ResponseError]()
        for stream, raws in zip(counts, self._raws(counts), strict=True):
            if isinstance(raws, ResponseError):
                self._lost_group(raws)
                lost.append(raws)
            else:
                entries += [self._read_whole(stream, *raw) for raw in raws]
        self._plain.found(len(entries))
        if lost and not entries:
            raise lost[0]
        return entries

    def _raws(self, counts: Mapping[str, int]) -> list[Any]:
        """As PlainReads.read; of one stream without a list of its entries, where that may be."""
        if self.reads_open and len(counts) == 1:
            ((stream, count),) = counts.items()
            try:
                answer = self._open.read(stream, count)
            except ResponseError as error:
                return [error]
            if answer is not None:
                raws = entries_of_one(answer)
                self._open.found(stream, [entry_id for entry_id, _ in raws])
                return [raws]
        return self._plain.read(counts)

    def _listed(self, stream: str, ids: Sequence[bytes]) -> Sequence[bytes]:
        held = self._open.held
        if not held or stream != self._open.of:
            return ids
        return [one for one in ids if one not in held]

    def _kept(
        self, entries: Sequence[Entry], idle_ms: int, count: Callable[[Entry], int]
    ) -> list[Entry]:
        self._open.enlist()
        return super()._kept(entries, idle_ms, count)

    def with_pending(self, streams: Sequence[str]) -> list[str]:
        if self.sweeps:
            self._open.sweep(streams, self.takeover_idle_ms)
        return super().with_pending(streams)

    def _read_whole(self, stream: str, entry_id: bytes, raw: Sequence[bytes]) -> Entry:
        if len(raw) == 2 and raw[0] == b"e" and len(raw[1]) < self.entry_bytes_max:  # nearly all
            return Entry(stream, entry_id, raw[1], 1, False, {b"e": raw[1]})
        size = self._over(raw)
        return self._entry(stream, entry_id, self._cut(raw) if size else raw, size)

    def _over(self, raw: Sequence[bytes]) -> int:
        """The bytes of an entry that is over the limit, else 0."""
        size = sum(map(len, raw))
        return size if 0 < self.entry_bytes_max < size else 0

    def _cut(self, raw: Sequence[bytes]) -> list[bytes]:
        """As bounded.lua has it."""
        kept: list[bytes] = []
        for name, value in zip(raw[:100:2], raw[1:100:2], strict=True):
            most = self.kept_bytes if name in (b"e", b"b") else CUT_FIELD_BYTES
            kept += [name[:CUT_FIELD_BYTES], value[:most]]
        return kept

    def overtake(
        self,
        name: str,
        position: str,
        look: int,
        most: int,
        classes: Sequence[str],
        wanted: Overtaken = Overtaken.URGENT,
    ) -> tuple[str, bool, list[Entry]]:
        """Takes up to `most` of `look` unread entries behind `position`: those that are `wanted`.

        classes: of messages that are not urgent. Returns the position to continue from, True at the
        stream's end, and the entries.
        """
        args: list[str | int] = [
            GROUP,
            self.consumer,
            self.takeover_idle_ms,
            position,
            look,
            most,
            self.entry_bytes_max,
            self.kept_bytes,
            wanted.value,
        ]
        at, ended, raws = self._overtake(keys=[name, self._takeovers(name)], args=[*args, *classes])
        found = [self._entry(name, *raw) for raw in raws]
        return at.decode(), bool(ended), [_reclaimed(entry) for entry in found]

    def _key(self, stream: str) -> str:
        return stream

    def _entry(
        self, stream: str, entry_id: bytes, raw: Sequence[bytes], size: int, deliveries: int = 1
    ) -> Entry:
        if len(raw) == 2 and raw[0] == b"e":
            return Entry(stream, entry_id, raw[1], deliveries, False, {b"e": raw[1]}, size)
        fields = dict(zip(raw[::2], raw[1::2], strict=True))
        return Entry(
            stream, entry_id, fields.get(b"e", b""), deliveries, b"s" in fields, fields, size
        )

    def _whole(self, stream: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        size = self._over([part for pair in fields.items() for part in pair])
        return Entry(stream, entry_id, fields.get(b"e", b""), 1, b"s" in fields, fields, size)
