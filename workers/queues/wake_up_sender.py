"""Sends wake-ups from a thread of its own: whoever has one to send never hangs on the broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

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
#: The broker itself is away, for every queue.
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError)


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
            if self._thread is None and not self._begun():
                self._lost(queue_of(stage, vendor), "RuntimeError")
                return
            self._news.notify_all()
            over = self._news.wait_for(lambda: self._away or self._sent >= mine, SEND_WAIT_S)
            if not over:
                self._lost(queue_of(stage, vendor), "TimeoutError")

    def _begun(self) -> bool:
        """Begins the thread, called with the lock. False where the machine gives none: the wake-up
        waits for the next caller.
        """
        thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _lost(self, queue: str, reason: str, cause: Exception | None = None) -> None:
        """Called with the lock. It is logged once, not with every wake-up of an outage. cause: if
        it is none that an outage has.
        """
        if not self._away:
            log.warning(
                "wake-up publish failed", exc_info=cause, extra={"queue": queue, "reason": reason}
            )
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
        """Sends them; what the broker does not take waits, before what came meanwhile. Where it
        refuses one, as a queue whose key is no list, the others do not wait for that.
        """
        left: dict[Wake, Exception] = {}
        for number, wake in enumerate(wakes):
            try:
                self._publish(*wake)
            except _AWAY as error:
                left |= dict.fromkeys(wakes[number:], error)
                break
            except Exception as error:  # noqa: BLE001 - it is logged
                left[wake] = error
        with self._news:
            for wake, why in left.items():
                cause = None if isinstance(why, (RedisError, OSError)) else why
                self._lost(queue_of(*wake), type(why).__name__, cause)
            self._waiting = {**dict.fromkeys(left), **self._waiting}
            if not left:
                if self._away:
                    log.info("the broker takes wake-ups again")
                self._away, self._sent = False, asked
                self._news.notify_all()
        return not left
