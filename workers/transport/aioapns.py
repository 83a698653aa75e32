"""The transport over the `aioapns` library (PUSHFLEET_APNS_CLIENT=aioapns): APNs requests only.

The library keeps the connections, the stream slots and the h2 state machine. A subclass adds what
its version 4.0 lacks: a deadline around each send, one attempt, our authorization header and body
unchanged, answers matched by stream, RST_STREAM and GOAWAY read, windows given back and respected.
Unchanged: one Python object per frame (six to ten times libcurl's CPU), nothing is ever begun a
second time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from aioapns.connection import APNsBaseConnectionPool, APNsTLSClientProtocol, ChannelPool
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import ChangedSetting, SettingCodes

from workers.transport.exchange import BODY_BYTES_MAX, NO_HTTP2, SendBatch, base_of, fault_of
from workers.wire import ClientIdentity, HttpResponse, NoAnswer, Request, Route

if TYPE_CHECKING:
    from typing_extensions import Buffer

CONNECT_TIMEOUT_S = 5.0
#: The longest that `close` waits for its callers' answers, and then for the thread.
CLOSE_S = 2.0
#: Apple wants connections kept for hours; the library closes them after 10 s.
INACTIVITY_S = 600
DEVICE_PATH = "/3/device/"

# The library's log lines contain addresses and answers: we do not print them.
logging.getLogger("aioapns").addHandler(logging.NullHandler())
logging.getLogger("aioapns").propagate = False


class LostConnectionError(Exception):
    """No answer will come. sent: the vendor may have read the request."""

    def __init__(
        self, words: str, sent: bool, reason: Literal["refused", "reset"] = "reset"
    ) -> None:
        super().__init__(words)
        self.words, self.sent, self.reason = words, sent, reason


class AioapnsSending:
    """One request on its stream."""

    __slots__ = ("body", "future", "headers", "started", "started_at", "status")

    def __init__(self) -> None:
        self.started, self.started_at = False, 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.future: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()

    def fail(self, words: str, sent: bool) -> None:
        if not self.future.done():
            self.future.set_exception(LostConnectionError(words, sent))


class WatchedH2(H2Connection):
    """Passes each event to the connection before the library's own loop drops unknown ones."""

    watcher: AioapnsConnection

    def receive_data(self, data: Buffer) -> list[Event]:
        events = super().receive_data(data)
        for event in events:
            self.watcher.watch(event)
        return events


class Slots(ChannelPool):
    """A correct count of the library's stream slots.

    4.0 exceeds the bound after it fell, and admits about three after 1 -> 1000.
    """

    def __init__(self, bound: int) -> None:
        super().__init__(bound)
        self._limit, self._used = bound, 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> int:  # type: ignore[override]  # as in the library: the number of the stream
        if self._used < self._limit:
            self._used += 1
        else:
            ticket = asyncio.get_running_loop().create_future()
            self._line.append(ticket)
            try:
                await ticket
            except asyncio.CancelledError:
                if ticket.done() and not ticket.cancelled():
                    self.release()  # it was handed over just then
                raise
        self._stream_id += 2
        return self._stream_id

    def release(self) -> None:
        self._used -= 1
        self._next()

    def _next(self) -> None:
        while self._line and self._used < self._limit:
            ticket = self._line.popleft()
            if not ticket.done():
                self._used += 1
                ticket.set_result(None)

    def set_bound(self, bound: int) -> None:
        self._limit = bound
        self._next()

    @property
    def is_busy(self) -> bool:
        return self._used >= self._limit

    def destroy(self, exc: Exception) -> None:  # noqa: ARG002 - the library's signature
        for ticket in self._line:
            if not ticket.done():
                ticket.set_exception(LostConnectionError("the connection was lost", False))
        self._line.clear()


class AioapnsConnection(APNsTLSClientProtocol):
    """One connection of the library, hardened."""

    INACTIVITY_TIME = INACTIVITY_S

    def __init__(self, authority: str, streams_max: int, **named: Any) -> None:
        super().__init__(apns_topic="", **named)
        self.authority, self.streams_max = authority, streams_max
        self.conn = WatchedH2()
        self.conn.watcher = self
        self.free_channels = Slots(streams_max)
        self.sendings: dict[int, AioapnsSending] = {}
        self.room = asyncio.Event()
        self.draining = self.lost = False
        self.heard_at = 0.0  # seconds of the loop's clock

    def leave(self) -> None:
        """No new streams; the connection closes after its last answer."""
        self.draining = True
        if self.on_connection_lost:
            self.on_connection_lost(self)

    # ---- out

    async def send(self, request: Request, begun: Callable[[], None]) -> HttpResponse:
        """LostError when no answer will come; cancelling frees the slot and resets the stream.
        begun: called before it is written; an error of it keeps it unwritten.
        """
        stream = await self.free_channels.acquire()
        sending = AioapnsSending()
        try:
            if self.draining or self.lost:
                raise LostConnectionError("the connection takes no new streams", False)
            self.sendings[stream] = sending
            await self._write(stream, request, sending, begun)
            return await sending.future
        except ProtocolError:
            raise LostConnectionError("an HTTP/2 protocol error", sending.started) from None
        finally:
            if self.sendings.pop(stream, None) is not None and sending.started:
                self._abandon(stream)
                if self.heard_at < sending.started_at:
                    self.leave()  # not one answer since it was written: a peer that is not there
            if sending.future.done() and not sending.future.cancelled():
                sending.future.exception()  # looked at: asyncio need not complain
            self.free_channels.release()
            if self.draining and not self.sendings:
                self.close()

    async def _write(
        self, stream: int, request: Request, sending: AioapnsSending, begun: Callable[[], None]
    ) -> None:
        authority = (":authority", self.authority)
        headers = [(":method", "POST"), (":scheme", "https"), (":path", request.path), authority]
        begun()
        self.conn.send_headers(
            stream, [*headers, *request.headers.items()], end_stream=not request.body
        )
        sending.started, sending.started_at = True, self.loop.time()
        rest = memoryview(request.body)
        while rest and stream in self.sendings and not sending.future.done():
            window = self.conn.local_flow_control_window(stream)
            size = min(window, self.conn.max_outbound_frame_size, len(rest))
            if size > 0:
                self.conn.send_data(stream, bytes(rest[:size]), end_stream=size == len(rest))
                rest = rest[size:]
            else:
                self.room.clear()
                self.flush()
                await self.room.wait()
        self.flush()

    def _abandon(self, stream: int) -> None:
        """Resets a stream whose answer is no longer awaited."""
        try:
            self.conn.reset_stream(stream, ErrorCodes.CANCEL)
            self.flush()
        except ProtocolError:
            pass  # it is closed already

    # ---- in

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except ProtocolError:
            if self.transport is not None:
                self.transport.abort()  # close() would wait for the peer's goodbye

    def watch(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, ResponseReceived):
            self._head(event)
        elif isinstance(event, StreamEnded):
            self._end(event.stream_id or 0)
        elif isinstance(event, StreamReset):
            sending = self.sendings.pop(event.stream_id or 0, None)
            if sending:
                sending.fail("the stream was reset", event.error_code != ErrorCodes.REFUSED_STREAM)
        elif isinstance(event, ConnectionTerminated):
            self._goaway(event.last_stream_id or 0)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self.room.set()

    def _head(self, event: ResponseReceived) -> None:
        self.heard_at = self.loop.time()
        sending = self.sendings.get(event.stream_id or 0)
        if sending:
            pairs = [
                (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                for name, value in event.headers or ()
            ]
            sending.headers = {name: value for name, value in pairs if name[:1] != ":"}
            sending.status = next(
                (int(value) for name, value in pairs if name == ":status" and value.isdecimal()), 0
            )

    def _data(self, event: DataReceived) -> None:
        if event.flow_controlled_length and event.stream_id:
            self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        sending = self.sendings.get(event.stream_id or 0)
        if sending and event.data:
            sending.body += event.data[: max(BODY_BYTES_MAX - len(sending.body), 0)]

    def _end(self, stream: int) -> None:
        sending = self.sendings.pop(stream, None)
        if sending and not sending.future.done():
            sending.future.set_result(
                HttpResponse(sending.status, sending.headers, bytes(sending.body))
            )

    def _goaway(self, last: int) -> None:
        self.leave()
        for stream in [stream for stream in self.sendings if stream > last]:
            self.sendings.pop(stream).fail("the server went away before this stream", False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for sending in self.sendings.values():
            sending.fail("the connection was lost", sending.started)
        self.sendings.clear()
        self.room.set()
        super().connection_lost(exc)

    # ---- the library's own reading, replaced by `watch`

    def on_response_received(self, headers: dict[bytes, bytes]) -> None: ...
    def on_data_received(self, raw_data: bytes, stream_id: int) -> None: ...
    def on_stream_ended(self, stream_id: int) -> None: ...
    def on_connection_terminated(self, event: ConnectionTerminated) -> None: ...

    def on_remote_settings_changed(
        self, changed_settings: dict[SettingCodes, ChangedSetting]
    ) -> None:
        streams = changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
        if streams is not None and isinstance(self.free_channels, Slots):
            self.free_channels.set_bound(min(streams.new_value, self.streams_max))


class AioapnsPool(APNsBaseConnectionPool):
    """The library's pool for one credential and address, one attempt a request."""

    def __init__(self, base: str, route: Route, context: ssl.SSLContext) -> None:
        super().__init__(
            topic="", max_connections=max(route.connections_max, 1), max_connection_attempts=1
        )
        self.address, self.ssl_context, self.streams_max = (
            urlsplit(base),
            context,
            max(route.streams_max, 1),
        )

    async def create_connection(self) -> AioapnsConnection:
        make = partial(
            AioapnsConnection,
            self.address.netloc,
            self.streams_max,
            loop=self.loop,
            on_connection_lost=self.discard_connection,
        )
        # not wait_for: cancelled in the moment of the connection's arrival it would go on, and the
        # request would wait for its answer without an end (Python 3.11)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, connection = await self.loop.create_connection(
                make, self.address.hostname or "", self.address.port or 443, ssl=self.ssl_context
            )
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            transport.abort()
            raise LostConnectionError(NO_HTTP2, False, "refused")
        return connection

    def discard_connection(self, connection: Any) -> None:
        """The library raises when one is discarded twice (after GOAWAY, then at its end)."""
        if connection in self.connections:
            super().discard_connection(connection)

    async def send(self, request: Request, begun: Callable[[], None]) -> HttpResponse:
        try:
            connection = await self.acquire()
        except Exception as error:  # noqa: BLE001 - the library turns every failure to connect into its own exception
            if isinstance(error.__context__, LostConnectionError):
                raise error.__context__ from None
            raise LostConnectionError(
                "no connection: " + type(error.__context__ or error).__name__, False, "refused"
            ) from None
        if not isinstance(connection, AioapnsConnection):
            raise TypeError("a connection of another pool")
        return await connection.send(request, begun)

    def leave(self) -> None:
        """No new streams; each connection closes after its last answer."""
        for connection in list(self.connections):
            if isinstance(connection, AioapnsConnection):
                connection.leave()
                if not connection.sendings:
                    connection.close()


def _begin(index: int, batch: SendBatch, started: set[int]) -> None:
    """Marks a request as begun; TimeoutError when its caller has said that it was not."""
    started.add(index)
    if batch.told:
        raise TimeoutError


class AioapnsTransport:
    """The `Transport` of workers/wire.py over aioapns. A request that is not a push to APNs is a
    ValueError.
    """

    def __init__(self, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._pools: dict[tuple[str, str, ClientIdentity | None], AioapnsPool] = {}
        self._closed = False

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        """As Transport.send_many. ValueError: a path other than /3/device/…, or no sound https
        address.
        """
        if not requests:
            return []
        if route.proxy is not None:
            raise ValueError("aioapns goes through no proxy")
        bases = [self._base(route, request) for request in requests]
        batch = SendBatch(len(requests), deadline_s)
        started: set[int] = set()
        if not self._begun(self._send_all(route, requests, bases, batch, started)):
            return [NoAnswer("refused", False, "the transport is closed")] * len(requests)
        return batch.wait(started.__contains__)

    @staticmethod
    def _base(route: Route, request: Request) -> str:
        base = base_of(route, request.endpoint)
        to_device = request.path.startswith(DEVICE_PATH)
        if not to_device or request.method != "POST" or not base.startswith("https:"):
            raise ValueError("aioapns sends pushes to APNs over TLS only")
        return base

    async def _send_all(
        self,
        route: Route,
        requests: Sequence[Request],
        bases: list[str],
        batch: SendBatch,
        started: set[int],
    ) -> None:
        works: list[Coroutine[Any, Any, None]] = []
        for index, request in enumerate(requests):
            fault = fault_of(request)
            if fault is not None:
                batch.put(index, NoAnswer("refused", False, fault, unsendable=True))
            else:
                works.append(
                    self._send(self._pool(route, bases[index]), request, index, batch, started)
                )
        await asyncio.gather(*works)

    async def _send(
        self, pool: AioapnsPool, request: Request, index: int, batch: SendBatch, started: set[int]
    ) -> None:
        outcome: HttpResponse | NoAnswer
        try:
            async with asyncio.timeout_at(
                batch.ends
            ):  # one instant for all, so that a freed slot goes to nobody whose time is up
                answer = await pool.send(request, partial(_begin, index, batch, started))
            outcome = HttpResponse(
                answer.status, answer.headers, answer.body, time.monotonic() - batch.begun
            )
        except TimeoutError:
            outcome = NoAnswer(
                "timeout", index in started, "the deadline passed", time.monotonic() - batch.begun
            )
        except LostConnectionError as lost:
            outcome = NoAnswer(lost.reason, lost.sent, lost.words, time.monotonic() - batch.begun)
        except asyncio.CancelledError:  # by `close`
            sent = index in started
            outcome = NoAnswer("reset" if sent else "refused", sent, "the transport was closed")
        except Exception as error:  # noqa: BLE001 - an error of the library is this push's, not the batch's
            outcome = NoAnswer(
                "reset", index in started, type(error).__name__, time.monotonic() - batch.begun
            )
        batch.put(index, outcome)

    def _pool(self, route: Route, base: str) -> AioapnsPool:
        key = (route.pool, base, route.identity)
        if key not in self._pools:
            self._pools[key] = AioapnsPool(base, route, self._context(route.identity))
        return self._pools[key]

    def _context(self, identity: ClientIdentity | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        if identity is not None:
            with tempfile.NamedTemporaryFile() as file:  # 0600; the ssl module reads files only
                file.write(identity.certificate_pem + b"\n" + identity.key_pem)
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def _begun(self, work: Coroutine[Any, Any, None]) -> bool:
        """Runs it on the loop; False when the transport is closed."""
        # first use, or a forked child: the parent's loop, lock and sockets are not ours
        if self._pid != os.getpid():
            self._lock, self._loop, self._pid, self._pools = threading.Lock(), None, os.getpid(), {}
        with self._lock:
            if self._closed:
                work.close()
                return False
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="transport-aioapns", daemon=True
                )
                self._thread.start()
            # with the lock, so that `close` ends what has begun and the loop is there for it
            asyncio.run_coroutine_threadsafe(work, self._loop)
            return True

    def renew(self, pool: str) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._leave, pool)

    def _leave(self, name: str) -> None:
        for key in [key for key in self._pools if key[0] == name]:
            self._pools.pop(key).leave()

    def close(self) -> None:
        """Ends the thread; callers that wait get `reset` at once. Closing twice is fine. Raises
        nothing: a thread that stands still for longer than this waits ends when it goes on.
        """
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None or self._pid != os.getpid():
            return
        wait([asyncio.run_coroutine_threadsafe(self._end(), loop)], CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            loop.close()

    async def _end(self) -> None:
        for pool in self._pools.values():
            for connection in list(pool.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        # the lost connections tell their senders, the senders their batches
        await asyncio.sleep(0.05)
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
