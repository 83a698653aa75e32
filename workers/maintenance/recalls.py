"""Recalls and cancels of what was shown already (workers/withdraw.py); foreign tokens on hold (workers/held_tokens.py)."""

from __future__ import annotations

import time

from common.storage.leases import Lease
from workers.held_tokens import decide_held
from workers.runtime import Runtime
from workers.withdraw import withdraw_due

EVERY_S = 0.5
#: Between two looks at foreign tokens that are on hold.
HELD_EVERY_S = 2.0


class Recalls:
    name = "recalls"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._held_at = 0.0

    def turn(self, lease: Lease | None = None) -> float:
        del lease
        withdraw_due(self._runtime)
        if time.monotonic() >= self._held_at:
            self._held_at = time.monotonic() + HELD_EVERY_S
            decide_held(self._runtime)
        return EVERY_S

    def rest(self) -> None:
        """Nothing is kept."""
