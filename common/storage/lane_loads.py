"""What the lanes' queues hold, and notes about it; nothing is taken (Redis). Scripts: lane_loads,
lane_over, lane_drop, lane_note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, TypeAlias, cast

import msgspec
from redis import Redis
from redis.client import Pipeline

from common.model import Urgency, Vendor
from common.storage.keys import Keys
from common.storage.lane_entries import RANK, URGENCIES, vendor_of
from common.storage.raw_pipe import command, read_all
from common.storage.scripts import Call, run_all, script, source
from common.storage.streams import StreamDepth

#: A push that joins: the keys of its group, its id, ts of its event, when it was received, ms.
Joining: TypeAlias = tuple[tuple[str, str], str, int, int]

#: Lanes whose loads, and queues whose ends, one script call reads; it blocks all others.
LOADS_EACH: Final = 200
OVER_EACH: Final = 50
#: Pushes after which no further entry is noted in the same call, which blocks all others, too.
NOTE_PUSHES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Load:
    """One lane's content. bytes: of everything; waiting: pushes in its queues.

    entries, oldest_ms: by urgency, without taken ones.
    """

    bytes: int
    waiting: int
    entries: Mapping[Urgency, int]
    oldest_ms: Mapping[Urgency, int | None]


class LaneLoads:
    """Loads, ages and names of entries that wait, and of lanes that have any."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self._drop = script(redis, "lane_drop")
        self._loads, self._over = script(redis, "lane_loads", "noted"), script(redis, "lane_over")

    def unnoted(self, lane: str, urgency: Urgency, count: int) -> list[tuple[str, bytes]]:
        """(name, batch) of entries that wait and are not noted, in their order; see noted.lua.

        The last one is the one with which they reach `count`, or their pushes NOTE_PUSHES.
        """
        key = self.keys.lane_queue(lane, urgency)
        some = cast(list[bytes], self.redis.zrangebyscore(key, 0, "+inf", 0, count))
        sums = accumulate((int(entry.split(b";")[3]) for entry in some), initial=0)
        ids = [entry for entry, before in zip(some, sums, strict=False) if before < NOTE_PUSHES]
        blobs = cast(Any, self.redis.hmget(self.keys.lane_blobs(lane), ids)) if ids else []
        return [(entry.decode(), blob or b"") for entry, blob in zip(ids, blobs, strict=True)]

    def note(
        self,
        pipe: Pipeline,
        lane: str,
        urgency: Urgency,
        why: str,
        held: Mapping[str, Sequence[Joining]],
        keep_s: int,
    ) -> None:
        """Within the caller's MULTI, as its last: these entries are held by an outage, and so many
        of their pushes join their groups (backlog.py).
        """
        names = [self.keys.lane_queue(lane, urgency), self.keys.lane_load(lane)]
        entries = list[tuple[str, list[Any]]]()
        for entry, joining in held.items():
            parts = list[Any]()
            for group, *values in joining:
                parts += (len(names) + 1, *values)
                names += group
            entries.append((entry, parts))
        text = "".join(source(one) for one in ("noted", "join", "lane_note"))
        told = msgspec.msgpack.encode(entries)
        pipe.eval(text, len(names), *names, keep_s, RANK[urgency], why, cast(Any, told))

    def windows(self, wanted: Sequence[tuple[str, Urgency, int]], count: int) -> list[list[str]]:
        """Names of waiting entries from each (lane, urgency, start) on, in their order."""
        with self.redis.pipeline(transaction=False) as pipe:
            for lane, urgency, start in wanted:
                pipe.zrange(self.keys.lane_queue(lane, urgency), start, start + count - 1)
            return [[entry.decode() for entry in found] for found in pipe.execute()]

    def blobs(self, lane: str, entries: Sequence[str]) -> list[bytes | None]:
        return (
            cast(list[bytes | None], self.redis.hmget(self.keys.lane_blobs(lane), list(entries)))
            if entries
            else []
        )

    def loaded(self) -> list[str]:
        """Lanes that hold something, or did a moment ago."""
        return self.names_of(cast(set[bytes], self.redis.smembers(self.keys.loaded_lanes)))

    @staticmethod
    def names_of(loaded: Iterable[bytes]) -> list[str]:
        """The lanes among the members of keys.loaded_lanes."""
        return sorted(lane.decode() for lane in loaded)

    def any_left(self) -> bool:
        """True when any lane holds something, also retries that are not due."""
        return any(self.bytes_of(self.loaded()).values())

    def over(
        self, wanted: Sequence[tuple[str, Urgency, int]], now_ms: int, count: int
    ) -> list[list[str]]:
        """The expired entries of each (lane, urgency, place): the first `count`, and from place."""
        calls: list[Call] = []
        for start in range(0, len(wanted), OVER_EACH):
            part = wanted[start : start + OVER_EACH]
            names = [self.keys.lane_queue(lane, urgency) for lane, urgency, _ in part]
            calls.append((self._over, names, [now_ms, count, *(place for _, _, place in part)]))
        return [
            [entry.decode() for entry in found]
            for reply in run_all(self.redis, calls)
            for found in reply
        ]

    def loads(self, lanes: Sequence[str]) -> dict[str, Load]:
        return self._loads_in([self], [lanes])[0]

    def all_loads(self, owners: Sequence[LaneLoads]) -> list[dict[str, Load]]:
        """What the lanes of some shards on this server hold, by shard, in two round trips."""
        looks = [command("SMEMBERS", own.keys.loaded_lanes) for own in owners]
        found = read_all(self.redis, "".join(looks), len(looks))
        return self._loads_in(owners, list(map(self.names_of, found)))

    def _loads_in(
        self, owners: Sequence[LaneLoads], each: Sequence[Sequence[str]]
    ) -> list[dict[str, Load]]:
        """each: by shard the lanes."""
        calls = list[Call]()
        for own, lanes in zip(owners, each, strict=True):
            for start in range(0, len(lanes), LOADS_EACH):
                names = list[str]()
                for lane in lanes[start : start + LOADS_EACH]:
                    queues = [own.keys.lane_queue(lane, urgency) for urgency in URGENCIES]
                    names += [own.keys.lane_load(lane), *queues]
                calls.append((self._loads, names, []))
        reply = [one for answer in run_all(self.redis, calls) for one in _decode_loads(answer)]
        parts = iter([reply[at : at + 10] for at in range(0, len(reply), 10)])
        return [{lane: _load(next(parts)) for lane in lanes} for lanes in each]

    def backlog(self, loads: Mapping[str, Load] | None = None) -> dict[str, StreamDepth]:
        """By vendor and urgency (`send:<vendor>:<urgency>`): waiting entries, and since when.

        loads: of all lanes with entries, where the caller has them.
        """
        entries = {(vendor, urgency): 0 for vendor in Vendor for urgency in URGENCIES}
        oldest: dict[tuple[Vendor, Urgency], int] = {}
        for lane, load in (self.loads(self.loaded()) if loads is None else loads).items():
            vendor = vendor_of(lane)
            for urgency, count in load.entries.items():
                name, first = (vendor, urgency), load.oldest_ms[urgency]
                entries[name] += count
                if first is not None:
                    oldest[name] = min(first, oldest.get(name, first))
        return {
            f"send:{name[0]}:{name[1]}": StreamDepth(count, 0, oldest.get(name))
            for name, count in entries.items()
        }

    def untaken_s(self, loads: Mapping[str, Load] | None = None) -> dict[Vendor, float]:
        """Of each vendor with work: the wait of its sendable lane that no sender took, seconds.

        A lane that is stopped, paused or at its rate may not send now: more senders would not help
        it. loads: as in `backlog`.
        """
        return self.all_untaken_s([self], None if loads is None else [loads])[0]

    def all_untaken_s(
        self, owners: Sequence[LaneLoads], loads: Sequence[Mapping[str, Load]] | None = None
    ) -> list[dict[Vendor, float]]:
        """As `untaken_s`, by shard of some on this server."""
        loads = self.all_loads(owners) if loads is None else loads
        found = [dict.fromkeys(map(vendor_of, held), 0.0) for held in loads]
        asked: dict[tuple[int, Vendor, Urgency], list[str]] = {}
        for shard, held in enumerate(loads):
            for lane, load in held.items():
                for urgency, first_ms in load.oldest_ms.items():
                    if first_ms is not None:
                        asked.setdefault((shard, vendor_of(lane), urgency), []).append(lane)
        if not asked:
            return found
        looks = [
            command("ZMSCORE", owners[shard].keys.ready(vendor, urgency), *lanes)
            for (shard, vendor, urgency), lanes in asked.items()
        ]
        reply = read_all(self.redis, command("TIME") + "".join(looks), 1 + len(looks))
        (seconds, micros), *scores = reply
        now = int(seconds) * 1000 + int(micros) // 1000
        for ((shard, vendor, urgency), lanes), dues in zip(asked.items(), scores, strict=True):
            for lane, score in zip(lanes, dues, strict=True):
                due_ms = None if score is None else float(score)
                if due_ms is not None and due_ms <= now:
                    # 0: at once, since it came
                    since_ms = due_ms or loads[shard][lane].oldest_ms[urgency] or now
                    waited_s = (now - since_ms) / 1000
                    found[shard][vendor] = max(found[shard][vendor], waited_s)
        return found

    def bytes_of(self, lanes: Sequence[str]) -> dict[str, int]:
        with self.redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.hget(self.keys.lane_load(lane), "b")
            return {lane: int(size or 0) for lane, size in zip(lanes, pipe.execute(), strict=True)}

    def waiting(self, lane: str) -> int:
        """Pushes in the lane's queues, those that are being sent aside."""
        return max(int(cast(Any, self.redis.hget(self.keys.lane_load(lane), "w")) or 0), 0)

    def forget(self, lanes: Sequence[str]) -> None:
        """Lanes that hold nothing are looked at no more."""
        if not lanes:
            return
        self.redis.srem(self.keys.loaded_lanes, *lanes)
        # something came in between
        filled = [lane for lane, size in self.bytes_of(lanes).items() if size]
        if filled:
            self.redis.sadd(self.keys.loaded_lanes, *filled)

    def drop(self, lane: str) -> None:
        """Forgets the counts of a lane without an account, unless it has entries."""
        self._drop(keys=[self.keys.lane_load(lane), self.keys.lane_tries(lane)])


def _load(part: Sequence[int]) -> Load:
    """part: as lane_loads.lua has it of one lane."""
    size, waiting, *queues = part
    counts = dict(zip(URGENCIES, queues[::2], strict=True))
    firsts = zip(URGENCIES, queues[1::2], strict=True)
    oldest_ms = {urgency: first // 1000 if first else None for urgency, first in firsts}
    return Load(size, max(waiting, 0), counts, oldest_ms)


_decode_loads: Callable[[bytes], list[int]] = msgspec.msgpack.Decoder(list[int]).decode
