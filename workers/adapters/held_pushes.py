"""Delivery's port of coalescing over the store of held pushes."""

from __future__ import annotations

from collections.abc import Sequence

from common.storage.backlog import HeldPushes
from workers.delivery.coalescing import View


class HeldView:
    """The stage's port over the store."""

    def __init__(self, store: HeldPushes) -> None:
        self._store = store

    def look(
        self, asks: Sequence[tuple[tuple[str, ...], str, int, int | None]]
    ) -> Sequence[View | None]:
        return [
            View(one.upto_ms, one.newest, one.newest_ms, one.waiting, one.waits_for_newest, one.due)
            if one.member
            else None
            for one in self._store.look(asks)
        ]
