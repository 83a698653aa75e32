"""Moves a stopped fleet's keys to the shards of another number of shards.

Each step may be repeated: a key, an entry or a retry is written at its new place before it is
removed from the old one, and a second write changes nothing. An interrupted run therefore continues
where it stopped. The number changes last, in one step.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, cast

import msgspec
from redis import Redis

from common.contracts import Batch, Push, decode_batch, encode
from common.model import Urgency, Vendor
from common.storage import counting, keys
from common.storage.delayed import as_new, parts_of, with_batch
from common.storage.keys import Keys, literal
from common.storage.lane_entries import URGENCIES, LaneEntry, NewBatch, entry_id, vendor_of
from common.storage.redis import scanned
from common.storage.shards import shard_of
from workers.app import PRESENCE, ROUTING
from workers.delivery import settle
from workers.delivery.coalescing import group_of
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.old_streams import OldStreams
from workers.maintenance.ledger_writer import LedgerWriter
from workers.pipeline import Stages
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Keys, entries or members that are moved at a time.
AT_ONCE: Final = 500
#: Seconds for the stages to empty their streams, once nothing new comes.
FLUSH_S: Final = 300.0
#: Streams that the stages empty first. Delivery's streams hold replayed dead letters and entries of
#: releases before 0.2.
FLUSHED: Final = (*keys.WORK_STREAMS, *keys.OUT, keys.LEDGER)
#: Keys without a shard in their name are kept in all shards.
EVERYWHERE: Final = (
    "claim:",
    "gone:",
    "screen:",
    "{s0}:ev:",
    "{s0}:ts:",
    "{s0}:passed:",
    "{s0}:fan:",
    "{s0}:replayed:",
)
#: Keys that are rebuilt from SQL or by the next look.
DROPPED: Final = (
    *("ready:", "popped:", "loaded-lanes", "bell:", "lane:", "rate:"),
    *(
        "{s0}:person",
        "{s0}:people-bytes:",
        "{s0}:taken:",
        "{s0}:takeovers",
        "{s0}:out-of-turn",
        "{s0}:open-read",
        "{s0}:synced",
        "{s0}:clock",
    ),
)
_PERSON: Final = re.compile(r"(?:badge|read|bind|silent):\{([^:]*):(.*?)\}(?:\0.*)?", re.DOTALL)
#: Of many people each (common/storage/counting.py).
COUNTS: Final = "{s0}:counts:"
_LANE: Final = re.compile(
    r"\{([^{}]*:[^{}]*:.*)\}:(blobs|leases|holders|tries|load|queue:[a-z]+)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Place:
    """One shard's keys."""

    number: int
    redis: Redis
    keys: Keys


class NotEmptyError(Exception):
    """The streams could not be emptied; the message names them."""


def flush(runtime: Runtime, seconds: float = FLUSH_S) -> None:
    """Processes everything between the core's streams and the lanes' queues.

    No other process may be running. Raises NotEmptyError.
    """
    stages, writers = Stages(runtime), [LedgerWriter(one) for one in runtime.shards]
    replayed = [OldStreams(one, vendor) for one in runtime.shards for vendor in Vendor]
    for one in runtime.shards:
        one.streams.takeover_idle_ms = 0  # whoever held an entry is dead
        one.delayed.dead_letter_unreadable()
    until = time.monotonic() + seconds
    while left := _on_streams(runtime):
        if time.monotonic() >= until:
            raise NotEmptyError(
                ", ".join(f"{count} entries of {name}" for name, count in left.items())
            )
        for one in runtime.shards:
            one.delayed.release_due()
        for stage in (PRESENCE, ROUTING):
            stages.consumer(stage)(lambda: False)
        for those in replayed:
            those.adopt()
        for writer in writers:
            while writer.flush():
                pass
        time.sleep(0.05)


def _on_streams(runtime: Runtime) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in runtime.shards:
        with one.redis.pipeline(transaction=False) as pipe:
            for name in FLUSHED:
                pipe.xlen(one.keys.stream(name))
            lengths = zip(FLUSHED, cast(list[int], pipe.execute()), strict=True)
        for name, length in lengths:
            if length:
                found[name] = found.get(name, 0) + length
        members = cast(list[bytes], one.redis.zrange(one.keys.delayed, 0, -1))
        waiting = sum(not parts_of(member)[0].urgency for member in members)
        if waiting:
            found["delayed"] = found.get("delayed", 0) + waiting
    return found


class Mover:
    """Moves what lies in the shards of one fleet to those of another number of them. old, new:
    their runtimes.

    report: called with the counts by kind of each shard that is done.
    """

    def __init__(
        self, old: Runtime, new: Runtime, report: Callable[[dict[str, int]], None]
    ) -> None:
        self._report = report
        self._old = old
        self._new = [Place(one.number, one.redis, one.keys) for one in new.shards]
        every = max(old.shards, new.shards, key=len)
        self._all = [Place(one.number, one.redis, one.keys) for one in every]
        self._runtimes = list(every)

    def run(self) -> None:
        for place in self._all:
            if place.number >= len(self._old.shards):
                continue
            counts = {
                "lanes": self._lanes(place),
                "retries": self._delayed(place),
                "withdrawals": self._withdrawals(place),
            }
            counts["keys"] = self._keys(place)
            self._report({"number": place.number, **counts})
        for place in self._new:
            self._count(place)

    # ------------------------------------------------------------ entries of lanes

    def _lanes(self, place: Place) -> int:
        """Moves each entry to its people's shards, under its order; also dead senders' entries."""
        rounds, moved = LaneRounds(self._runtimes[place.number], lambda: False), 0
        for lane in sorted(
            {match[1] for name in _names(place) if (match := _LANE.fullmatch(name))}
        ):
            own = place.keys
            tries, held = (
                cast(Any, place.redis.hgetall(own.lane_tries(lane))),
                set(cast(Any, place.redis.hkeys(own.lane_holders(lane)))),
            )
            blobs = dict(scanned(place.redis, "HSCAN", own.lane_blobs(lane)))
            for entry, blob in blobs.items():
                deliveries = 1 + int(tries.get(entry, 0)) + (entry in held)
                moved += self._entry(
                    place, lane, rounds, LaneEntry(entry.decode(), blob, deliveries)
                )
            self._lane_done(place, lane)
        return moved

    def _entry(self, place: Place, lane: str, rounds: LaneRounds, entry: LaneEntry) -> int:
        """entry: as it waits, with how many senders died with it."""
        _, blob = rounds.unsent.undecided(entry)
        urgency = URGENCIES[int(entry.id.split(";")[1])]
        parts = self._parts(blob, place.number)
        self._groups(place, parts)
        whole = len(parts) == 1 and blob == entry.blob
        for shard, part in parts.items():
            new = None if part is None or whole else as_new(part, urgency, encode(part))
            name = entry.id if new is None else entry_id(new, entry.owner, entry.order)
            self._put(
                self._all[shard],
                lane,
                urgency,
                name,
                entry.blob if new is None else new.blob,
                entry.deliveries - 1,
            )
        stays = whole and list(parts) == [place.number]
        if not stays:
            _forget(place, lane, urgency, entry.id)
        return int(not stays)

    def _parts(self, blob: bytes, here: int) -> dict[int, Batch | None]:
        """A batch by the shards of its people.

        An unreadable one stays, or goes to the first shard, and is found there.
        """
        try:
            batch = decode_batch(blob)
        except msgspec.MsgspecError:
            return {here if here < len(self._new) else 0: None}
        by_shard: dict[int, list[Push]] = {}
        for push in batch.pushes:
            people: dict[int, list[Any]] = {}
            for target in push.targets:
                people.setdefault(shard_of(len(self._new), push.note.app, target.user), []).append(
                    target
                )
            for shard, targets in people.items():
                by_shard.setdefault(shard, []).append(Push(note=push.note, targets=tuple(targets)))
        return {
            shard: msgspec.structs.replace(batch, pushes=tuple(pushes))
            for shard, pushes in by_shard.items()
        }

    def _put(
        self, place: Place, lane: str, urgency: Urgency, entry: str, blob: bytes, tries: int
    ) -> None:
        """Writes one entry; takes the next order where another part of the entry has the name."""
        own = place.keys
        while (
            known := cast(Any, place.redis.hget(own.lane_blobs(lane), entry))
        ) is not None and known != blob:
            owner, rank, order, *rest = entry.split(";")
            entry = ";".join((owner, rank, str(int(order) + 1), *rest))
        with place.redis.pipeline(transaction=True) as pipe:
            pipe.hset(own.lane_blobs(lane), entry, cast(Any, blob))
            pipe.zadd(own.lane_queue(lane, urgency), {entry: int(entry.split(";")[2])})
            if tries:
                pipe.hset(own.lane_tries(lane), entry, tries)
            pipe.hdel(
                own.lane_holders(lane), entry
            )  # its sender is counted: one who begins anew must not count it again
            pipe.execute()

    def _groups(self, place: Place, parts: dict[int, Batch | None]) -> None:
        """Moves what an outage holds of a person's conversation to the person's shard."""
        store = self._runtimes[place.number].backlog
        for shard, batch in parts.items():
            if batch is None or shard == place.number:
                continue
            names = {
                name for work in settle.works_of("", batch) for name in store.names(group_of(work))
            }
            for name in sorted(names) if names and place.redis.exists(*names) else ():
                _copy(place, self._all[shard], name)
                place.redis.delete(name)

    def _lane_done(self, place: Place, lane: str) -> None:
        """Drops the lane's holders and counts, and copies its notes to all shards."""
        own = place.keys
        noted = {
            field: value
            for field, value in cast(Any, place.redis.hgetall(own.lane_load(lane))).items()
            if field not in (b"b", b"w")
        }
        for other in self._new:
            if noted and other.number != place.number:
                other.redis.hset(other.keys.lane_load(lane), mapping=noted)
        place.redis.delete(own.lane_leases(lane), own.lane_holders(lane))

    # ------------------------------------------------------------ retries

    def _delayed(self, place: Place) -> int:
        moved = 0
        waiting = dict(scanned(place.redis, "ZSCAN", place.keys.delayed))
        for member, due_ms in waiting.items():
            header, blob = parts_of(member)
            parts = self._parts(blob, place.number) if header.urgency else {0: None}
            if list(parts) == [place.number]:
                continue
            for shard, part in parts.items():
                there = self._all[shard]
                one = (
                    member
                    if part is None or len(parts) == 1
                    else with_batch(member, _as_new(part, header.urgency))
                )
                there.redis.zadd(there.keys.delayed, {one: due_ms})
                self._groups(place, {shard: part})
            place.redis.zrem(place.keys.delayed, member)
            moved += 1
        return moved

    def _withdrawals(self, place: Place) -> int:
        """They may lie in any shard."""
        if place.number < len(self._new):
            return 0
        home, found = (
            self._all[0],
            cast(Any, place.redis.zrange(place.keys.withdrawals, 0, -1, withscores=True)),
        )
        if found:
            home.redis.zadd(home.keys.withdrawals, dict(found))
        return len(found)

    # ------------------------------------------------------------ what is remembered

    def _keys(self, place: Place) -> int:
        moved, goes = 0, place.number >= len(self._new)
        for name in dict.fromkeys(_names(place)):
            key = f"{place.keys.prefix}:{name}"
            if name.startswith(DROPPED) and (
                place.number or not name.startswith(("lane:", "rate:"))
            ):
                place.redis.unlink(_raw(key))
            elif match := _PERSON.fullmatch(name):
                shard = shard_of(len(self._new), match[1], match[2])
                if shard != place.number:
                    _copy(place, self._all[shard], key)
                    place.redis.unlink(_raw(key))
                    moved += 1
            elif name.startswith(COUNTS):
                moved += self._counts(place, key)
            elif name.startswith(EVERYWHERE):
                for other in self._new:
                    if other.number != place.number:
                        _copy(place, other, key)
                moved += 1
            if goes:
                self._refuse_unfinished(place, name)
                place.redis.unlink(_raw(key))
        return moved

    def _counts(self, place: Place, key: str) -> int:
        """Moves the badge counts of people whose shard is another; a hash has many people's."""
        moved = 0
        for some in _parts_of(scanned(place.redis, "HSCAN", _raw(key))):
            by_shard: dict[int, dict[Any, Any]] = {}
            for field, count in some:
                app, user = counting.person_of(field)
                by_shard.setdefault(shard_of(len(self._new), app, user), {})[field] = count
            by_shard.pop(place.number, None)
            for shard, counts in by_shard.items():
                there = self._all[shard]
                name = there.keys.prefix + key[len(place.keys.prefix) :]
                ttls = (place.redis.pttl(key), there.redis.pttl(name), 0)
                there.redis.hset(name, mapping=counts)  # a hash without an end gets one
                there.redis.pexpire(name, max(cast(Any, ttls)) or counting.KEEP_S * 1000)
                place.redis.hdel(key, *counts)
                moved += len(counts)
        return moved

    @staticmethod
    def _refuse_unfinished(place: Place, name: str) -> None:
        """Raises NotEmptyError when this key of a leaving shard is a stream with new entries."""
        key = _raw(f"{place.keys.prefix}:{name}")
        is_stream = place.redis.type(key) == b"stream"
        if is_stream and (count := int(cast(Any, place.redis.xlen(key)))):
            raise NotEmptyError(f"{count} entries of {name} in shard {place.number}")

    # ------------------------------------------------------------ what follows from it

    def _count(self, place: Place) -> None:
        """Recounts loads, lanes with entries, and the times at which they may send."""
        own, redis = place.keys, place.redis
        retries: dict[str, int] = {}
        for member in dict(scanned(redis, "ZSCAN", own.delayed)):
            header, blob = parts_of(member)
            if header.urgency and header.counted:
                retries[header.name] = retries.get(header.name, 0) + len(blob)
        lanes = {match[1] for name in _names(place) if (match := _LANE.fullmatch(name))} | set(
            retries
        )
        for lane in sorted(lanes):
            entries = [
                entry.decode().split(";")
                for entry in dict(scanned(redis, "HSCAN", own.lane_blobs(lane)))
            ]
            size = sum(int(entry[5]) for entry in entries) + retries.get(lane, 0)
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(
                    own.lane_load(lane),
                    mapping={"b": size, "w": sum(int(entry[3]) for entry in entries)},
                )
                pipe.sadd(own.loaded_lanes, lane)
                for urgency in {URGENCIES[int(entry[1])] for entry in entries}:
                    pipe.zadd(own.ready(vendor_of(lane), urgency), {lane: 0})
                pipe.execute()


def _as_new(batch: Batch, urgency: str) -> NewBatch:
    return as_new(batch, Urgency(urgency), encode(batch))


def _forget(place: Place, lane: str, urgency: Urgency, entry: str) -> None:
    own = place.keys
    with place.redis.pipeline(transaction=True) as pipe:
        pipe.zrem(own.lane_queue(lane, urgency), entry)
        for key in (own.lane_blobs(lane), own.lane_tries(lane), own.lane_holders(lane)):
            pipe.hdel(key, entry)
        pipe.zrem(own.lane_leases(lane), entry)
        pipe.delete(own.taken(entry))
        pipe.execute()


def _names(place: Place) -> Iterator[str]:
    """Keys of this shard, without their root. On one server shard 0's root begins those of the
    others.
    """
    root = f"{place.keys.prefix}:"
    others = re.compile(re.escape(root) + r"\{s[1-9][0-9]*\}:")
    for name in scanned(place.redis, "SCAN", match=literal(root) + "*"):
        text = name.decode("utf-8", "surrogateescape")
        if place.number or not others.match(text):
            yield text[len(root) :]


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _copy(place: Place, other: Place, name: str) -> None:
    """Copies a key under the other shard's root and merges it with the value there.

    The later value stays, sets and hashes are united. In parts: a hash of half a day's events has
    millions, and the server may be the core's.
    """
    key, there = _raw(name), _raw(other.keys.prefix + name[len(place.keys.prefix) :])
    ttl_ms = max(cast(Any, place.redis.pttl(key)), cast(Any, other.redis.pttl(there)))
    for write in _writes(place.redis, other.redis, key, there):
        with other.redis.pipeline(transaction=True) as pipe:
            cast(Any, pipe).execute_command(*write)
            if ttl_ms > 0:
                pipe.pexpire(there, ttl_ms)
            pipe.execute()


def _writes(
    source: Redis, target: Redis, key: bytes, there: bytes
) -> Iterator[tuple[str | bytes, ...]]:
    """The commands that copy one key, each of AT_ONCE values at most."""
    kind = cast(bytes, source.type(key))
    if kind == b"hash":
        for some in _parts_of(scanned(source, "HSCAN", key)):
            known = cast(Any, target.hmget(cast(Any, there), [field for field, _ in some]))
            each = zip(some, known, strict=True)
            yield "HSET", there, *chain(*[(name, _later(old, new)) for (name, new), old in each])
    elif kind == b"set":
        for members in _parts_of(scanned(source, "SSCAN", key)):
            yield "SADD", there, *members
    elif kind == b"zset":
        for scored in _parts_of(scanned(source, "ZSCAN", key)):
            yield "ZADD", there, "GT", *chain(*[(score, member) for member, score in scored])
    elif kind == b"string":
        value = cast(Any, source.get(key)) or b""
        yield "SET", there, _later(cast(Any, target.get(there)), value)


def _parts_of(values: Iterator[Any]) -> Iterator[list[Any]]:
    while some := list(islice(values, AT_ONCE)):
        yield some


def _later(known: bytes | None, value: bytes) -> bytes:
    """The later of two values: done stays done, the larger number, else the present one."""
    if known is None or known == value:
        return value
    if b"D" in (known, value):
        return b"D"
    if known.isdigit() and value.isdigit():
        return max(known, value, key=int)
    return known
