"""One vendor's delivery for all shards on one server: one look, one wake-up, one bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from common.model import Vendor
from common.storage import keys
from common.storage.lane_queues import URGENCIES
from common.storage.scripts import script
from workers.handlers.delivery import LaneSender, RunningRound
from workers.runtime import Runtime

#: Ready sets in one read, which blocks all others.
LOOK_KEYS_MAX: Final = 1_024


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
        for one in self._crew:
            one.joins(self)

    def rounds_at_work(self) -> list[RunningRound]:
        return [running for one in self._crew for running in one.own_rounds()]

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
        if not any(self._room().values()):
            return False, None
        now, *dues = self._dues()
        began, waits = False, [(due - now) / 1000 for due in dues if due > now]
        count = len(self._crew)
        for number in range(self._next, self._next + count):
            if not -1 < dues[number % count] <= now:
                continue
            self._next = (number + 1) % count
            started, next_s = self._crew[number % count].start()
            began = began or started
            waits += [] if next_s is None else [next_s]
            if not any(self._room().values()):
                break
        return began, min(waits, default=None)

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
