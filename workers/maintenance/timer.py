"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It never touches SQL."""

from __future__ import annotations

import time

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

#: Between two looks at the delayed set.
TICK_S = 0.1
#: Between two looks for missed wake-ups, and at the lanes' queues.
EVERY_S = 1.0


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        self.lanes = LaneTimer(runtime)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        self._wake(self.lanes.release())
        self._runtime.replies.release_due()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._wake(self._runtime.belts.missed(keys.STREAMS))
            for vendor in self.lanes.look():
                self._runtime.ring(DELIVERY, vendor)
        return TICK_S

    def rest(self) -> None:
        """Nothing is kept."""

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.ring(stage)
        for vendor in {Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")}:
            self._runtime.ring(DELIVERY, vendor)
