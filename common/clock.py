"""The wall clock, in the unit everything here is counted in."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Epoch milliseconds of this machine's clock. What must be fleet-wide uses Redis' `TIME`
    instead.
    """
    return time.time_ns() // 1_000_000
