"""The sign of a running process, from before its first thread until all have ended.

`pushfleet reshard` waits for it. `alive` differs: it means that a process takes work, begins when
the worker is ready, and ends at SIGTERM.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from common.config import SettingError
from common.storage.living import Heartbeats

log = logging.getLogger(__name__)

#: Seconds between two heartbeats: a little less than a connection may idle without being asked PING
#: first (common/storage/redis.py).
BEAT_S: Final = 4.8
#: Longest wait of an ending process for the last heartbeat, seconds; the first one expires by
#: itself (ALIVE_S).
LAST_WORD_S: Final = 3.0


class WorkBeat:
    """The heartbeat of one process. stop: set at SIGTERM: the process takes no more work.

    The caller's thread sends the first beat, a thread of its own all others.
    """

    def __init__(
        self, living: Callable[[], Heartbeats], name: str, role: str, beat_s: float = BEAT_S
    ) -> None:
        self._living, self._name, self._role, self._beat_s = living, name, role, beat_s
        self.stop = threading.Event()
        self._over = threading.Event()
        self._alive: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._beat, name="at-work", daemon=True)

    def takes_work(self, alive: Callable[[], None]) -> None:
        """Makes the process also alive until `stop`: `alive` sends both, now and with each beat.

        Its errors are logged.
        """
        self._alive = alive
        self._beat_once()

    def begin(self) -> None:
        """Beats until `end`, which the interpreter calls after the last non-daemon thread."""
        self._beat_once()
        self._thread.start()
        atexit.register(self.end)

    def end(self) -> None:
        atexit.unregister(self.end)
        self._over.set()
        self.stop.set()
        self._thread.join(LAST_WORD_S)

    def _beat(self) -> None:
        while not self._over.is_set():
            (self._over if self.stop.is_set() else self.stop).wait(self._beat_s)
            if self.stop.is_set() and self._alive is not None:
                self._alive = None
                self._say(lambda: self._living().leave([self._name]))
            if not self._over.is_set():
                self._beat_once()
        self._say(lambda: self._living().rest(self._name))

    def _beat_once(self) -> None:
        self._say(self._alive or (lambda: self._living().work(self._name, self._role)))

    def _say(self, words: Callable[[], None]) -> None:
        """Logs every error: the next heartbeat must be sent all the same."""
        try:
            words()
        except (RedisError, OSError) as error:
            log.warning("Redis is away", extra={"reason": type(error).__name__})
        except SettingError:
            return  # it ends the process, which says so in one line
        except Exception as error:
            log.exception("a heartbeat broke", extra={"reason": type(error).__name__})
