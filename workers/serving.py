"""Serves one ASGI app on one address, for the receipts, console and gateway processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.config import SettingError
from common.setting_checks import host_port

if TYPE_CHECKING:
    from asyncio.events import TimerHandle

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Calls at the same time; more are answered with 503.
CALLS_MAX: Final = 512
IDLE_S_MAX: Final = 15
#: Bounds of a request's head, seconds and bytes; beyond them the connection is closed, as the
#: server below has no bound.
HEAD_S_MAX: Final = 10.0
HEAD_BYTES_MAX: Final = 32 * 1024
#: Bounds of a callback's body, bytes and seconds.
BODY_BYTES_MAX: Final = 1 << 20
BODY_S_MAX: Final = 10.0
#: Members of one gzip body (RFC 1952, 2.2): each is copied once by all before it.
MEMBERS_MAX: Final = 64
#: Longest call, with body and answer; also the longest reading of the rest of an answer.
CALL_S_MAX: Final = 60.0
FLUSH_S_MAX: Final = 10.0
#: Longest wait of one call for our stores, however many wait before it.
ANSWER_S_MAX: Final = 8.0
#: Share of the places from which a new connection ends the oldest waiting one.
WAITING_SHARE: Final = 0.75
#: Seconds for running calls after the stop.
STOP_S_MAX: Final = 5
BACKLOG: Final = 1024
#: Between two times that the server sets its answers' date.
TICK_S: Final = 2.0
#: A header by which a client offers another protocol.
_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


async def body_of(request: Request) -> bytes:
    """The body, unpacked. Raises Refusal 413, 408 beyond its bounds, 415 for a coding other than
    gzip, 400 for what is not the coding that it names.
    """
    packed = _is_packed(request)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise Refusal(413, f"at most {BODY_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refusal(408, "too slow") from None
    body = b"".join(parts)
    return unpacked(body) if packed else body


def _is_packed(request: Request) -> bool:
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    named = [one for one in map(str.strip, codings) if one not in ("", "identity")]
    if named and named not in (["gzip"], ["x-gzip"]):
        raise Refusal(415, "a body is plain or gzip", {"accept-encoding": "gzip"})
    return bool(named)


def unpacked(body: bytes) -> bytes:
    """What was packed by gzip, in whole members one behind the other. Raises Refusal 413, 400.
    Never more than the bound is unpacked, however small the body.
    """
    found, rest = b"", body
    for _ in range(MEMBERS_MAX):
        if not rest:
            return found
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            found += reader.decompress(rest, BODY_BYTES_MAX + 1 - len(found))
        except zlib.error:
            raise Refusal(400, "the body is not gzip") from None
        if len(found) > BODY_BYTES_MAX:
            raise Refusal(413, f"at most {BODY_BYTES_MAX} bytes, unpacked")
        if not reader.eof:
            raise Refusal(400, "the body ends within a gzip member")
        rest = reader.unused_data
    if rest:
        raise Refusal(413, f"at most {MEMBERS_MAX} gzip members")
    return found


async def in_time(work: Callable[[], T]) -> T:
    """What `work` gives, in a thread. Refusal 503 after ANSWER_S_MAX: a store hangs, and whoever
    calls us has a limit of their own. The thread goes on until the store's own limit, so the work
    may be done all the same: a repeat must change nothing.
    """
    try:
        with anyio.fail_after(ANSWER_S_MAX):
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except TimeoutError:
        raise Refusal(503, "come again") from None


def without_upgrade(data: bytes) -> bytes:
    """A head, or its begin with what follows, without an offer of another protocol.

    A server may ignore the offer (RFC 9110, 7.8); the parser below ends there and loses the body.
    Java's own client and `curl --http2` offer h2c with each first request of a connection.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if b"pgrade" not in head and b"PGRADE" not in head:
        return data
    return _UPGRADE.sub(b"\r\nignored", head) + data[len(head) :]


class BoundedHead(HttpToolsProtocol):
    """Closes connections that are silent, or never finish a head, a body or a reading.

    The oldest waiting connection makes room for a new one.
    """

    _timer: TimerHandle | None = None
    since = 0.0
    _head_bytes = 0
    _in_head = True
    #: The last message is whole: what comes next is a head.
    _between = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets it for its own sockets only, not for what `bind` gave: an answer's body would
        # wait for the acknowledgement of its head, 40 ms on a kept connection
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = self.loop.time()
        self._begin()
        self._make_room()

    def waits(self) -> bool:
        """True when no call of the connection is being answered."""
        return not self.transport.is_closing() and (
            self._in_head or self.cycle is None or self.cycle.response_complete
        )

    def _make_room(self) -> None:
        """Past a share of the places each new connection ends the oldest waiting one.

        Half heads and idle connections must not keep real calls out.
        """
        most = self.limit_concurrency
        if most is None or len(self.connections) < most * WAITING_SHARE:
            return
        others = [
            one
            for one in self.connections
            if isinstance(one, BoundedHead) and one is not self and one.waits()
        ]
        if others:
            min(others, key=lambda one: one.since).transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        if self._in_head or self._between:
            data = without_upgrade(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._begin()

    def on_headers_complete(self) -> None:
        self._in_head = self._between = False
        self._arm(CALL_S_MAX)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()
        if not self._in_head:  # the next request may have begun
            self._arm(IDLE_S_MAX + FLUSH_S_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._arm(HEAD_S_MAX)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class QuietServer(uvicorn.Server):
    """Sets its answers' date less often, and is notified of its end.

    Ten looks a second cost an idle process most of its time.
    """

    _ending: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        ending = asyncio.Event()
        self._ending = asyncio.get_running_loop(), ending
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), TICK_S)

    def end(self) -> None:
        """Called from another thread."""
        self.should_exit = True
        if self._ending is not None:
            loop, ending = self._ending
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ending.set)


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """The caller's answer. It repeats nothing of the body."""

    def __init__(self, status: int, words: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.headers = {**(headers or {}), **({"retry-after": "5"} if status == 503 else {})}


def bind(addr: str, setting: str) -> socket.socket:
    """A listening socket; raises SettingError for an address in use, or of another machine."""
    host, port = host_port(addr)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise SettingError(
            f"{setting} takes an address that can be bound here and is free ({error.strerror})"
        ) from None


def serve(
    app: ASGIApp, listener: socket.socket, stop: threading.Event, calls_max: int = CALLS_MAX
) -> None:
    """Serves until `stop` is set, in a thread of its own: the signals stay the process's.

    Raises RuntimeError when the server ends by itself: the process ends then, and its supervisor
    starts another.
    """
    config = uvicorn.Config(
        app,
        http=BoundedHead,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=calls_max,
        timeout_keep_alive=IDLE_S_MAX,
        timeout_graceful_shutdown=STOP_S_MAX,
        ws="none",
        # Trust is set by PUSHFLEET_TRUSTED_PROXIES, not by this machine: see
        # workers/console/peers.py.
        proxy_headers=False,
    )
    server, wanted = QuietServer(config), True

    def run() -> None:
        nonlocal wanted
        try:
            server.run([listener])
        finally:
            wanted = stop.is_set()
            stop.set()

    thread = threading.Thread(target=run, name="http")
    thread.start()
    log.info("listening", extra={"url": url_of(listener)})
    stop.wait()
    server.end()
    thread.join(STOP_S_MAX + 1)
    listener.close()
    if not wanted:
        raise RuntimeError("the HTTP server ended by itself")


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
