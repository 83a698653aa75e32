"""The belts between stages (Redis Streams, until acknowledged): read, hand on in one MULTI, take over, ring the bell."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from common.storage.keys import Keys
from common.storage.scripts import script
from common.values import Value

GROUP = "pushfleet"
#: An entry whose reader was silent for so long belongs to whoever asks (send 10 s < lease 12 s < take-over 15 s).
TAKEOVER_IDLE_MS = 15_000
#: Readers that an entry may outlive before it is split into single items to find the culprit, then refused.
DELIVERIES_MAX = 5
#: An entry that outlived so many is worked on alone: its neighbours must not be blamed for what it does.
SUSPECT_AFTER = 2
#: Where the delivery counter stands once an entry was tried alone; from there on it counts the readers that died of it alone.
ALONE = 1_000
ALONE_MAX = DELIVERIES_MAX - SUSPECT_AFTER
#: Bytes of one read, whatever the number of its entries.
READ_BYTES_MAX = 8 * 1024 * 1024
#: A dead letter that was replayed is known as such for so long.
REPLAYED_S = 90 * 86_400
#: A bell that was lost is rung again by upkeep after so long.
BELL_MS = 2_000


class Entry(Value, frozen=True):
    """One stream entry. deliveries: how often it was handed out, 1 for a fresh one. single: it was split off already.

    fields, size: of the core's entries only: all fields; the bytes of one over the limit, whose fields are cut (0: it is whole).
    """

    belt: str
    id: bytes
    blob: bytes
    deliveries: int = 1
    single: bool = False
    fields: Mapping[bytes, bytes] = msgspec.field(default_factory=dict)
    size: int = 0

    @property
    def is_suspect(self) -> bool:
        """Readers died while they held it, more than once."""
        return self.deliveries > SUSPECT_AFTER

    @property
    def is_poison(self) -> bool:
        """Readers died while they held it and nothing else."""
        return self.deliveries >= ALONE + ALONE_MAX


@dataclass(frozen=True, slots=True)
class Backlog:
    """unread: entries nobody took; pending: taken, not acknowledged; stale: pending ones idle past the take-over time."""

    unread: int
    pending: int
    oldest_ms: int | None


class Belts:
    """Reads and writes the belts as one consumer of the group; the consumer's name is new in each process."""

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
        self._add_once = script(redis, "add_once")
        self.consumer = uuid.uuid4().hex[:12]
        self._made: set[str] = set()

    def _key(self, belt: str) -> str:
        return self.keys.belt(belt)

    def _takeovers(self, _belt: str) -> str:
        """Where takeovers of the stream's entries are counted."""
        return self.keys.takeovers

    def _make(self, belts: Iterable[str]) -> None:
        for belt in belts:
            if belt in self._made:
                continue
            self.make(belt)
            self._made.add(belt)

    def make(self, belt: str) -> None:
        """Creates the belt's group from 0 if missing."""
        try:
            self.redis.xgroup_create(self._key(belt), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, belts: Sequence[str], count: int, block_ms: int | None = None) -> list[Entry]:
        """Up to `count` fresh entries of each belt, in the belts' order; waits for the first of them for `block_ms`."""
        found = self.read_weighted(dict.fromkeys(belts, count))
        return found if found or block_ms is None else self.wait(belts, block_ms)

    def wait(self, belts: Sequence[str], block_ms: int) -> list[Entry]:
        """Waits for the next entry of any stream: one of each at most."""
        self._make(belts)
        names = {self._key(belt).encode(): belt for belt in belts}
        try:
            answer: Any = self.redis.xreadgroup(GROUP, self.consumer, dict.fromkeys(names, ">"), count=1, block=block_ms)
        except ResponseError as error:
            self._lost_group(error)
            raise
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        return [self._whole(names[key], *raw) for key, raws in pairs for raw in raws]

    def _whole(self, belt: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        return Entry(belt, entry_id, fields.get(b"b", b""), 1, b"s" in fields)

    def read_weighted(self, counts: Mapping[str, int], bytes_max: int = READ_BYTES_MAX) -> list[Entry]:
        """Up to `counts[belt]` fresh entries of each belt and about `bytes_max` in all, in one round trip, in the mapping's order."""
        self._make(counts)
        args: list[str | int] = [GROUP, self.consumer, bytes_max, self.entry_bytes_max, self.kept_bytes, *counts.values()]
        try:
            told = self._take(keys=[self._key(belt) for belt in counts], args=args)
        except ResponseError as error:
            self._lost_group(error)
            raise
        if len(told) > len(counts):
            self._made.clear()
        return [self._entry(belt, *raw) for belt, raws in zip(counts, told, strict=False) for raw in raws]

    def _lost_group(self, error: ResponseError) -> None:
        if "NOGROUP" in str(error):  # the server lost its data: make the groups again
            self._made.clear()

    def take_over(self, belt: str, count: int, bytes_max: int = READ_BYTES_MAX) -> list[Entry]:
        """Entries whose readers fell silent, now ours, with their delivery counts. Each call looks on where the last one ended: what
        cannot be worked on now does not hide what can."""
        self._make([belt])
        start = self._looked.pop(belt, "-")
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
            further, raws = self._reclaim(keys=[self._key(belt), self._takeovers(belt)], args=args)
        except ResponseError as error:
            self._lost_group(error)
            raise
        if further != b"-":
            self._looked[belt] = further.decode()
        elif not raws and start != "-":  # that was the end
            return self.take_over(belt, count, bytes_max)
        return [self._entry(belt, entry_id, fields, size, int(deliveries)) for entry_id, fields, deliveries, size in raws]

    def _entry(self, belt: str, entry_id: bytes, raw: Sequence[bytes], _size: int, deliveries: int = 1) -> Entry:
        fields = dict(zip(raw[::2], raw[1::2], strict=True))
        return Entry(belt, entry_id, fields.get(b"b", b""), deliveries, b"s" in fields)

    def hand_on(
        self,
        done: Sequence[Entry],
        adds: Sequence[tuple[str, bytes]] = (),
        more: Callable[[Pipeline], None] | None = None,
    ) -> None:
        """In one MULTI: add to the next belts, do `more`, then acknowledge and delete what is done."""
        with self.redis.pipeline(transaction=True) as pipe:
            self.add(pipe, adds)
            if more is not None:
                more(pipe)
            self.acknowledge(pipe, done)
            pipe.execute()

    def add(self, pipe: Pipeline, adds: Sequence[tuple[str, bytes]]) -> None:
        """Entries (stream, blob), inside the caller's MULTI."""
        for belt, blob in adds:
            pipe.xadd(self._key(belt), {"b": blob})

    def add_once(self, letter: str, belt: str, blob: bytes) -> bool:
        """Adds the bytes of a dead letter; False when that was done before, by one who died before the letter ended."""
        return bool(self._add_once(keys=[self.keys.replayed(letter), self._key(belt)], args=[REPLAYED_S, blob]))

    def acknowledge(self, pipe: Pipeline, done: Sequence[Entry]) -> None:
        """Acknowledges and deletes, inside the caller's MULTI."""
        by_belt: dict[str, list[bytes]] = {}
        for entry in done:
            by_belt.setdefault(entry.belt, []).append(entry.id)
        for belt, ids in by_belt.items():
            pipe.xack(self._key(belt), GROUP, *ids)
            pipe.xdel(self._key(belt), *ids)

    def split(self, pipe: Pipeline, entry: Entry, singles: Sequence[Mapping[bytes, bytes]]) -> None:
        """Replaces an entry that keeps killing its readers by one entry an item, so that the culprit stands alone; inside a MULTI."""
        for fields in singles:
            pipe.xadd(self._key(entry.belt), cast(Any, {**fields, b"s": b"1"}))
        self.acknowledge(pipe, [entry])

    def forgive(self, entries: Sequence[Entry]) -> None:
        """Gives back what is still ours, without counting this delivery, for anybody to take over: a store was away, the entries are not
        to blame."""
        self._kept(entries, self.takeover_idle_ms, lambda entry: entry.deliveries - 1)

    def recount(self, entry: Entry, deliveries: int) -> bool:
        """Sets the delivery counter of an entry that is still ours, its idle time set back; False when it was taken over."""
        return bool(self._kept([entry], 0, lambda _entry: deliveries))

    def renew(self, entries: Sequence[Entry], counted: bool | None = None) -> list[Entry]:
        """Those of the entries that are still ours, their idle time set back; the others were taken over.

        counted: whether a death of this process from now on counts as one of these entries' readers (None: as before).
        """
        counts = {None: lambda _entry: -1, True: lambda entry: entry.deliveries, False: lambda entry: entry.deliveries - 1}
        return self._kept(entries, 0, counts[counted])

    def _kept(self, entries: Sequence[Entry], idle_ms: int, count: Callable[[Entry], int]) -> list[Entry]:
        """Those of the entries that are still ours, with their idle time and delivery counters (-1: as they are) set."""
        by_belt: dict[str, list[Entry]] = {}
        for entry in entries:
            by_belt.setdefault(entry.belt, []).append(entry)
        ours: set[tuple[str, bytes]] = set()
        for belt, those in by_belt.items():
            args = [GROUP, self.consumer, idle_ms, *(part for entry in those for part in (entry.id, count(entry)))]
            ours |= {(belt, entry_id) for entry_id in self._hold(keys=[self._key(belt)], args=args)}
        return [entry for entry in entries if (entry.belt, entry.id) in ours]

    def backlog(self, belts: Sequence[str]) -> dict[str, Backlog]:
        """Depth of each belt and the time of its oldest entry."""
        self._make(belts)
        lengths = self._lengths(belts)
        filled = [belt for belt in belts if lengths[belt]]
        with self.redis.pipeline(transaction=False) as pipe:
            for belt in filled:
                pipe.xpending(self._key(belt), GROUP)
                pipe.xrange(self._key(belt), count=1)
            answers = pipe.execute(raise_on_error=False)
        found = dict.fromkeys(belts, Backlog(0, 0, None))
        for belt, pending, oldest in zip(filled, answers[::2], answers[1::2], strict=True):
            if isinstance(pending, Exception):
                self._made.discard(belt)
                del found[belt]
                continue
            taken = int(pending["pending"])
            found[belt] = Backlog(max(lengths[belt] - taken, 0), taken, int(oldest[0][0].split(b"-")[0]) if oldest else None)
        return found

    def _lengths(self, belts: Sequence[str]) -> dict[str, int]:
        """Entries of each stream, taken or not. One round trip: as a rule there are none."""
        with self.redis.pipeline(transaction=False) as pipe:
            for belt in belts:
                pipe.xlen(self._key(belt))
            return dict(zip(belts, map(int, pipe.execute()), strict=True))

    def untaken_s(self, belts: Sequence[str]) -> dict[str, float]:
        """How long the first entry of each stream that nobody has read yet has waited, seconds; 0 where all are read.

        Not by XINFO's lag, which knows nothing once entries are deleted out of order, as many readers do.
        """
        self._make(belts)
        lengths = self._lengths(belts)
        filled = [belt for belt in belts if lengths[belt]]
        waited = dict.fromkeys(belts, 0.0)
        if not filled:
            return waited
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for belt in filled:
                pipe.xinfo_groups(self._key(belt))
            (seconds, micros), *told = pipe.execute(raise_on_error=False)
        with self.redis.pipeline(transaction=False) as pipe:
            for belt, groups in zip(filled, told, strict=True):
                pipe.xrange(self._key(belt), f"({_delivered(groups)}", count=1)
            firsts = pipe.execute()
        now = seconds * 1000 + micros // 1000
        for belt, first in zip(filled, firsts, strict=True):
            if first:
                waited[belt] = max(now - int(first[0][0].split(b"-")[0]), 0) / 1000
        return waited

    def missed(self, belts: Sequence[str]) -> set[str]:
        """Belts with entries that nobody took, or whose reader fell silent. One round trip."""
        found = cast(list[int], self._missed(keys=[self._key(belt) for belt in belts], args=[GROUP, self.takeover_idle_ms]))
        return {belts[index] for index in found}

    def forget_dead_readers(self, belt: str, idle_ms: int) -> None:
        """Deletes consumers that hold nothing and were silent for `idle_ms`: each process leaves one behind."""
        self._forget(keys=[self._key(belt)], args=[GROUP, idle_ms])

    def bell_is_ours(self, queue: str) -> bool:
        """True when no bell of this queue is waiting, and marks one as waiting: the caller rings it."""
        return bool(self.redis.set(self.keys.bell(queue), b"1", nx=True, px=BELL_MS))

    def clear_bell(self, queue: str) -> None:
        self.redis.delete(self.keys.bell(queue))


def _delivered(groups: Any) -> str:
    """The last entry that the group has read."""
    if isinstance(groups, Exception):
        return "0-0"
    return next((str(one["last-delivered-id"].decode()) for one in groups if one["name"] == GROUP.encode()), "0-0")


class CoreStreams(Belts):
    """The streams that the core writes, by their own names. An entry over the limit comes cut."""

    def __init__(self, redis: Redis, keys: Keys, entry_bytes_max: int, kept_bytes: int, takeover_idle_ms: int = TAKEOVER_IDLE_MS) -> None:
        """kept_bytes: of the text of an entry over the limit."""
        super().__init__(redis, keys, takeover_idle_ms)
        self.entry_bytes_max, self.kept_bytes = entry_bytes_max, kept_bytes
        self._overtake = script(redis, "overtake", "bounded")

    def overtake(self, name: str, position: str, look: int, most: int, classes: Sequence[str]) -> tuple[str, bool, list[Entry]]:
        """Looks at `look` entries behind `position` that nobody has read yet, and takes up to `most` of those before their turn that are
        no message to a group or of one of the `classes`. The position to look on from, whether that is the stream's end, the entries."""
        args: list[str | int] = [GROUP, self.consumer, self.takeover_idle_ms, position, look, most, self.entry_bytes_max, self.kept_bytes]
        at, ended, raws = self._overtake(keys=[name, self._takeovers(name)], args=[*args, *classes])
        return at.decode(), bool(ended), [self._entry(name, *raw) for raw in raws]

    def _key(self, belt: str) -> str:
        return belt

    def _entry(self, belt: str, entry_id: bytes, raw: Sequence[bytes], size: int, deliveries: int = 1) -> Entry:
        fields = dict(zip(raw[::2], raw[1::2], strict=True))
        return Entry(belt, entry_id, fields.get(b"e", b""), deliveries, b"s" in fields, fields, size)

    def _whole(self, belt: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        size = sum(len(key) + len(value) for key, value in fields.items())
        return Entry(belt, entry_id, fields.get(b"e", b""), 1, b"s" in fields, fields, size if size > self.entry_bytes_max else 0)
