"""Leases of the maintenance roles (Redis, 5 s): one holder per role; each change has a number."""

from __future__ import annotations

import time
import uuid

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: A killed process loses its roles after this.
LEASE_MS = 5_000


class Lease:
    """One role's lease, as one process sees it."""

    def __init__(self, redis: Redis, keys: Keys, role: str, lease_ms: int = LEASE_MS) -> None:
        self._keys = [keys.lease(role), keys.lease_epoch(role)]
        self._lease_ms = lease_ms
        self._word = uuid.uuid4().hex
        self._take = script(redis, "lease")
        self._give = script(redis, "unlease")
        self._asked_at = 0.0
        self.epoch = 0

    @property
    def held(self) -> bool:
        """By the last look; a process that stood still does not know better, the epoch does."""
        return self.epoch > 0

    @property
    def left_s(self) -> float:
        """Seconds until another process can take the role, at least; longer after a renewal."""
        return self._asked_at + self._lease_ms / 1000 - time.monotonic() if self.held else 0.0

    @property
    def epoch_key(self) -> str:
        """The key of the role's epoch, which a script that writes for this role compares."""
        return self._keys[1]

    def hold(self) -> bool:
        """Takes or renews it, at most twice a lease. redis.exceptions.RedisError: unknown, the
        lease ends by itself.
        """
        now = time.monotonic()
        if not self.held or now - self._asked_at >= self._lease_ms / 2_000:
            self.epoch = int(self._take(keys=self._keys, args=[self._word, self._lease_ms]))
            self._asked_at = now
        return self.held

    def give_back(self) -> None:
        if self.held:
            self.epoch = 0
            self._give(keys=self._keys[:1], args=[self._word])
