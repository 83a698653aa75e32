"""The guard of kombu's Redis transport: workers survive restarts and half-open connections.

Celery and kombu 5.7.0: when Redis goes away, `Consumer.on_connection_error_after_connected()` calls
`collect()` and then `close()`; the second close restores unacked messages on a transport whose
client is already None, and the AttributeError ends the whole worker ("Unrecoverable error", exit
1). All callers there handle a connection error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any, Final

from kombu.asynchronous import get_event_loop
from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

#: Seconds after which a worker without wake-ups asks for them again.
WAIT_S: Final = 6
_NEEDLESS: Final = (
    "_subclient_health_tref",
    "_binding_expiry_tref",
    "_reauth_tref",
    "_brpop_health_tref",
    "_restore_messages_tref",
)
#: An overdue answer is looked for this much later, so that it is overdue then.
_MARGIN_S: Final = 0.05
#: Seconds over WAIT_S after which a worker counts on no wake-up until there is an answer; its
#: connection is given up later.
LATE_S: Final = 1.0


#: A server's words where it refuses to write: as a replica by now, without its disk, without its
#: replicas.
_REFUSED: Final = ("READONLY", "UNBLOCKED", "MASTERDOWN", "MISCONF", "NOREPLICAS")


class Hearing:
    """Whether wake-ups can come, as the worker's connection tells. One a process, as its event loop
    is. deaf: called with each news.
    """

    deaf: Callable[[bool], None] = staticmethod(lambda _: None)
    _is_deaf: bool | None = None

    def tell(self, *, deaf: bool) -> None:
        if deaf != self._is_deaf:
            self._is_deaf = deaf
            self.deaf(deaf)


hearing: Final = Hearing()


class NoRoomError(RedisConnectionError):
    """The server has no free memory."""


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """A server that refuses to write is waited for, as one that is away is. Celery takes its answer
    for the end of the worker.
    """
    try:
        yield
    except (OutOfMemoryError, ReadOnlyError) as error:
        kind = NoRoomError if isinstance(error, OutOfMemoryError) else RedisConnectionError
        raise kind(type(error).__name__) from error
    except ResponseError as error:
        refused = [word for word in _REFUSED if word in str(error)]
        if not refused:
            raise
        raise RedisConnectionError(refused[0]) from error


class _WakeUpsInHand(stock.virtual.QoS):  # type: ignore[misc, name-defined, unused-ignore]
    """What cannot go back when its channel ends is let go: upkeep sends other wake-ups. kombu would
    write it into a temporary file, with an alarm in the log.
    """

    def restore_unacked(self) -> list[Any]:
        super().restore_unacked()
        return []


class _Guard:
    connection: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = _WakeUpsInHand  # kombu sets its own here, where no record is kept

    @contextlib.contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        with _waiting(), super().conn_or_acquire(client) as found:  # type: ignore[misc]
            yield found

    def _queue_bind(self, *args: Any, **kwargs: Any) -> None:
        """Whoever publishes names the queue once more, so a worker begins on a full server."""
        with contextlib.suppress(NoRoomError):
            super()._queue_bind(*args, **kwargs)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        deaf = True
        try:
            with _waiting():
                found = super()._brpop_read(**options)  # type: ignore[misc]
            deaf = False
            return found
        except Empty:
            deaf = False
            raise
        finally:
            hearing.tell(deaf=deaf)

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

    def overdue_in_s(self, patience_s: float) -> float:
        """Seconds until the answer to the first wait is overdue, if it does not come before."""
        now = time.monotonic()
        sent = [one._brpop_sent_at for one in self._channels if one._in_poll]  # noqa: SLF001
        first = min((at for at in sent if at is not None), default=now)
        return max(first + patience_s - now, 0.0) + _MARGIN_S


class _Calm:
    """Wakes an idle worker twice in six seconds; kombu's own pace was four times a second.

    Looks at what our queues never have are left out: queues of every worker, queues that expire,
    credentials that are renewed. A half-open connection is looked for when an answer is overdue.
    """

    cycle: Any
    #: Seconds after which the server ends a BRPOP without a wake-up.
    brpop_timeout = WAIT_S

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        cycle = self.cycle
        for name in _NEEDLESS:
            getattr(cycle, name).cancel()
        late_s = self.brpop_timeout + LATE_S
        patience_s = self.brpop_timeout + connection.client.transport_options.get(
            "health_check_interval", stock.DEFAULT_HEALTH_CHECK_INTERVAL
        )
        hearing.tell(deaf=False)  # it has answered

        def look() -> None:
            late = cycle.overdue_in_s(late_s) <= _MARGIN_S
            try:
                if late:
                    hearing.tell(deaf=True)
                cycle.maybe_check_brpop_health()
            finally:
                after_s = cycle.overdue_in_s(patience_s if late else late_s)
                cycle._brpop_health_tref = loop.call_later(after_s, look)  # noqa: SLF001

        cycle._brpop_health_tref = loop.call_later(late_s, look)  # noqa: SLF001


def end_wait() -> None:
    """Ends the wait of this process' event loop, which else sees after WAIT_S that it is to stop.
    Any thread but its own may call.
    """
    hub: Any = get_event_loop()
    if hub is not None:
        hub.call_soon(lambda: None)


class Channel(_Guard, stock.Channel):
    """kombu's channel with the guard."""


class RedisTransport(_Calm, stock.Transport):  # type: ignore[misc, unused-ignore]
    """Named in the app's settings as `workers.broker:RedisTransport`."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()


class SentinelChannel(_Guard, stock.SentinelChannel):
    """kombu's channel behind sentinels, with the guard."""


class SentinelTransport(_Calm, stock.SentinelTransport):  # type: ignore[misc, unused-ignore]
    """The same for sentinel:// URLs."""

    Channel = SentinelChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()
