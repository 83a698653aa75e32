"""A transport that is made, and its library loaded, by the first requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from workers.wire import HttpResponse, NoAnswer, Request, Route, Transport


class LateTransport:
    """The `Transport` of workers/wire.py in the place of another one. make: called once, from any
    thread.
    """

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: Transport | None = None

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        made = self._made
        if made is None:
            with self._lock:
                made = self._made = self._made or self._make()
        return made.send_many(route, requests, deadline_s)

    def renew(self, pool: str) -> None:
        if self._made is not None:
            self._made.renew(pool)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
