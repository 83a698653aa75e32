"""Access tokens, encrypted (Redis, until they expire): one per credential, one refresher."""

from __future__ import annotations

import json
import uuid
from typing import cast

from redis import Redis

from common.storage.keys import Keys
from common.storage.redis import best_effort
from common.storage.scripts import script
from common.storage.vault import Vault

#: Time that a refresher's lock outlives the deadline of its request.
LOCK_GRACE_MS = 5_000


class AccessStore:
    """fetch_s: deadline of the request that fetches a token."""

    def __init__(self, redis: Redis, keys: Keys, vault: Vault, fetch_s: float = 10.0) -> None:
        self._redis = redis
        self._keys = keys
        self._vault = vault
        self._lock_ms = int(fetch_s * 1000) + LOCK_GRACE_MS
        self._reject = script(redis, "access_reject")
        self._unlock = script(redis, "unlease")
        self._opened: dict[str, tuple[bytes, tuple[str, int, int]]] = {}

    def load(self, lane: str, version: int) -> tuple[str, int, int] | None:
        """(value, refresh_at_ms, expires_at_ms)"""
        key = self._keys.access(lane, version)
        blob = cast(bytes | None, self._redis.get(key))
        if blob is None:
            return None
        known = self._opened.get(key)
        if known is None or known[0] != blob:
            value, refresh_at_ms, expires_at_ms = json.loads(self._vault.decrypt(blob))
            known = self._opened[key] = (blob, (str(value), int(refresh_at_ms), int(expires_at_ms)))
        return known[1]

    def save(
        self, lane: str, version: int, value: str, refresh_at_ms: int, expires_at_ms: int
    ) -> None:
        blob = self._vault.encrypt(json.dumps([value, refresh_at_ms, expires_at_ms]).encode())
        self._redis.set(self._keys.access(lane, version), blob, pxat=max(expires_at_ms, 1))

    def lock(self, lane: str, version: int) -> str | None:
        """The token that unlocks, or None while another process fetches."""
        word = uuid.uuid4().hex
        lock = self._keys.access(lane, version) + ":lock"
        return word if self._redis.set(lock, word, nx=True, px=self._lock_ms) else None

    def unlock(self, lane: str, version: int, word: str) -> None:
        self._unlock(keys=[self._keys.access(lane, version) + ":lock"], args=[word])

    def reject(self, lane: str, version: int, value: str, seconds: int) -> None:
        """Removes the access token if it is still this one; at most once in `seconds`."""
        key = self._keys.access(lane, version)
        with best_effort("the refusal of an access token"):
            blob = cast(bytes | None, self._redis.get(key))
            if blob is not None and json.loads(self._vault.decrypt(blob))[0] == value:
                self._reject(keys=[key, key + ":forced"], args=[blob, seconds])
