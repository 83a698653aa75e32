"""Each lane's state (Redis hash, until it flows again): flowing, probing, stopped, and why; what its answers were lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

FLOWING, PROBING, STOPPED = "flowing", "probing", "stopped"


@dataclass(frozen=True, slots=True)
class LaneState:
    """probe: this caller is the one for the whole fleet that may send one push now. why: a decision's name, "" when flowing."""

    state: str
    why: str = ""
    probe: bool = False


class LaneStates:
    """The breaker's memory, shared by all replicas. One script call to ask, one to tell."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._ask = script(redis, "lane_ask")
        self._tell = script(redis, "lane_tell")

    def ask(self, lane: str, version: int) -> LaneState:
        """The state now; a new version of the credential opens a lane that the old one had stopped."""
        state, why, probe = self._ask(keys=[self._keys.lane(lane)], args=[version])
        return LaneState(state.decode(), why.decode(), bool(probe))

    def tell(self, lane: str, version: int, good: int, failed: int, refused: bool, wait_s: float | None) -> None:
        args: list[str | int | float] = [version, good, failed, int(refused), wait_s or 0]
        self._tell(keys=[self._keys.lane(lane)], args=args)

    def peek(self, lane: str) -> LaneState:
        """For people and metrics: no probe is taken."""
        state, why = cast(Any, self._redis.hmget(self._keys.lane(lane), "state", "why"))
        return LaneState((state or FLOWING.encode()).decode(), (why or b"").decode())

    def may_flow(self, lane: str, version: int) -> bool:
        """Whether parked pushes may come back: the lane flows, or its pause is over and somebody has to try it."""
        state, why, until, known = cast(Any, self._redis.hmget(self._keys.lane(lane), "state", "why", "until", "version"))
        if state is None or state == FLOWING.encode():
            return True
        if why == b"credential_refused" and known is not None and int(known) != version:
            return True
        seconds, micros = cast(Any, self._redis.time())
        return bool(float(until or 0) <= seconds + micros / 1e6)
