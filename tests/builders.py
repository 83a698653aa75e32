"""What tests of every floor build: the notification of a chat message between two people."""

from __future__ import annotations

from typing import Any

from common.contracts import Notification

NOW_MS = 1_700_000_000_000


def notification(**changes: Any) -> Notification:
    """Of a text that Li Hua wrote to one person a moment ago and that is worth something for an
    hour.
    """
    usual: dict[str, Any] = {
        "app": "demo",
        "event_id": "e1",
        "message_id": "m1",
        "conversation_type": "c2c",
        "conversation_id": "li",
    }
    usual |= {
        "ts_ms": NOW_MS,
        "received_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 3_600_000,
        "collapse_id": "m1",
    }
    return Notification(**(usual | changes))
