"""One vendor's delivery for all shards on one server: one look, one wake-up, one bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, cast

from common.model import Vendor
from common.storage import keys
from common.storage.lane_entries import URGENCIES
from common.storage.scripts import script
from workers.handlers.delivery import GATHER_S, LaneSender, soonest
from workers.runtime import Runtime

#: Ready sets in one read, which blocks all others.
LOOK_KEYS_MAX: Final = 1_024
#: Share of the pushes on the wire that a shard's round waits for, for GATHER_S at most. Rounds in
#: the room that another shard's round has left are small, and their entries do not fit whole.
ROOM_SHARE: Final = 0.5


class ShardSenders(LaneSender):
    """As LaneSender. Each shard's rounds are begun by a sender of its own.

    It shares the bound, the threads and the knowledge of slow lanes with the others.
    """

    def __init__(
        self, runtime: Runtime, vendor: Vendor, in_flight_max: int, stopping: Callable[[], bool]
    ) -> None:
        """runtime: of shard 0."""
        super().__init__(runtime, vendor, in_flight_max, stopping)
        self._look = script(runtime.redis, "ready_look")
        self._crew = [LaneSender(one, vendor, in_flight_max, stopping) for one in runtime.shards]
        self._next = 0
        self.running.at_work = lambda: [
            running for one in self._crew for running in one.running.own()
        ]
        for one in self._crew:
            one.joins(self)

    def _slice(self, stopping: Callable[[], bool]) -> None:
        for one in self._crew:
            one.slice_until(stopping)
        try:
            super()._slice(stopping)
        finally:
            for one in self._crew:
                one.slice_until(self._ends)

    def _ledger_lengths(self) -> list[int]:
        with self.runtime.redis.pipeline(transaction=False) as pipe:
            for one in self._crew:
                pipe.xlen(one.runtime.keys.stream(keys.LEDGER))
            return cast(list[int], pipe.execute())

    def flush(self) -> None:
        for one in self._crew:
            one.flush()

    def give_back_owed(self) -> None:
        for one in self._crew:
            one.give_back_owed()

    def start(self) -> tuple[bool, float | None]:
        """Starts rounds of each shard with due lanes, the least recently served first."""
        self._passes = not all(self.running.room(self._threads.joins).values())
        if not any(self.running.room(self._threads.joins).values()):
            return False, None
        if (room_s := self._room_soon_s()) > 0:
            return False, room_s
        now, *dues = self._dues()
        for number in self.full:
            dues[number] = -1
        began, waits = False, [(due - now) / 1000 for due in dues if due > now]
        count = len(self._crew)
        for number in range(self._next, self._next + count):
            if not -1 < dues[number % count] <= now:
                continue
            self._next = (number + 1) % count
            started, next_s = self._crew[number % count].start()
            began = began or started
            waits += [] if next_s is None else [next_s]
            self._took_at = time.monotonic() if started else self._took_at
            if not any(self.running.room(self._threads.joins).values()) or self._room_soon_s() > 0:
                self._passes = True  # over the shards whose turn has not come
                break
        return began, soonest(waits, began=began)

    def passes(self) -> bool:
        return self._passes or any(one.passes() for one in self._crew)

    def _room_soon_s(self) -> float:
        """Seconds to wait for the rounds at work to end; 0: there is room, or they take long."""
        at_work = sum(
            one.most for one in self.running.at_work() if not one.silent and not one.paced
        )
        if at_work <= self.in_flight_max * (1 - ROOM_SHARE):
            return 0.0
        return max(self._took_at + GATHER_S - time.monotonic(), 0.0)

    def _dues(self) -> list[int]:
        """The server's time, and when each shard's first lane is due or -1, ms."""
        names = [
            one.runtime.keys.ready(self.vendor, urgency)
            for one in self._crew
            for urgency in URGENCIES
        ]
        now, found = 0, list[int]()
        for start in range(0, len(names), LOOK_KEYS_MAX):
            now, *part = cast(Any, self._look(keys=names[start : start + LOOK_KEYS_MAX]))
            found += part
        return [now, *found]
