"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It
never touches SQL.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from common.storage.raw_pipe import command, first_score, raw_pipe, read_all
from common.storage.scripts import run_all
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

#: Least and longest time between two looks at what is due. Whoever puts something that is due
#: earlier than the rest wakes the timer.
TICK_S = 0.2
#: Between two looks for missed wake-ups, and at the lanes' queues.
EVERY_S = 1.0
#: Looks at the shards of one server take so long together before what is due is served again; one
#: look may take about twice as much (workers/lane_timer.py).
LOOKS_S = 0.25


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        #: The server's time at the start of this turn.
        self.server_ms = 0
        self._streams = (*keys.STREAMS, *(keys.OUT if len(runtime.shards) > 1 else ()))
        self.lanes = LaneTimer(runtime)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        self.server_ms, ((retries, replies, next_s),) = _dues([self._runtime])
        try:
            self.release(retries=retries, replies=replies)
        finally:  # on a full server the look is what makes room
            self.look()
        return _pause_s(next_s)

    def release(self, *, retries: bool, replies: bool) -> None:
        if retries:
            self._wake(self.lanes.release())
        if replies:
            self._runtime.replies.release_due()

    def look(self) -> None:
        """The look of each second, where it is time for it."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._look()

    def listen(self, seconds: float) -> None:
        """Waits for `seconds` at most, or until something earlier is put (lua/delay.lua)."""
        _listen([self._runtime], seconds)

    def rest(self) -> None:
        """Nothing is kept."""

    def _look(self) -> None:
        """Looks for missed wake-ups and at the lanes' queues; one round trip on an idle fleet."""
        runtime, (clock, members) = self._runtime, self.lanes.questions(self.server_ms)
        missed, *set_back_ms, loaded = run_all(
            runtime.redis, [runtime.streams.missed_call(self._streams), *clock], [members]
        )
        self._wake({self._streams[place] for place in missed})
        held = runtime.lane_queues.names_of(loaded)
        for vendor in self.lanes.looked(held, sum(map(int, set_back_ms))):
            runtime.send_wake_up(DELIVERY, vendor)

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.send_wake_up(stage)
        for vendor in {
            Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")
        }:
            self._runtime.send_wake_up(DELIVERY, vendor)


class ShardTimers:
    """The timers of all shards of one server, with one common round trip."""

    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._shards = runtime.shards
        self._timers = [Timer(one) for one in runtime.shards]
        self._first = 0  # whose look is next

    def turn(self, lease: Lease | None = None) -> float:
        """Serves what is due in any shard before a look at one; looks share LOOKS_S a turn.

        The next turn continues where they ended.
        """
        del lease
        server_ms, dues = _dues(self._shards)
        failed = list[Exception]()
        for one, (retries, replies, _) in zip(self._timers, dues, strict=True):
            one.server_ms = server_ms
            try:
                one.release(retries=retries, replies=replies)
            except Exception as error:  # noqa: BLE001 - of this shard: the others go on
                failed.append(error)
        pause_s = _pause_s(min([next_s for *_, next_s in dues]))
        until = time.monotonic() + LOOKS_S
        for one in [*self._timers[self._first :], *self._timers[: self._first]]:
            self._first = (self._first + 1) % len(self._timers)
            try:
                one.look()
            except Exception as error:  # noqa: BLE001 - likewise
                failed.append(error)
            if time.monotonic() >= until:
                pause_s = 0.0
                break
        if failed:
            raise failed[0]
        return pause_s

    def listen(self, seconds: float) -> None:
        """As Timer.listen, of all shards."""
        _listen(self._shards, seconds)

    def rest(self) -> None:
        """Nothing is kept."""


def _pause_s(next_s: float) -> float:
    """Seconds until the next turn. next_s: until the first is due."""
    return max(TICK_S, min(next_s, EVERY_S))


def _listen(shards: Sequence[Runtime], seconds: float) -> None:
    with raw_pipe(shards[0].redis) as pipe:
        names = [one.keys.timer_wake_up for one in shards]
        pipe.ask(command("BLPOP", *names, str(max(seconds, TICK_S))), 1)


def _dues(shards: Sequence[Runtime]) -> tuple[int, list[tuple[bool, bool, float]]]:
    """The server's time, ms; per shard: a retry is due, a reply's wait is due, seconds until the
    first is due.

    One round trip while nothing waits, as mostly.
    """
    redis = shards[0].redis
    names = [name for one in shards for name in (one.keys.delayed, one.keys.replies_due)]
    (seconds, micros), some = read_all(redis, command("TIME") + command("EXISTS", *names), 2)
    looks = [command("ZRANGE", name, "0", "0", "WITHSCORES") for name in names if some]
    firsts = read_all(redis, "".join(looks), len(looks)) if looks else [None] * len(names)
    now = int(seconds) * 1000 + int(micros) // 1000
    waits = [(first_score(first) - now) / 1000 if first else math.inf for first in firsts]
    return now, [
        (one <= 0, other <= 0, min(one, other))
        for one, other in zip(waits[::2], waits[1::2], strict=True)
    ]
