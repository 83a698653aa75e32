"""A time in whole seconds counts as its last millisecond (contract §3): some clouds tell no finer
time of a logout, a report or a message.
"""

from __future__ import annotations

LAST_MS = 999


def latest_ms(time_ms: int, received_ms: int) -> int:
    """The latest moment that a time may mean, ms. received_ms: on the stream; nothing is published
    before its time.
    """
    if time_ms % 1000 or received_ms <= time_ms:
        return time_ms
    return min(time_ms + LAST_MS, received_ms)
