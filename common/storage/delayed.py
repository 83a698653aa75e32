"""Work that waits: the delayed set by due time, each stopped lane's parking lots by urgency and expiry (Redis sorted sets, until due)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from common.model import Urgency
from common.storage.keys import BELTS, Keys
from common.storage.scripts import script

RELEASE_MAX = 500
#: What is due by Redis' own clock.
NOW = "now"
#: Share of a stopped lane's tries that take any entry.
STRAY = 0.25
#: Entries of one parking lot that are looked through for what was recalled: about 200,000 pushes. The rest is told when its time comes.
PULL_LOOK_MAX = 1_000
PULL_PAGE = 50


@dataclass(frozen=True, slots=True)
class Later:
    """One entry for `belt` that becomes due at `due_ms` (by the clock of this machine, as it is when it is put); with `lane`, it waits
    in that lane's parking lot instead."""

    belt: str
    blob: bytes
    due_ms: int
    lane: str | None = None


_INDEX = {belt: index for index, belt in enumerate(BELTS)}


def _urgency(belt: str) -> Urgency:
    return Urgency(belt.rsplit(":", 1)[-1])


class Delayed:
    """Nothing waits in a worker's memory: what is not due lies here and moves atomically."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._delay = script(redis, "delay")
        self._release = script(redis, "release")
        self._pull = script(redis, "pull")

    def put(self, pipe: Pipeline, waiting: Sequence[Later]) -> None:
        """Inside the caller's MULTI."""
        delays: list[int | bytes] = []
        now = int(time.time() * 1000)
        for later in waiting:
            member = b"%02d" % _INDEX[later.belt] + os.urandom(8) + later.blob
            if later.lane is None:
                delays += [max(later.due_ms - now, 0), member]
                continue
            pipe.zadd(self._keys.parked(later.lane, _urgency(later.belt)), {member: later.due_ms})
            pipe.sadd(self._keys.parked_lanes, later.lane)
        if delays:
            self._delay(keys=[self._keys.delayed], args=delays, client=pipe)

    def release_due(self) -> set[str]:
        """Moves what is due; the belts that got something. At most RELEASE_MAX entries a call."""
        return set(self._move(self._keys.delayed, NOW))

    def release_expired(self, lane: str) -> set[str]:
        """Of a lane that stays shut, moves what ran out of time; the belts that got something."""
        return set[str]().union(*(self._move(key, NOW) for key in self._lots(lane)))

    def release_probe(self, lane: str, chance: float) -> set[str]:
        """Of a lane that is to be tried, moves one entry: of the most urgent that which may stay longest, the newest of its conversation
        as a rule, for whom the others need not wait. The belt, if there was one.

        chance: 0..1; below STRAY it is any entry, lest a push that can never succeed is tried each time.
        """
        lots = [key for key in self._lots(lane) if self._redis.exists(key)]
        if not lots:
            return set()
        if chance >= STRAY:
            return set(self._move(lots[0], "+inf", 1, last=True))
        key = lots[int(chance / STRAY * len(lots))]
        member = cast(bytes | None, self._redis.zrandmember(key))
        return self._pulled(key, [member]) if member is not None else set()

    def release_lane(self, lane: str) -> dict[str, str]:
        """Of a lane that flows, moves the most urgent: at most RELEASE_MAX entries a call. The belt, and its entry that was the last
        of them (see `passed`)."""
        for key in self._lots(lane):
            belts = self._move(key, "+inf")
            if belts:
                return belts
        if not self._redis.exists(*self._lots(lane)):
            self._redis.srem(self._keys.parked_lanes, lane)
            if self._redis.exists(*self._lots(lane)):  # somebody parked in between
                self._redis.sadd(self._keys.parked_lanes, lane)
        return {}

    def most_urgent(self, lane: str) -> Urgency | None:
        """Of what waits in the lane's lots."""
        return next((urgency for urgency in Urgency if self._redis.exists(self._keys.parked(lane, urgency))), None)

    def passed(self, belt: str, entry: str) -> bool:
        """Whether everything on the belt up to this entry is done with."""
        first: Any = self._redis.xrange(self._keys.belt(belt), "-", entry, count=1)
        return not first

    def _lots(self, lane: str) -> list[str]:
        return [self._keys.parked(lane, urgency) for urgency in Urgency]

    def pull_parked(self, lane: str, words: Sequence[str]) -> set[str]:
        """Moves those parked entries of a lane that hold one of these texts (message ids) to their belts before they are
        due, so that what was recalled is told so at once. An entry that only looks like it comes back to its lot."""
        wanted = [word.encode() for word in words]
        return set[str]().union(*(self._pull_from(key, wanted) for key in self._lots(lane)))

    def _pull_from(self, key: str, wanted: Sequence[bytes]) -> set[str]:
        belts = set[str]()
        for start in range(0, PULL_LOOK_MAX, PULL_PAGE):
            page = cast(list[bytes], self._redis.zrange(key, start, start + PULL_PAGE - 1))
            chosen = [member for member in page if any(word in member for word in wanted)]
            if chosen:
                belts |= self._pulled(key, chosen)
            if len(page) < PULL_PAGE:
                break
        return belts

    def parked_lanes(self) -> list[str]:
        return sorted(lane.decode() for lane in cast(set[bytes], self._redis.smembers(self._keys.parked_lanes)))

    def parked_count(self, lane: str) -> int:
        return sum(int(self._redis.zcard(key)) for key in self._lots(lane))

    def parked_blobs(self, lane: str) -> Iterator[bytes]:
        """The entries that wait behind a stopped lane, a page at a time; one that moves meanwhile may be missed."""
        for key in self._lots(lane):
            for member, _ in self._redis.zscan_iter(key, count=200):
                yield cast(bytes, member)[10:]

    def waiting_count(self) -> int:
        return int(self._redis.zcard(self._keys.delayed))

    def oldest_due_ms(self) -> int | None:
        first = self._redis.zrange(self._keys.delayed, 0, 0, withscores=True)
        return int(first[0][1]) if first else None

    def _move(self, key: str, until: str, most: int = RELEASE_MAX, *, last: bool = False) -> dict[str, str]:
        args: list[str | int] = [until, most, int(last)]
        told = iter(self._release(keys=[key, *(self._keys.belt(belt) for belt in BELTS)], args=args))
        return {BELTS[int(index)]: entry.decode() for index, entry in zip(told, told, strict=True)}

    def _pulled(self, key: str, members: Sequence[bytes]) -> set[str]:
        indexes = self._pull(keys=[key, *(self._keys.belt(belt) for belt in BELTS)], args=list(members))
        return {BELTS[int(index)] for index in indexes}
