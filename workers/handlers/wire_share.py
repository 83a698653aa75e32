"""The bound of pushes on the wire of one process, where each shard has a sender of its own."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

#: Share of the pushes on the wire, and of the lanes at once, for groups and bulk: a call always
#: finds room.
OTHERS_SHARE: Final = 0.6
#: Share of the pushes on the wire for one lane, in whatever shards: a hanging lane's first round
#: must leave room. The same of one node's shards, where there are others: what a node that hangs
#: keeps from being written stays on the wire.
LANE_SHARE: Final = 0.8
#: Share of the pushes on the wire for all lanes that let their last round wait in vain.
SILENT_LANES_SHARE: Final = 0.25
#: Share of the pushes on the wire that a sender waits for in its turn: with less its entries would
#: go in pieces, and each round costs the same for one push and for hundreds.
ENOUGH_SHARE: Final = 0.5
#: Share of the pushes on the wire for a sender whose store has just been away: until that answers
#: again, what is kept for it is not used by anybody.
DOUBT_SHARE: Final = 1 / 32
#: What is kept for a sender that has begun nothing for so long, seconds, is the others' again: its
#: store hangs.
KEPT_S: Final = 0.25

#: In no lane.
_NOTHING: Final[Mapping[str, int]] = {}


@dataclass(slots=True, eq=False)
class WirePart:
    """One sender's: its pushes on the wire, those of them that are groups or bulk, those of silent
    lanes, all by lane; what is kept for the rounds that it is about to begin, and until when.

    node: the server that its shard is on now.
    """

    node: Callable[[], Hashable]
    pushes: int = 0
    others: int = 0
    silent: int = 0
    lanes: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    kept_until: float = 0.0

    def held(self, now: float) -> int:
        """Pushes that no other sender may have."""
        return self.pushes + (self.kept if now < self.kept_until else 0)


@dataclass(slots=True, eq=False)
class _Turn:
    part: WirePart
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

    def joined(self, node: Callable[[], Hashable] = lambda: None) -> WirePart:
        """The part of one more sender. node: as WirePart."""
        with self._lock:
            self._parts.append(WirePart(node))
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
        turn = _Turn(part, 0 if at_once else math.ceil(self.most * ENOUGH_SHARE))
        with self._lock:
            if at_once or (not self._line and self._free(part) >= turn.enough):
                return self._granted(part, doubted=doubted)
            self._line.append(turn)
            self._call()
        turn.come.wait(seconds)
        with self._lock:
            self._line.remove(turn)
            granted = self._granted(part, doubted=doubted)
            self._call()
        return granted

    def begins(self, part: WirePart, lane: str, pushes: int, *, others: bool, silent: bool) -> int:
        """A round begins that wants so many; those that it may have. others: of groups or bulk."""
        with self._lock:
            if time.monotonic() >= part.kept_until:
                pushes = min(pushes, self._free(part))
            total = sum(one.lanes.get(lane, 0) for one in self._parts)
            pushes = min(pushes, max(self._lane_most() - total, 0))
            if silent:
                most = max(1, int(self.most * SILENT_LANES_SHARE))
                pushes = min(pushes, max(most - sum(one.silent for one in self._parts), 0))
            part.kept = max(part.kept - pushes, 0)
            part.pushes += pushes
            part.others += pushes if others else 0
            part.silent += pushes if silent else 0
            part.lanes = {**part.lanes, lane: part.lanes.get(lane, 0) + pushes}
            return pushes

    def full_lanes(self) -> set[str]:
        """Lanes that may have no more now, in any shard."""
        with self._lock:
            total = Counter[str]()
            for one in self._parts:
                total.update(one.lanes)
            most = self._lane_most()
            return {lane for lane, pushes in total.items() if pushes >= most}

    def tell(
        self,
        part: WirePart,
        pushes: int,
        others: int,
        *,
        silent: int = 0,
        lanes: Mapping[str, int] = _NOTHING,
        settles: bool = False,
    ) -> None:
        """What the sender has on the wire now. settles: nothing is kept for it any more."""
        with self._lock:
            part.pushes, part.others, part.silent, part.lanes = pushes, others, silent, lanes
            if settles:
                part.kept = 0
            self._call()

    def _lane_most(self) -> int:
        return max(1, int(self.most * LANE_SHARE))

    def _free(self, part: WirePart) -> int:
        """Pushes that this sender may have beside what all have."""
        now, node = time.monotonic(), part.node()
        held = [(one.node(), one.held(now)) for one in self._parts]
        free = self.most - sum(pushes for _, pushes in held)
        if any(other != node for other, _ in held):
            own = sum(pushes for other, pushes in held if other == node)
            free = min(free, self._lane_most() - own)
        return max(free, 0)

    def _granted(self, part: WirePart, *, doubted: bool) -> tuple[int, int]:
        share = DOUBT_SHARE if doubted else LANE_SHARE
        part.kept = min(self._free(part), max(1, int(self.most * share)))
        part.kept_until = time.monotonic() + KEPT_S
        left = math.ceil(self.most * OTHERS_SHARE) - sum(one.others for one in self._parts)
        return part.kept, max(left, 0)

    def _call(self) -> None:
        """Whose turn it is goes on, once there is enough for it."""
        if self._line and self._free(self._line[0].part) >= self._line[0].enough:
            self._line[0].come.set()
