"""Each lane's state (Redis hash, until it is closed again), its cause, and its recent answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from redis import Redis

from common.clock import now_ms
from common.storage.keys import Keys
from common.storage.redis import best_effort, existing
from common.storage.scripts import run_all, script

FLOWING, PROBING, STOPPED = "flowing", "probing", "stopped"
#: Probe timeout, with the usual send deadline; after it another process may probe.
PROBE_S = 15.0


@dataclass(frozen=True, slots=True)
class LaneState:
    """probe: this caller is the one for the whole fleet that may send one push now. why: a
    decision's name, "" when flowing.
    """

    state: str
    why: str = ""
    probe: bool = False


@dataclass(frozen=True, slots=True)
class LaneChange:
    """One line of a lane's history. cause: of workers/delivery/causes.py; when it flows again,
    "" by an answer, else who resumed it.
    """

    at_ms: int
    state: str
    why: str = ""
    cause: str = ""


#: A lane that an operator holds; recorded in its history only, its state is the credential's.
PAUSED = "paused"
#: The cause when it is held, and when it is resumed; of workers/delivery/causes.py.
_OPERATOR = "operator"
LOG_MAX = 50
LOG_KEEP_S = 30 * 86_400


class LaneStates:
    """The breaker's memory, shared by all replicas: one script call to ask, one to report."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        probe_s: float = PROBE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """clock: for tests only, the time in seconds in place of the server's."""
        self._probe_s = probe_s
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._ask = script(redis, "lane_ask")
        self._tell = script(redis, "lane_tell")

    def ask(self, lane: str, version: int) -> LaneState:
        """The state now; a new credential version closes a breaker that the old one had opened."""
        state, why, probe = self._ask(
            keys=[self._keys.lane(lane)], args=[version, self._time(), self._probe_s]
        )
        return LaneState(state.decode(), why.decode(), bool(probe))

    def tell(
        self, lane: str, version: int, good: int, failed: int, refused: bool, cause: str = ""
    ) -> str | None:
        """A round's answers. All zero and false: the probe was not sent, another
        may be it.

        The new state where the lane has changed by it: stopped, for another cause, or flowing
        again; else None.
        """
        keys = [self._keys.lane(lane), self._keys.lane_log(lane)]
        state, changed = self._tell(
            keys=keys,
            args=[
                version,
                good,
                failed,
                int(refused),
                self._time(),
                cause or _unnamed(failed, refused),
            ],
        )
        return state.decode() if changed else None

    def tell_good(self, rounds: Sequence[tuple[str, int, int]]) -> None:
        """Reports rounds without a failure, (lane, version, good answers), in one round trip.

        They change no closed breaker.
        """
        keys = self._keys
        calls = [
            (
                self._tell,
                [keys.lane(lane), keys.lane_log(lane)],
                [version, good, 0, 0, self._time(), ""],
            )
            for lane, version, good in rounds
        ]
        run_all(self._redis, calls)

    def hold(self, lane: str, paused: bool) -> None:
        """An operator has paused or resumed the lane, just now: a change that no answer made. What
        is resumed while its vendor refuses goes on being stopped, for the same cause.
        """
        lines = [(PAUSED, "lane_paused", _OPERATOR) if paused else (FLOWING, "", _OPERATOR)]
        with (
            best_effort("when an operator held a lane"),
            self._redis.pipeline(transaction=True) as pipe,
        ):
            if not paused and self.peek(lane).state != FLOWING:
                stops = (one for one in self.history(lane) if one.state == STOPPED)
                lines += [(STOPPED, one.why, one.cause) for one in islice(stops, 1)]
            for words in lines:
                pipe.lpush(self._keys.lane_log(lane), "|".join([str(now_ms()), *words]))
            pipe.ltrim(self._keys.lane_log(lane), 0, LOG_MAX - 1)
            pipe.expire(self._keys.lane_log(lane), LOG_KEEP_S)
            pipe.execute()

    def history(self, lane: str, most: int = LOG_MAX) -> list[LaneChange]:
        """The newest first."""
        return self.histories([lane], most)[0]

    def histories(self, lanes: Sequence[str], most: int = LOG_MAX) -> list[list[LaneChange]]:
        """The same for many."""
        with self._redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.lrange(self._keys.lane_log(lane), 0, most - 1)
            return [list(map(_change, lines)) for lines in pipe.execute()]

    def last_changes(self, lanes: Sequence[str]) -> list[LaneChange | None]:
        """The newest of each; None of a lane that has never changed: those cost next to nothing."""
        names = {lane: self._keys.lane_log(lane) for lane in lanes}
        there = existing(self._redis, list(names.values()))
        known = [lane for lane in names if names[lane] in there]
        with self._redis.pipeline(transaction=False) as pipe:
            for lane in known:
                pipe.lindex(names[lane], 0)
            found = dict(zip(known, pipe.execute(), strict=True))
        return [_change(found[lane]) if found.get(lane) else None for lane in lanes]

    def peek(self, lane: str) -> LaneState:
        """For people and metrics: no probe is taken."""
        return self.peek_all([lane])[0]

    def peek_all(self, lanes: Sequence[str]) -> list[LaneState]:
        """The same for many; those that flow cost next to nothing."""
        names = {lane: self._keys.lane(lane) for lane in lanes}
        there = existing(self._redis, list(names.values()))
        known = [lane for lane in names if names[lane] in there]
        with self._redis.pipeline(transaction=False) as pipe:
            for lane in known:
                pipe.hmget(names[lane], "state", "why")
            found = dict(zip(known, pipe.execute(), strict=True))
        reply = (found.get(lane, (None, None)) for lane in lanes)
        return [
            LaneState((state or FLOWING.encode()).decode(), (why or b"").decode())
            for state, why in reply
        ]

    def _time(self) -> float | str:
        return self._clock() if self._clock else ""


def hold_in(history: Sequence[LaneChange]) -> LaneChange | None:
    """When a lane that is paused was paused: what an answer to a push sent before has changed comes
    later. None: unknown, nobody has recorded it. It does not tell whether the lane is paused:
    processes of an older version write a resume without a cause.
    """
    newest = next((one for one in history if one.cause == _OPERATOR), None)
    return newest if newest is not None and newest.state == PAUSED else None


def _unnamed(failed: int, refused: bool) -> str:
    return "credential" if refused else "unknown" if failed else ""


def _change(line: bytes) -> LaneChange:
    at_ms, state, why, cause = line.decode().split("|")
    return LaneChange(int(at_ms), state, why, cause)
