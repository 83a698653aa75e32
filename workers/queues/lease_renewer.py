"""Renews entries while they are handled: a slow vendor, statement or login is no dead reader."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from common.storage.streams import Entry, StreamStore
from common.storage.waits import waiting_s

log = logging.getLogger(__name__)

#: Seconds between two renewals: three within the time after which others may claim
#: (common/storage/streams.py: TAKEOVER_IDLE_MS).
RENEW_S = 4.0
LOOK_S = 0.5
#: Seconds of waiting for the database after which a thread's entries no longer count as delivered.
STORE_WAIT_S = 0.5


@dataclass(slots=True)
class _Block:
    """The entries of one thread.

    counted: a death of the process now counts as a delivery attempt (None: unchanged).
    """

    entries: Sequence[Entry]
    thread: int
    counted: bool | None = None


class LeaseRenewer:
    """Its thread starts with the first entries, ends with the process, and sleeps while idle.

    One that an error ended, or that a fork left behind, is followed by another.

    While a reader waits for the database its entries do not count as delivered: killing the process
    then condemns no entry.
    """

    def __init__(self, streams: StreamStore, renew_s: float = RENEW_S) -> None:
        self._streams = streams
        self._renew_s = renew_s
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._held: dict[object, _Block] = {}
        self._due = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def holding(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Keeps the entries from becoming idle while the block runs, and no longer."""
        block = object()
        with self._lock:
            self._due = (
                min(self._due, time.monotonic() + self._renew_s)
                if self._held
                else time.monotonic() + self._renew_s
            )
            self._held[block] = _Block(entries, threading.get_ident())
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        self._busy.set()
        try:
            yield
        finally:
            with self._lock:
                del self._held[block]

    def _run(self) -> None:
        while self._busy.wait():
            with self._lock:
                if not self._held:
                    self._busy.clear()
                self._renew(everything=time.monotonic() >= self._due)
            time.sleep(min(LOOK_S, self._renew_s / 2))

    def _renew(self, *, everything: bool) -> None:
        """Renews all blocks when due; at once those whose thread began or ended a database wait."""
        asked_at = time.monotonic()
        try:
            for block in self._held.values():
                waits = waiting_s(block.thread) >= STORE_WAIT_S
                if everything or waits != (block.counted is False):
                    if waits or block.counted is False:
                        block.counted = not waits
                    self._streams.renew(block.entries, block.counted)
        except (RedisError, OSError) as error:
            log.warning("entries could not be kept", extra={"reason": type(error).__name__})
        if everything:
            self._due = asked_at + self._renew_s
