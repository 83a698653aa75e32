"""Last silent push per device (Redis, 20 minutes): the rate limit of silent pushes."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: Apple: "keep background pushes to two or three an hour per device", the excess is dropped unseen.
#: Source: docs/vendors/apns.md, limits.
GAP_S = 1_200


class SilentPushLimiter:
    def __init__(self, redis: Redis, keys: Keys, gap_s: int = GAP_S) -> None:
        self._keys = keys
        self._gap_ms = gap_s * 1000
        self._script = script(redis, "silence")

    def may_wake(self, asks: Sequence[tuple[str, str, str, str]]) -> list[bool]:
        """For each (app, user, device, push id): True when it may go; its push may be retried."""
        if not asks:
            return []
        names = [self._keys.silent(app, user, device) for app, user, device, _ in asks]
        push_ids = [push_id for *_, push_id in asks]
        return [bool(one) for one in self._script(keys=names, args=[self._gap_ms, *push_ids])]
