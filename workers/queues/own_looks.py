"""A worker's looks of its own for work that no wake-up tells of: a wake-up is only a hint, and its
server may be away, frozen or full while everything that a push needs is in the fleet's own Redis.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from redis.exceptions import RedisError

from common.model import Vendor
from workers.queues.consumer import SLICE_S, Wake

log = logging.getLogger(__name__)

#: Longest time, seconds, in which work waits that no wake-up tells of: each heartbeat is a look
#: (workers/cli/at_work.py).
POLL_S: Final = 5.0
#: The same while this worker knows that no wake-up comes.
LOOK_S: Final = 1.0
#: It expects none for so long after a look that found work by itself.
UNTOLD_S: Final = 10.0
#: A worker that its broker has not answered for so long at the start begins without it.
START_S: Final = 3.0


class Slices(Protocol):
    """As StreamConsumer: a slice of work a call, one at a time. progress_at: monotonic."""

    @property
    def progress_at(self) -> float: ...
    def __call__(self, stopping: Callable[[], bool]) -> None: ...


class OwnLooks:
    """Serves a worker's queues without wake-ups.

    Each heartbeat looks for work, so that an idle process wakes once for both and asks nothing
    more. Threads of its own serve what is found, one a queue, so that none waits for another; and
    one looks each LOOK_S while wake-ups are known not to come.
    """

    def __init__(
        self,
        due: Callable[[], Sequence[Wake]],
        consumer: Callable[[str, Vendor | None], Slices],
        stop: threading.Event,
    ) -> None:
        """due: the queues that have work now; RedisError where that is away."""
        self._asked, self._consumer, self._stop = due, consumer, stop
        self._due: Sequence[Wake] = ()
        self._looked_at = 0.0
        self._news = threading.Event()
        self._begun = threading.Event()
        self._deaf = False
        self._until = 0.0
        self._serving: dict[Wake, threading.Thread] = {}
        #: Of queues that were served just before they were found: when their turn comes, and their
        #: progress then.
        self._later: dict[Wake, tuple[float, float]] = {}
        self._starting = threading.Lock()

    def look(self) -> Sequence[Wake]:
        """The queues that have work now."""
        self._due, self._looked_at = (), time.monotonic()
        found = self._due = self._asked()
        if found:
            self._news.set()
        return found

    def is_deaf(self, deaf: bool) -> None:
        """Whether wake-ups can't come, as the connection to the broker tells. Of any thread."""
        if deaf and not self._deaf:
            log.warning("no wake-up comes: this worker looks for its work itself")
        self._deaf = deaf
        if deaf:
            self._news.set()

    @property
    def _alert(self) -> bool:
        return self._deaf or time.monotonic() < self._until

    def begun(self) -> None:
        """The worker has begun."""
        self._begun.set()

    def end(self) -> None:
        """Stops the worker's work, and ends the thread's wait."""
        self._stop.set()
        self._begun.set()
        self._news.set()

    def wait(self) -> None:
        """After `end`: until the slices have ended. Called before the process' main thread ends: no
        pool takes another part of a round from then on.
        """
        with self._starting:
            serving = list(self._serving.values())
        for thread in serving:
            thread.join()

    def run(self, begin: Callable[[], None]) -> None:
        """Runs until stopped, whatever breaks: nobody begins it again. begin: begins the worker
        without its broker, after START_S.
        """
        if not self._begun.wait(START_S):
            with _going_on():
                begin()
        while not self._stop.is_set():
            self._news.wait(self._pause_s())
            self._news.clear()
            if time.monotonic() - self._looked_at >= (LOOK_S if self._alert else 2 * POLL_S):
                with _going_on():
                    self.look()
            due, self._due = self._due, ()
            for wake in dict.fromkeys([*due, *self._left()]):
                with _going_on():
                    self._serve(wake)

    def _pause_s(self) -> float:
        look_at = self._looked_at + LOOK_S if self._alert else time.monotonic() + 2 * POLL_S
        return max(min([look_at, *(at for at, _ in self._later.values())]) - time.monotonic(), 0.0)

    def _left(self) -> list[Wake]:
        """Those whose turn has come, and which nobody has served since they were found."""
        ripe = [wake for wake, (at, _) in self._later.items() if at <= time.monotonic()]
        found = {wake: self._later.pop(wake)[1] for wake in ripe}
        return [wake for wake, then in found.items() if self._consumer(*wake).progress_at == then]

    def _serve(self, wake: Wake) -> None:
        """Begins a slice where no wake-up has lately; else later, if none does until then."""
        running, began = self._serving.get(wake), time.monotonic()
        consumer = self._consumer(*wake)
        if running and running.is_alive():
            return
        served_at = consumer.progress_at
        at = served_at + (LOOK_S if self._alert else POLL_S) / 2
        if at > time.monotonic() and served_at < began:  # else it was made just now
            self._later[wake] = at, served_at
            return
        self._until = time.monotonic() + UNTOLD_S
        # no daemon: the process has not ended before its rounds have
        thread = threading.Thread(target=self._slices, args=(consumer,), daemon=False)
        with self._starting:
            if not self._stop.is_set():
                thread.start()
                self._serving[wake] = thread

    def _slices(self, consumer: Slices) -> None:
        """Slices until one ends before its time, as nothing is left."""
        try:
            lasted_s = SLICE_S
            while lasted_s >= SLICE_S and self._alert and not self._stop.is_set():
                began = time.monotonic()
                consumer(self._stop.is_set)
                lasted_s = time.monotonic() - began
        except Exception:
            log.exception("a slice broke")


@contextlib.contextmanager
def _going_on() -> Iterator[None]:
    """The next look comes: Redis may be back by then."""
    try:
        yield
    except (RedisError, OSError):
        return
    except Exception:
        log.exception("a look broke")
