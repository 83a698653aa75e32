"""Each device's badge (Redis hash, 90 days): the reported base, and the pushes counted since."""

from __future__ import annotations

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

KEEP_S = 90 * 86_400
#: More is no number of messages; the claim script's numbers are exact up to 2**53, and beyond 2**63
#: they are no whole numbers.
BASE_MAX = 2**31 - 1


class Badges:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._set = script(redis, "badge")

    def report(
        self,
        app: str,
        user: str,
        device: str | None,
        ts_ms: int,
        base: int | None,
        pipe: Redis | None = None,
    ) -> None:
        """base: the unread total when the app went away; None: the app came back, only the count
        starts again. device None: all.

        pipe: the pipeline that carries it, with others.
        """
        args: list[str | int] = [
            device or "",
            ts_ms,
            -1 if base is None else min(base, BASE_MAX),
            KEEP_S,
        ]
        self._set(keys=[self._keys.badges(app, user)], args=args, client=pipe)
