"""Delivery's port of images that a vendor has seen, over their store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.clock import now_ms
from common.storage.images import SeenImages
from workers.delivery.lane import Lane


class FleetImages:
    def __init__(self, store: SeenImages) -> None:
        self._store = store

    def known(self, lane: Lane, images: Sequence[str]) -> Mapping[str, str]:
        return self._store.known(lane.id, images)

    def keep(self, lane: Lane, image: str, given: str, life_ms: int) -> None:
        self._store.keep(lane.id, image, given, life_ms)

    def room(self, lane: Lane, wanted: int, per_minute: int) -> int:
        return self._store.room(lane.id, wanted, per_minute, now_ms() // 1000)
