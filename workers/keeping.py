"""Keeps entries ours while they are worked on: a vendor that is slow, or an access token that is waited for, is no dead reader."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from redis.exceptions import RedisError

from common.storage.streams import Belts, Entry

log = logging.getLogger(__name__)

#: Their idle time is set back so often; three times within what makes them anybody's (common/storage/streams.py: TAKEOVER_IDLE_MS).
RENEW_S = 4.0
LOOK_S = 0.5


class Keeper:
    """Its thread begins with the first entries, ends with the process, and sleeps while there are none."""

    def __init__(self, belts: Belts, renew_s: float = RENEW_S) -> None:
        self._belts = belts
        self._renew_s = renew_s
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._held: dict[object, Sequence[Entry]] = {}
        self._due = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def holding(self, entries: Sequence[Entry]) -> Iterator[None]:
        """While the block runs they do not become idle; after it nothing here touches them any more."""
        block = object()
        with self._lock:
            self._due = min(self._due, time.monotonic() + self._renew_s) if self._held else time.monotonic() + self._renew_s
            self._held[block] = entries
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
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
                elif time.monotonic() >= self._due:
                    self._due = time.monotonic() + self._renew_s
                    self._renew()
            time.sleep(min(LOOK_S, self._renew_s / 2))

    def _renew(self) -> None:
        try:
            self._belts.renew([entry for entries in self._held.values() for entry in entries])
        except (RedisError, OSError) as error:
            log.warning("entries could not be kept", extra={"reason": type(error).__name__})
