"""Leave to send (Redis): one atomic decision for a batch, shared by all replicas."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script


class Admission:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._admit = script(redis, "admit")

    def admit(self, lane: str, rate_per_s: float, burst: float, costs: Sequence[float]) -> tuple[int, float]:
        """How many from the front may go now, and after how many seconds to ask for the rest."""
        granted, wait_ms = self._admit(keys=[self._keys.rate(lane)], args=[rate_per_s, max(burst, 1.0), *costs])
        return int(granted), int(wait_ms) / 1000
