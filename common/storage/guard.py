"""The mass guard of each lane (Redis counters, minutes): when 'drop this token' answers spike, nobody is retired."""

from __future__ import annotations

import time
from typing import Any

from redis import Redis

from common.storage.keys import Keys

WINDOW_MIN = 5
#: (samples at least, share above which retiring stops) by kind of answer. A wrong environment or credential makes `foreign`
#: answers in masses; dead tokens in masses are more often real (a long silence), so that bound is higher.
BOUNDS = {"foreign": (50, 0.20), "dead": (200, 0.50)}


class Guard:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def count(self, lane: str, total: int, foreign: int, dead: int) -> dict[str, bool]:
        """Adds one round's answers; which kinds may be retired now (True: the guard is calm)."""
        minute = int(time.time() // 60)
        keys = [f"{self._keys.guard(lane)}:{minute - back}" for back in range(WINDOW_MIN)]
        with self._redis.pipeline(transaction=False) as pipe:
            for name, value in (("total", total), ("foreign", foreign), ("dead", dead)):
                if value:
                    pipe.hincrby(keys[0], name, value)
            pipe.expire(keys[0], (WINDOW_MIN + 1) * 60)
            for key in keys:
                pipe.hmget(key, "total", "foreign", "dead")
            answers: list[Any] = pipe.execute()[-WINDOW_MIN:]
        sums = [sum(int(row[column] or 0) for row in answers) for column in range(3)]
        return {
            kind: sums[0] < least or share * sums[0] >= sums[column]
            for column, (kind, (least, share)) in enumerate(BOUNDS.items(), start=1)
        }

    def stopped(self, lane: str) -> bool:
        return not all(self.count(lane, 0, 0, 0).values())
