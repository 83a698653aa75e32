"""The guard of kombu's Redis transport: a worker outlives a restart of Redis.

Celery and kombu 5.7.0: when Redis goes away, `Consumer.on_connection_error_after_connected()` calls `collect()` and then `close()`; the
second close restores unacked messages on a transport whose client is already None, and the AttributeError ends the whole worker
("Unrecoverable error", exit 1). A connection error is what all callers there know how to handle.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError


class _Guard:
    connection: Any

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the transport is already closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]


class Channel(_Guard, stock.Channel):
    """kombu's channel with the guard."""


class Transport(stock.Transport):
    """Named in the app's settings as `workers.broker:Transport`."""

    Channel = Channel


class SentinelChannel(_Guard, stock.SentinelChannel):
    """kombu's channel behind sentinels, with the guard."""


class SentinelTransport(stock.SentinelTransport):
    """The same for sentinel:// URLs."""

    Channel = SentinelChannel
