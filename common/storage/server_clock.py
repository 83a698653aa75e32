"""Redis' clock (one key, the time of the last look): detects a set-back, and moves what is due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import Call, script

#: Members of one sorted set that are moved in one call.
ADVANCE_MAX: Final = 100_000
#: The time of the last look is written so often, ms, while it goes on as it should.
NOTED_EVERY_MS: Final = 5_000


class ServerClock:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._look = script(redis, "clock")
        self._advance = script(redis, "advance")
        self._noted_ms = self._seen_ms = self._asked_ms = 0

    def set_back_ms(self) -> int:
        """By how much it was set back since the last look, of whichever process."""
        script_, names, args = self._call
        return int(script_(keys=names, args=args))

    @property
    def _call(self) -> Call:
        return self._look, [self._keys.server_clock], [self._seen_ms]

    def call_at(self, now_ms: int) -> Call | None:
        """The script call of `set_back_ms`; None where it need not be asked. now_ms: of the server
        a moment ago.
        """
        if now_ms >= self._seen_ms and 0 <= now_ms - self._noted_ms < NOTED_EVERY_MS:
            self._seen_ms = now_ms
            return None
        self._asked_ms = now_ms
        return self._call

    def answered(self) -> None:
        """The last call of `call_at` was answered; until then it is asked again, with the time from
        before: a server that has just taken over is where an exchange breaks.
        """
        if self._asked_ms:
            self._noted_ms = self._seen_ms = self._asked_ms
            self._asked_ms = 0

    def advance(self, names: Iterable[str], ms: int, most_ms: int = 0) -> None:
        """Moves what is due by the old clock in these sorted sets (ms) `ms` earlier.

        most_ms: the longest regular delay; only members beyond it move then, down to it.
        """
        for name in names:
            self._advance(keys=[name], args=[ms, most_ms, ADVANCE_MAX])
