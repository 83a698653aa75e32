"""The guard of kombu's Redis transport: workers survive restarts and half-open connections.

Celery and kombu 5.7.0: when Redis goes away, `Consumer.on_connection_error_after_connected()` calls
`collect()` and then `close()`; the second close restores unacked messages on a transport whose
client is already None, and the AttributeError ends the whole worker ("Unrecoverable error", exit
1). All callers there handle a connection error.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.asynchronous import get_event_loop
from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

#: Seconds after which a worker without wake-ups asks for them again.
WAIT_S: Final = 3
_NEEDLESS: Final = ("_subclient_health_tref", "_binding_expiry_tref", "_reauth_tref")


class _Guard:
    connection: Any

    def _queue_bind(self, *args: Any, **kwargs: Any) -> Any:
        """Waits for a server without free memory, which refuses even a queue's name."""
        try:
            return super()._queue_bind(*args, **kwargs)  # type: ignore[misc]
        except OutOfMemoryError as error:
            raise RedisConnectionError("Redis has no free memory") from error

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the transport is already closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]


class _Poller(stock.MultiChannelPoller):  # type: ignore[misc, unused-ignore]
    """Drops all idle connections of the pool with a half-open one that waits for wake-ups.

    They are half-open, too. Each would cost a timeout: 15 to 30 s until a worker took wake-ups
    again, measured.
    """

    def maybe_check_brpop_health(self) -> None:
        waiting = [(channel, channel._in_poll) for channel in self._channels if channel._in_poll]  # noqa: SLF001
        super().maybe_check_brpop_health()
        for channel, connection in waiting:
            if getattr(connection, "_sock", None) is None:
                channel.pool.disconnect(inuse_connections=False)


class QoS(stock.QoS):  # type: ignore[misc, unused-ignore]
    """A wake-up is only a hint, so a failed acknowledgement in Redis counts as done.

    Otherwise kombu keeps the wake-up among the delivered ones. With one slot and one wake-up in
    hand the worker then takes no further wake-up, never uses Redis again, never finds its
    connection broken, and hangs: both workers of a stage did, after Redis had been away for a
    second under load (tests/chaos/test_streams.py, long form). Redis' own record of it returns as
    one more wake-up.
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


class _Calm:
    """Wakes an idle worker twice in three seconds; kombu's own pace was four times a second.

    Looks at what our queues never have are left out: queues of every worker, queues that expire,
    credentials that are renewed.
    """

    cycle: Any
    #: Seconds after which the server ends a BRPOP without a wake-up.
    brpop_timeout = WAIT_S

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        for name in _NEEDLESS:
            getattr(self.cycle, name).cancel()


def end_wait() -> None:
    """Ends the wait of this process' event loop, which else sees after WAIT_S that it is to stop.
    Any thread but its own may call.
    """
    hub: Any = get_event_loop()
    if hub is not None:
        hub.call_soon(lambda: None)


class Channel(_Guard, stock.Channel):
    """kombu's channel with the guard."""

    QoS = QoS


class Transport(_Calm, stock.Transport):  # type: ignore[misc, unused-ignore]
    """Named in the app's settings as `workers.broker:Transport`."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()


class SentinelChannel(_Guard, stock.SentinelChannel):
    """kombu's channel behind sentinels, with the guard."""

    QoS = QoS


class SentinelTransport(_Calm, stock.SentinelTransport):  # type: ignore[misc, unused-ignore]
    """The same for sentinel:// URLs."""

    Channel = SentinelChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()
