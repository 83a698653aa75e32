"""From before its first thread until all of them have ended a process says that it is at work:
`pushfleet reshard` waits for it.

`alive` says something else, that a process takes work: it begins when the worker is ready, and ends
at SIGTERM.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from common.storage.living import Heartbeats

log = logging.getLogger(__name__)

#: Between two words, seconds.
BEAT_S: Final = 5.0
#: The end of a process waits so long for the last word, seconds; the first one is given up by its
#: own end (ALIVE_S).
LAST_WORD_S: Final = 3.0


class WorkBeat:
    """Of one process. The first word is said by the caller's thread, the others by one of its own,
    which is the only one that beats.

    stop: set at SIGTERM: from then on the process takes no work.
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
        """From now on until `stop` the process is also alive: `alive` says both, now and with each
        beat. Whatever it raises is logged.
        """
        self._alive = alive
        self._beat_once()

    def begin(self) -> None:
        """Until `end`, which the interpreter calls when every thread that is no
        daemon has ended.
        """
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
                with contextlib.suppress(RedisError, OSError):
                    self._living().leave([self._name])
            if not self._over.is_set():
                self._beat_once()
        try:
            self._living().rest(self._name)
        except (RedisError, OSError) as error:
            log.warning("Redis is away", extra={"reason": type(error).__name__})

    def _beat_once(self) -> None:
        alive = self._alive
        try:
            if alive is None:
                self._living().work(self._name, self._role)
            else:
                alive()
        except (RedisError, OSError) as error:
            log.warning("Redis is away", extra={"reason": type(error).__name__})
