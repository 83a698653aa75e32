"""libcurl's multi interface on a thread of its own: HTTP/1.1 and HTTP/2. `easy`, `pool` and `loop`
are its parts.

One `Loop` thread per transport polls the sockets of all pools. A pool is one libcurl multi handle,
so that no connection, DNS entry or TLS session is ever shared between two credentials. Callers hand
a batch over and wait; only the loop's thread touches libcurl.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from workers.transport.easy import POOL_IDLE_S, EasyMaker
from workers.transport.exchange import BODY_BYTES_MAX, SendBatch, base_of, fault_of
from workers.transport.loop import CLOSED, Loop
from workers.transport.pool import Job, header_lines
from workers.wire import HttpResponse, NoAnswer, Request, Route

CONNECT_TIMEOUT_S = 5.0
#: Pools kept open in one process; over it the longest idle ones are closed first. Measured: 0.17 MB
#: each where the system has a folder of hashed certificates, 1.5 MB where it has a bundle only.
POOLS_MAX, POOLS_MAX_BUNDLE = 1024, 128

_transports: weakref.WeakSet[CurlTransport] = weakref.WeakSet()
#: Loops of the process we were forked from. Never closed nor freed here: that would write into the
#: parent's connections.
_inherited: list[Loop] = []


def _after_fork() -> None:
    for transport in _transports:
        transport.forget()


os.register_at_fork(after_in_child=_after_fork)


class CurlTransport:
    """The `Transport` of workers/wire.py. Its thread starts with the first send_many; after a fork
    the child starts its own.

    ca_file: certificates trusted besides the system's. pool_idle_s, pools_max: when unused
    connections are closed.
    """

    def __init__(
        self,
        ca_file: Path | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        body_bytes_max: int = BODY_BYTES_MAX,
        pools_max: int | None = None,
        pool_idle_s: float = POOL_IDLE_S,
    ) -> None:
        self._make = EasyMaker(ca_file, connect_timeout_s)
        self._bounds = (
            body_bytes_max,
            pools_max or (POOLS_MAX if self._make.capath else POOLS_MAX_BUNDLE),
            pool_idle_s,
        )
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._closed = False
        _transports.add(self)

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        """One Answer or NoAnswer per request, in order, at the latest deadline_s + 0.5 s from now.

        ValueError when the route has no sound address for an endpoint. A request that can't be
        written (control characters) is NoAnswer `refused`, as one such must not stop the others.
        """
        if not requests:
            return []
        batch = SendBatch(len(requests), deadline_s)
        jobs = self._jobs(route, requests, batch)
        loop = self._running()
        if loop is None:
            return [CLOSED] * len(requests)
        if jobs:
            loop.post((route, jobs))
            # it ended between our look and our post: nobody reads the inbox any more
            if loop.closing and not loop.thread.is_alive():
                for job in jobs:
                    batch.put(job.index, CLOSED)
        return batch.wait(lambda index: any(job.started for job in jobs if job.index == index))

    def _jobs(self, route: Route, requests: Sequence[Request], batch: SendBatch) -> list[Job]:
        jobs: list[Job] = []
        bases = {
            endpoint: base_of(route, endpoint)
            for endpoint in {request.endpoint for request in requests}
        }
        h2 = {
            endpoint: route.http2 and base.startswith("https:") for endpoint, base in bases.items()
        }
        for index, request in enumerate(requests):
            fault = fault_of(request)
            if fault is not None:
                batch.put(index, NoAnswer("refused", False, fault, unsendable=True))
                continue
            http2 = h2[request.endpoint]
            key = (route.pool, http2, route.identity, route.proxy)
            url = bases[request.endpoint] + request.path
            jobs.append(Job(batch, index, key, url, request, header_lines(request, http2)))
        return jobs

    def _running(self) -> Loop | None:
        loop = self._loop
        if loop is not None and not loop.closing:
            return loop
        with self._lock:
            if self._closed:
                return None
            if self._loop is None or self._loop.closing:
                loop = Loop(self._make, *self._bounds)
                loop.thread.start()
                self._loop = loop
            return self._loop

    def renew(self, pool: str) -> None:
        """Later requests use new connections; running ones end where they are."""
        loop = self._loop
        if loop is not None and not loop.closing:
            loop.post(pool)

    def close(self) -> None:
        """Ends the thread; callers that wait get their answers at once. Closing twice is fine."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None and loop.thread is not threading.current_thread():
            loop.stop()
            loop.thread.join(2.0)

    def forget(self) -> None:
        """For a forked child: the parent's loop is not ours; a lost thread may hold its lock."""
        self._lock = threading.Lock()
        if self._loop is not None:
            _inherited.append(self._loop)
        self._loop = None
