"""Recalls and cancels of what was shown already (workers/withdraw.py)."""

from __future__ import annotations

from common.storage.leases import Lease
from workers.runtime import Runtime
from workers.withdraw import withdraw_due

EVERY_S = 0.5


class Recalls:
    name = "recalls"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def turn(self, lease: Lease | None = None) -> float:
        withdraw_due(self._runtime, (lease.epoch_key, lease.epoch) if lease else None)
        return EVERY_S

    def rest(self) -> None:
        """Nothing is kept."""
