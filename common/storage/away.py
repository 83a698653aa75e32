"""The slots of a cluster that this process could not reach (memory): their commands fail at once,
and one thread asks them until they answer.

A process that serves several shards would else wait for the one that is away again and again, and
the others' work with it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol, TypeVar, cast

from redis.exceptions import RedisError

from common.ports import AwayError

#: A slot is away when its commands have failed for so long without one that was done, seconds: a
#: little less than one command waits or is repeated at most, as others that were begun with it may
#: have been done a moment later; and longer than a failover takes.
AWAY_AFTER_S: Final = 4.5
#: Failures that are further apart, seconds, have nothing to do with each other.
APART_S: Final = 2 * AWAY_AFTER_S
#: Pause between two rounds of questions, seconds.
ASK_EVERY_S: Final = 0.25
#: Longest wait for an answer, seconds: the first one, doubled each time up to the second. A replica
#: may take a hanging server's place; a slow one must be heard.
ASK_S, ASK_MAX_S = 1.0, 5.0
#: A slot that no caller wanted for so long, seconds, is forgotten: nobody asks it any more.
UNWANTED_S: Final = 10.0

T = TypeVar("T")
#: The node's host and port.
Node = tuple[str, int]


class SlotAwayError(RedisError, AwayError):
    """The slot's node has not answered lately: nothing was sent. slot: its number.

    No ConnectionError, which redis-py tries again.
    """

    def __init__(self, slot: int) -> None:
        super().__init__(f"the node of hash slot {slot} is away")
        self.slot = slot


class WatchedSlot(Hashable, Protocol):
    """One slot's connections."""

    number: int
    #: The node of its last connection.
    node: Node | None
    #: Monotonic time at which a command was done last.
    done_at: float

    def ask(self, seconds: float) -> bool:
        """One cheap command on a connection of its own. False: the node refuses it for now.

        Raises RedisError or OSError where nothing answers within about so long.
        """

    def owner(self) -> Node:
        """The node that serves it now. Raises RedisError where nobody knows."""

    def let_go(self) -> None:
        """Closes the connections that nobody uses: they lead to the node that is away."""


class SlotsAway:
    """Of one process; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: weakref.WeakSet[WatchedSlot] = weakref.WeakSet()
        #: When the failures of a slot began, and when it failed last.
        self._failing: dict[WatchedSlot, tuple[float, float]] = {}
        #: When somebody wanted it last.
        self._away: dict[WatchedSlot, float] = {}
        self._asker: threading.Thread | None = None
        self._common: Any = None

    def in_common(self, make: Callable[[], T]) -> T:
        """What the slots know of the nodes, made once."""
        with self._lock:
            if self._common is None:
                self._common = make()
            return cast(T, self._common)

    def join(self, slot: WatchedSlot) -> None:
        """From now on its node's absence is known by all who share it."""
        with self._lock:
            self._slots.add(slot)

    def check(self, slot: WatchedSlot) -> None:
        """Raises SlotAwayError where the slot is away."""
        if not self._away:
            return
        with self._lock:
            if slot not in self._away:
                return
            self._away[slot] = time.monotonic()
            self._ask_on()
        raise SlotAwayError(slot.number)

    def is_away(self, slot: WatchedSlot) -> bool:
        """As `check`, as an answer."""
        try:
            self.check(slot)
        except SlotAwayError:
            return True
        return False

    @property
    def any(self) -> bool:
        """True while one is away."""
        return bool(self._away)

    def answered(self, slot: WatchedSlot) -> None:
        """A command of the slot was done."""
        slot.done_at = time.monotonic()
        if not self._failing and not self._away:  # nearly always
            return
        with self._lock:
            self._failing.pop(slot, None)
            self._away.pop(slot, None)

    def failed(self, slot: WatchedSlot, began: float) -> None:
        """A command of the slot, begun at this monotonic time, was not done.

        With the slot all others of its node count as away, until one question has shown whether
        they are.
        """
        now = time.monotonic()
        with self._lock:
            since, last = self._failing.get(slot, (began, began))
            since = max(since if began - last < APART_S else began, slot.done_at)
            self._failing[slot] = since, now
            if slot in self._away or now - since < AWAY_AFTER_S:
                return
            gone = [one for one in self._slots if one is slot or one.node == slot.node is not None]
            gone.sort(key=lambda one: one is not slot)  # it is asked first
            for one in gone:
                self._away.setdefault(one, now)
            self._ask_on()
        for one in gone:
            one.let_go()

    def _ask_on(self) -> None:
        """A thread that a fork left behind is followed by another."""
        if self._asker is None or not self._asker.is_alive():
            self._asker = threading.Thread(target=self._run, name="slots-away", daemon=True)
            self._asker.start()

    def _run(self) -> None:
        seconds = ASK_S
        while gone := self._wanted():
            self._round(gone, seconds)
            seconds = min(2 * seconds, ASK_MAX_S)
            time.sleep(ASK_EVERY_S)

    def _wanted(self) -> list[WatchedSlot]:
        """The slots to ask; none: this thread is over."""
        with self._lock:
            oldest = time.monotonic() - UNWANTED_S
            for slot in [slot for slot, wanted in self._away.items() if wanted < oldest]:
                del self._away[slot]
                self._failing.pop(slot, None)
            if not self._away:
                self._asker = None
            return list(self._away)

    def _round(self, gone: list[WatchedSlot], seconds: float) -> None:
        """Asks each, but of a node that did not answer only one."""
        silent = set[Node]()
        for slot in gone:
            try:
                node = slot.owner()
                if node in silent:
                    continue
                if slot.ask(seconds):
                    self.answered(slot)
            except (RedisError, OSError):
                if slot.node is not None:
                    silent.add(slot.node)
