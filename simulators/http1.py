"""HTTP/1.1 on a simulator's port: keep-alive, pipelined and chunked requests, bounded heads and
bodies, the faults a wire can have.

The vendor's side of every answer is `simulator.handle`, called when the answer is due and not
before: what is reset, never answered or given up by the client during a delay was not accepted and
leaves no line in the record.
"""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from simulators.misbehave import DRIP_S, Fate, answer, side_door
from simulators.simulator import VendorCall, VendorReply

if TYPE_CHECKING:
    from simulators.door import Connection

BODY_BYTES_MAX = 4 << 20
HEAD_BYTES_MAX = 64 << 10
#: Requests of one connection that wait for their answer; above it we stop reading.
PIPELINE_MAX = 64


class Http1:
    """One connection; requests are answered one after the other, in their order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._serving = connection.serving
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[VendorCall, bool]] = deque()
        self._busy = self._gone = self._deaf = False
        self._refusal = 400  # what is said to bytes that can't be read
        self._out: list[bytes] = []
        self.on_message_begin()

    # ---- httptools calls these

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: list[str] = []
        self._body = bytearray()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        note_header(self._headers, self._repeated, name.lower(), value)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refusal = 431
            raise ValueError("head over 64 KiB")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._refusal = 413
            raise ValueError("body over 4 MiB")

    def on_message_complete(self) -> None:
        target = self._url.decode("latin-1")
        if not target.startswith("/"):  # absolute form, as through a proxy
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        method = self._parser.get_method().decode("latin-1")
        headers = named(self._headers, self._repeated)
        body = bytes(self._body)
        call = VendorCall(
            method, path, query, headers, body, self._connection.id, self._connection.certificate
        )
        self._waiting.append((call, self._parser.should_keep_alive()))

    # ---- the Speaker

    def received(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except (
            httptools.HttpParserUpgrade
        ):  # not taken: the request is answered as it is, and nothing more is read
            self._deaf = True
            if self._waiting:
                self._waiting.append((self._waiting.pop()[0], False))
        except (httptools.HttpParserError, ValueError):
            self._deaf = True
            self._next()
            self._waiting.clear()
            self._out.append(_head(VendorReply(self._refusal), keep=False))
            self._connection.close(after_s=0.05)
        self._next()

    def taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def lost(self) -> None:
        self._gone = True
        self._waiting.clear()

    def faults_changed(self) -> None:
        pass

    # ---- one call after the other

    def _next(self) -> None:
        while self._waiting and not self._busy:
            call, keep = self._waiting.popleft()
            self._busy = True
            reply = side_door(self._serving.simulator, self._serving.shares, call)
            if reply is None and self._serving.manners.http2_only:
                reply = VendorReply(505, b"HTTP/2 only")
            if reply is not None:
                self._finish(call, reply, keep, drip=False)
            else:
                self._begin(call, keep)
        self._connection.listen(len(self._waiting) < PIPELINE_MAX)

    def _begin(self, call: VendorCall, keep: bool) -> None:
        fate = self._serving.shares.fate()
        self._connection.door_only = False
        if fate.kind in ("reset", "refuse"):
            self._connection.abort()
        elif fate.kind != "silent" and fate.delay_s:
            self._connection.loop.call_later(fate.delay_s, self._late, call, keep, fate)
        elif fate.kind != "silent":
            self._answer(call, keep, fate)

    def _late(self, call: VendorCall, keep: bool, fate: Fate) -> None:
        if not self._gone:
            self._answer(call, keep, fate)
            self._next()

    def _answer(self, call: VendorCall, keep: bool, fate: Fate) -> None:
        self._finish(call, answer(self._serving.simulator, call, fate), keep, fate.drip)

    def _finish(self, call: VendorCall, reply: VendorReply, keep: bool, drip: bool) -> None:
        data = _head(reply, keep) + (b"" if call.method == "HEAD" else reply.body)
        if drip:
            self._drip(data, 0, keep)
        else:
            self._out.append(data)
            self._done(keep)

    def _drip(self, data: bytes, sent: int, keep: bool) -> None:
        if self._gone:
            return
        self._out.append(data[sent : sent + 1])
        self._connection.wake()
        if sent + 1 < len(data):
            self._connection.loop.call_later(DRIP_S, self._drip, data, sent + 1, keep)
        else:
            self._done(keep)
            self._next()

    def _done(self, keep: bool) -> None:
        self._busy = False
        self._connection.wake()
        if not keep:
            self._deaf = True
            self._waiting.clear()
            self._connection.loop.call_soon(self._connection.close)


def _head(reply: VendorReply, keep: bool) -> bytes:
    words = (
        HTTPStatus(reply.status).phrase
        if reply.status in HTTPStatus._value2member_map_
        else "Unknown"
    )
    lines = [
        f"HTTP/1.1 {reply.status} {words}",
        f"content-length: {len(reply.body)}",
        *(f"{n}: {v}" for n, v in reply.headers.items()),
    ]
    if not keep:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def note_header(headers: dict[str, str], repeated: list[str], name: bytes, value: bytes) -> None:
    """Into the mapping; the first value of a repeated header stays and its name is noted."""
    key = name.decode("ascii", "backslashreplace")
    if key in headers:
        repeated.append(key)
    else:
        headers[key] = value.decode("utf-8", "backslashreplace")


def named(headers: dict[str, str], repeated: list[str]) -> dict[str, str]:
    """Adds repeated headers as `:repeated`, a name that no client can send.

    `VendorCall.headers` has one value per name.
    """
    if repeated:
        headers[":repeated"] = ",".join(repeated)
    return headers
