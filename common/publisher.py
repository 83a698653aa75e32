"""Publishes events to Pushfleet with one XADD. A Python core may copy this file: it needs `redis` only and imports nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import redis

#: What the fleet takes as one event (the rest would become a dead letter), bytes of JSON.
EVENT_BYTES_MAX = 256 * 1024
TIMEOUT_S = 5.0


class Publisher:
    """Writes events to the stream that the fleet reads. May be shared by threads; make one per process, after a fork.

    >>> publisher = Publisher("redis://127.0.0.1:6379/0")
    >>> publisher.publish({"v": 1, "id": "m-1001", "type": "message.stored", "app": "1400000001", "ts": 1767225600000, "data": {...}})
    '1767225600123-0'

    Publish after the message is stored, with an `id` of your own that is unique per tenant: should the answer get lost, publish
    the same event again. The fleet ignores an id that it has seen within 24 hours, so a repeat is safe and a gap is not.
    """

    def __init__(self, redis_url: str, stream: str = "im:events") -> None:
        """redis_url: redis://, rediss:// or unix://, the fleet's PUSHFLEET_CORE_URL. stream: one of its PUSHFLEET_EVENT_STREAMS."""
        self._stream = stream
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)

    def publish(self, event: Mapping[str, Any]) -> str:
        """One XADD; the id of the stream entry. Nothing is retried here: only the caller knows whether it should be.

        ValueError: the event is not JSON (NaN, bytes, lone surrogates …) or larger than EVENT_BYTES_MAX.
        redis.RedisError: it is not certain that the event was stored; publish it again with the same `id`.
        """
        return str(self._add({"e": _encoded(event)}))

    def publish_callback(self, body: bytes, dialect: str, app: str | None = None, query: str | None = None) -> str:
        """The unchanged body of another cloud's server callback. dialect: tencent, zego or nim; query: the callback's raw query string."""
        if len(body) > EVENT_BYTES_MAX:
            raise ValueError(f"the callback has {len(body)} bytes; the fleet takes up to {EVENT_BYTES_MAX}")
        fields: dict[str, str | bytes] = {"e": body, "d": dialect}
        return self._add(fields | ({"app": app} if app else {}) | ({"q": query} if query else {}))

    def close(self) -> None:
        self._redis.close()

    def _add(self, fields: dict[str, str | bytes]) -> str:
        entry: Any = self._redis.xadd(self._stream, fields)  # type: ignore[arg-type]
        return entry.decode() if isinstance(entry, bytes) else str(entry)


def _encoded(event: Mapping[str, Any]) -> bytes:
    try:
        body = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ValueError(f"the event is not JSON: {type(error).__name__}") from None
    if len(body) > EVENT_BYTES_MAX:
        raise ValueError(f"the event has {len(body)} bytes; the fleet takes up to {EVENT_BYTES_MAX}")
    return body
