"""HTTP/1.1 over TLS for a simulator: keep-alive, pipelined and chunked requests, bounded bodies, and the faults a wire can have.

The vendor's side of every answer is `simulator.handle`, called when the answer is due and not before: what is reset,
never answered or given up by the client during a delay was not accepted and leaves no line in the record.
"""

from __future__ import annotations

import asyncio
import collections
import http
import math
import socket
import ssl
import struct
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httptools

from simulators.base import Call, Faults, Reply, Simulator, control

BODY_BYTES_MAX = 4 * 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024
#: Requests of one connection that wait for their answer; above it we stop reading.
PIPELINE_MAX = 64
HUGE_BYTES = 1024 * 1024
DRIP_S = 0.02
IDLE_S_MAX = 120.0
#: How soon a switch that was set in-process (not through the door) is seen.
WATCH_S = 0.25
BACKLOG = 1024

_GARBAGE = b"<html><body><h1>It works!</h1></body></html>"
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Shares:
    """Which requests a fault hits: by a running count, so that 0.25 is every fourth one; `only_first` hits and no more.

    The count begins anew when the switch is set again; `changes`, where the faults have it, tells so even of equal values.
    """

    def __init__(self) -> None:
        self._counts: dict[str, tuple[tuple[float, int, int], int, int]] = {}

    def hit(self, faults: Faults, name: str, share: float) -> bool:
        if share <= 0:
            self._counts.pop(name, None)
            return False
        setting = (share, faults.only_first, getattr(faults, "changes", 0))
        before, count, hits = self._counts.get(name, (setting, 0, 0))
        if before != setting:
            count = hits = 0
        struck = math.floor((count + 1) * share + 1e-9) > math.floor(count * share + 1e-9)
        struck = struck and (not faults.only_first or hits < faults.only_first)
        self._counts[name] = (setting, count + 1, hits + struck)
        return struck


class Http1Server:
    """A listening simulator. port: the one in use. While `faults.down` is set nothing listens, and what was connected is reset.

    Only connections that have asked for nothing but `/_sim/…` stay, so that whoever takes the vendor down on such a
    connection can bring it up again on it; a switch thrown in-process is seen within WATCH_S.
    """

    def __init__(self, simulator: Simulator, host: str, context: ssl.SSLContext | None) -> None:
        self.simulator = simulator
        self.shares = Shares()
        self.port = 0
        self.connections: set[_Connection] = set()
        self._host = host
        self._context = context
        self._listener: asyncio.Server | None = None
        self._watcher: asyncio.Task[None] | None = None
        # Bound and never listening: while the vendor is down nobody else is given its port.
        self._hold: socket.socket | None = None

    async def start(self, port: int) -> None:
        """OSError when the port is taken."""
        self._hold = _bound(self._host, port)
        self.port = self._hold.getsockname()[1]
        await self._listen()
        self._watcher = asyncio.create_task(self._watch())

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        bound = _bound(self._host, self.port)
        self._listener = await loop.create_server(lambda: _Connection(self), sock=bound, ssl=self._context, backlog=BACKLOG)

    async def obey(self) -> None:
        """Goes down or comes up as the switch says."""
        if self.simulator.faults.down and self._listener is not None:
            self._listener.close()
            self._listener = None
            for connection in [c for c in self.connections if not c.door_only]:
                connection.reset()
        elif not self.simulator.faults.down and self._listener is None:
            await self._listen()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_S)
            await self.obey()
            for connection in [c for c in self.connections if loop.time() - c.heard_s > IDLE_S_MAX]:
                connection.close()

    async def close(self) -> None:
        if self._watcher:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._listener:
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            connection.close()
        if self._hold:
            self._hold.close()
        await asyncio.sleep(0)


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


async def serve_http1(simulator: Simulator, host: str, port: int, certificate: Path | None, key: Path | None) -> Http1Server:
    """Listens and returns at once; OSError when the port is taken. port 0: a free one, see `.port`. End: `await server.close()`.

    certificate None: plain HTTP, for benchmarks on loopback.
    """
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["http/1.1"])
    server = Http1Server(simulator, host, context)
    await server.start(port)
    return server


def _handled(simulator: Simulator, call: Call) -> Reply:
    try:
        return simulator.handle(call)
    except Exception:
        traceback.print_exc(file=sys.stderr)  # a mistake of the simulator itself: seen and counted, never a dead connection
        simulator.record.count("simulator_error")
        return Reply(500, b"the simulator failed")


class _Connection(asyncio.Protocol):
    """One client's connection; answers go out in the order of their requests."""

    def __init__(self, server: Http1Server) -> None:
        self.server = server
        self.door_only = True
        self.heard_s = asyncio.get_running_loop().time()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._waiting: collections.deque[tuple[Call, bool]] = collections.deque()
        self._busy = self._mute = False
        self._task: asyncio.Task[None] | None = None
        self._refuse = 0
        self._paused = False
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head_bytes = self._body_bytes = 0

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.server.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.server.connections.discard(self)
        self._waiting.clear()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._paused:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()
        if self._refuse:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # not taken: the request was answered as it is, and nothing more is read
            self._refuse = -1
        except httptools.HttpParserError:
            self._refuse = self._refuse or 400
        if self._refuse > 0:
            self._write(Reply(self._refuse), keep=False)
        elif self._refuse and not self._busy:
            self.close()

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """RST instead of a goodbye."""
        if self._transport is None:
            return
        peer = self._transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # ---- the parser's side; an exception here would stop it without a trace, so a refusal is a number

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count_head(len(name) + len(value))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse = 431
            raise ValueError("head too large")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse = 413
            raise ValueError("body too large")
        self._body.append(body)

    def on_message_complete(self) -> None:
        target = self._url.decode("latin-1")
        if not target.startswith("/"):  # absolute form, as through a proxy
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        method = self._parser.get_method().decode("latin-1")
        call = Call(method, path, query, self._headers, b"".join(self._body), id(self))
        self._waiting.append((call, self._parser.should_keep_alive()))
        if len(self._waiting) >= PIPELINE_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._advance()

    # ---- answers

    def _advance(self) -> None:
        while self._waiting and not (self._busy or self._mute or self._transport.is_closing()):
            call, keep = self._waiting.popleft()
            self._serve(call, keep)
        if self._paused and not self._waiting:
            self._paused = False
            self._transport.resume_reading()

    def _serve(self, call: Call, keep: bool) -> None:
        door = control(self.server.simulator, call)
        if door is not None:
            if call.path == "/_sim/faults":
                self._later(lambda: self._obeyed(door, keep))
            else:
                self._write(door, keep)
            return
        self.door_only = False
        faults = self.server.simulator.faults
        if self.server.shares.hit(faults, "delay_ms", 1.0 if faults.delay_ms else 0.0):
            self._later(lambda: self._delayed(call, keep, faults.delay_ms / 1000))
        elif drip := self._answer(call, keep):
            self._drip_later(drip, keep)

    def _drip_later(self, data: bytes, keep: bool) -> None:
        self._later(lambda: self._drip(data, keep))

    def _later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does it before the next request of this connection, unless the connection ends first."""
        self._busy = True

        async def run() -> None:
            await work()
            self._busy = False
            self._advance()

        self._task = asyncio.create_task(run())

    async def _obeyed(self, door: Reply, keep: bool) -> None:
        """The port is closed or open again before the answer says so."""
        await asyncio.shield(asyncio.ensure_future(self.server.obey()))
        self._write(door, keep)

    async def _delayed(self, call: Call, keep: bool, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self._transport.is_closing() and (drip := self._answer(call, keep)):
            await self._drip(drip, keep)

    def _answer(self, call: Call, keep: bool) -> bytes | None:
        """Answers, or does to the connection what a switch says. What comes back is to be dripped."""
        simulator, shares = self.server.simulator, self.server.shares
        faults = simulator.faults
        if shares.hit(faults, "reset", faults.reset):
            self.reset()
        elif shares.hit(faults, "no_answer", faults.no_answer):
            self._mute = True
        elif faults.status and shares.hit(faults, "status", faults.status_share):
            headers = {"retry-after": str(faults.retry_after_s)} if faults.retry_after_s else {}
            self._write(Reply(faults.status, faults.status_body.encode(), headers), keep)
        else:
            reply = self._spoilt(_handled(simulator, call), faults)
            if shares.hit(faults, "slow_drip", faults.slow_drip):
                return self._bytes(reply, keep)
            self._write(reply, keep, head_only=call.method == "HEAD")
        return None

    def _spoilt(self, reply: Reply, faults: Faults) -> Reply:
        """The answer as it leaves: what was accepted stays accepted."""
        shares = self.server.shares
        if shares.hit(faults, "garbage", faults.garbage):
            return Reply(200, _GARBAGE, {"content-type": "text/html"})
        if shares.hit(faults, "empty", faults.empty):
            return Reply(reply.status, b"", reply.headers)
        if shares.hit(faults, "huge", faults.huge):
            return Reply(reply.status, reply.body + b" " * HUGE_BYTES, reply.headers)
        return reply

    async def _drip(self, data: bytes, keep: bool) -> None:
        for position in range(len(data)):
            if self._transport.is_closing():
                return
            self._transport.write(data[position : position + 1])
            await asyncio.sleep(DRIP_S)
        if not keep:
            self._transport.close()

    def _bytes(self, reply: Reply, keep: bool) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '-')}", f"content-length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if not keep:
            lines.append("connection: close")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + reply.body

    def _write(self, reply: Reply, keep: bool, head_only: bool = False) -> None:
        data = self._bytes(reply, keep)
        self._transport.write(data[: len(data) - len(reply.body)] if head_only else data)
        if not keep:
            self._transport.close()
