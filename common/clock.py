"""The wall clock, in the unit everything here is counted in."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime


def now_ms() -> int:
    """Epoch milliseconds of this machine's clock. What must be fleet-wide uses Redis' `TIME`
    instead.
    """
    return time.time_ns() // 1_000_000


def day_of(ts_ms: int) -> date:
    """The day of the ledger's partition: UTC's."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).date()
