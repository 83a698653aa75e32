"""A simulator's port: TCP, TLS that takes any client certificate, and HTTP/1.1 or HTTP/2 by what
the client speaks.

TLS goes through pyOpenSSL's memory buffers, because `ssl` can ask for a client certificate only
where it can also check its chain, and a simulator is to see certificates whose issuer it never
heard of. The same port takes plain text too.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from simulators.misbehave import Shares, shares_of
from simulators.simulator import Simulator

_IDS = itertools.count(1)
RECORD_BYTES = 16384  # a TLS record's most
TLS_HANDSHAKE = 0x16  # the first byte of every TLS connection
BACKLOG = 1024
# how long a finished connection is still read, so that its last answers aren't lost to a TCP reset
LINGER_S = 1.0
IDLE_S_MAX = 120.0  # how long a silent HTTP/1.1 connection is kept
WATCH_S = 0.25  # how soon a switch that was thrown in-process, not through the door, is seen
DOWN_AFTER_S = 0.05  # the answer to the call that switched the vendor off gets out first


@dataclass(frozen=True, slots=True)
class Manners:
    """The properties of a vendor's port. max_streams: SETTINGS_MAX_CONCURRENT_STREAMS.

    certificates: clients are asked for one. http2_only: a call over HTTP/1.1 gets 505 (the side
    door is answered all the same). http1_only: HTTP/2 is neither offered nor read.
    """

    max_streams: int = 1000
    certificates: bool = False
    http2_only: bool = False
    http1_only: bool = False


class Speaker(Protocol):
    """One HTTP connection without its socket."""

    def received(self, data: bytes) -> None: ...
    def taken(self) -> bytes: ...
    def lost(self) -> None: ...
    def faults_changed(self) -> None: ...


Speak = Callable[["Connection"], Speaker]


class Connection(asyncio.Protocol):
    """One TCP connection: takes TLS off and puts it on again, and lets a `Speaker`
    do the talking.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.id = next(_IDS)
        # has asked for nothing but /_sim/…: it outlives `down`, so that who took the vendor down
        # can bring it up
        self.door_only = True
        self.loop = asyncio.get_running_loop()
        self._tls: SSL.Connection | None = None
        self._speaker: Speaker | None = None
        self._begun = self._flush_due = self._seen_certificate = False
        self._listening = True
        self.heard_s = self.loop.time()
        self._certificate: bytes | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.serving.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self.serving.connections.discard(self)
        if self._speaker:
            self._speaker.lost()

    def data_received(self, data: bytes) -> None:
        self.heard_s = self.loop.time()
        if not self._begun:
            self._begun = True
            if data[0] == TLS_HANDSHAKE and self.serving.tls:
                self._tls = SSL.Connection(self.serving.tls, None)
                self._tls.set_accept_state()
        plain = self._decrypted(data) if self._tls else data
        if plain:
            if self._speaker is None:
                # Some APNs clients offer no ALPN and speak HTTP/2 all the same: the first bytes
                # decide, not the handshake.
                http2 = plain.startswith(b"PRI") and not self.serving.manners.http1_only
                self._speaker = (self.serving.speak2 if http2 else self.serving.speak1)(self)
            self._speaker.received(plain)
        self.flush()

    def _decrypted(self, data: bytes) -> bytes:
        assert self._tls
        chunks = []
        try:
            self._tls.bio_write(data)
            while True:
                chunks.append(self._tls.recv(RECORD_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.loop.call_soon(self.close)
        except SSL.Error:
            self._read_ciphertext()  # the alert that says why
            self._transport.close()
        return b"".join(chunks)

    def flush(self) -> None:
        """One write for all output since the last."""
        self._flush_due = False
        if self._transport.is_closing():
            return
        plain = self._speaker.taken() if self._speaker else b""
        if self._tls is None:
            if plain:
                self._transport.write(plain)
            return
        try:
            if plain:
                self._tls.sendall(plain)
        except SSL.Error:
            self._transport.abort()
            return
        self._read_ciphertext()

    def _read_ciphertext(self) -> None:
        assert self._tls
        try:
            while True:
                self._transport.write(self._tls.bio_read(1 << 18))
        except SSL.WantReadError:
            pass

    def wake(self) -> None:
        """Output was added outside `received`: flush once in this turn of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self.flush)

    def listen(self, wanted: bool) -> None:
        """Stops reading, or goes on with it."""
        if wanted != self._listening and not self._transport.is_closing():
            self._listening = wanted
            self._transport.resume_reading() if wanted else self._transport.pause_reading()

    def close(self, after_s: float = 0.0) -> None:
        if after_s:
            self.loop.call_later(after_s, self.close)
            return
        self.flush()
        if self._tls is not None and not self._transport.is_closing():
            try:
                self._tls.shutdown()
                self._read_ciphertext()
            except SSL.Error:
                pass  # half a handshake: there is nothing to say goodbye to
        self._transport.close()

    def abort(self) -> None:
        """A TCP reset."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._transport.abort()

    @property
    def certificate(self) -> bytes | None:
        """The client's certificate, DER."""
        if not self._seen_certificate:
            self._seen_certificate = True
            shown = self._tls.get_peer_certificate(as_cryptography=True) if self._tls else None
            self._certificate = shown.public_bytes(Encoding.DER) if shown else None
        return self._certificate

    def faults_changed(self) -> None:
        if self._speaker:
            self._speaker.faults_changed()
            self.wake()


class Serving:
    """One open port of a simulator. `down` really closes it (connections are refused), unless it is
    the side door's own.
    """

    def __init__(
        self,
        simulator: Simulator,
        speak1: Speak,
        speak2: Speak,
        manners: Manners,
        tls: SSL.Context | None,
        never_down: bool,
    ) -> None:
        self.simulator, self.speak1, self.speak2, self.manners, self.tls = (
            simulator,
            speak1,
            speak2,
            manners,
            tls,
        )
        self.shares: Shares = shares_of(simulator)
        self.connections: set[Connection] = set()
        self.port = 0
        self._never_down, self._down = never_down, False
        self._host = ""
        self._hold: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._going: asyncio.Task[None] | None = None
        self._watching: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> None:
        """OSError when the port is taken."""
        self._host = host
        # A second socket bound to the port and never listening: while the vendor is down the port
        # is not given away.
        self._hold = _bound(host, port)
        self.port = self._hold.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        await self._listen(_bound(host, self.port))
        self.shares.watchers.append(self._faults_changed)
        self._watch()

    def _watch(self) -> None:
        self._obey()
        if self.manners.http1_only:
            for connection in [
                one for one in self.connections if self._loop.time() - one.heard_s > IDLE_S_MAX
            ]:
                connection.close()
        self._watching = self._loop.call_later(WATCH_S, self._watch)

    async def _listen(self, bound: socket.socket) -> None:
        self._server = await self._loop.create_server(
            lambda: Connection(self), sock=bound, backlog=BACKLOG
        )
        if self._down:  # the switch went back while this took its turn
            self._go_down()

    def _faults_changed(self) -> None:
        for connection in list(self.connections):
            connection.faults_changed()
        self._obey()

    def _obey(self) -> None:
        if not self._never_down and self.simulator.faults.down != self._down:
            self._down = self.simulator.faults.down
            self._go_down() if self._down else self._go_up()

    def _go_down(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        self._loop.call_later(DOWN_AFTER_S, self._abort_customers)

    def _abort_customers(self) -> None:
        for connection in [one for one in self.connections if self._down and not one.door_only]:
            connection.abort()

    def _go_up(self) -> None:
        """Listens before the call is answered, so that its caller can connect."""
        bound = _bound(self._host, self.port)
        bound.listen(BACKLOG)
        self._going = self._loop.create_task(self._listen(bound))

    async def close(self) -> None:
        self.shares.watchers.remove(self._faults_changed)
        if self._watching:
            self._watching.cancel()
        if self._going:
            self._going.cancel()
        if self._server:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        if self._hold:
            self._hold.close()
        await asyncio.sleep(0)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def tls_context(certificate: Path, key: Path, manners: Manners) -> SSL.Context:
    """TLS 1.2 and up, ALPN h2 and http/1.1; with `certificates` any client certificate is asked for
    and taken, none too.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(key))
    # without it OpenSSL refuses to resume where a client certificate is asked for
    context.set_session_id(b"pushfleet-simulator")
    no_overlap: Any = SSL.NO_OVERLAPPING_PROTOCOLS  # a mark that pyOpenSSL knows, no bytes

    def select(_connection: SSL.Connection, wanted: list[bytes]) -> Any:
        for offer in (b"http/1.1",) if manners.http1_only else (b"h2", b"http/1.1"):
            if offer in wanted:
                return offer
        return no_overlap

    context.set_alpn_select_callback(select)
    if manners.certificates:
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context
