"""Which invitations a call's end ends; what comes later rings again, however soon (contract §3).

Clocks of the core's hosts may differ, the stream's is one for all; but an event may also have been
published long after its time.
"""

from __future__ import annotations

from typing import Final

#: Clocks of the core's hosts may be behind by so much, ms; what is older was published late.
BEHIND_MS: Final = 2_000


def invited_ms(ts_ms: int, received_ms: int) -> int:
    """When an invitation is from; it is over where this is not after `ended_ms`.

    received_ms: on the stream; nothing is published before its time. 0: unknown.
    """
    return min(ts_ms, received_ms) if received_ms else ts_ms


def ended_ms(ts_ms: int, received_ms: int) -> int:
    return received_ms if received_ms - ts_ms <= BEHIND_MS else ts_ms
