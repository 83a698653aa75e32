"""One vendor's rounds at work in this process: what they may take, and their leases."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import RedisError

from common.model import Urgency, Vendor
from common.storage.joint_lanes import JointLanes, Place, place_of
from common.storage.lane_entries import RANK, LaneEntry, PushRoom, Taken
from workers.delivery.results import Delivered
from workers.handlers.wire_share import LANE_SHARE, OTHERS_SHARE, WireShare

log = logging.getLogger(__name__)

#: Lanes that are sent to at the same time.
LANES_AT_ONCE: Final = 32
#: The same of a vendor whose lanes' rounds go together; as many lanes as there is room for what
#: waits for them, of which each counts for 1/LANES_AT_ONCE of the wire at most.
LANES_TOGETHER: Final = 250
#: Those of the lanes that let their last round wait in vain, which must not keep the others from
#: being sent to: how many at once, and what share of the pushes on the wire each of them may have.
SILENT_MAX, SILENT_SHARE = 8, 1 / 32
#: Concurrent rounds of one lane and urgency in a process when the lane is at its rate.
PACED_MAX: Final = 2
#: Longest wait of a round that is prepared behind another one, seconds: what was recalled or read
#: meanwhile is unknown to it. Then it is given back, and no round is prepared so for AHEAD_AGAIN_S.
AHEAD_S, AHEAD_AGAIN_S = 0.25, 5.0
#: Seconds that a round waits for its lane's rate at least, for its end not to be near.
LASTS_S: Final = 0.1
#: Entries are kept for their sender so often, three times within their lease.
RENEW_S: Final = 4.0

_URGENT = frozenset({Urgency.CALL, Urgency.CHAT})


@dataclass(slots=True)
class RunningRound:
    """One running round. most: pushes it may have on the wire.

    paced: it sends at its lane's rate; the next round may begin before its last answer, and still
    follows it. lasts: it waits for its lane's rate all the same. together: with rounds of other
    lanes. quiet: its end makes no lane ready. lost: names of entries that another sender has
    claimed.
    leader: the round of the same lane that was at work when this one began; this one is prepared
    meanwhile, and sent when that one is written. whole: it is ready for its send and leaves nothing
    of its entries out, so its lane's next round may be prepared. over: it is written, or broke.
    clean: once it is over, nothing of it has to go before what follows.
    """

    taken: Taken
    entries: list[LaneEntry]
    most: int
    silent: bool = False
    paced: bool = False
    lasts: bool = False
    together: bool = False
    quiet: bool = False
    lost: set[str] = field(default_factory=set)
    renewed: float = field(default_factory=time.monotonic)
    leader: RunningRound | None = None
    whole: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    clean: bool = False

    @property
    def on_wire(self) -> int:
        """Pushes that it may have on the wire beside those of its leader, whose place it takes."""
        leader = self.leader
        if leader is None or leader.over.is_set():
            return self.most
        return max(self.most - leader.most, 0)


def shared_out(room: int, wanted: Sequence[int]) -> list[int]:
    """What each gets of `room`: what it wants, or as much as any other that wants more.

    What nobody wants goes to all alike: more may have come meanwhile.
    """
    shares, left = [0] * len(wanted), max(room, 0)
    for place, number in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[number] = min(wanted[number], left // (len(wanted) - place))
        left -= shares[number]
    more = left // len(wanted) if wanted else 0
    return [share + more for share in shares]


def seconds_at_rate(taken: Taken, most: int) -> float:
    """For how long the rate holds up a round of so many pushes: what its lane may not send at once.

    Entries go whole, so one that does not fit beside the others leaves a round short of a second.
    """
    cost = min(taken.tokens, most)
    return 0.0 if taken.terms.gone else (cost - taken.burst) / taken.terms.rate_per_s


class RunningRounds:
    """They share the bound of pushes on the wire, and the knowledge of silent lanes."""

    def __init__(
        self,
        queues: JointLanes,
        vendor: Vendor,
        in_flight_max: int,
        wire: WireShare | None = None,
        node: Callable[[], Hashable] = lambda: None,
    ) -> None:
        """in_flight_max: pushes on the wire at once; wire: what other shards' rounds leave of
        them; node: the server that has the queues now.
        """
        self.in_flight_max = in_flight_max
        self._wire = wire
        self._part = wire.joined(node) if wire is not None else None
        self._telling = threading.Lock()  # else what was true before could be told last
        self._granted: tuple[int, int] | None = None  # by `wire`, for the look that is under way
        self.silent: set[str] = set()  # lanes whose last round waited in vain
        self.ended = threading.Event()
        self.changed = threading.Event()  # a lane may be ready since a round ended
        self._queues = queues
        self._vendor = vendor
        self._lock = threading.Lock()
        self._running: dict[str, RunningRound] = {}  # by the take's word
        self._keeper: threading.Thread | None = None
        self._ahead_from = 0.0  # until then no round is prepared behind another one
        self._leader: RunningRound | None = None  # as the look that is under way has found it

    def own(self) -> list[RunningRound]:
        with self._lock:
            return list(self._running.values())

    def of(self, word: str) -> RunningRound | None:
        """The round of a take, while it is at work."""
        return self._running.get(word)

    def begin(self, taken: Taken, most: int) -> RunningRound | None:
        """The round as a running one; None: it is put off.

        A lane whose last round waited in vain for answers runs in the slow share: few pushes on the
        wire, few such lanes at a time. A probe is not prepared: its lane would wait for it.
        """
        leader = self._leader_of(taken)
        if leader is not None and taken.what == "probe":
            return None
        silent = taken.lane in self.silent
        if silent:
            at_work = self.own()
            crowd = sum(one.silent for one in at_work)
            twin = any(one.taken.lane == taken.lane for one in at_work)
            if crowd >= SILENT_MAX or twin:
                return None
            most = min(most, self._silent_most())
        most = min(most, sum(entry.pushes for entry in taken.entries))
        lasts = taken.paced or seconds_at_rate(taken, most) > LASTS_S
        running = RunningRound(taken, list(taken.entries), most, silent, taken.paced, lasts)
        running.leader = leader
        with self._telling:
            return running if self._has_room(running) and self._added(running) else None

    def _has_room(self, running: RunningRound) -> bool:
        """False: the wire has no room for it. It may have as much as there is."""
        wanted = running.on_wire
        if self._wire is None or self._part is None or not wanted:
            return True
        room = self._wire.begins(
            self._part,
            running.taken.lane,
            wanted,
            others=running.taken.urgency not in _URGENT,
            silent=running.silent,
        )
        running.most -= wanted - room
        return running.most > 0

    def _added(self, running: RunningRound) -> bool:
        with self._lock:
            self._running[running.taken.word] = running
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(
                    target=self._renew, name=f"leases-{self._vendor}", daemon=True
                )
                self._keeper.start()
        return True

    def _silent_most(self) -> int:
        """Pushes that a silent lane may have on the wire; those of all shards share that."""
        senders = self._wire.senders if self._wire is not None else 1
        return max(1, int(self.in_flight_max * SILENT_SHARE / senders))

    def asks(self, seconds: float, *, doubted: bool = False) -> bool:
        """Before rounds are begun: waits so long for its turn where shards share the wire. False:
        there is no room; else `settles` follows. doubted: as DOUBT_SHARE.
        """
        if self._wire is None or self._part is None:
            return True
        ahead = self._leader is not None
        found = self._wire.ask(self._part, seconds, at_once=ahead, doubted=doubted)
        # a round behind another one takes that one's place
        if not found[0] and not ahead:
            self._tell(settles=True)
            return False
        self._granted = found
        return True

    def settles(self) -> None:
        """All rounds are begun that were to be."""
        self._granted = None
        self._tell(settles=True)

    def _tell(self, *, settles: bool = False) -> None:
        if self._wire is None or self._part is None:
            return
        with self._telling:
            at_work = [(one, one.on_wire) for one in self.own()]
            lanes = Counter[str]()
            for one, pushes in at_work:
                lanes[one.taken.lane] += pushes
            self._wire.tell(
                self._part,
                lanes.total(),
                sum(pushes for one, pushes in at_work if one.taken.urgency not in _URGENT),
                silent=sum(pushes for one, pushes in at_work if one.silent),
                lanes=lanes,
                settles=settles,
            )

    def forget(self, words: Sequence[str]) -> None:
        with self._lock:
            for word in words:
                if word in self._running:  # before it is forgotten: else nobody's room is taken
                    self._running[word].over.set()
            over = [self._running.pop(word, None) for word in words]
            leaders = {id(one.leader) for one in self._running.values() if one.leader is not None}
        self._tell()
        if not all(one is None or one.quiet for one in over):
            self.changed.set()
        if not leaders or {*map(id, over)} != leaders:  # else the next look is when that one leaves
            self.ended.set()

    def reached(self, one: RunningRound, *, whole: bool) -> bool:
        """Its send is next; waits for the round before it, AHEAD_S at most. False: it would
        overtake that one or what is left of it. whole: as of RunningRound.
        """
        leader, began = one.leader, time.monotonic()
        if leader is not None:
            # a machine that stood still says that it is over, however long ago this one was ready
            over = leader.over.wait(AHEAD_S) and time.monotonic() - began <= AHEAD_S
            if not over:
                self._ahead_from = time.monotonic() + AHEAD_AGAIN_S
            if not over or not leader.clean:
                return False
            one.leader = None  # else each would keep all those before it
        if began < self._ahead_from:
            return True
        if whole and one.taken.left >= len(one.entries):  # else it would take few
            one.whole = True
            self.ended.set()
        return True

    def look(self) -> None:
        """A look for ready lanes begins: finds the round behind which its lane's next one may be
        prepared, the only one at work. Beside others the lane waits until this one is over, and
        they share the room that it leaves.

        It is the same for the whole look: others begin in it before its lane's next one does.
        """
        running = self.own()
        only = running[0] if len(running) == 1 and time.monotonic() >= self._ahead_from else None
        if self._wire is not None and self._wire.is_awaited():
            only = None  # its place is another shard's, once it is over
        self._leader = only if only is not None and only.whole and not only.lasts else None

    def _leader_of(self, taken: Taken) -> RunningRound | None:
        """The round that this one has to follow: it was at work when this one was taken, and what
        it leaves, if it is over by now, goes before.
        """
        one = self._leader
        if one is None or place_of(one.taken) != place_of(taken):
            return None
        return None if one.over.is_set() and one.clean else one

    def leads(self) -> bool:
        """True while a round is prepared behind another one."""
        return any(one.leader is not None for one in self.own())

    def busy(self) -> bool:
        """True when a running round will end soon; rounds of slow lanes do not count."""
        return any(not one.silent for one in self.own())

    def only_paced(self) -> bool:
        """True while all that runs waits for its lane's rate, for up to a second a round.

        What comes beside wakes this worker by the broker: looks for it would be dozens of commands
        a second.
        """
        heard = [one for one in self.own() if not one.silent]
        return bool(heard) and all(one.lasts for one in heard)

    def any_paced(self) -> bool:
        """True while a lane at its rate may begin one more round beside the one at work."""
        return any(one.paced for one in self.own())

    def together(self) -> int:
        """How many are sent with rounds of other lanes."""
        return sum(one.together for one in self.own())

    def ranks(self) -> dict[str, set[int]]:
        """By lane, the ranks of its rounds, those at a rate and silent ones aside."""
        ranks: dict[str, set[int]] = {}
        for one in self.own():
            if not one.paced and not one.silent:
                ranks.setdefault(one.taken.lane, set()).add(RANK[one.taken.urgency])
        return ranks

    def occupied(self) -> list[tuple[str, Urgency]]:
        """Lanes that this process takes no more of now: later entries must not overtake. One lane
        in many shards is one: what comes meanwhile goes in one round.
        """
        running, leader = self.own(), self._leader
        count = Counter(place_of(one.taken) for one in running)
        full = {place[:2] for place, number in count.items() if number >= PACED_MAX}
        alone = [one for one in running if not one.paced and one is not leader]
        elsewhere = {(lane, urgency) for lane in self.full_lanes() for urgency in Urgency}
        return list(full | {place_of(one.taken)[:2] for one in alone} | elsewhere)

    def full_lanes(self) -> set[str]:
        """Lanes of which other shards' rounds have as much on the wire as one lane may have."""
        full = self._wire.full_lanes() if self._wire is not None else set[str]()
        return full - {self._leader.taken.lane} if self._leader is not None else full

    def room(self, together: bool) -> dict[Urgency, int]:
        """Lanes that may be taken now by urgency."""
        running = self.own()
        pushes = self.in_flight_max - sum(one.on_wire for one in running)
        at_once = LANES_TOGETHER if together else LANES_AT_ONCE
        lanes = at_once - len(running)
        others = [one for one in running if one.taken.urgency not in _URGENT]
        spare = min(int(at_once * OTHERS_SHARE) - len(others), lanes)
        few = (
            max(0, spare)
            if pushes > 0
            and sum(one.on_wire for one in others) < max(1, self.in_flight_max * OTHERS_SHARE)
            else 0
        )
        many = max(0, lanes) if pushes > 0 else 0
        return {Urgency.CALL: many, Urgency.CHAT: many, Urgency.GROUP: few, Urgency.BULK: few}

    def push_room(self) -> PushRoom:
        """The pushes that may come on the wire beside those that are."""
        running = self.own()
        free = self.in_flight_max - sum(one.on_wire for one in running)
        others = sum(one.on_wire for one in running if one.taken.urgency not in _URGENT)
        # not less than `room` has it: of a wire for one push nothing would be left for them
        rest = math.ceil(self.in_flight_max * OTHERS_SHARE) - others
        if self._granted is not None:
            free, rest = min(free, self._granted[0]), min(rest, self._granted[1])
        return PushRoom(
            free,
            rest,
            max(1, self.in_flight_max // LANES_AT_ONCE),
            max(1, int(self.in_flight_max * LANE_SHARE)),
        )

    def pushes_room(self, places: Sequence[Place], waiting: Sequence[int]) -> list[int]:
        """The pushes that each of these may have on the wire. waiting: those it has.

        A lane in several shards gets what one lane gets, the first shards as much as they have.
        """
        lanes: dict[tuple[str, Urgency], list[int]] = {}
        for number, place in enumerate(places):
            lanes.setdefault(place[:2], []).append(number)
        each = [sum(waiting[number] for number in own) for own in lanes.values()]
        rooms = [0] * len(places)
        shares = self._lanes_room([urgency for _, urgency in lanes], each)
        if self._leader is not None:
            next_one, most = place_of(self._leader.taken)[:2], self._leader.most
            shares = [
                max(share, most) if lane == next_one else share
                for lane, share in zip(lanes, shares, strict=True)
            ]
        for share, own in zip(shares, lanes.values(), strict=True):
            left = share
            for number in own:
                rooms[number] = min(waiting[number], left)
                left -= rooms[number]
            rooms[own[0]] += left
        return [max(1, room) for room in rooms]

    def _lanes_room(self, urgencies: Sequence[Urgency], waiting: Sequence[int]) -> list[int]:
        room = self.push_room()
        shares = shared_out(room.pushes, waiting)
        others = [number for number, one in enumerate(urgencies) if one not in _URGENT]
        least = min(room.others, sum(shares[number] for number in others))
        fewer = shared_out(least, [waiting[number] for number in others])
        for number, share in zip(others, fewer, strict=True):
            shares[number] = min(shares[number], share)
        return [max(1, min(share, room.lane)) for share in shares]

    def rooms(self, takes: Sequence[tuple[Taken, int]]) -> list[tuple[Taken, int]]:
        """Gives the unused room of calls and chats to those of them whose entries are larger.

        An entry is not split for a few pushes.
        """
        sizes = [sum(entry.pushes for entry in taken.entries) for taken, _ in takes]
        spare = sum(
            max(room - size, 0)
            for (taken, room), size in zip(takes, sizes, strict=True)
            if taken.urgency in _URGENT
        )
        most, rooms = int(self.in_flight_max * LANE_SHARE), []
        for (taken, room), size in zip(takes, sizes, strict=True):
            more = min(max(min(size, most) - room, 0), spare) if taken.urgency in _URGENT else 0
            spare -= more
            rooms.append((taken, room + more))
        return rooms

    def learn(self, lane: str, done: Delivered) -> None:
        waited = sum(outcome.status in ("timeout", "access") for _, outcome in done.outcomes)
        if waited and waited * 2 >= len(done.outcomes) + done.accepted:
            self.silent.add(lane)
        elif done.outcomes or done.accepted:
            self.silent.discard(lane)

    def _renew(self) -> None:
        """Ends with the process; what an error ends is begun again with the next round."""
        while True:
            time.sleep(RENEW_S / 4)
            with self._lock:
                due = [
                    one
                    for one in self._running.values()
                    if time.monotonic() - one.renewed > RENEW_S
                ]
            for one in due:
                self._kept(one)

    def _kept(self, one: RunningRound) -> None:
        """Renews the lease of the round's entries and drops those that another sender has claimed.

        A dropped entry's pushes have not left yet, or are uncertain there.
        """
        entries, asked_at = list(one.entries), time.monotonic()
        try:
            lost = set(self._queues.renew(one.taken, entries))
        except (RedisError, OSError) as error:
            log.warning("entries could not be kept", extra={"reason": type(error).__name__})
            return
        one.renewed = asked_at
        if (
            lost and one.taken.word in self._running
        ):  # else it has just ended, and they are nobody's
            log.warning(
                "another sender took entries over",
                extra={"count": len(lost), "queue": self._vendor},
            )
            one.lost |= lost
            one.entries = [entry for entry in entries if entry.id not in lost]
