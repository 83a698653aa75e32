"""Publishes events to Pushfleet with one XADD. A Python core may copy this file: it needs `redis`
only and imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.cluster

#: Largest event that the fleet accepts, bytes of JSON; a larger one would be dead-lettered.
EVENT_BYTES_MAX = 256 * 1024
#: Events of one entry.
EVENTS_MAX = 200
TIMEOUT_S = 5.0


class Publisher:
    """Writes events to the stream that the fleet reads. May be shared by threads; make one per
    process, after a fork.

    >>> publisher = Publisher("redis://127.0.0.1:6379/0")
    >>> publisher.publish({"v": 1, "id": "m-1001", "type": "message.stored", "app": "1400000001",
    "ts": 1767225600000, "data": {...}}) '1767225600123-0'

    Publish after the message is stored, with an `id` of your own that is unique per tenant: should
    the answer get lost, publish the same event again. The fleet ignores an id that it has seen
    within 24 hours, so a repeat is safe and a gap is not.

    What several threads publish while an answer is awaited travels together, up to EVENTS_MAX
    events in one entry.
    """

    def __init__(self, redis_url: str, stream: str = "im:events") -> None:
        """redis_url: redis://, rediss:// or unix://, or redis+cluster://h1:6379,h2:6379
        (rediss+cluster:// with TLS), the fleet's PUSHFLEET_CORE_URL. stream: one of its
        PUSHFLEET_EVENT_STREAMS.
        """
        self._stream = stream
        self._sending = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._redis = _client(redis_url)

    def publish(self, event: Mapping[str, Any]) -> str:
        """One XADD; the id of the stream entry, which may hold other threads' events too. Nothing
        is retried here: only the caller knows whether it should be.

        ValueError: the event is not JSON (NaN, bytes, lone surrogates …) or larger than
        EVENT_BYTES_MAX.
        redis.RedisError: it is not certain that the event was stored; publish it again with the
        same `id`.
        """
        mine = _Waiting(_encoded(event))
        self._waiting.append(mine)
        while not mine.done:
            with self._sending:
                if not mine.done:
                    self._send()
        if mine.error is not None:
            raise mine.error
        return mine.entry

    def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publishes many events, up to EVENTS_MAX in one entry; returns each event's entry id.

        An error applies to all: publish all of them again.
        """
        bodies = [_encoded(event) for event in events]
        packs = list(_packs(bodies))
        with _as_redis_error(), self._redis.pipeline(transaction=False) as pipe:
            for pack in packs:
                pipe.xadd(self._stream, _fields(pack))
            entries = pipe.execute() if packs else []
        return [_text(entry) for pack, entry in zip(packs, entries, strict=True) for _ in pack]

    def _send(self) -> None:
        """One entry of what waits, in order."""
        pack: list[_Waiting] = []
        size = 0
        while (
            self._waiting
            and len(pack) < EVENTS_MAX
            and size + len(self._waiting[0].body) + 1 <= EVENT_BYTES_MAX + 1
        ):
            pack.append(self._waiting.popleft())
            size += len(pack[-1].body) + 1
        entry = ""
        error: redis.RedisError | None = redis.ConnectionError(
            "the thread that was to send it was ended"
        )
        try:
            entry, error = self._add(_fields([one.body for one in pack])), None
        except redis.RedisError as raised:
            error = raised
        finally:
            for one in pack:
                one.entry, one.error, one.done = entry, error, True

    def publish_callback(
        self, body: bytes, dialect: str, app: str | None = None, query: str | None = None
    ) -> str:
        """The unchanged body of another cloud's server callback. dialect: tencent, zego or nim;
        query: the callback's raw query string.
        """
        if len(body) > EVENT_BYTES_MAX:
            raise ValueError(
                f"the callback has {len(body)} bytes; the fleet takes up to {EVENT_BYTES_MAX}"
            )
        fields: dict[str, str | bytes] = {"e": body, "d": dialect}
        return self._add(fields | ({"app": app} if app else {}) | ({"q": query} if query else {}))

    def close(self) -> None:
        self._redis.close()

    def _add(self, fields: dict[str, str | bytes]) -> str:
        with _as_redis_error():
            return _text(self._redis.xadd(self._stream, fields))


@contextlib.contextmanager
def _as_redis_error() -> Iterator[None]:
    """Some errors of redis-py's cluster client are no RedisError."""
    try:
        yield
    except redis.exceptions.RedisClusterException as error:
        raise redis.ConnectionError(
            f"the cluster does not serve this now: {type(error).__name__}"
        ) from error


def _client(url: str) -> Any:
    """A client of one server, or of a cluster of which some nodes are named."""
    options: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    scheme, _, rest = url.partition("://")
    if not scheme.endswith("+cluster"):
        return redis.Redis.from_url(url, **options)
    address, mark, query = rest.partition("?")
    login, at, hosts = address.rpartition("@")
    nodes = [
        urlsplit(f"//{host}")
        for host in hosts.rstrip("/0" if hosts.endswith("/0") else "/").split(",")
    ]
    first = f"{scheme.removesuffix('+cluster')}://{login}{at}{nodes[0].netloc}{mark}{query}"
    make: Any = redis.cluster.ClusterNode  # untyped in redis-py
    others = [make(node.hostname, node.port or 6379) for node in nodes[1:]]
    return redis.RedisCluster.from_url(first, startup_nodes=others, **options)


@dataclass
class _Waiting:
    """An event on its way; `done` is set last."""

    body: bytes
    entry: str = ""
    error: redis.RedisError | None = None
    done: bool = False


def _text(entry: Any) -> str:
    return entry.decode() if isinstance(entry, bytes) else str(entry)


def _fields(bodies: Sequence[bytes]) -> dict[Any, Any]:
    """One event as `e`, several as `b`, one a line: JSON as it is written here holds no end of a
    line.
    """
    return {"e": bodies[0]} if len(bodies) == 1 else {"b": b"\n".join(bodies)}


def _packs(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    pack: list[bytes] = []
    size = 0
    for body in bodies:
        if pack and (len(pack) >= EVENTS_MAX or size + len(body) > EVENT_BYTES_MAX):
            yield pack
            pack, size = [], 0
        pack.append(body)
        size += len(body) + 1
    if pack:
        yield pack


def _encoded(event: Mapping[str, Any]) -> bytes:
    try:
        body = json.dumps(
            event, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ValueError(f"the event is not JSON: {type(error).__name__}") from None
    if len(body) > EVENT_BYTES_MAX:
        raise ValueError(
            f"the event has {len(body)} bytes; the fleet takes up to {EVENT_BYTES_MAX}"
        )
    return body
