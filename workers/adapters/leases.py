"""Delivery's port of leases over the lanes' queues: whose the entries of a round are by now."""

from __future__ import annotations

from collections.abc import Sequence

from common.storage.lane_queues import LaneQueues
from common.storage.unavailable import store_unavailable
from workers.delivery.work import Hold, PendingPush


class FleetLeases:
    """The stage's port over the store. Pushes that no take holds are nobody else's."""

    def __init__(self, queues: LaneQueues) -> None:
        self._queues = queues

    def renewed(self, works: Sequence[PendingPush]) -> set[str] | None:
        entries: dict[Hold, dict[str, None]] = {}  # of each take, in their order
        for work in works:
            if work.hold is not None and work.hold.lane:
                entries.setdefault(work.hold, {})[work.entry] = None
        lost = set[str]()
        try:
            for hold, names in entries.items():
                lost |= set(self._queues.renew_named(hold.lane, hold.word, list(names)))
        except store_unavailable():
            return None
        return lost
