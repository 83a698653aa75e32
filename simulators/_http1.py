"""HTTP/1.1 on the HTTP/2 simulators' ports: for clients that speak nothing else (google-auth, firebase-admin) and for the side door."""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from simulators.base import Call, Reply
from simulators.misbehave import DRIP_S, Fate, answer, side_door

if TYPE_CHECKING:
    from simulators.door import Connection

BODY_BYTES_MAX = 4 << 20


class Http1:
    """One connection; requests are answered one after the other, in their order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._serving = connection.serving
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Call, bool]] = deque()
        self._busy = self._gone = False
        self._out: list[bytes] = []
        self.on_message_begin()

    # ---- httptools calls these

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: list[str] = []
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        note_header(self._headers, self._repeated, name.lower(), value)

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            raise ValueError("body over 4 MiB")

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        headers = named(self._headers, self._repeated)
        call = Call(method, path, query, headers, bytes(self._body), self._connection.id, self._connection.certificate)
        self._waiting.append((call, self._parser.should_keep_alive()))

    # ---- the Speaker

    def received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError):
            self._out.append(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
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
                reply = Reply(505, b"HTTP/2 only")
            if reply is not None:
                self._finish(reply, keep, drip=False)
            else:
                self._begin(call, keep)

    def _begin(self, call: Call, keep: bool) -> None:
        fate = self._serving.shares.fate()
        self._connection.door_only = False
        if fate.kind in ("reset", "refuse"):
            self._connection.abort()
        elif fate.kind != "silent" and fate.delay_s:
            self._connection.loop.call_later(fate.delay_s, self._answer, call, keep, fate)
        elif fate.kind != "silent":
            self._answer(call, keep, fate)

    def _answer(self, call: Call, keep: bool, fate: Fate) -> None:
        if not self._gone:
            self._finish(answer(self._serving.simulator, call, fate), keep, fate.drip)
            self._next()

    def _finish(self, reply: Reply, keep: bool, drip: bool) -> None:
        words = HTTPStatus(reply.status).phrase if reply.status in HTTPStatus._value2member_map_ else "Unknown"
        head = [f"HTTP/1.1 {reply.status} {words}", f"content-length: {len(reply.body)}", *(f"{n}: {v}" for n, v in reply.headers.items())]
        if not keep:
            head.append("connection: close")
        data = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1", "replace") + reply.body
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
            self._connection.loop.call_soon(self._connection.close)


def note_header(headers: dict[str, str], repeated: list[str], name: bytes, value: bytes) -> None:
    """Into the mapping; the first value of a repeated header stays and its name is noted."""
    key = name.decode("ascii", "backslashreplace")
    if key in headers:
        repeated.append(key)
    else:
        headers[key] = value.decode("utf-8", "backslashreplace")


def named(headers: dict[str, str], repeated: list[str]) -> dict[str, str]:
    """`Call.headers` has one value a name; that a header came twice is told under `:repeated`, a name no client can send."""
    if repeated:
        headers[":repeated"] = ",".join(repeated)
    return headers
