"""Sends wake-ups from a thread of its own: whoever has one to send never hangs on the broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from common.model import Vendor
from workers.app import queue_of
from workers.queues.consumer import Wake

log = logging.getLogger(__name__)

#: Longest wait of a caller until the broker has a wake-up, seconds. What hangs is not always a
#: socket with a deadline: it may be the look-up of its name.
SEND_WAIT_S: Final = 0.5
#: Seconds until what the broker did not take is sent again.
AGAIN_S: Final = 1.0
#: The thread ends after so many seconds without a wake-up.
IDLE_S: Final = 10.0


class WakeUpSender:
    """Of one process. At most one wake-up a queue waits for the broker; nothing is raised.

    A caller waits until the broker has taken it, for SEND_WAIT_S at most, and not at all while the
    broker is known to be away.
    """

    def __init__(self, publish: Callable[[str, Vendor | None], None]) -> None:
        self._publish = publish
        self._news = threading.Condition()
        self._waiting: dict[Wake, None] = {}
        self._asked = self._sent = 0
        self._away = False
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()  # never set: it only waits

    def send(self, stage: str, vendor: Vendor | None = None) -> None:
        with self._news:
            self._waiting[stage, vendor] = None
            self._asked += 1
            mine = self._asked
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
                self._thread.start()
            self._news.notify_all()
            over = self._news.wait_for(lambda: self._away or self._sent >= mine, SEND_WAIT_S)
            if not over:
                self._lost(queue_of(stage, vendor), "TimeoutError")

    def _lost(self, queue: str, reason: str) -> None:
        """Called with the lock. It is logged once, not with every wake-up of an outage."""
        if not self._away:
            log.warning("wake-up publish failed", extra={"queue": queue, "reason": reason})
        self._away = True
        self._news.notify_all()

    def _run(self) -> None:
        while True:
            with self._news:
                if not self._news.wait_for(lambda: bool(self._waiting), IDLE_S):
                    self._thread = None
                    return
                asked, wakes = self._asked, list(self._waiting)
                self._waiting.clear()
            if not self._all_sent(wakes, asked):
                self._pause.wait(AGAIN_S)

    def _all_sent(self, wakes: list[Wake], asked: int) -> bool:
        """Sends them; what the broker does not take waits, before what came meanwhile."""
        for number, (stage, vendor) in enumerate(wakes):
            try:
                self._publish(stage, vendor)
            except Exception as error:
                if not isinstance(error, (RedisError, OSError)):
                    log.exception("a wake-up broke", extra={"queue": queue_of(stage, vendor)})
                with self._news:
                    self._waiting = {**dict.fromkeys(wakes[number:]), **self._waiting}
                    self._lost(queue_of(stage, vendor), type(error).__name__)
                return False
        with self._news:
            if self._away:
                log.info("the broker takes wake-ups again")
            self._away, self._sent = False, asked
            self._news.notify_all()
        return True
