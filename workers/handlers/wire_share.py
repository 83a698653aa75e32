"""The bound of pushes on the wire of one process, where each shard has a sender of its own."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: Share of the pushes on the wire, and of the lanes at once, for groups and bulk: a call always
#: finds room.
OTHERS_SHARE: Final = 0.6
#: Share of the pushes on the wire for one lane: the first round of a hanging lane must leave room.
LANE_SHARE: Final = 0.8
#: Share of the pushes on the wire that a sender waits for in its turn: with less its entries would
#: go in pieces, and each round costs the same for one push and for hundreds.
ENOUGH_SHARE: Final = 0.5
#: Share of the pushes on the wire for a sender whose store has just been away: until that answers
#: again, what is kept for it is not used by anybody.
DOUBT_SHARE: Final = 1 / 32


@dataclass(slots=True, eq=False)
class WirePart:
    """One sender's: its pushes on the wire, those of them that are groups or bulk, and what is kept
    for the round that it is about to begin.
    """

    pushes: int = 0
    others: int = 0
    kept: int = 0


@dataclass(slots=True, eq=False)
class _Turn:
    enough: int
    come: threading.Event = field(default_factory=threading.Event)


class WireShare:
    """most: pushes on the wire at once, of all senders. One that wants to begin a round asks first;
    where others use it all, each has its turn, and half of it then rather than what is left.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._parts: list[WirePart] = []
        self._line = deque[_Turn]()

    def joined(self) -> WirePart:
        """The part of one more sender."""
        with self._lock:
            self._parts.append(WirePart())
            return self._parts[-1]

    @property
    def senders(self) -> int:
        return max(len(self._parts), 1)

    def is_awaited(self) -> bool:
        """True while a sender waits for its turn."""
        return bool(self._line)

    def ask(
        self, part: WirePart, seconds: float, *, at_once: bool = False, doubted: bool = False
    ) -> tuple[int, int]:
        """How many pushes more this sender may have on the wire, and how many of groups and bulk;
        kept for it until `settle`. Waits so long for its turn, then takes what there is.

        at_once: it takes that without a turn. doubted: as DOUBT_SHARE.
        """
        turn = _Turn(0 if at_once else math.ceil(self.most * ENOUGH_SHARE))
        with self._lock:
            if at_once or (not self._line and self._free() >= turn.enough):
                return self._granted(part, doubted=doubted)
            self._line.append(turn)
            self._call()
        turn.come.wait(seconds)
        with self._lock:
            self._line.remove(turn)
            granted = self._granted(part, doubted=doubted)
            self._call()
        return granted

    def tell(self, part: WirePart, pushes: int, others: int, *, settles: bool = False) -> None:
        """What the sender has on the wire now. settles: nothing is kept for it any more."""
        with self._lock:
            part.pushes, part.others = pushes, others
            if settles:
                part.kept = 0
            self._call()

    def _free(self) -> int:
        return max(self.most - sum(one.pushes + one.kept for one in self._parts), 0)

    def _granted(self, part: WirePart, *, doubted: bool) -> tuple[int, int]:
        share = DOUBT_SHARE if doubted else LANE_SHARE
        part.kept = min(self._free(), max(1, int(self.most * share)))
        left = math.ceil(self.most * OTHERS_SHARE) - sum(one.others for one in self._parts)
        return part.kept, max(left, 0)

    def _call(self) -> None:
        """Whose turn it is goes on, once there is enough for it."""
        if self._line and self._free() >= self._line[0].enough:
            self._line[0].come.set()
