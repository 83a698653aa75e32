"""A TLS connection by name, without blocking: resolve, connect, CONNECT to a proxy, handshake.

Several addresses are tried in parallel. Only the resolver blocks, so it has a thread of its own,
one per name and only while it looks.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

from workers.transport.exchange import NO_HTTP2, proxy_name, proxy_refusal, system_trust
from workers.wire import ClientIdentity

IN, OUT = select.POLLIN, select.POLLOUT
#: The size of one TLS record, and of one read.
RECORD_BYTES, READ_BYTES = 16_384, 262_144
#: Delay before the next address of a name is tried in parallel (RFC 8305 §5).
NEXT_ADDRESS_S: Final = 0.25
ADDRESSES_MAX: Final = 6
#: A proxy's answer to CONNECT is shorter.
PROXY_HEAD_BYTES_MAX: Final = 16_384
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S = 60, 15


class DialError(Exception):
    """No connection. reason: as in NoAnswer; nothing was sent to the vendor."""

    def __init__(self, words: str, reason: Literal["refused", "timeout"] = "refused") -> None:
        super().__init__(words)
        self.words, self.reason = words, reason


class Poller(Protocol):
    """A link's or dial's port to its owner: notifications of a ready socket."""

    def watch(self, sock: socket.socket, mask: int) -> None: ...
    def forget(self, sock: socket.socket) -> None: ...


def tls_context(ca_file: Path | None, identity: ClientIdentity | None) -> ssl.SSLContext:
    """TLS 1.2 or later, HTTP/2 the only protocol offered.

    Raises OSError or ValueError for a certificate that cannot be loaded. The system's folder of
    hashed certificates is preferred: only the needed ones are read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    folder, bundle = system_trust()
    if folder is not None:
        context.load_verify_locations(capath=folder)
    elif bundle is not None:
        context.load_verify_locations(cafile=bundle)
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    if identity is not None:
        with tempfile.NamedTemporaryFile() as file:  # 0600; the ssl module reads files only
            file.write(identity.certificate_pem + b"\n" + identity.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


# ---------------------------------------------------------------- the link


class Link:
    """TLS over a socket that never blocks.

    sent: octets of plain text whose records the kernel has taken whole. The peer cannot read a
    record that was taken in part: its content was not sent.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self.sock = sock
        self.sent, self.ended = 0, False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._pending = b""
        self._written = self._encrypted = self._flushed = 0
        # (octets on the wire, octets of plain text) at each record's end
        self._marks: deque[tuple[int, int]] = deque()

    def handshake(self) -> bool:
        """True when it is done. OSError (ssl.SSLError is one) when it failed."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def feed(self) -> None:
        """Reads from the network for the handshake. OSError at the end of the connection."""
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the connection ended")
        self._in.write(data)

    def write(self, data: bytes) -> bool:
        """Encrypts all and sends what the kernel takes; False: `flush` when it takes more.

        Raises OSError.
        """
        for at in range(0, len(data), RECORD_BYTES):
            piece = data[at : at + RECORD_BYTES] if len(data) > RECORD_BYTES else data
            self.tls.write(piece)
            self._written += len(piece)
            self._marks.append((self._encrypted + self._out.pending, self._written))
        return self.flush()

    def flush(self) -> bool:
        """True when nothing is left."""
        if self._out.pending:
            fresh = self._out.read()
            self._encrypted += len(fresh)
            self._pending = self._pending + fresh if self._pending else fresh
        while self._pending:
            try:
                count = self.sock.send(self._pending)
            except BlockingIOError:
                break
            self._pending = self._pending[count:]
            self._flushed += count
        while self._marks and self._marks[0][0] <= self._flushed:
            self.sent = self._marks.popleft()[1]
        return not self._pending

    def read(self) -> bytes:
        """The received data, b"" for none; sets `ended` at the peer's close.

        Raises OSError for a broken connection.
        """
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self.ended = True
            return b""
        self._in.write(data)
        pieces = []
        try:
            while piece := self.tls.read(READ_BYTES):
                pieces.append(piece)
            self.ended = True  # TLS's own end: what the network brings after it is nobody's
        except ssl.SSLWantReadError:
            pass
        if self._out.pending:
            self.flush()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self.sock.close()


# ---------------------------------------------------------------- names


#: (family, the socket module's address).
Address = tuple[int, Any]
_Found = Callable[[list[Address] | None], None]


class Resolver:
    """Looks names up. found(addresses or None) is called by another thread; those who ask for a
    name at once share one look-up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[tuple[str, int], list[_Found]] = {}

    def ask(self, host: str, port: int, found: _Found) -> None:
        with self._lock:
            waiting = self._asking.get((host, port))
            if waiting is not None:
                waiting.append(found)
                return
            self._asking[host, port] = [found]
        threading.Thread(
            target=self._look, args=(host, port), name="transport-resolver", daemon=True
        ).start()

    def _look(self, host: str, port: int) -> None:
        try:
            addresses: list[Address] | None = look_up(host, port)
        except (OSError, UnicodeError):
            addresses = None
        with self._lock:
            waiting = self._asking.pop((host, port))
        for found in waiting:
            found(addresses)


def look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    """(family, address) of a host, families in turn, at most ADDRESSES_MAX. OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    first = found[0][0] if found else 0
    pairs: list[Address] = [(one[0], one[4]) for one in found]
    same, other = [p for p in pairs if p[0] == first], [p for p in pairs if p[0] != first]
    mixed = [p for both in zip(same, other, strict=False) for p in both]
    return [*mixed, *same[len(other) :], *other[len(same) :]][:ADDRESSES_MAX]


# ---------------------------------------------------------------- the dial


class Dial:
    """One attempt to get a connection. `start`, then `ready` and `tick` until `link` is there or
    DialError is raised.

    base: https://host:port. proxy: http://[user:password@]host:port. wake: called by the resolver's
    thread.
    """

    def __init__(self, base: str, proxy: str | None, context: ssl.SSLContext, ends: float) -> None:
        parts = urlsplit(base)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.ends = ends
        self.link: Link | None = None
        self._context = context
        self._proxy = urlsplit(proxy) if proxy else None
        self._name = proxy_name(proxy) if proxy else ""
        near = self._proxy or parts
        self._near = (near.hostname or "", near.port or (80 if self._proxy else 443))
        self._addresses: deque[Address] = deque()
        self._resolved: list[list[Address] | None] = []  # by the resolver
        self._trying: list[socket.socket] = []
        self._next_at, self._error = inf, ""
        self._sock: socket.socket | None = None
        self._tls: Link | None = None
        self._head: bytearray | None = None  # of the proxy's answer

    def start(
        self, resolver: Resolver, poller: Poller, wake: Callable[[], None], now: float
    ) -> None:
        try:
            self._addresses += look_up(*self._near, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):

            def found(addresses: list[Address] | None) -> None:
                self._resolved.append(addresses)
                wake()

            resolver.ask(*self._near, found)
            return
        self._try_next(poller, now)

    def due(self) -> float:
        """The time of `tick`'s next work."""
        return min(self.ends, self._next_at)

    def resolving(self) -> bool:
        return bool(self._resolved)

    def tick(self, poller: Poller, now: float) -> None:
        """By the clock, and when the resolver has spoken. DialError."""
        if self._resolved:
            addresses = self._resolved.pop()
            if not addresses:
                raise DialError(self._about("the name can't be resolved"))
            self._addresses += addresses
            self._try_next(poller, now)
        elif now >= self._next_at:
            self._try_next(poller, now)
        if now >= self.ends:
            raise DialError(self._about("no connection in time"), "timeout")

    def _about(self, words: str) -> str:
        """The message, with the proxy's name where the proxy failed, never its password."""
        return words if self._proxy is None or self._tls is not None else f"{self._name}: {words}"

    def _try_next(self, poller: Poller, now: float) -> None:
        """Begins with the next address beside those that are being tried."""
        self._next_at = inf
        while self._addresses:
            family, address = self._addresses.popleft()
            try:
                sock = self._begin(family, address)
            except OSError as error:
                self._error = _words(error)
                continue
            self._trying.append(sock)
            poller.watch(sock, OUT)
            if self._addresses:
                self._next_at = now + NEXT_ADDRESS_S
            return
        if not self._trying:
            raise DialError(self._about(self._error or "no address"))

    @staticmethod
    def _begin(family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
                ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
            ):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            sock.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            raise
        return sock

    def ready(self, sock: socket.socket, poller: Poller, now: float) -> None:
        """One of our sockets can be read or written. DialError."""
        if self._sock is None:
            self._connected(sock, poller, now)
            return
        try:
            if self._tls is None:
                self._tunnel(sock, poller)
            else:
                self._tls.feed()
                self._shake(poller)
        except ssl.SSLCertVerificationError:
            raise DialError("the server's certificate is not to be trusted") from None
        except BlockingIOError:
            pass
        except OSError as error:
            raise DialError(self._about(_words(error))) from None

    def _connected(self, sock: socket.socket, poller: Poller, now: float) -> None:
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._trying.remove(sock)
        if failed:
            self._error = _words(OSError(failed, ""))
            poller.forget(sock)
            sock.close()
            self._try_next(poller, now)
            return
        for other in self._trying:
            poller.forget(other)
            other.close()
        self._trying.clear()
        self._addresses.clear()
        self._sock, self._next_at = sock, inf
        poller.watch(sock, IN)
        try:
            if self._proxy is not None:
                sock.send(self._connect_request())  # a fresh socket takes a few hundred octets
                self._head = bytearray()
            else:
                self._secure(poller)
        except OSError as error:
            raise DialError(self._about(_words(error))) from None

    def _connect_request(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {host}:{self.port} HTTP/1.1", f"Host: {host}:{self.port}"]
        if self._proxy is not None and self._proxy.username is not None:
            pair = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
            lines.append("Proxy-Authorization: Basic " + base64.b64encode(pair.encode()).decode())
        return "\r\n".join([*lines, "", ""]).encode()

    def _tunnel(self, sock: socket.socket, poller: Poller) -> None:
        """The proxy's answer, octet by octet at its end: what follows belongs to TLS."""
        if self._head is None:
            return
        seen = sock.recv(PROXY_HEAD_BYTES_MAX, socket.MSG_PEEK)
        if not seen:
            raise DialError(self._about("it ended the connection"))
        end = (bytes(self._head[-3:]) + seen).find(b"\r\n\r\n")
        take = len(seen) if end < 0 else end + 4 - len(self._head[-3:])
        self._head += sock.recv(take)
        if len(self._head) > PROXY_HEAD_BYTES_MAX:
            raise DialError(self._about("its answer has no end"))
        if end < 0:
            return
        status = bytes(self._head[9:12])
        if not self._head.startswith(b"HTTP/1.") or not status.isdigit():
            raise DialError(self._about("it does not speak HTTP"))
        if status[:1] == b"1":
            self._head.clear()
            return
        if status[:1] != b"2":
            raise DialError(self._about(proxy_refusal(int(status))))
        self._head = None
        self._secure(poller)

    def _secure(self, poller: Poller) -> None:
        if self._sock is not None:
            self._tls = Link(self._sock, self._context, self.host)
            self._shake(poller)

    def _shake(self, poller: Poller) -> None:
        tls = self._tls
        if tls is None or self._sock is None:
            return
        done = tls.handshake()
        poller.watch(self._sock, IN if tls.flush() else IN | OUT)
        if done:
            if tls.tls.selected_alpn_protocol() != "h2":
                raise DialError(NO_HTTP2)
            self.link = tls

    def close(self, poller: Poller) -> None:
        """Gives up; a link that was made is the owner's."""
        if self.link is None:
            for sock in (*self._trying, *([self._sock] if self._sock else [])):
                poller.forget(sock)
                sock.close()
        self._trying.clear()


def _words(error: OSError) -> str:
    """An error message without addresses: OpenSSL's reason, or the system's text."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
