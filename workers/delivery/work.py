"""One push to one target on its way through delivery."""

from __future__ import annotations

from dataclasses import dataclass

from common.contracts import Notification, Target


@dataclass(slots=True)
class Work:
    """entry: the stream entry it came in. led, speaks_for: older ones that share its fate, and how many its words say there are."""

    entry: str
    note: Notification
    target: Target
    badge: int | None = None
    sent_ms: int = 0
    led: tuple[Work, ...] = ()
    speaks_for: int = 1
