"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It never touches SQL."""

from __future__ import annotations

import time

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

#: Between two looks at the delayed set while anything waits or a lane has work. A retry is due a second after its first try at the
#: soonest, so the look of each second has seen its lane by then.
TICK_S = 0.2
#: Between two looks for missed wake-ups, and at the lanes' queues.
EVERY_S = 1.0


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        self._streams = (*keys.STREAMS, *(keys.OUT if len(runtime.shards) > 1 else ()))
        self.lanes = LaneTimer(runtime)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        retries, replies, idle = self._due()
        if retries:
            self._wake(self.lanes.release())
        if replies:
            self._runtime.replies.release_due()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._wake(self._runtime.streams.missed(self._streams))
            for vendor in self.lanes.look():
                self._runtime.send_wake_up(DELIVERY, vendor)
        return EVERY_S if idle and not self.lanes.loaded else TICK_S

    def listen(self, seconds: float) -> None:
        """Waits so long, or until something is put that is due sooner (lua/delay.lua)."""
        self._runtime.redis.blpop([self._runtime.keys.timer_wake_up], timeout=max(seconds, TICK_S))

    def rest(self) -> None:
        """Nothing is kept."""

    def _due(self) -> tuple[bool, bool, bool]:
        """Whether a retry, and whether the wait for a reply, is due; whether nothing waits. One round trip."""
        keys_ = self._runtime.keys
        with self._runtime.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys_.delayed, 0, 0, withscores=True)
            pipe.zrange(keys_.replies_due, 0, 0, withscores=True)
            (seconds, micros), *firsts = pipe.execute()
        now = seconds * 1000 + micros // 1000
        retries, replies = (bool(first) and first[0][1] <= now for first in firsts)
        return retries, replies, not any(firsts)

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.send_wake_up(stage)
        for vendor in {Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")}:
            self._runtime.send_wake_up(DELIVERY, vendor)
