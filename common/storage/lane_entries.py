"""What a lane's queue holds and what a sender takes: entries, takes, leases and commits. Pure."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.model import Urgency, Vendor

URGENCIES: Final = tuple(Urgency)
RANK: Final = {urgency: number for number, urgency in enumerate(URGENCIES)}

_order_lock = threading.Lock()
_last_order = 0


@dataclass(frozen=True, slots=True)
class NewBatch:
    """One batch for a lane. requests: different notifications in it. expires_ms: when its last push
    does.
    """

    lane: str
    urgency: Urgency
    blob: bytes
    pushes: int
    requests: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class LaneEntry:
    """One entry as it was taken. deliveries: 1, and one more for each sender that died with it.

    noted: it was noted as held by an outage, and goes back as such (noted.lua).
    """

    id: str
    blob: bytes
    deliveries: int = 1
    noted: bool = False

    @property
    def owner(self) -> str:
        """The entry's name in its pushes' claims (claims.py); a remainder keeps it."""
        return self.id.partition(";")[0]

    @property
    def pushes(self) -> int:
        return int(self.id.split(";")[3])

    @property
    def requests(self) -> int:
        """Different notifications among its pushes."""
        return int(self.id.split(";")[4])

    @property
    def order(self) -> int:
        return int(self.id.split(";")[2])


@dataclass(frozen=True, slots=True)
class PushRoom:
    """Pushes that there is room for on the wire; others: those of them that may be of groups or
    bulk; each: the most that one lane counts for; lane: the most that one lane may have.
    """

    pushes: int
    others: int
    each: int
    lane: int = 1 << 31


ANY_ROOM: Final = PushRoom(1 << 31, 1 << 31, 1)


@dataclass(frozen=True, slots=True)
class LaneTerms:
    """The parameters of a lane's take. gone: the account was removed; nothing is checked.

    rate_per_s, burst: in requests where `by_request`, else in pushes.
    """

    version: int = 0
    rate_per_s: float = 1.0
    burst: float = 1.0
    ramp_s: int = 0
    by_request: bool = False
    gone: bool = False


@dataclass(slots=True)
class Taken:
    """The answer to one take. what: go, probe, wait, shut or empty.

    tokens: the lane's rate for the next second (see `lease`); burst: the part that may go at once.
    due_ms: when the lane may be asked again, by Redis' clock; now_ms: that clock at the take. left:
    entries still in the queue. noted, noted_why: entries up to this order were held by an outage,
    and its cause. slowed: up to this order, by the rate. watched: the breaker counts the lane's
    answers, as some failed lately; else it ignores good ones. shard: see JointLanes.
    """

    lane: str
    urgency: Urgency
    word: str
    what: str
    now_ms: int
    why: str = ""
    due_ms: int = 0
    tokens: int = 0
    burst: int = 1
    noted: int = 0
    noted_why: str = ""
    slowed: int = 0
    left: int = 0
    watched: bool = True
    terms: LaneTerms = LaneTerms(gone=True)
    entries: list[LaneEntry] = field(default_factory=list)
    shard: int = 0

    @property
    def paced(self) -> bool:
        """True when the lane is at its rate."""
        return self.due_ms > self.now_ms


@dataclass(frozen=True, slots=True)
class RateLease:
    """Permits for `tokens`, the first in `first_s`, then at `rate_per_s`.

    lim_s: how much earlier than its time one may go. last_s: time of the last one in epoch seconds,
    by Redis' clock.
    """

    tokens: int
    first_s: float
    last_s: float
    rate_per_s: float
    lim_s: float


@dataclass(slots=True)
class LaneCommit:
    """The writes for the entries of one take, in one step.

    changed: (entry, its remainder), once per part. records: of the ledger. later: members of the
    delayed set with their delay in ms. bytes_more: how much the lane's queues grow. unused: tokens
    that were not needed. taken: keys of the badge numbers that the entries' pushes have taken.
    marks: see lane_commit.lua; keys: the marks' keys; shared: numbers of those that marks share.
    """

    ended: list[LaneEntry] = field(default_factory=list)
    back: list[LaneEntry] = field(default_factory=list)
    changed: list[tuple[LaneEntry, NewBatch]] = field(default_factory=list)
    records: Sequence[object] = ()
    later: list[tuple[bytes, int]] = field(default_factory=list)
    bytes_more: int = 0
    unused: tuple[float, ...] = ()
    taken: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    marks: list[tuple[Any, ...]] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)

    @property
    def ends_all(self) -> bool:
        """True where all entries end at their first delivery and nothing else follows from it."""
        more = self.back or self.changed or self.later or self.keys or self.marks
        return not more and bool(self.ended) and all(one.deliveries == 1 for one in self.ended)

    def mark(self, kind: str, names: Sequence[str], *values: Any) -> None:
        """names: the mark's own keys, next to each other."""
        self.marks.append((kind, _OWN_KEYS + 1 + len(self.keys), *values))
        self.keys.extend(names)

    def share(self, names: Sequence[str]) -> int:
        """The number of the first of these keys, next to each other and once for all marks."""
        if names[0] not in self.shared:
            self.shared[names[0]] = _OWN_KEYS + 1 + len(self.keys)
            self.keys.extend(names)
        return self.shared[names[0]]


#: Keys of lane_commit before those of the marks.
_OWN_KEYS: Final = 11


def entry_id(batch: NewBatch, owner: str = "", order: int = 0) -> str:
    """The entry's name, which holds all that a script needs of it."""
    made = order or _next_order()
    rank = RANK[batch.urgency]
    numbers = (rank, made, batch.pushes, batch.requests, len(batch.blob), batch.expires_ms)
    return ";".join((owner or os.urandom(9).hex(), *map(str, numbers)))


def _next_order() -> int:
    """The time in µs, or the next number where this process has given that one already."""
    global _last_order
    with _order_lock:
        _last_order = max(time.time_ns() // 1000, _last_order + 1)
        return _last_order


def vendor_of(lane: str) -> Vendor:
    return Vendor(lane.split(":")[1])
