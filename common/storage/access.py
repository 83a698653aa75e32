"""Access tokens, encrypted (Redis, until they expire): one per credential for the whole fleet, one refresher under a lock."""

from __future__ import annotations

import json
import uuid
from typing import cast

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script
from common.storage.vault import Vault

LOCK_MS = 15_000


class AccessStore:
    def __init__(self, redis: Redis, keys: Keys, vault: Vault) -> None:
        self._redis = redis
        self._keys = keys
        self._vault = vault
        self._reject = script(redis, "access_reject")

    def load(self, lane: str, version: int) -> tuple[str, int, int, int] | None:
        """(value, refresh_at_ms, expires_at_ms, fetched_ms)"""
        blob = self._redis.get(self._keys.access(lane, version))
        if blob is None:
            return None
        value, refresh_at_ms, expires_at_ms, *fetched_ms = json.loads(self._vault.decrypt(cast(bytes, blob)))
        return str(value), int(refresh_at_ms), int(expires_at_ms), int(fetched_ms[0]) if fetched_ms else 0

    def save(self, lane: str, version: int, value: str, refresh_at_ms: int, expires_at_ms: int, fetched_ms: int = 0) -> None:
        blob = self._vault.encrypt(json.dumps([value, refresh_at_ms, expires_at_ms, fetched_ms]).encode())
        self._redis.set(self._keys.access(lane, version), blob, pxat=max(expires_at_ms, 1))

    def lock(self, lane: str, version: int) -> str | None:
        """A word that unlocks, or None while another process fetches."""
        word = uuid.uuid4().hex
        return word if self._redis.set(self._keys.access(lane, version) + ":lock", word, nx=True, px=LOCK_MS) else None

    def unlock(self, lane: str, version: int, word: str) -> None:
        key = self._keys.access(lane, version) + ":lock"
        if self._redis.get(key) == word.encode():
            self._redis.delete(key)

    def reject(self, lane: str, version: int, value: str, seconds: int) -> bool:
        """Takes the token out if it is still this one; at most once in so many seconds. True: the caller is to fetch the next."""
        key = self._keys.access(lane, version)
        blob = cast(bytes | None, self._redis.get(key))
        if blob is None or json.loads(self._vault.decrypt(blob))[0] != value:
            return False
        return bool(self._reject(keys=[key, key + ":forced"], args=[blob, seconds]))
