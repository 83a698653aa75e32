"""Redis' clock (one key, the time of the last look): detects a set-back, and moves what is due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import Call, script

#: Members of one sorted set that are moved in one call.
ADVANCE_MAX: Final = 100_000


class ServerClock:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._look = script(redis, "clock")
        self._advance = script(redis, "advance")

    def set_back_ms(self) -> int:
        """By how much it was set back since the last look, of whichever process."""
        return int(self._look(keys=[self._keys.server_clock]))

    @property
    def call(self) -> Call:
        """The script call of `set_back_ms`."""
        return self._look, [self._keys.server_clock], []

    def advance(self, names: Iterable[str], ms: int, most_ms: int = 0) -> None:
        """Moves what is due by the old clock in these sorted sets (ms) `ms` earlier.

        most_ms: the longest regular delay; only members beyond it move then, down to it.
        """
        for name in names:
            self._advance(keys=[name], args=[ms, most_ms, ADVANCE_MAX])
