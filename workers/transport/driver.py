"""The connections of all HTTP/2 lanes of one process, and one poll for them. Driven by whichever
thread holds the transport's lead.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from collections import deque
from math import inf
from typing import Final
from urllib.parse import urlsplit

from workers.transport.dialer import IN, OUT, Dial, DialError, Link, Resolver
from workers.transport.header_codec import UnsendableError
from workers.transport.http2 import ConnectionFault, Http2Connection, Job, StreamSending, frame
from workers.wire import ClientIdentity, NoAnswer, Route

log = logging.getLogger(__name__)

#: Octets put together before they are encrypted and written: four records.
WRITE_BYTES: Final = 60_000
#: Seconds that requests wait for a stream before their pool gets one more connection.
GROW_AFTER_S: Final = 0.1
#: Dials, growth and held streams are looked at so often while something waits for them.
SWEEP_S: Final = 0.01
#: The longest that a turn waits for the network.
TURN_S: Final = 5.0
#: Seconds for which a pool uses libcurl after its connection raised an unexpected error.
DISTRUST_S: Final = 600.0

#: The key of a pool: the lane's name for it, the address, the client certificate, the proxy.
PoolKey = tuple[str, str, ClientIdentity | None, str | None]


class OpenConnection:
    """An open connection: the link, its protocol, and the need for room to write."""

    __slots__ = ("blocked", "h2", "link", "pool")

    def __init__(self, pool: Http2Pool, link: Link) -> None:
        self.pool, self.link = pool, link
        self.h2 = Http2Connection(
            urlsplit(pool.base).netloc.removesuffix(":443"), pool.streams_max, pool.body_bytes_max
        )
        self.blocked = False


class Http2Pool:
    """The connections of one credential to one address, and the requests that wait for them.

    queue: [sending, next index, end] each, in order; again: single ones to be begun again. waiting:
    the number in both. starved_at: since when requests have waited for a stream.
    """

    __slots__ = (
        "again",
        "base",
        "body_bytes_max",
        "connections_max",
        "context",
        "dials",
        "identity",
        "lines",
        "name",
        "proxy",
        "queue",
        "starved_at",
        "streams_max",
        "used_at",
        "waiting",
    )

    def __init__(self, key: PoolKey, context: ssl.SSLContext, body_bytes_max: int) -> None:
        self.name, self.base, self.identity, self.proxy = key
        self.context, self.body_bytes_max = context, body_bytes_max
        self.connections_max = self.streams_max = 1
        self.queue: deque[list[int | StreamSending]] = deque()
        self.again: deque[Job] = deque()
        self.waiting = 0
        self.lines: list[OpenConnection] = []
        self.dials: list[Dial] = []
        self.starved_at, self.used_at = inf, time.monotonic()

    def busy(self) -> bool:
        return self.waiting > 0 or any(line.h2.streams for line in self.lines)

    def put(self, sending: StreamSending, first: int, end: int) -> None:
        self.queue.append([sending, first, end])
        self.waiting += end - first

    def next(self) -> Job:
        """The next request to be begun. Only while `waiting`."""
        self.waiting -= 1
        if self.again:
            return self.again.popleft()
        span = self.queue[0]
        sending, index, end = span
        if not isinstance(sending, StreamSending) or not isinstance(index, int):
            raise TypeError("a span is (sending, index, end)")
        span[1] = index + 1
        if span[1] == end:
            self.queue.popleft()
        return sending, index

    def alike(self) -> tuple[StreamSending, int, int] | None:
        """(sending, first, end) of the next requests where they have one form. Only while
        `waiting`.
        """
        if self.again:
            return None
        sending, index, end = self.queue[0]
        if (
            isinstance(sending, StreamSending)
            and isinstance(index, int)
            and isinstance(end, int)
            and sending.columns_at(index) is not None
        ):
            return sending, index, end
        return None

    def pass_over(self, count: int) -> None:
        """Removes `count` requests of `alike` that have begun."""
        span = self.queue[0]
        _, index, end = span
        if isinstance(index, int):
            span[1] = index + count
        self.waiting -= count
        if span[1] == end:
            self.queue.popleft()

    def withdraw(self, sending: StreamSending | None = None) -> list[Job]:
        """Takes back what waits, of one call or of all."""
        taken: list[Job] = []
        kept: list[Job] = []
        while self.waiting:
            job = self.next()
            (taken if sending is None or job[0] is sending else kept).append(job)
        self.again.extend(kept)
        self.waiting = len(kept)
        return taken


class SocketPoll:
    """The sockets and their owners; epoll where available, as a thousand may be idle."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = None if self._epoll is not None else select.poll()
        self._masks: dict[int, int] = {}
        self.owners: dict[int, tuple[socket.socket, OpenConnection | Dial | None]] = {}

    def own(self, sock: socket.socket, owner: OpenConnection | Dial | None) -> None:
        self.owners[sock.fileno()] = (sock, owner)

    def watch(self, sock: socket.socket, mask: int) -> None:
        fd = sock.fileno()
        poll = self._epoll or self._poll
        if poll is None or self._masks.get(fd) == mask:
            return
        if fd in self._masks:
            poll.modify(fd, mask)
        else:
            poll.register(fd, mask)
        self._masks[fd] = mask

    def forget(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        poll = self._epoll or self._poll
        if poll is not None and self._masks.pop(fd, None) is not None:
            poll.unregister(fd)
        self.owners.pop(fd, None)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        if self._epoll is not None:
            return self._epoll.poll(seconds)
        return self._poll.poll(seconds * 1000) if self._poll is not None else []

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


class _Watch:
    """A dial's view of the poll: its sockets are its own."""

    def __init__(self, poll: SocketPoll, dial: Dial) -> None:
        self._poll, self._dial = poll, dial

    def watch(self, sock: socket.socket, mask: int) -> None:
        self._poll.own(sock, self._dial)
        self._poll.watch(sock, mask)

    def forget(self, sock: socket.socket) -> None:
        self._poll.forget(sock)


class Driver:
    """All pools of one process. Its methods are called by one thread at a time: who holds the
    transport's lead.
    """

    def __init__(self, pool_idle_s: float, pools_max: int, connect_timeout_s: float) -> None:
        self.pool_idle_s, self.pools_max, self.connect_timeout_s = (
            pool_idle_s,
            pools_max,
            connect_timeout_s,
        )
        self.poll = SocketPoll()
        self.pools: dict[PoolKey, Http2Pool] = {}
        # their pools forgot them; they end after their last answer
        self.leaving: set[OpenConnection] = set()
        self.starving: set[Http2Pool] = set()
        self.sendings: dict[StreamSending, set[Http2Pool]] = {}
        self.distrusted: dict[PoolKey, float] = {}
        self.sweep_at = 0.0
        self.resolver = Resolver()
        self.dial_of: dict[Dial, Http2Pool] = {}
        self._far, self._near = socket.socketpair()
        self._far.setblocking(False)
        self._near.setblocking(False)
        self.poll.own(self._far, None)
        self.poll.watch(self._far, IN)

    def wake(self) -> None:
        """Called by any thread: the driving one looks at its inbox."""
        try:
            self._near.send(b"x")
        except OSError:  # full: it is awake; closed: it has ended
            pass

    # ---- work

    def turn(self, until: float) -> None:
        """Waits for the network, at most until then, and does what is due."""
        now = time.monotonic()
        ends = min((sending.ends for sending in self.sendings), default=inf)
        patience = min(until, ends, self.sweep_at if self.starving or self.dial_of else inf) - now
        events = self.poll.wait(min(max(patience, 0.0), TURN_S))
        now = time.monotonic()
        for fd, mask in events:
            sock, owner = self.poll.owners.get(fd, (None, None))
            if isinstance(owner, OpenConnection):
                self._line_ready(owner, mask, now)
            elif isinstance(owner, Dial) and sock is not None:
                self._dial_ready(owner, sock, now)
            elif sock is self._far:
                self._far.recv(4096)
        if (self.starving or self.dial_of) and now >= self.sweep_at:
            self._sweep(now)
        if now >= ends:
            self._expire(now)

    def take(
        self,
        key: PoolKey,
        route: Route,
        context: ssl.SSLContext,
        body_bytes_max: int,
        sending: StreamSending,
        first: int,
        end: int,
    ) -> None:
        """Requests first to end of a call, for a pool that is made when there is none."""
        pool = self.pools.get(key)
        if pool is None:
            if len(self.pools) >= self.pools_max:
                self._close_idle(1)
            pool = self.pools[key] = Http2Pool(key, context, body_bytes_max)
        pool.connections_max, pool.streams_max = (
            max(route.connections_max, 1),
            max(route.streams_max, 1),
        )
        if not pool.waiting:
            # of a call that is long over: its time would be counted as this one's
            for dial in list(pool.dials):
                self._drop_dial(dial)
        pool.put(sending, first, end)
        self.sendings.setdefault(sending, set()).add(pool)

    def work(self, pool: Http2Pool, now: float) -> None:
        """Begins the possible requests; opens a connection where one is missing."""
        pool.used_at = now
        if pool.waiting:
            for line in list(pool.lines):
                if line in pool.lines and not line.blocked:
                    self._fill(line, now)
                if not pool.waiting:
                    break
        if pool.waiting:
            self.starving.add(pool)
            pool.starved_at = min(pool.starved_at, now)
            self._grow(pool, now)
        else:
            self.starving.discard(pool)
            pool.starved_at = inf

    def _fill(self, line: OpenConnection, now: float) -> None:
        h2, pool = line.h2, line.pool
        if not h2.streams:
            h2.streams_max = pool.streams_max
            self._read(line, now)  # what came while nobody looked: an end, a GOAWAY, a PING
            if h2.draining:
                return
        room = h2.room(now)
        size = 0
        while room > 0 and pool.waiting:
            begun, octets = self._begun(h2, pool, room, WRITE_BYTES - size, now)
            room -= begun
            size += octets
            if size > WRITE_BYTES:
                if not self._write(line, now):
                    return
                size = 0
                room = h2.room(now)
            elif not room:
                room = h2.room(now)
        if h2.has_out() and not self._write(line, now):
            return
        if h2.draining:  # its stream ids have run out
            self._leave(line, now)

    @staticmethod
    def _begun(
        h2: Http2Connection, pool: Http2Pool, room: int, octets_max: int, now: float
    ) -> tuple[int, int]:
        """Begins the next requests: those of one form together, else one.

        Returns their number and octets.
        """
        alike = pool.alike()
        if alike is not None and alike[0].ends > now:
            sending, first, end = alike
            count, octets = h2.begin_alike(sending, first, min(end, first + room), octets_max, now)
            if count:
                pool.pass_over(count)
                return count, octets
        sending, index = pool.next()
        if sending.answers[index] is not None:
            return 0, 0
        if sending.ends <= now:  # nobody waits for it; not written, it may go again
            sending.fail(index, "timeout", False, "the deadline passed", now)
            return 0, 0
        try:
            return 1, h2.begin(sending, index, sending.requests[index], now)
        except UnsendableError as error:
            sending.put(
                index, NoAnswer("refused", False, str(error), now - sending.begun, unsendable=True)
            )
            return 0, 0

    def _grow(self, pool: Http2Pool, now: float) -> None:
        """Opens the connections that the lane's streams need; one more after each wait."""
        there = len(pool.lines) + len(pool.dials)
        running = sum(len(line.h2.streams) for line in pool.lines)
        wanted = min(-(-(pool.waiting + running) // pool.streams_max), pool.connections_max)
        if pool.dials or not all(line.h2.full() for line in pool.lines):
            pool.starved_at = now
        elif there and now - pool.starved_at > GROW_AFTER_S:
            wanted = min(max(wanted, there + 1), pool.connections_max)
            pool.starved_at = now
        for _ in range(wanted - there):
            if pool.waiting:  # a dial that fails at once has ended them all
                self._dial(pool, now)

    # ---- lines

    def _write(self, line: OpenConnection, now: float) -> bool:
        """Writes the protocol's output.

        False: part of it was not taken, or the connection is gone.
        """
        try:
            done = line.link.write(line.h2.take_out())
        except OSError as error:
            self._read(line, now)  # a GOAWAY may stand before the end
            self._lose(line, "the connection was lost: " + type(error).__name__, now)
            return False
        line.h2.sent = line.link.sent
        if not done:
            line.blocked = True
            self.poll.watch(line.link.sock, IN | OUT)
        return done

    def _line_ready(self, line: OpenConnection, mask: int, now: float) -> None:
        if line.blocked and mask & ~IN:
            try:
                line.blocked = not line.link.flush()
            except OSError:
                pass  # read tells
            line.h2.sent = line.link.sent
            if not line.blocked:
                self.poll.watch(line.link.sock, IN)
        if mask & ~OUT:
            self._read(line, now)
        h2, pool = line.h2, line.pool
        if h2.draining:
            self._leave(line, now)
        elif not line.blocked and pool.waiting:
            self._fill(line, now)
        if h2.has_out() and not line.blocked and line.link.sock.fileno() >= 0:
            self._write(line, now)
        if pool.waiting or pool in self.starving:
            self.work(pool, now)

    def _read(self, line: OpenConnection, now: float) -> None:
        """Reads the received data. The connection may be lost after it."""
        h2 = line.h2
        if line.link.sock.fileno() < 0:
            return
        try:
            data = line.link.read()
            if data:
                h2.receive(data, now)
        except ConnectionFault as fault:
            self._refuse(line, fault)
            self._lose(line, fault.words, now)
            return
        except OSError as error:
            self._lose(line, "the connection was lost: " + type(error).__name__, now)
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost more than this connection
            log.error(
                "an HTTP/2 connection failed in our code: %s; its lane goes through libcurl now",
                type(error).__name__,
            )
            pool = line.pool
            self.distrusted[pool.name, pool.base, pool.identity, pool.proxy] = now + DISTRUST_S
            self._lose(line, "our own fault: " + type(error).__name__, now)
            return
        self._collect(line)
        if line.link.ended:
            self._lose(line, "the server ended the connection", now)
        elif h2.draining:
            self._leave(line, now)

    def _collect(self, line: OpenConnection) -> None:
        """Queues requests that the server did not process, before all others."""
        returned, pool = line.h2.returned, line.pool
        if not returned:
            return
        line.h2.returned = []
        pool = self._heir(pool)
        pool.again.extendleft(reversed(returned))
        pool.waiting += len(returned)
        for sending, _ in returned:
            self.sendings.setdefault(sending, set()).add(pool)
        self.starving.add(pool)
        self.sweep_at = 0.0

    def _heir(self, pool: Http2Pool) -> Http2Pool:
        """The current pool of this one's key: it may have been closed as idle and replaced."""
        return self.pools.setdefault((pool.name, pool.base, pool.identity, pool.proxy), pool)

    def _refuse(self, line: OpenConnection, fault: ConnectionFault) -> None:
        """Sends the fault's code to the peer, if the connection is still open."""
        try:
            line.link.write(frame(7, 0, 0, (0).to_bytes(4) + fault.code.to_bytes(4)))
        except OSError:
            pass

    def _leave(self, line: OpenConnection, now: float) -> None:
        """Removes a connection from its pool: it ends after its last answer."""
        if line in line.pool.lines:
            line.pool.lines.remove(line)
            self.leaving.add(line)
        if not line.h2.streams:
            self._lose(line, "", now)

    def _lose(self, line: OpenConnection, words: str, now: float) -> None:
        """Ends a connection, and what ran on it."""
        if line in line.pool.lines:
            line.pool.lines.remove(line)
        self.leaving.discard(line)
        if line.link.sock.fileno() >= 0:
            line.h2.sent = line.link.sent
            self.poll.forget(line.link.sock)
            line.link.close()
        line.h2.lose(words, now)
        self._collect(line)

    # ---- dials

    def _dial(self, pool: Http2Pool, now: float) -> None:
        dial = Dial(pool.base, pool.proxy, pool.context, now + self.connect_timeout_s)
        pool.dials.append(dial)
        self.dial_of[dial] = pool
        self.starving.add(pool)
        try:
            dial.start(self.resolver, _Watch(self.poll, dial), self.wake, now)
        except DialError as error:
            self._dial_failed(dial, error, now)

    def _dial_ready(self, dial: Dial, sock: socket.socket, now: float) -> None:
        try:
            dial.ready(sock, _Watch(self.poll, dial), now)
        except DialError as error:
            self._dial_failed(dial, error, now)
        else:
            if dial.link is not None:
                self._arrived(dial, dial.link, now)

    def _arrived(self, dial: Dial, link: Link, now: float) -> None:
        pool = self.dial_of[dial]
        self._drop_dial(dial)
        line = OpenConnection(pool, link)
        pool.lines.append(line)
        self.poll.own(link.sock, line)
        self.poll.watch(link.sock, IN)
        self.work(pool, now)

    def _drop_dial(self, dial: Dial) -> None:
        pool = self.dial_of.pop(dial, None)
        if pool is not None:
            pool.dials.remove(dial)
            dial.close(_Watch(self.poll, dial))

    def _dial_failed(self, dial: Dial, error: DialError, now: float) -> None:
        """Fails the waiting requests after a pool's last dial; else other connections go on."""
        pool = self.dial_of[dial]
        self._drop_dial(dial)
        if pool.lines or pool.dials:
            pool.starved_at = now
            return
        for sending, index in pool.withdraw():
            sending.fail(index, error.reason, False, error.words, now)
        self.starving.discard(pool)

    # ---- by the clock

    def _sweep(self, now: float) -> None:
        self.sweep_at = now + SWEEP_S
        for dial in [dial for dial in self.dial_of if dial.resolving() or dial.due() <= now]:
            try:
                dial.tick(_Watch(self.poll, dial), now)
            except DialError as error:
                self._dial_failed(dial, error, now)
        for pool in list(self.starving):
            self.work(pool, now)

    def _expire(self, now: float) -> None:
        """Ends every call whose deadline has passed."""
        for sending in [one for one in self.sendings if one.ends <= now]:
            for pool in self.sendings.pop(sending):
                for _, index in pool.withdraw(sending):
                    sending.fail(index, "timeout", False, "the deadline passed", now)
                if not pool.waiting:
                    for dial in list(pool.dials):
                        self._drop_dial(dial)
            for line in [
                *self.leaving,
                *(line for pool in self.pools.values() for line in pool.lines),
            ]:
                self._expire_on(line, sending, now)

    def _expire_on(self, line: OpenConnection, sending: StreamSending, now: float) -> None:
        line.h2.sent = line.link.sent
        try:
            clean = line.h2.expire(sending, now)
        except ConnectionFault:
            clean = False
        if not clean:
            self._lose(line, "the server does not read", now)
            return
        if line.h2.has_out() and not line.blocked and not self._write(line, now):
            return
        if line.h2.draining:
            self._leave(line, now)

    def done(self, sending: StreamSending) -> None:
        self.sendings.pop(sending, None)

    def keep(self) -> None:
        """One round of the keeper: reads unused connections and closes idle pools."""
        self.turn(0.0)
        self._close_idle(0)

    def _close_idle(self, room: int) -> None:
        now = time.monotonic()
        idle = sorted(
            (pool for pool in self.pools.values() if not pool.busy()), key=lambda pool: pool.used_at
        )
        surplus = len(self.pools) + room - self.pools_max
        for place, pool in enumerate(idle):
            if place < surplus or now - pool.used_at > self.pool_idle_s:
                self._forget(pool, now)

    def _forget(self, pool: Http2Pool, now: float) -> None:
        self.pools.pop((pool.name, pool.base, pool.identity, pool.proxy), None)
        self.starving.discard(pool)
        for dial in list(pool.dials):
            self._drop_dial(dial)
        for line in list(pool.lines):
            self._leave(line, now)

    def renew(self, name: str) -> None:
        """The pool's connections take nothing new."""
        now = time.monotonic()
        for pool in [pool for pool in self.pools.values() if pool.name == name]:
            for dial in list(pool.dials):
                self._drop_dial(dial)
            for line in list(pool.lines):
                line.h2.draining = True
                self._leave(line, now)
            if pool.waiting:
                self.work(pool, now)

    def close(self) -> None:
        """Every caller gets its answers, every connection is closed."""
        now = time.monotonic()
        for pool in list(self.pools.values()):
            for sending, index in pool.withdraw():
                sending.fail(index, "refused", False, "the transport was closed", now)
        for line in [*self.leaving, *(line for pool in self.pools.values() for line in pool.lines)]:
            self._lose(line, "the transport was closed", now)
        for pool in list(self.pools.values()):
            for sending, index in pool.withdraw():
                sending.fail(index, "reset", False, "the transport was closed", now)
            self._forget(pool, now)
        for sending in self.sendings:
            for index in range(len(sending.requests)):
                sending.fail(index, "refused", False, "the transport was closed", now)
        self.sendings.clear()
        self.poll.close()
        self._near.close()
        self._far.close()
