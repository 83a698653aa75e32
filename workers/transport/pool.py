"""One libcurl multi handle with the requests of one credential that run on it or wait for it.

Only the loop's thread uses it. A request is never begun twice on libcurl's report: libcurl replays
a POST by itself when a reused connection dies before the first byte of an answer, though the vendor
may have read it (measured: one in thirty of a lost connection). Our callbacks stop every second
begin; requests that are proven unprocessed (REFUSED_STREAM, streams above a GOAWAY's last id: the
only replays that leave no error text behind) are begun again by `Pool._finish`, everything else is
a reset. The conformance tests pin the libcurl behaviour that this relies on; where it changes,
replays become resets, never doubles.
"""

from __future__ import annotations

import os
import select
import selectors
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

import pycurl

from workers.transport.easy import EasyMaker, failure, through
from workers.transport.exchange import BODY_BYTES_READ_MAX, NO_HTTP2, SendBatch, read_head
from workers.wire import ClientIdentity, HttpResponse, NoAnswer, Request, Route

if TYPE_CHECKING:
    from workers.transport.loop import Loop

#: Handles that wait inside libcurl for a stream. It looks at each of them after every answer, so
#: few; the rest waits in our queue.
WAITING_MAX = 256
#: Seconds that requests wait for a stream before the pool gets one more connection.
GROW_AFTER_S = 0.1
#: Times that a request which the server provably did not process is begun again.
REPLAYS_MAX = 3
#: A new connection to a server that allows more streams than this gets one request first, and the
#: rest after its answer: APNs allows one stream until it has accepted a token. Servers that have
#: not spoken yet are to take 100 (RFC 9113 §6.5.2).
STREAMS_UNASKED = 100
#: ... or this many seconds after its write without an answer.
FIRST_ANSWER_S = 0.5
#: Seconds for which requests listen to what a connection agrees on, after one that did not was
#: about to open it. An older connection's answer does not end them: it would find the next request
#: deaf again.
LISTEN_S = 1.0
#: Easy handles kept ready per pool.
SPARE_MAX = 1000
#: Connections of a pool whose last answer's time is remembered.
HEARD_MAX = 64

#: libcurl's texts when our callbacks stopped a replay and no error came before: a refused stream.
#: Anything else: a lost connection.
_STOPPED_REPLAY = ("operation aborted by pre-request callback", "Error 42 resolving ")
#: The poll event of a socket whose peer has closed; 0 where the system has none.
_ENDED = getattr(select, "POLLRDHUP", 0)
_OK: int = pycurl.PREREQFUNC_OK
_ABORT: int = pycurl.PREREQFUNC_ABORT
_NO_SOCKET: int = pycurl.SOCKOPT_ERROR
#: The key of a pool: the lane's name for it, HTTP/2 or 1.1, the client certificate, the proxy.
Key = tuple[str, bool, ClientIdentity | None, str | None]


class Job:
    """One request. started: a connection has it, so it may have been read."""

    __slots__ = (
        "batch",
        "body",
        "index",
        "key",
        "lines",
        "method",
        "replays",
        "started",
        "started_at",
        "url",
    )

    def __init__(
        self, batch: SendBatch, index: int, key: Key, url: str, request: Request, lines: list[str]
    ) -> None:
        self.batch, self.index, self.key, self.url, self.lines = batch, index, key, url, lines
        self.method, self.body = request.method, request.body
        self.started, self.started_at, self.replays = False, 0.0, 0


def header_lines(request: Request, http2: bool) -> list[str]:
    """The headers in libcurl's form: an empty value is `name;`, `name:` removes libcurl's own."""
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in request.headers.items()]
    if "content-type" not in request.headers:
        lines.append("Content-Type:")
    if not http2:
        lines.append("Expect:")
    return lines


def inode(fd: int) -> int | None:
    """Of the open file behind a descriptor; None where it is closed."""
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


class Slot:
    """One easy handle with its buffers, used for many requests of its pool, one after the other."""

    __slots__ = (
        "blind",
        "body_bytes_max",
        "chunks",
        "easy",
        "job",
        "kept",
        "lines",
        "listens",
        "pool",
        "reuses",
        "sent_lines",
    )

    def __init__(self, pool: CurlPool, easy: Any, body_bytes_max: int) -> None:
        self.pool, self.easy, self.body_bytes_max = pool, easy, body_bytes_max
        self.job: Job | None = None
        self.lines: list[bytes] = []  # of the answer's head
        self.chunks: list[bytes] = []
        self.kept = 0
        self.reuses = True
        self.listens = self.blind = (
            False  # blind: it was about to open a connection without listening to what is agreed on
        )
        self.sent_lines: list[str] = []  # of the last request: equal ones are not set again
        easy.slot = self
        easy.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        easy.setopt(pycurl.WRITEFUNCTION, self.write)
        easy.setopt(pycurl.PREREQFUNCTION, self.begin)
        easy.setopt(pycurl.SOCKOPTFUNCTION, self.open)
        if pool.http2:
            easy.setopt(pycurl.RESOLVER_START_FUNCTION, self.resolve)
            easy.setopt(pycurl.DEBUGFUNCTION, self.hear)

    def load(self, job: Job, timeout_ms: int) -> None:
        """pycurl.error or UnicodeError for what libcurl does not take."""
        easy = self.easy
        self.job = job
        easy.setopt(pycurl.URL, job.url)
        if job.lines != self.sent_lines:
            easy.setopt(pycurl.HTTPHEADER, job.lines)
            self.sent_lines = job.lines
        if job.method == "POST":
            easy.setopt(pycurl.POSTFIELDS, job.body)
        elif job.body:
            easy.setopt(pycurl.POSTFIELDS, job.body)
            easy.setopt(pycurl.CUSTOMREQUEST, job.method)
        else:
            easy.setopt(pycurl.HTTPGET, 1)
            easy.setopt(pycurl.CUSTOMREQUEST, job.method)
        easy.setopt(pycurl.TIMEOUT_MS, timeout_ms)

    def reuse(self, wanted: bool) -> None:
        """May this request go on a connection that exists?"""
        if self.reuses != wanted:
            self.reuses = wanted
            self.easy.setopt(pycurl.FRESH_CONNECT, 0 if wanted else 1)

    def listen(self, wanted: bool) -> None:
        """Turns libcurl's debug messages on or off.

        They cost a third more per request, so only requests that may open a connection use them.
        """
        if self.listens != wanted:
            self.listens = wanted
            self.easy.setopt(pycurl.VERBOSE, 1 if wanted else 0)

    def begin(self, *_: object) -> int:
        """libcurl is about to write the request. A second time is a replay: see the head of this
        file.
        """
        job, pool = self.job, self.pool
        if job is None or job.started or not pool.agreed:
            return _ABORT
        job.started, job.started_at = True, pool.loop.now
        pool.waiting -= 1
        pool.begun = True
        if pool.first_by != inf:
            pool.first_by = min(pool.first_by, job.started_at + FIRST_ANSWER_S)
        return _ABORT if job.batch.told else _OK

    def resolve(self, *_: object) -> int:
        """Called before libcurl resolves the host of a new connection; never for a replay."""
        if self.job is None or self.job.started:
            return _ABORT
        self.blind = not self.listens
        return _ABORT if self.blind else _OK

    def open(self, fd: int, _purpose: int) -> int:
        """libcurl has made a socket. For a replay over HTTP/2 it gets none: a connection that
        succeeds would wipe the error text out.
        """
        self.pool.sockets[fd] = os.fstat(fd).st_ino
        if not self.pool.http2:
            return _OK
        if self.job is None or self.job.started:
            return _NO_SOCKET
        self.blind = not self.listens
        if self.blind:
            return _NO_SOCKET
        # bounds can't be changed from inside libcurl's own call: `work` does
        self.pool.fresh = True
        return _OK

    def hear(self, kind: int, text: bytes) -> None:
        """Reads libcurl's debug messages for the agreed protocol, before `begin`.

        libcurl writes HTTP/2 to a server that agreed on nothing.
        """
        if kind == pycurl.INFOTYPE_TEXT and text.startswith(b"ALPN: server "):
            self.pool.agreed = text.startswith(b"ALPN: server accepted h2")

    def write(self, chunk: bytes) -> int | None:
        """Keeps the first body_bytes_max bytes; the rest is dropped, up to a bound of its own."""
        room = self.body_bytes_max - self.kept
        self.kept += len(chunk)
        if room > 0:
            self.chunks.append(chunk[:room])
        return -1 if self.kept > max(BODY_BYTES_READ_MAX, self.body_bytes_max) else None

    def cut(self) -> bool:
        return self.kept > self.body_bytes_max

    def clear(self) -> None:
        self.job, self.kept = None, 0
        self.lines.clear()
        self.chunks.clear()


class CurlPool:
    """The connections of one credential: a multi handle, its requests, and the waiting ones.

    waiting: jobs inside libcurl that have no connection yet. heard: connection id -> time of its
    last answer. sockets: file descriptor -> inode of each connection; libcurl also asks us to
    watch its resolver's descriptors, and any descriptor's number may be another file's later.
    """

    def __init__(self, loop: Loop, key: Key, make: EasyMaker) -> None:
        self.loop, self.key, self.make = loop, key, make
        self.name, self.http2, self.identity, self.proxy = key
        self.queue: deque[Job] = deque()
        self.running: set[Slot] = set()
        self.spare: list[Slot] = []
        self.waiting = 0
        self.connections = self.connections_max = self.streams_max = 0
        self.streams = 0  # allowed now on one connection
        self.fresh = False  # a connection was opened since the last look
        self.first_by = inf  # when a first answer is no longer waited for
        self.begun = False  # a request has got a stream since the last sweep
        self.grew_at = self.used_at = time.monotonic()
        self.heard: dict[int, float] = {}
        self.due = inf
        self.retired = False
        self.agreed = True  # on HTTP/2, by the server of the last connection
        self.listen_until = inf if self.http2 else 0.0  # or until a new connection has answered
        self.idle_fds: set[int] = set()
        self.sockets: dict[int, int] = {}
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(
            pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX if self.http2 else pycurl.PIPE_NOTHING
        )
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._timer)

    # ---- libcurl's wishes

    def _watch(self, what: int, fd: int, _multi: object, _data: object) -> None:
        selector = self.loop.selector
        if what == pycurl.POLL_REMOVE:
            try:
                selector.unregister(fd)
            except KeyError:
                pass
            if fd in self.sockets:
                self.idle_fds.add(fd)  # kept alive by libcurl, or about to be closed
            return
        self.idle_fds.discard(fd)
        mask = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        try:
            selector.modify(fd, mask, self)
        except KeyError:
            selector.register(fd, mask, self)

    def _timer(self, timeout_ms: int) -> None:
        self.due = inf if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        self.loop.active.add(self)

    def ready(self, fd: int, mask: int) -> None:
        bits = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
            pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
        )
        self.multi.socket_action(fd, bits)

    # ---- work

    def take(self, job: Job) -> None:
        self.queue.append(job)
        self.loop.active.add(self)

    def shape(self, route: Route | CurlPool) -> None:
        """The bounds of this route, or of another pool, from now on."""
        self.connections_max = max(route.connections_max, 1)
        self.streams_max = max(route.streams_max, 1)
        if self.first_by == inf:
            self._permit(self.streams_max)

    def _permit(self, streams: int) -> None:
        if streams != self.streams:
            self.streams = streams
            self.multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, streams)

    def work(self, now: float) -> None:
        """Begins the possible requests, runs libcurl, takes the finished ones."""
        while True:
            begun = self._feed(now) if self.queue else False
            if begun or self.due <= now:
                self.due = inf
                self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            if self.fresh:
                self._meet(now)
            self._reap()
            if not self.queue or not self._room():
                return

    def _feed(self, now: float) -> bool:
        """True when something was begun."""
        self.used_at = now
        wanted = (
            -(-(len(self.queue) + len(self.running)) // self.streams_max)
            if self.http2
            else self.connections_max
        )
        self._allow(max(wanted, self.connections))
        ended = bool(self.idle_fds) and self._idle_ended()
        if ended and self.http2 and not self.running:
            self.loop.retire(self)
            return False
        before = len(self.running)
        while self.queue and self._room():
            self._start(self.queue.popleft(), now, ended and not self.http2)
        return len(self.running) > before

    def _idle_ended(self) -> bool:
        """True when the server has ended an idle connection. libcurl looks once a second only and
        would write into it.

        HTTP/1.1: anything to read is an end. HTTP/2: only the end of the stream of bytes is, as
        servers send window updates late.
        """
        poll = select.poll()
        for fd in self.idle_fds:
            poll.register(fd, _ENDED if self.http2 else _ENDED | select.POLLIN)
        found = [fd for fd, _ in poll.poll(0)]
        gone = {fd for fd in found if inode(fd) != self.sockets[fd]}
        self.idle_fds -= gone
        for fd in gone:
            del self.sockets[fd]
        return len(found) > len(gone)

    def _room(self) -> bool:
        most = self.connections_max * (self.streams_max if self.http2 else 1)
        return len(self.running) < most and self.waiting < WAITING_MAX

    def _meet(self, now: float) -> None:
        """One stream for a new connection until it has answered."""
        self.fresh = False
        if self.streams_max > STREAMS_UNASKED:
            self.first_by = now + FIRST_ANSWER_S + self.make.connect_timeout_ms / 1000
            self._permit(1)

    def _met(self) -> None:
        self.first_by = inf
        self._permit(self.streams_max)
        self._kick()

    def _kick(self) -> None:
        """Hands the waiting handles to libcurl again after a bound has changed.

        Otherwise it looks at them only when one ends.
        """
        if not self.waiting:
            return
        jobs = self._waiting()
        self.queue.extendleft(reversed(jobs))

    def _waiting(self) -> list[Job]:
        """Takes the jobs without a connection back out of libcurl."""
        jobs = []
        for slot in [
            slot for slot in self.running if slot.job is not None and not slot.job.started
        ]:
            if slot.job is not None:
                jobs.append(slot.job)
            self._release(slot, keep=slot.job is not None and slot.job.method == "POST")
        return sorted(jobs, key=lambda job: (job.batch.begun, job.index))

    def _allow(self, connections: int) -> None:
        connections = min(connections, self.connections_max)
        if connections != self.connections:
            self.connections = connections
            self.multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)

    def _start(self, job: Job, now: float, fresh: bool = False) -> None:
        left_ms = int((job.batch.ends - now) * 1000)
        if left_ms <= 0:
            took_s = now - job.batch.begun
            self._give(
                job,
                NoAnswer("timeout", job.replays > 0 and job.started, "the deadline passed", took_s),
            )
            return
        slot = (
            self.spare.pop()
            if self.spare
            else Slot(self, self.make(self), self.loop.body_bytes_max)
        )
        try:
            slot.load(job, left_ms)
            slot.reuse(not fresh)
            slot.listen(now < self.listen_until)
            self.multi.add_handle(slot.easy)
        except (pycurl.error, UnicodeError, ValueError, TypeError):
            slot.easy.close()
            words = "libcurl does not take this request"
            self._give(
                job, NoAnswer("refused", False, words, now - job.batch.begun, unsendable=True)
            )
            return
        self.running.add(slot)
        self.waiting += 1

    def _reap(self) -> None:
        while self.running:
            left, done, failed = self.multi.info_read(WAITING_MAX)
            if not done and not failed:
                return
            now = self.used_at = time.monotonic()
            for easy in done:
                self._finish(easy.slot, 0, now)
            for easy, code, _words in failed:
                self._finish(easy.slot, code, now)
            if not left:
                return

    def _finish(self, slot: Slot, code: int, now: float) -> None:
        job = slot.job
        if job is None:  # cannot be: a slot that runs has its job
            return
        if code == 0 or (code == pycurl.E_WRITE_ERROR and slot.cut()):
            self._answered(slot, job, code, now)
        elif slot.blind and not job.started:
            slot.blind, self.listen_until = False, now + LISTEN_S
            self._release(slot, keep=False)
            self.queue.appendleft(job)
            self.loop.active.add(self)
        else:
            self._failed(slot, job, code, now)

    def _answered(self, slot: Slot, job: Job, code: int, now: float) -> None:
        self._hear(slot.easy.getinfo(pycurl.CONN_ID), now)
        status, headers = read_head(slot.lines)
        seconds = now - job.batch.begun
        answer: HttpResponse | NoAnswer = HttpResponse(
            status, headers, b"".join(slot.chunks), seconds
        )
        if not status:  # libcurl takes half a head for a whole one when the connection ends
            answer = NoAnswer("reset", True, "the answer has no complete head", seconds)
        self._release(slot, keep=code == 0 and job.method == "POST")
        self._give(job, answer)

    def _failed(self, slot: Slot, job: Job, code: int, now: float) -> None:
        unprocessed = self._unprocessed(slot, job, code)
        silent = code == pycurl.E_OPERATION_TIMEDOUT and job.started and self._silent(slot, job)
        no_answer = failure(code, job.started, unprocessed, now - job.batch.begun)
        disagreed = not self.agreed and not job.started
        if disagreed:
            no_answer = NoAnswer("refused", False, NO_HTTP2, no_answer.seconds)
        if self.proxy is not None and not job.started:
            no_answer = through(
                self.proxy, no_answer, code, slot.easy.getinfo(pycurl.HTTP_CONNECTCODE)
            )
        self._release(slot, keep=False)
        if unprocessed and job.replays < REPLAYS_MAX:
            job.replays += 1
            job.started = False
            self.loop.pool(job.key, self).take(job)
        else:
            self._give(job, no_answer)
        if disagreed:
            for other in self.withdraw():  # they would meet the same server, one after the other
                self._give(other, NoAnswer("refused", False, NO_HTTP2, now - other.batch.begun))
        if silent or disagreed:
            self.loop.retire(self)

    def _unprocessed(self, slot: Slot, job: Job, code: int) -> bool:
        """True for a stopped replay after a refused stream; a lost connection leaves a text."""
        if not self.http2 or not job.started or slot.lines:
            return False
        return bool(
            code == pycurl.E_ABORTED_BY_CALLBACK and slot.easy.errstr().startswith(_STOPPED_REPLAY)
        )

    def _silent(self, slot: Slot, job: Job) -> bool:
        """True when this request's connection received nothing since it began: a half-open peer."""
        return self.heard.get(slot.easy.getinfo(pycurl.CONN_ID), 0.0) < job.started_at

    def _hear(self, connection: int, now: float) -> None:
        known = connection in self.heard
        self.heard[connection] = now
        if not known:
            self.listen_until = 0.0
            while len(self.heard) > HEARD_MAX:
                del self.heard[min(self.heard, key=self.heard.__getitem__)]
            if self.first_by != inf:
                self._met()

    def _release(self, slot: Slot, keep: bool) -> None:
        self.multi.remove_handle(slot.easy)
        self.running.discard(slot)
        if slot.job is not None and not slot.job.started:
            self.waiting -= 1
        slot.clear()
        if keep and len(self.spare) < SPARE_MAX and not self.retired:
            self.spare.append(slot)
        else:
            slot.easy.close()

    def _give(self, job: Job, answer: HttpResponse | NoAnswer) -> None:
        job.batch.put(job.index, answer)

    # ---- by the clock

    def sweep(self, now: float) -> None:
        """Ends jobs past their deadline; adds a connection when requests wait though others run."""
        if self.queue:
            late = [job for job in self.queue if job.batch.ends <= now]
            if late:
                self.queue = deque(job for job in self.queue if job.batch.ends > now)
                for job in late:
                    answer = NoAnswer(
                        "timeout", False, "the deadline passed", now - job.batch.begun
                    )
                    self._give(job, answer)
        # All wait: a connection is being opened. Not so where some got a stream since the last
        # look: a slow turn sees all of them answered and none begun.
        opens = self.waiting == len(self.running) and not self.begun
        self.begun = False
        if self.first_by <= now:
            self._met()
        elif not self.waiting or opens or self.first_by != inf:
            self.grew_at = now
        elif now - self.grew_at > GROW_AFTER_S and self.connections < self.connections_max:
            self.grew_at = now
            self._allow(self.connections + 1)
            self._kick()

    def idle(self) -> bool:
        return not self.running and not self.queue

    def withdraw(self) -> list[Job]:
        """Takes back every job that no connection has seen, for another pool to do."""
        back = [*self._waiting(), *self.queue]
        self.queue.clear()
        return back

    def close(self, words: str = "the transport was closed") -> None:
        """Fails what still runs and closes the connections."""
        now = time.monotonic()
        for job in self.queue:
            self._give(job, NoAnswer("refused", False, words, now - job.batch.begun))
        self.queue.clear()
        for slot in list(self.running):
            running = slot.job
            self._release(slot, keep=False)
            if running is not None:
                started = running.started
                took_s = now - running.batch.begun
                self._give(
                    running, NoAnswer("reset" if started else "refused", started, words, took_s)
                )
        for slot in self.spare:
            slot.easy.close()
        self.spare.clear()
        self.multi.close()
        self.loop.active.discard(self)
