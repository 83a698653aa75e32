"""The breaker's port for rounds whose good answers are told later, or not at all."""

from __future__ import annotations

from collections.abc import Collection

from workers.delivery.lane import Lane
from workers.delivery.ports import Breaker, BreakerOpen, BreakerProbe, RoundReport


class NotedBreaker:
    """Rounds without a failure are noted in `good`, of lanes whose breaker counts their answers.

    watched: those lanes; of the others good answers change nothing, and cost nothing.
    """

    def __init__(
        self,
        breaker: Breaker,
        good: list[tuple[str, int, int]] | None = None,
        watched: Collection[str] = (),
    ) -> None:
        self._breaker = breaker
        self._good = [] if good is None else good
        self._watched = watched

    def open_for(self, lane: Lane) -> BreakerProbe | BreakerOpen | None:
        return self._breaker.open_for(lane)

    def report(self, lane: Lane, found: RoundReport) -> None:
        if found.failed or found.refused or found.retry_after_s or found.throttled:
            self._breaker.report(lane, found)
        elif lane.id in self._watched:
            self._good.append((lane.id, lane.credential.version, found.good))
