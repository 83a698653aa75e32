"""The thread that owns libcurl: one poll for the sockets of all pools."""

from __future__ import annotations

import logging
import selectors
import socket
import sys
import threading
import time
from collections import deque
from math import inf

import pycurl

from workers.transport.easy import EasyMaker
from workers.transport.pool import CurlPool, Job, Key
from workers.wire import NoAnswer, Route

log = logging.getLogger(__name__)

#: The loop looks at queues, idle pools and growth so often while there is work.
SWEEP_S = 0.05
SWEEP_IDLE_S = 5.0
#: libcurl asks for Python's lock back at every callback, some five times a request, and a thread
#: that computes gives it up only after the switch interval: 5 ms by default. Measured beside one
#: computing thread, 100 in flight: 190-550 requests/s with 5 ms, 11,900 with 0.1 ms.
SWITCH_INTERVAL_S = 0.0001
CLOSED = NoAnswer("refused", False, "the transport is closed")


class Loop:
    """The thread that owns libcurl: reads its inbox, polls all sockets, runs what is due."""

    def __init__(
        self, make: EasyMaker, body_bytes_max: int, pools_max: int, pool_idle_s: float
    ) -> None:
        self.make, self.body_bytes_max, self.pools_max, self.pool_idle_s = (
            make,
            body_bytes_max,
            pools_max,
            pool_idle_s,
        )
        self.selector = selectors.DefaultSelector()
        self.pools: dict[Key, CurlPool] = {}
        self.retiring: list[CurlPool] = []
        self.active: set[CurlPool] = set()
        self.inbox: deque[tuple[Route, list[Job]] | str] = deque()
        self.closing = False
        self._waking = False
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self.selector.register(self._far, selectors.EVENT_READ, None)
        self._sweep_at = 0.0
        self.again = False  # a pool got work while others were worked on
        self.now = time.monotonic()  # of this turn
        self.thread = threading.Thread(target=self.run, name="transport", daemon=True)

    # ---- called by other threads

    def post(self, item: tuple[Route, list[Job]] | str) -> None:
        self.inbox.append(item)
        self.wake()

    def wake(self) -> None:
        if not self._waking:
            self._waking = True
            try:
                self._near.send(b"x")
            except OSError:  # full: it is awake; closed: it has ended
                pass

    def stop(self) -> None:
        self.closing, self._waking = True, False
        self.wake()

    # ---- the thread's own

    def run(self) -> None:
        if sys.getswitchinterval() > SWITCH_INTERVAL_S:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            while not self.closing:
                self.turn()
        except Exception as error:  # noqa: BLE001 - whatever it was, callers must get their answers, and the next call starts a new loop
            log.error("the transport's thread failed: %s", type(error).__name__)
        finally:
            self.closing = True
            self._end()

    def turn(self) -> None:
        events = self.selector.select(self._patience())
        self.now = time.monotonic()
        for key, mask in events:
            if key.data is None:
                self._far.recv(4096)
                # after reading, before the inbox is opened: the other way round a wake-up can get
                # lost
                self._waking = False
            elif not key.data.retired or key.data.running:
                key.data.ready(key.fd, mask)
        self._open_inbox()
        now = self.now = time.monotonic()
        self._work()
        if self.active:  # the last look may have been that of an idle loop, seconds ahead
            self._sweep_at = min(self._sweep_at, now + SWEEP_S)
        if now >= self._sweep_at:
            self._sweep(now)

    def _work(self) -> None:
        """Only pools with something to do are looked at: there may be a thousand idle ones."""
        self.again = True
        while self.again:
            self.again = False
            for pool in list(self.active):
                pool.work(self.now)
                if pool.idle() and pool.due == inf:
                    self.active.discard(pool)

    def _patience(self) -> float:
        due = min((pool.due for pool in self.active), default=inf)
        busy = any(pool.running or pool.queue for pool in self.active)
        return max(min(due - time.monotonic(), SWEEP_S if busy else SWEEP_IDLE_S), 0.0)

    def _open_inbox(self) -> None:
        while self.inbox:
            item = self.inbox.popleft()
            if isinstance(item, str):
                for pool in [p for p in self.pools.values() if p.name == item]:
                    self.retire(pool)
                continue
            route, jobs = item
            for job in jobs:
                pool = self.pools.get(job.key) or self.pool(job.key, None)
                if (
                    pool.connections_max != route.connections_max
                    or pool.streams_max != route.streams_max
                ):
                    pool.shape(route)
                pool.take(job)

    def pool(self, key: Key, like: CurlPool | None) -> CurlPool:
        """The pool of this key, made when there is none, with the bounds of `like`."""
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = CurlPool(self, key, self.make)
            if like is not None:
                pool.shape(like)
        return pool

    def retire(self, pool: CurlPool) -> None:
        """Retires a pool: its connections get nothing new, unsent requests go to its successor."""
        if pool.retired:
            return
        pool.retired = True
        self.pools.pop(pool.key, None)
        self.retiring.append(pool)
        self.again = True
        self._sweep_at = 0.0
        for job in pool.withdraw():
            self.pool(pool.key, pool).take(job)

    def _sweep(self, now: float) -> None:
        for pool in list(self.active):
            pool.sweep(now)
        for pool in [p for p in self.retiring if p.idle()]:
            self.retiring.remove(pool)
            pool.close()
        idle = sorted((p for p in self.pools.values() if p.idle()), key=lambda p: p.used_at)
        surplus = len(self.pools) - self.pools_max
        for place, pool in enumerate(idle):
            if place < surplus or now - pool.used_at > self.pool_idle_s:
                self.pools.pop(pool.key)
                pool.close()
        self._sweep_at = now + (SWEEP_S if self.active or self.retiring else SWEEP_IDLE_S)

    def _end(self) -> None:
        """Every caller gets its answers, every connection is closed."""
        for pool in (*self.pools.values(), *self.retiring):
            try:
                pool.close()
            except pycurl.error as error:
                log.error("a pool could not be closed: %s", type(error).__name__)
        self.pools.clear()
        while self.inbox:
            item = self.inbox.popleft()
            for job in item[1] if not isinstance(item, str) else ():
                job.batch.put(job.index, CLOSED)
        self.selector.close()
        self._near.close()
        self._far.close()
