"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It never touches SQL."""

from __future__ import annotations

import time

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.runtime import Runtime
from workers.unparking import Unparking

#: Between two looks at the delayed set.
TICK_S = 0.1
#: Between two looks for missed wake-ups, and at the parking lots.
EVERY_S = 1.0
#: Moves of up to 500 entries each in one turn.
MOVES_MAX = 10


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        self.unparking = Unparking(runtime, self._wake)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        for _ in range(MOVES_MAX):
            moved = self._runtime.delayed.release_due()
            self._wake(moved)
            if not moved:
                break
        self._runtime.replies.release_due()
        self.unparking.go_on()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._wake(self._runtime.belts.missed(keys.BELTS))
            self.unparking.look()
        return TICK_S

    def rest(self) -> None:
        """Nothing is kept."""

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.ring(stage)
        for vendor in {Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")}:
            self._runtime.ring(DELIVERY, vendor)
