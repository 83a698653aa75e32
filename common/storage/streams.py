"""The belts between stages (Redis Streams, until acknowledged): read, hand on in one MULTI, take over, ring the bell."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from common.storage.keys import Keys
from common.storage.scripts import script
from common.values import Value

GROUP = "pushfleet"
#: An entry whose reader was silent for so long belongs to whoever asks (send 10 s < lease 12 s < take-over 15 s).
TAKEOVER_IDLE_MS = 15_000
#: Deliveries of one entry after which it is split into single items to find the culprit, then refused.
DELIVERIES_MAX = 5
#: A bell that was lost is rung again by upkeep after so long.
BELL_MS = 2_000


class Entry(Value, frozen=True):
    """One stream entry. deliveries: how often it was handed out, 1 for a fresh one. single: it was split off already."""

    belt: str
    id: bytes
    blob: bytes
    deliveries: int = 1
    single: bool = False


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
        self._hold = script(redis, "hold")
        self._missed = script(redis, "missed")
        self.consumer = uuid.uuid4().hex[:12]
        self._made: set[str] = set()

    def _make(self, belts: Iterable[str]) -> None:
        for belt in belts:
            if belt in self._made:
                continue
            self.make(belt)
            self._made.add(belt)

    def make(self, belt: str) -> None:
        """Creates the belt's group from 0 if missing."""
        try:
            self.redis.xgroup_create(self.keys.belt(belt), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, belts: Sequence[str], count: int, block_ms: int | None = None) -> list[Entry]:
        """Up to `count` fresh entries of each belt, in the belts' order; waits for the first of them for `block_ms`."""
        self._make(belts)
        try:
            answer = self.redis.xreadgroup(GROUP, self.consumer, {self.keys.belt(belt): ">" for belt in belts}, count=count, block=block_ms)
        except ResponseError as error:
            if "NOGROUP" in str(error):  # the server lost its data: make the groups again
                self._made.clear()
            raise
        names = {self.keys.belt(belt).encode(): belt for belt in belts}
        return [_entry(names[key], *raw) for key, raws in _pairs(answer or ()) for raw in raws]

    def read_weighted(self, counts: Mapping[str, int]) -> list[Entry]:
        """Up to `counts[belt]` fresh entries of each belt, in one round trip, in the mapping's order."""
        self._make(counts)
        with self.redis.pipeline(transaction=False) as pipe:
            for belt, count in counts.items():
                pipe.xreadgroup(GROUP, self.consumer, {self.keys.belt(belt): ">"}, count=count)
            answers = pipe.execute(raise_on_error=False)
        entries = []
        for belt, answer in zip(counts, answers, strict=True):
            if isinstance(answer, Exception):
                self._made.discard(belt)
                raise answer
            entries += [_entry(belt, *raw) for _, raws in _pairs(answer or ()) for raw in raws]
        return entries

    def take_over(self, belt: str, count: int) -> list[Entry]:
        """Entries whose readers fell silent, now ours, with their delivery counts."""
        self._make([belt])
        key = self.keys.belt(belt)
        try:
            _, raws, *_ = cast(Any, self.redis.xautoclaim(key, GROUP, self.consumer, self.takeover_idle_ms, count=count))
        except ResponseError:
            self._made.discard(belt)  # the server lost its data: make the group again
            raise
        entries = [raw for raw in raws if raw[1] is not None]
        if not entries:
            return []
        pending = cast(Any, self.redis.xpending_range(key, GROUP, entries[0][0], entries[-1][0], len(entries) * 4, self.consumer))
        deliveries = {item["message_id"]: item["times_delivered"] for item in pending}
        return [_entry(belt, raw[0], raw[1], deliveries.get(raw[0], 1)) for raw in entries]

    def hand_on(
        self,
        done: Sequence[Entry],
        adds: Sequence[tuple[str, bytes]] = (),
        more: Callable[[Pipeline], None] | None = None,
    ) -> None:
        """In one MULTI: add to the next belts, do `more`, then acknowledge and delete what is done."""
        with self.redis.pipeline(transaction=True) as pipe:
            for belt, blob in adds:
                pipe.xadd(self.keys.belt(belt), {"b": blob})
            if more is not None:
                more(pipe)
            by_belt: dict[str, list[bytes]] = {}
            for entry in done:
                by_belt.setdefault(entry.belt, []).append(entry.id)
            for belt, ids in by_belt.items():
                pipe.xack(self.keys.belt(belt), GROUP, *ids)
                pipe.xdel(self.keys.belt(belt), *ids)
            pipe.execute()

    def split(self, entry: Entry, singles: Sequence[bytes], more: Callable[[Pipeline], None] | None = None) -> None:
        """Replaces an entry that keeps killing its readers by one entry an item, so that the culprit stands alone."""
        key = self.keys.belt(entry.belt)
        with self.redis.pipeline(transaction=True) as pipe:
            for blob in singles:
                pipe.xadd(key, {"b": blob, "s": "1"})
            if more is not None:
                more(pipe)
            pipe.xack(key, GROUP, entry.id)
            pipe.xdel(key, entry.id)
            pipe.execute()

    def forgive(self, entries: Sequence[Entry]) -> None:
        """Gives back what is still ours, as never handed out, for anybody to take over: a store was away, the entries are not to blame."""
        for entry in entries:
            self._held(entry, self.takeover_idle_ms, 0)

    def recount(self, entry: Entry, deliveries: int) -> bool:
        """Sets the delivery counter of an entry that is still ours, its idle time set back; False when it was taken over."""
        return self._held(entry, 0, deliveries)

    def renew(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of the entries that are still ours, their idle time set back; the others were taken over."""
        by_belt: dict[str, list[bytes]] = {}
        for entry in entries:
            by_belt.setdefault(entry.belt, []).append(entry.id)
        ours = {(belt, entry_id) for belt, ids in by_belt.items() for entry_id in self._kept(belt, ids, 0, -1)}
        return [entry for entry in entries if (entry.belt, entry.id) in ours]

    def _held(self, entry: Entry, idle_ms: int, deliveries: int) -> bool:
        return bool(self._kept(entry.belt, [entry.id], idle_ms, deliveries))

    def _kept(self, belt: str, ids: Sequence[bytes], idle_ms: int, deliveries: int) -> list[bytes]:
        args: list[str | bytes | int] = [GROUP, self.consumer, idle_ms, *(part for entry_id in ids for part in (entry_id, deliveries))]
        return cast(list[bytes], self._hold(keys=[self.keys.belt(belt)], args=args))

    def backlog(self, belts: Sequence[str]) -> dict[str, Backlog]:
        """Depth of each belt and the time of its oldest entry."""
        self._make(belts)
        with self.redis.pipeline(transaction=False) as pipe:
            for belt in belts:
                pipe.xlen(self.keys.belt(belt))
                pipe.xpending(self.keys.belt(belt), GROUP)
                pipe.xrange(self.keys.belt(belt), count=1)
            answers = pipe.execute(raise_on_error=False)
        found = {}
        for index, belt in enumerate(belts):
            length, pending, oldest = answers[index * 3 : index * 3 + 3]
            if isinstance(pending, Exception):
                self._made.discard(belt)
                continue
            taken = int(pending["pending"])
            found[belt] = Backlog(max(int(length) - taken, 0), taken, int(oldest[0][0].split(b"-")[0]) if oldest else None)
        return found

    def missed(self, belts: Sequence[str]) -> set[str]:
        """Belts with entries that nobody took, or whose reader fell silent. One round trip."""
        found = cast(list[int], self._missed(keys=[self.keys.belt(belt) for belt in belts], args=[GROUP, self.takeover_idle_ms]))
        return {belts[index] for index in found}

    def forget_dead_readers(self, belt: str, idle_ms: int) -> None:
        """Deletes consumers that hold nothing and were silent for `idle_ms`: each process leaves one behind."""
        for consumer in cast(Any, self.redis.xinfo_consumers(self.keys.belt(belt), GROUP)):
            if consumer["pending"] == 0 and consumer["idle"] > idle_ms:
                self.redis.xgroup_delconsumer(self.keys.belt(belt), GROUP, consumer["name"])

    def bell_is_ours(self, queue: str) -> bool:
        """True when no bell of this queue is waiting, and marks one as waiting: the caller rings it."""
        return bool(self.redis.set(self.keys.bell(queue), b"1", nx=True, px=BELL_MS))

    def clear_bell(self, queue: str) -> None:
        self.redis.delete(self.keys.bell(queue))


def _pairs(answer: Any) -> Any:
    """XREADGROUP's answer as pairs: RESP2 gives a list, RESP3 a map."""
    return answer.items() if isinstance(answer, dict) else answer


def _entry(belt: str, entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Entry:
    return Entry(belt, entry_id, fields.get(b"b", b""), deliveries, b"s" in fields)
