"""The wall clock, in the unit everything here is counted in."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime

#: Seconds between two looks of AskedSeldom.
ASK_S = 5.0


def now_ms() -> int:
    """Epoch milliseconds of this machine's clock. What must be fleet-wide uses Redis' `TIME`
    instead.
    """
    return time.time_ns() // 1_000_000


def day_of(ts_ms: int) -> date:
    """The day of the ledger's partition: UTC's."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).date()


class AskedSeldom:
    """The answer to a question, which is asked anew every ASK_S."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._answer = True
        self._ask_at = 0.0

    def __call__(self) -> bool:
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_S
            self._answer = self._ask()
        return self._answer
