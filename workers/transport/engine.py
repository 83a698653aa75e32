"""Our own HTTP/2 transport for lanes of one request per push (APNs, FCM).

It uses no thread per transport and no object per request. The calling thread drives all connections
of the process until its own answers are there; of several callers one drives for all, the others
wait. Other requests (HTTP/1.1, plain loopback, a lane whose connection broke our code) go to
`other`, libcurl. Every few seconds a keeper checks unused connections: it answers PINGs, reads
GOAWAYs and ends, closes idle ones.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from workers.transport.dialer import tls_context
from workers.transport.driver import Driver, PoolKey
from workers.transport.exchange import BODY_BYTES_MAX, GRACE_S, base_of
from workers.transport.http2 import StreamSending
from workers.wire import (
    ClientIdentity,
    HttpResponse,
    NoAnswer,
    Request,
    RequestColumns,
    RequestParts,
    ResponseColumns,
    Route,
    Transport,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
#: Seconds after which an unused pool is closed, and the most pools; beyond them the longest idle
#: ones are closed first.
POOL_IDLE_S, POOLS_MAX = 600.0, 1024
#: The keeper's round.
KEEPER_S: Final = 5.0

_CLOSED: Final = "the transport is closed"


@dataclass(slots=True, eq=False)
class Flight:
    """Requests of several lanes on their way. The thread that waits also drives, for itself and for
    all others.

    ends: where each round's answers end in the sending's.
    """

    _transport: Http2Transport
    _sending: StreamSending
    _ends: tuple[int, ...]
    _woken: threading.Event

    def wait(self, patience_s: float = inf) -> bool:
        """Waits for all answers, up to patience_s. True when all are there."""
        return self._transport.drive(
            self, min(time.monotonic() + patience_s, self._sending.ends + GRACE_S)
        )

    @property
    def late(self) -> bool:
        """True when the deadline and the grace after it are over."""
        return time.monotonic() >= self._sending.ends + GRACE_S

    def done(self, number: int) -> bool:
        """Has this round all its answers?"""
        first = self._ends[number - 1] if number else 0
        return None not in self._sending.answers[first : self._ends[number]]

    def answers(self, number: int) -> Sequence[HttpResponse | NoAnswer]:
        """A round's answers; a missing one counts as sent and not answered in time."""
        sending, seconds = self._sending, time.monotonic() - self._sending.begun
        first = self._ends[number - 1] if number else 0
        missing = NoAnswer("timeout", True, "the deadline passed", seconds)
        return ResponseColumns(
            [missing if one is None else one for one in sending.answers[first : self._ends[number]]]
        )

    @property
    def sending(self) -> StreamSending:
        return self._sending

    @property
    def woken(self) -> threading.Event:
        return self._woken


_transports: weakref.WeakSet[Http2Transport] = weakref.WeakSet()
#: Drivers of the process we were forked from: their sockets are the parent's.
_inherited: list[Driver | None] = []


def _after_fork() -> None:
    for transport in _transports:
        transport.forget()


os.register_at_fork(after_in_child=_after_fork)


class Http2Transport:
    """The `Transport` of workers/wire.py over our own HTTP/2. other: for all else; now ours.

    ca_file: certificates trusted besides the system's. pool_idle_s, pools_max: when unused
    connections are closed.
    """

    def __init__(
        self,
        ca_file: Path | None,
        other: Transport,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        body_bytes_max: int = BODY_BYTES_MAX,
        pools_max: int = POOLS_MAX,
        pool_idle_s: float = POOL_IDLE_S,
    ) -> None:
        if ca_file is not None and not ca_file.is_file():
            raise ValueError("the file of additional certificates does not exist")
        self._ca_file, self._other, self._body_bytes_max = ca_file, other, body_bytes_max
        self._bounds = (pool_idle_s, pools_max, connect_timeout_s)
        self._contexts: dict[ClientIdentity | None, ssl.SSLContext | None] = {}
        self._closed = False
        self._fresh()
        _transports.add(self)

    def _fresh(self) -> None:
        self._lead, self._guard = threading.Lock(), threading.Lock()
        self._inbox: deque[
            tuple[Flight, list[tuple[PoolKey, Route, ssl.SSLContext, int, int]]] | str
        ] = deque()
        self._flights: set[Flight] = set()
        self._driver: Driver | None = None
        self._keeper: threading.Thread | None = None
        self._stop = threading.Event()

    def forget(self) -> None:
        """For a forked child: its parent's connections are not ours, nor are the locks."""
        _inherited.append(self._driver)
        self._fresh()

    # ---- the Transport

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        """As Transport.send_many. ValueError when the route has no sound address
        for an endpoint.
        """
        if not requests:
            return []
        if not self.handles(route, requests):
            return self._other.send_many(route, requests, deadline_s)
        flight = self.begin([(route, requests)], deadline_s)
        flight.wait()
        return flight.answers(0)

    def handles(self, route: Route, requests: Sequence[Request]) -> bool:
        """True when these requests can use this transport; else libcurl sends them.

        Raises ValueError as send_many.
        """
        bases = [base_of(route, endpoint) for endpoint in _endpoints(requests)]
        if not route.http2 or not all(base.startswith("https:") for base in bases):
            return False
        if self._context(route.identity) is None:
            return False
        driver = self._driver
        if driver is None or not driver.distrusted:
            return True
        now = time.monotonic()
        keys = [(route.pool, base, route.identity, route.proxy) for base in bases]
        return not any(driver.distrusted.get(key, 0.0) > now for key in keys)

    def begin(self, rounds: Sequence[tuple[Route, Sequence[Request]]], deadline_s: float) -> Flight:
        """Hands over requests of any number of lanes, each of which `handles` is true for. Nothing
        moves before someone waits.
        """
        requests = _in_a_row([part for _, part in rounds if part])
        ends: list[int] = []
        for _, part in rounds:
            ends.append((ends[-1] if ends else 0) + len(part))
        flight = Flight(self, StreamSending(requests, deadline_s), tuple(ends), threading.Event())
        spans: list[tuple[PoolKey, Route, ssl.SSLContext, int, int]] = []
        for (route, part), end in zip(rounds, ends, strict=True):
            spans += self._spans(route, part, end - len(part))
        self._flights.add(flight)
        self._inbox.append((flight, spans))
        return flight

    def _spans(
        self, route: Route, requests: Sequence[Request], first: int
    ) -> list[tuple[PoolKey, Route, ssl.SSLContext, int, int]]:
        """Adjacent requests to one address, as (pool's key, route, context, first, end)."""
        context = self._context(route.identity)
        if context is None:
            raise ValueError("the client certificate can't be loaded")
        spans: list[tuple[PoolKey, Route, ssl.SSLContext, int, int]] = []
        if isinstance(requests, RequestColumns) and _endpoints(requests) == {
            requests.form.endpoint
        }:
            key = (route.pool, base_of(route, requests.form.endpoint), route.identity, route.proxy)
            return [(key, route, context, first, first + len(requests))]
        begun, endpoint = 0, requests[0].endpoint if requests else ""
        for place, request in enumerate([*requests, None]):
            if request is None or request.endpoint != endpoint:
                if place > begun:
                    key = (route.pool, base_of(route, endpoint), route.identity, route.proxy)
                    spans.append((key, route, context, first + begun, first + place))
                begun, endpoint = place, request.endpoint if request else ""
        return spans

    def _context(self, identity: ClientIdentity | None) -> ssl.SSLContext | None:
        """One for all lanes without a certificate, one a certificate. None where the ssl module
        does not take it: libcurl may.
        """
        if identity in self._contexts:
            return self._contexts[identity]
        try:
            context: ssl.SSLContext | None = tls_context(self._ca_file, identity)
        except (OSError, ValueError) as error:
            log.warning("a client certificate goes through libcurl: %s", type(error).__name__)
            context = None
        if len(self._contexts) > self._bounds[1]:
            self._contexts.clear()
        self._contexts[identity] = context
        return context

    # ---- who drives

    def drive(self, flight: Flight, until: float) -> bool:
        """Drives, or waits while another does, until this flight is done or it is that late.

        It looks once at least, or whoever drives does: a process that stood still finds answers
        that came in time.
        """
        sending, looked = flight.sending, False
        while sending.left and (not looked or time.monotonic() < until):
            if self._lead.acquire(blocking=False):
                looked = True
                try:
                    self._drive(sending, until)
                finally:
                    self._lead.release()
                continue
            driver = self._driver
            if driver is not None and self._inbox:
                driver.wake()
            woken = flight.woken.wait(max(until - time.monotonic(), 0.0))
            if not woken and flight.late:  # who drives stood still as well, and reads first
                woken = flight.woken.wait(GRACE_S)
            flight.woken.clear()
            looked = not woken
        if not sending.left or time.monotonic() >= sending.ends + GRACE_S:
            self._flights.discard(flight)
        self._hand_over()
        return not sending.left

    def _hand_over(self) -> None:
        """Some other caller drives from here on, if there is one."""
        for other in list(self._flights):
            if other.sending.left:
                other.woken.set()
                return

    def _drive(self, sending: StreamSending, until: float) -> None:
        driver = self._ready()
        if driver is None:
            return
        try:
            self._open_inbox(driver)
            while sending.left and not self._closed:
                driver.turn(until)
                if self._inbox:
                    self._open_inbox(driver)
                self._tell(driver)
                if time.monotonic() >= until:
                    break
        # Whatever the error was, callers must get their answers, and the next call starts afresh.
        except BaseException as error:
            log.error("the HTTP/2 transport failed: %s", type(error).__name__)
            self._end(driver)
            if not isinstance(error, Exception):  # the process is stopping in the middle of a turn
                raise
        if self._closed:
            self._end(driver)

    def _tell(self, driver: Driver) -> None:
        """Wakes those whose answers are all there."""
        if len(self._flights) > 1:
            for flight in list(self._flights):
                if not flight.sending.left:
                    self._flights.discard(flight)
                    flight.woken.set()
        for done in [one for one in driver.sendings if not one.left]:
            driver.done(done)

    def _ready(self) -> Driver | None:
        """The driver, made at the first call and after a failure. Only with the lead."""
        if self._closed:
            self._refuse_all()
            return None
        if self._driver is None:
            self._driver = Driver(*self._bounds)
        if self._keeper is None:
            self._keeper = threading.Thread(
                target=self._keep, args=(self._stop,), name="transport-keeper", daemon=True
            )
            self._keeper.start()
        return self._driver

    def _open_inbox(self, driver: Driver) -> None:
        now = time.monotonic()
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, str):
                driver.renew(item)
                continue
            flight, spans = item
            if flight.sending.ends <= now:
                for index in range(len(flight.sending.requests)):
                    flight.sending.fail(index, "timeout", False, "the deadline passed", now)
                continue
            pools = []
            for key, route, context, first, end in spans:
                driver.take(key, route, context, self._body_bytes_max, flight.sending, first, end)
                pools.append(driver.pools[key])
            for pool in pools:
                driver.work(pool, now)

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(KEEPER_S if self._bounds[0] >= KEEPER_S else self._bounds[0]):
            if self._driver is None or not self._lead.acquire(blocking=False):
                continue
            try:
                if self._driver is not None and not self._closed:
                    self._open_inbox(self._driver)
                    self._driver.keep()
                    self._tell(self._driver)
            except Exception as error:  # noqa: BLE001 - the keeper must live
                log.error("the HTTP/2 transport's keeper failed: %s", type(error).__name__)
                self._end(self._driver)
            finally:
                self._lead.release()
            self._hand_over()

    def renew(self, pool: str) -> None:
        """Later requests use new connections; running ones end where they are."""
        if self._driver is not None:
            self._inbox.append(pool)
            self._driver.wake()
        self._other.renew(pool)

    def close(self) -> None:
        """Callers that wait get their answers at once; `other` is closed too. Closing twice is
        fine.
        """
        self._closed = True
        self._stop.set()
        driver = self._driver
        if driver is not None:
            driver.wake()
            if self._lead.acquire(timeout=2.0):
                try:
                    self._end(driver)
                finally:
                    self._lead.release()
        self._refuse_all()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(2.0)
        self._other.close()

    def _end(self, driver: Driver | None) -> None:
        """With the lead: closes the driver and answers all callers."""
        if driver is not None and self._driver is driver:
            self._driver = None
            driver.close()
        self._refuse_all()

    def _refuse_all(self) -> None:
        now = time.monotonic()
        while self._inbox:
            item = self._inbox.popleft()
            if not isinstance(item, str):
                for index in range(len(item[0].sending.requests)):
                    item[0].sending.fail(index, "refused", False, _CLOSED, now)
        for flight in list(self._flights):
            flight.woken.set()


def _in_a_row(parts: Sequence[Sequence[Request]]) -> Sequence[Request]:
    """The requests of all parts; columns stay as they are."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, RequestColumns) for part in parts):
        return RequestParts(parts)
    return [request for part in parts for request in part]


def _endpoints(requests: Sequence[Request]) -> set[str]:
    if isinstance(requests, RequestColumns):
        return {requests.form.endpoint, *[request.endpoint for request in requests.odd.values()]}
    return {request.endpoint for request in requests}
