"""Serves one ASGI app on one address, for the receipts, console and gateway processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.config import SettingError, host_port

if TYPE_CHECKING:
    from asyncio.events import TimerHandle

log = logging.getLogger(__name__)

#: Calls at the same time; more are answered with 503.
CALLS_MAX: Final = 512
IDLE_S_MAX: Final = 15
#: Bounds of a request's head, seconds and bytes; beyond them the connection is closed, as the
#: server below has no bound.
HEAD_S_MAX: Final = 10.0
HEAD_BYTES_MAX: Final = 32 * 1024
#: Longest call, with body and answer; also the longest reading of the rest of an answer.
CALL_S_MAX: Final = 60.0
FLUSH_S_MAX: Final = 10.0
#: Share of the places from which a new connection ends the oldest waiting one.
WAITING_SHARE: Final = 0.75
#: Seconds for running calls after the stop.
STOP_S_MAX: Final = 5
BACKLOG: Final = 1024
#: Between two times that the server sets its answers' date.
TICK_S: Final = 2.0


class BoundedHead(HttpToolsProtocol):
    """Closes connections that are silent, or never finish a head, a body or a reading.

    The oldest waiting connection makes room for a new one.
    """

    _timer: TimerHandle | None = None
    since = 0.0
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
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
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._arm(CALL_S_MAX)
        super().on_headers_complete()

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


def bind(addr: str, setting: str) -> socket.socket:
    """A listening socket; raises SettingError for an address in use, or of another machine."""
    host, port = host_port(addr)
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
            reuse_port=False,
        )
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
    server, asked = QuietServer(config), True

    def run() -> None:
        nonlocal asked
        try:
            server.run([listener])
        finally:
            asked = stop.is_set()
            stop.set()

    thread = threading.Thread(target=run, name="http")
    thread.start()
    log.info("listening", extra={"url": url_of(listener)})
    stop.wait()
    server.end()
    thread.join(STOP_S_MAX + 1)
    listener.close()
    if not asked:
        raise RuntimeError("the HTTP server ended by itself")


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
