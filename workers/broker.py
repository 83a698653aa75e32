"""The guard of kombu's Redis transport: a worker outlives a restart of Redis and half-open connections to it, and goes on afterwards.

Celery and kombu 5.7.0: when Redis goes away, `Consumer.on_connection_error_after_connected()` calls `collect()` and then `close()`; the
second close restores unacked messages on a transport whose client is already None, and the AttributeError ends the whole worker
("Unrecoverable error", exit 1). A connection error is what all callers there know how to handle.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError


class _Guard:
    connection: Any

    def _queue_bind(self, *args: Any, **kwargs: Any) -> Any:
        """A server without free memory refuses even the name of a queue: the worker waits for it, as for one that is away."""
        try:
            return super()._queue_bind(*args, **kwargs)  # type: ignore[misc]
        except OutOfMemoryError as error:
            raise RedisConnectionError("Redis has no free memory") from error

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the transport is already closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]


class _Poller(stock.MultiChannelPoller):  # type: ignore[misc, unused-ignore]
    """Kombu drops a half-open connection that waits for wake-ups; its idle neighbours of the pool are half-open, too.

    Each of them would be tried, and would cost a timeout: 15 to 30 s until a worker took wake-ups again, measured.
    """

    def maybe_check_brpop_health(self) -> None:
        waiting = [(channel, channel._in_poll) for channel in self._channels if channel._in_poll]  # noqa: SLF001
        super().maybe_check_brpop_health()
        for channel, connection in waiting:
            if getattr(connection, "_sock", None) is None:
                channel.pool.disconnect(inuse_connections=False)


class QoS(stock.QoS):  # type: ignore[misc, unused-ignore]
    """A wake-up whose acknowledgement Redis did not take is done all the same: it is only a hint.

    Kombu keeps it among the delivered ones then. With one slot and one wake-up in hand the worker takes no further wake-up, never speaks to
    Redis again, so never finds its connection broken, and stands still for ever: both workers of a stage did, after Redis had been
    away for a second under load (tests/chaos/test_streams.py, long form). Redis' own record of it comes back as one more wake-up.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except BaseException:
            self._quick_ack(delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        except BaseException:
            self._quick_ack(delivery_tag)
            raise


class Channel(_Guard, stock.Channel):
    """kombu's channel with the guard."""

    QoS = QoS


class Transport(stock.Transport):
    """Named in the app's settings as `workers.broker:Transport`."""

    Channel = Channel
    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()


class SentinelChannel(_Guard, stock.SentinelChannel):
    """kombu's channel behind sentinels, with the guard."""

    QoS = QoS


class SentinelTransport(stock.SentinelTransport):
    """The same for sentinel:// URLs."""

    Channel = SentinelChannel
    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()
