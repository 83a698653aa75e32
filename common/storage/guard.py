"""The mass guard of each lane (Redis): suspends the retirement of tokens during mass failures.

Two checks, as the two kinds of answer fail in different ways. Dead tokens are retired at once,
unless half of a lane's answers of five minutes report dead tokens. A foreign token (of another app
or environment) is put on hold first, and retired only where its cohort works: pushes of the same
credential version, the same app build and a registration of similar age were accepted lately,
twenty times as many. A wrong environment, or a debug build beside good traffic, has none; its
tokens stay on hold, and are retired or released when more is known.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis import Redis

from common.storage.keys import Keys
from common.storage.raw_pipe import command, read_all
from common.storage.redis import existing

WINDOW_MIN = 5
#: (samples at least, share above which retiring stops) by kind of answer. A wrong environment or
#: credential makes `foreign` answers in masses; dead tokens in masses are more often real (a long
#: silence), so that bound is higher.
BOUNDS = {"foreign": (50, 0.20), "dead": (200, 0.50)}
#: Hours of answers that a cohort counts; a token on hold is released after them, until the vendor
#: reports it again.
COHORT_H = 24
#: Accepted pushes for each foreign token but the first: one in twenty is what reinstalled apps
#: make.
ACCEPTED_PER_FOREIGN = 20
#: A registration that is younger belongs to a roll-out; those who die at once are a build, not
#: people.
NEW_MS = 3 * 86_400_000
#: Shortest hold of a foreign token: the others of its kind come within seconds.
HOLD_MS = 5_000
#: Most tokens of a lane on hold; more add no information.
HELD_MAX = 5_000
#: The number from which a lane's guard is reported as active.
MANY = 10


def cohort_of(version: int, app_version: str | None, registered_ms: int, now_ms: int) -> str:
    """Those whose tokens live and die together:
    `<credential version>:<new or old>:<digest of the app's version>`.
    """
    age = "new" if now_ms - registered_ms < NEW_MS else "old"
    build = (
        hashlib.blake2b((app_version or "").encode("utf-8", "replace"), digest_size=4).hexdigest()
        if age == "new"
        else ""
    )
    return f"{version}:{age}:{build}"


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A foreign token on hold. digest: of the token (bindings.digest_of).

    sent_ms: a device that registered later is not affected.
    """

    cohort: str
    user: str
    device: str
    digest: str
    sent_ms: int
    reason: str


_held = msgspec.msgpack.Decoder(Held).decode


@dataclass(frozen=True, slots=True)
class Decided:
    """The tokens on hold of a lane to be retired, and those to be released without it."""

    retire: tuple[Held, ...]
    forget: tuple[Held, ...]


class Guard:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._minute = 0
        self._lasting = set[str]()  # counts of this minute that have their time to live

    def count(
        self,
        lane: str,
        total: int,
        foreign: int,
        dead: int,
        accepted: Mapping[str, int] | None = None,
    ) -> dict[str, bool]:
        """Adds one round's answers; which kinds may be retired now (True: the guard allows it).
        accepted: pushes by cohort.
        """
        minute = int(time.time() // 60)
        keys = [f"{self._keys.guard(lane)}:{minute - back}" for back in range(WINDOW_MIN)]
        with self._redis.pipeline(transaction=False) as pipe:
            for name, value in (("total", total), ("foreign", foreign), ("dead", dead)):
                if value:
                    pipe.hincrby(keys[0], name, value)
            pipe.expire(keys[0], (WINDOW_MIN + 1) * 60)
            for cohort, value in (accepted or {}).items():
                pipe.hincrby(self._keys.guard_accepted(lane, minute // 60), cohort, value)
            if accepted:
                pipe.expire(self._keys.guard_accepted(lane, minute // 60), (COHORT_H + 1) * 3600)
            for key in keys:
                pipe.hmget(key, "total", "foreign", "dead")
            answers: list[Any] = pipe.execute()[-WINDOW_MIN:]
        return _calm(answers)

    def count_good(self, rounds: Sequence[tuple[str, int, Mapping[str, int]]]) -> None:
        """Counts rounds without a refused token: (lane, answers, accepted pushes by cohort) each.

        One round trip.
        """
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._lasting = minute, set()
        commands = list[str]()
        for lane, total, accepted in rounds:
            now = f"{self._keys.guard(lane)}:{minute}"
            long = self._keys.guard_accepted(lane, minute // 60)
            commands.append(command("HINCRBY", now, "total", str(total)))
            for cohort, value in accepted.items():
                commands.append(command("HINCRBY", long, cohort, str(value)))
            if now not in self._lasting:
                commands.append(command("EXPIRE", now, str((WINDOW_MIN + 1) * 60)))
                commands.append(command("EXPIRE", long, str((COHORT_H + 1) * 3600)))
        read_all(self._redis, "".join(commands), len(commands))
        # by minute: another thread may have begun the next one meanwhile
        self._lasting.update(
            [f"{self._keys.guard(lane)}:{minute}" for lane, _, accepted in rounds if accepted]
        )

    def hold(self, lane: str, tokens: Sequence[Held], now_ms: int) -> None:
        """Puts foreign tokens on hold; a token that is on hold already is unchanged."""
        if not tokens:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(
                self._keys.held_tokens(lane),
                {msgspec.msgpack.encode(one): now_ms for one in tokens},
                nx=True,
            )
            pipe.zremrangebyrank(self._keys.held_tokens(lane), HELD_MAX, -1)
            pipe.expire(self._keys.held_tokens(lane), (COHORT_H + 1) * 3600)
            pipe.sadd(self._keys.held_lanes, lane)
            pipe.execute()

    def lanes_with_held(self) -> list[str]:
        found: Any = self._redis.smembers(self._keys.held_lanes)
        return sorted(lane.decode() for lane in found)

    def decide(self, lane: str, version: int, now_ms: int) -> Decided:
        """Decides on the tokens on hold. version: of the lane's current credential.

        Answers to an older version are ignored.
        """
        found: Any = self._redis.zrange(
            self._keys.held_tokens(lane), 0, HELD_MAX - 1, withscores=True
        )
        held = [(_held(member), int(since)) for member, since in found]
        if not held:
            self._redis.srem(self._keys.held_lanes, lane)
            return Decided((), ())
        old = tuple(
            one
            for one, since in held
            if now_ms - since > COHORT_H * 3_600_000 or not one.cohort.startswith(f"{version}:")
        )
        expired = set(old)
        left = [(one, since) for one, since in held if one not in expired]
        works = (
            self._working(lane, [one for one, _ in left], now_ms)
            if self.count(lane, 0, 0, 0)["foreign"]
            else set[str]()
        )
        due = tuple(one for one, since in left if now_ms - since >= HOLD_MS and one.cohort in works)
        return Decided(due, old)

    def release(self, lane: str, tokens: Sequence[Held]) -> None:
        """These are on hold no longer."""
        if tokens:
            self._redis.zrem(self._keys.held_tokens(lane), *map(msgspec.msgpack.encode, tokens))

    def stopped(self, lane: str) -> bool:
        """True while token retirement is suspended, by the lane or by many tokens on hold."""
        return self.stopped_of([lane])[lane]

    def stopped_of(self, lanes: Sequence[str]) -> dict[str, bool]:
        """As `stopped`, of many; those of which nothing is counted cost next to nothing."""
        minute, ripe_ms = int(time.time() // 60), time.time() * 1000 - 4 * HOLD_MS
        names = {
            lane: [f"{self._keys.guard(lane)}:{minute - back}" for back in range(WINDOW_MIN)]
            for lane in lanes
        }
        held = {lane: self._keys.held_tokens(lane) for lane in lanes}
        there = existing(
            self._redis, [*held.values(), *(name for own in names.values() for name in own)]
        )
        counted = {lane: [name for name in own if name in there] for lane, own in names.items()}
        with self._redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                if held[lane] in there:
                    pipe.zcount(held[lane], "-inf", ripe_ms)
                for name in counted[lane]:
                    pipe.hmget(name, "total", "foreign", "dead")
            reply = iter(pipe.execute())
        found = {}
        for lane in lanes:
            many = held[lane] in there and int(next(reply)) >= MANY
            found[lane] = many or not all(_calm([next(reply) for _ in counted[lane]]).values())
        return found

    def _working(self, lane: str, held: Sequence[Held], now_ms: int) -> set[str]:
        """The cohorts with enough accepted pushes lately for the number of their tokens on hold."""
        hour = now_ms // 3_600_000
        accepted: dict[str, int] = {}
        with self._redis.pipeline(transaction=False) as pipe:
            for back in range(COHORT_H):
                pipe.hgetall(self._keys.guard_accepted(lane, hour - back))
            for counts in pipe.execute():
                for cohort, count in counts.items():
                    accepted[cohort.decode()] = accepted.get(cohort.decode(), 0) + int(count)
        people: dict[str, set[tuple[str, str]]] = {}
        for one in held:
            people.setdefault(one.cohort, set()).add((one.user, one.device))
        return {
            cohort
            for cohort, whose in people.items()
            if accepted.get(cohort, 0) >= max(1, ACCEPTED_PER_FOREIGN * (len(whose) - 1))
        }


def _calm(minutes: Sequence[Sequence[bytes | None]]) -> dict[str, bool]:
    """By kind, True when few enough of these (answers, foreign, dead) were of it."""
    sums = [sum(int(row[column] or 0) for row in minutes) for column in range(3)]
    return {
        kind: sums[0] < least or share * sums[0] >= sums[column]
        for column, (kind, (least, share)) in enumerate(BOUNDS.items(), start=1)
    }
