"""The last push in each place of a device's screen (Redis hashes, while an older one may come).

Only pushes that share a place have one: a sender's collapse key, a call. A hash is named by a
digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: Shortest search for an older push that lives longer than the newer one.
KEEP_MIN_MS = 3_600_000

#: (app, user, device, collapse id)
Place = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Settling:
    """The result of a push in its place. shown: it is, or may be, on the screen.

    keep_ms: how long an older one may still come.
    """

    place: Place
    push_id: str
    ts_ms: int
    shown: bool
    keep_ms: int


class ScreenStore:
    """One script call to take places; lane_commit.lua settles."""

    def __init__(self, redis: Redis, keys: Keys, hold_ms: int) -> None:
        """hold_ms: longest unsettled time of a push in its place; then its reader is dead."""
        self._keys = keys
        self._hold_ms = hold_ms
        self._take = script(redis, "screen")

    def take(self, asks: Sequence[tuple[Place, str, int]]) -> list[int]:
        """For each (place, push id, event ts): 0 may go, 1 a newer was shown, 2 another is sent.

        With the push id "" it only asks.
        """
        if not asks:
            return []
        names = [self.name(place) for place, _, _ in asks]
        args = [self._hold_ms, *(part for _, push_id, ts_ms in asks for part in (push_id, ts_ms))]
        reply: Any = self._take(keys=names, args=args)
        return [int(one) for one in reply]

    def name(self, place: Place) -> str:
        name = "\0".join(place).encode("utf-8", "surrogatepass")
        return self._keys.screen(hashlib.blake2b(name, digest_size=12).hexdigest())
