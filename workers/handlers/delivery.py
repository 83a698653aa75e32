"""One vendor's lanes in this process: the most urgent first, each in turn, without waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.exceptions import RedisError

from common.ledger_records import STREAM_MAX
from common.model import Decision, Vendor
from common.storage import keys
from common.storage.cluster import node_of
from common.storage.joint_lanes import JointLanes, Place, place_of
from common.storage.lane_entries import LaneTerms, PushRoom, Taken
from common.storage.lanes import PROBE_S
from common.storage.unavailable import if_store_answers, store_unavailable
from workers.app import DELIVERY, queue_of
from workers.delivery.lane import Lane
from workers.gate import lane_terms
from workers.handlers.lane_turns import TURN_MS, LaneTurns
from workers.handlers.old_streams import OldStreams
from workers.handlers.round_threads import AGAIN_MS, RoundThreads
from workers.handlers.running_rounds import LANES_AT_ONCE, RunningRound, RunningRounds
from workers.handlers.wire_share import WireShare
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds of one slice of work; then it wakes its worker again and makes room.
SLICE_S: Final = 5.0
#: Longest wait after a take, seconds, for more room when many lanes are active and little room is
#: left; otherwise the rounds would split into many small ones, each with calls of its own.
GATHER_S: Final = 0.03
#: The same, once, when there is room for less than one lane's most: a lane would be sent in pieces.
FULL_S: Final = 0.1
#: Seconds after its last round in which a slice learns of new work without the broker: a wake-up
#: through the broker costs both ends milliseconds.
LINGER_S: Final = 1.0
#: It listens for so much longer than producers are told that it does.
HEARS_MORE_S: Final = 0.01
#: Interval of the look for work while rounds run: the first one, doubled each time up to the
#: second.
LOOK_S, LOOK_MAX_S = 0.008, 0.032
#: Longest sleep, seconds, while rounds run and nothing is due.
SLEEP_MAX_S: Final = 1.0
#: Seconds between two looks at the depth of the ledger's stream; while it holds less than this
#: share of what it may.
LEDGER_LOOK_S: Final = 0.05
LEDGER_CALM_S: Final = 1.0
LEDGER_CALM_SHARE: Final = 0.25
#: Interval of the look at a stopped lane: new entries are marked as held, and a lane that an
#: operator has resumed sends within 2 s.
SHUT_MOST_MS: Final = 1_500
#: Entries marked in one look as held by a stopped lane.
NOTE_MAX: Final = 50


def soonest(waits: Sequence[float | None], *, began: bool) -> float | None:
    """The shortest of these waits for a lane, seconds; None: of none it is known.

    0 is a lane that is due and has no room. Without a round that has begun, looking again at once
    finds none either: what else is due in a moment is looked at then.
    """
    known = [one for one in waits if one is not None]
    return min([one for one in known if one or began] or known, default=None)


@dataclass(slots=True)
class _Rest:
    """The state of a slice that has nothing to start.

    lingers_until: until then it learns of new work by itself, as its last round has just begun.
    hears: producers notify this slice directly, until `told_until` at the latest. listens:
    producers wake a worker through the broker from now on: only before this one sleeps, not once
    per entry. rung: the next look follows such a notification. sure: a lane has more than its round
    took, so the look after it finds work, and nobody need be heard before.
    """

    lingers_until: float = 0.0
    look_s: float = LOOK_S
    hears: bool = False
    told_until: float = 0.0
    listens: bool = False
    rung: bool = False
    sure: bool = False


class LaneSender:
    """One vendor's delivery in one process: takes ready lanes and sends them in parallel rounds.

    It ends when nothing is ready, or with the slice.
    """

    def __init__(
        self,
        runtime: Runtime,
        vendor: Vendor,
        in_flight_max: int,
        stopping: Callable[[], bool],
        shards: Sequence[Runtime] = (),
        wire: WireShare | None = None,
    ) -> None:
        """in_flight_max: pushes on the wire at once. stopping: the process is to end. shards: those
        whose lanes it serves together, `runtime` of the first; none: `runtime` alone. wire: where
        the senders of other shards share the pushes on the wire.
        """
        self.runtime = runtime
        self._shards = shards or [runtime]
        self.lanes = JointLanes(lambda: [one.lane_queues for one in self._shards])
        self.vendor = vendor
        self.in_flight_max = in_flight_max
        self.progress_at = time.monotonic()
        self._ends = stopping
        self.running = RunningRounds(
            self.lanes, vendor, in_flight_max, wire, lambda: node_of(runtime.redis)
        )
        self._doubted = False  # its store was away at the last look
        self._threads = RoundThreads(
            self._shards,
            vendor,
            self.running,
            self.lanes,
            lambda: self._ends() or self._stopping(),
        )
        self._stopping: Callable[[], bool] = lambda: False
        self._slice_lock = threading.Lock()
        self._called = threading.Event()
        self._woken = self.running.ended
        self._old = OldStreams(runtime, vendor)
        self._old_at = self._ledger_at = 0.0
        #: Shards, by number, whose ledger stream is full: nothing of theirs is sent.
        self.full: set[int] = set()
        self._turns = LaneTurns()
        self._owed: Sequence[Place] = ()
        self._took_at = 0.0
        self._full_since: float | None = None  # when there was first no room for one lane's most
        self._next_s: float | None = None  # until a lane that was taken is due again
        self._passes = False  # the last look has passed over lanes, for rounds at work or for room
        self._all_found = False  # the last look has found every lane that was due
        self._listens = False  # whoever brings work tells this worker, and nobody else

    # ------------------------------------------------------------ the slice

    def __call__(self, stopping: Callable[[], bool]) -> None:
        """Runs one slice of work, one at a time per process.

        A wake-up meanwhile takes effect at once.
        """
        self._called.set()
        self._woken.set()
        while self._called.is_set() and self._slice_lock.acquire(blocking=False):
            self._called.clear()
            try:
                self._slice(stopping)
            finally:
                self._slice_lock.release()

    def _slice(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        try:
            self.give_back_owed()
            if time.monotonic() >= self._old_at:
                self._old_at = time.monotonic() + (0.0 if self._old.adopt() else 1.0)
            if self._work(time.monotonic() + SLICE_S):
                self._listens = True
        except store_unavailable() as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self.vendor},
            )
        finally:
            self._stopping = self._ends
            with if_store_answers():  # else the mark runs out, and upkeep sends another
                self._listen_no_more()

    def _listen_no_more(self) -> None:
        """Stops listening to direct notifications and sends a wake-up in their place."""
        if self._listens:
            self._listens = False
            self.runtime.wakes.clear_wake_up(
                queue_of(DELIVERY, self.vendor)
            )  # nobody hears the one that is waiting
            self.runtime.send_wake_up(DELIVERY, self.vendor)

    def _work(self, end: float) -> bool:
        """Runs until the slice ends; True when more work is left."""
        rest = _Rest()
        while not self._stopping() and time.monotonic() < end:
            self._woken.clear()
            self.running.changed.clear()
            if self._called.is_set():  # cleared only then: a call right after is seen next time
                self._called.clear()
                rest.listens = False  # else who brings work next finds this wake-up still waiting
            self.progress_at = time.monotonic()
            if self._ledger_full():
                break
            busy = (
                self.running.busy()
            )  # asked first: the look passes over the lane of a round that ends meanwhile
            self._announces(rest, busy=busy)
            started, next_s = self.start()
            if started:
                listens = rest.listens and self.running.only_paced()
                # a round that is followed tells its end, and that is the next look
                look_s = LOOK_MAX_S if self.running.leads() else LOOK_S
                rest = _Rest(time.monotonic() + LINGER_S, look_s, listens=listens, sure=next_s == 0)
                if listens and next_s != 0:
                    self._sleep(next_s)
                elif self._all_taken(next_s):
                    self._woken.wait(min(look_s, next_s or look_s))
            elif not self._rests(rest, next_s, end, busy=busy):
                return (
                    next_s is not None and next_s < SLICE_S
                )  # due soon after this slice: another one waits for it
        self.flush()
        over = not self._stopping() and time.monotonic() >= end
        self._wait_for_rounds(
            0.2 if not self._stopping() else 2 * self.runtime.settings.send_timeout_s
        )
        return over

    def _all_taken(self, next_s: float | None) -> bool:
        """True when the look that has begun rounds left none that was due.

        A lane with more than its round took is due, and waits for that round.
        """
        if self._all_found and not self.running.any_paced():
            return True
        return next_s is None and not self.passes()

    def _announces(self, rest: _Rest, *, busy: bool) -> None:
        """After its last round, says whom producers tell: before a look, which is due anyway."""
        rung, rest.rung = rest.rung, False
        if busy or rung or rest.listens or not rest.lingers_until:
            return
        sure, rest.sure = rest.sure, False
        if sure:
            return
        queue = queue_of(DELIVERY, self.vendor)
        if time.monotonic() >= rest.lingers_until:
            self.runtime.wakes.clear_wake_up(queue)
            rest.listens, self._listens = True, False
        elif not rest.hears:
            self._hears(rest)

    def _hears(self, rest: _Rest) -> None:
        """From now on until the slice stops lingering, producers notify it directly."""
        seconds = max(rest.lingers_until - time.monotonic(), 0.0)
        self.runtime.wakes.listen(queue_of(DELIVERY, self.vendor), seconds)
        rest.hears = self._listens = True
        rest.told_until = time.monotonic() + seconds

    def _rests(self, rest: _Rest, next_s: float | None, end: float, *, busy: bool) -> bool:
        """Waits for more work; False when this slice has nothing to wait for."""
        streams, queue, now = self.runtime.wakes, queue_of(DELIVERY, self.vendor), time.monotonic()
        if now < rest.lingers_until and not rest.listens and not self.running.only_paced():
            if busy or self.running.busy():
                self._woken.wait(min(rest.look_s, next_s or LOOK_MAX_S))
                rest.look_s = min(2 * rest.look_s, LOOK_MAX_S)
            elif not rest.hears:
                self._hears(rest)  # and then once more a look: what came before rang for another
            else:
                return self._heard(rest, next_s, now)
        elif not rest.listens:
            streams.clear_wake_up(queue)
            rest.listens, self._listens = True, False
        elif busy or self.running.busy():
            self._sleep(next_s or None)
        elif next_s is not None and now + next_s < end:
            self._woken.wait(next_s or LOOK_MAX_S)  # 0: due, but rounds of slow lanes have its room
        else:
            return False
        return True

    def _heard(self, rest: _Rest, next_s: float | None, now: float) -> bool:
        """Waits for producers' notification or until a lane is due.

        False: none came until they began to send wake-ups instead, and the last look found nothing
        that waits: nothing can have come that neither saw.
        """
        whole = next_s is None and not self.passes()
        wait_s = min(rest.lingers_until - now, next_s or LINGER_S)
        wait_s = rest.told_until - now + HEARS_MORE_S if whole else wait_s
        rest.rung = self.runtime.wakes.hear(queue_of(DELIVERY, self.vendor), wait_s)
        rest.hears = False
        if rest.rung or not whole or time.monotonic() < rest.told_until:
            return True
        self._listens = False
        return False

    def _sleep(self, seconds: float | None) -> None:
        """Sleeps while rounds run, until a lane may be ready.

        seconds: until the next one is due; None: unknown. Whoever brings work calls this worker.
        """
        until = time.monotonic() + min(SLEEP_MAX_S if seconds is None else seconds, SLEEP_MAX_S)
        while (left := until - time.monotonic()) > 0:
            self._woken.wait(min(left, 0.5))
            self._woken.clear()
            woken = self._called.is_set() or self.running.changed.is_set()
            if woken or self.passes() or not self.running.busy() or self._stopping():
                return

    def passes(self) -> bool:
        """True when the end of any round may let the next look find more than the last one."""
        return self._passes

    def flush(self) -> None:
        self._threads.flush()

    def _ledger_lengths(self) -> list[int]:
        with self.runtime.redis.pipeline(transaction=False) as pipe:
            for one in self._shards:
                pipe.xlen(one.keys.stream(keys.LEDGER))
            return cast(list[int], pipe.execute())

    def _ledger_full(self) -> bool:
        """True while nothing may be sent: no shard's ledger stream has room."""
        if time.monotonic() < self._ledger_at:
            return False
        lengths = self._ledger_lengths()
        full = {shard for shard, one in enumerate(lengths) if one > STREAM_MAX}
        all_full = len(full) == len(lengths)
        if all_full or full - self.full:
            log.warning(
                "the ledger's stream is full: nothing is sent until it has room",
                extra={"queue": queue_of(DELIVERY, self.vendor), "count": len(full)},
            )
        self.full = full
        if not all_full:
            calm = max(lengths) < LEDGER_CALM_SHARE * STREAM_MAX
            self._ledger_at = time.monotonic() + (LEDGER_CALM_S if calm else LEDGER_LOOK_S)
        return all_full

    def _wait_for_rounds(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.running.busy() and time.monotonic() < end:
            self._woken.clear()
            self._woken.wait(0.05)

    # ------------------------------------------------------------ taking

    def start(self) -> tuple[bool, float | None]:
        """Begins rounds with the ready lanes; True if any, and the seconds until the next lane."""
        # Asked first: what is left of a round that ends meanwhile is not among those found, and
        # goes before the less urgent that are.
        ahead = self.running.ranks()
        self.running.look()
        if not self.running.asks(FULL_S, doubted=self._doubted):
            self._passes = True
            return False, GATHER_S
        self._doubted = True
        try:
            found = self._started(ahead)
            self._doubted = False
        finally:
            self.running.settles()
        return found

    def _started(self, ahead: dict[str, set[int]]) -> tuple[bool, float | None]:
        """As `start`. ahead: as `running` of LaneTurns."""
        most, occupied = self.running.room(self._threads.joins), self.running.occupied()
        self._passes = bool(occupied) or not all(most.values())
        if not any(most.values()):
            return False, None
        room = self.running.push_room()
        if (gathers_s := self._gathers_s(room)) > 0:
            return False, gathers_s
        found, next_s, waiting = self.lanes.pop(self.vendor, most, occupied, room, self.full)
        self._all_found = next_s != 0
        if not found:
            # nobody tells this sender when a lane has room again that others have filled
            return False, GATHER_S if self.running.full_lanes() else next_s
        self._owed = found
        chosen = self._in_turn(found, ahead)
        waits = [next_s] if len(chosen) == len(found) else [next_s, TURN_MS / 1000]
        if chosen:
            self._take(chosen, dict(zip(found, waiting, strict=True)))
            self._took_at = time.monotonic()
            waits.append(self._next_s)
            # of a lane in several shards some may have been left to its next round
            self._passes = self._passes or len(self._shards) > 1
        self._owed = ()
        return bool(chosen), soonest(waits, began=bool(chosen))

    def _gathers_s(self, room: PushRoom) -> float:
        """Seconds to wait for more room: many lanes are at work, and less than half of it is left.

        0 or less: none.
        """
        now = time.monotonic()
        full = room.pushes < room.each
        self._full_since = (self._full_since or now) if full else None
        if self.running.together() < LANES_AT_ONCE or room.pushes >= self.in_flight_max // 2:
            return 0.0
        until = self._took_at + GATHER_S
        if self._full_since is not None:  # rounds that end late hold up the others no longer
            until = max(until, self._full_since + FULL_S)
        return until - now

    def _in_turn(self, found: Sequence[Place], ahead: dict[str, set[int]]) -> list[Place]:
        """Each lane's most urgent entries; the less urgent are looked at again in a moment.

        ahead: as `running` of LaneTurns.
        """
        lanes = list(dict.fromkeys(place[:2] for place in found))
        turns = self._turns.chosen(lanes, ahead, time.monotonic())
        chosen = [place for place in found if place[:2] in turns]
        if len(chosen) < len(found):
            seconds, micros = cast(Any, self.runtime.redis.time())
            due_ms = seconds * 1000 + micros // 1000 + TURN_MS
            self.lanes.wake_at([(one, due_ms) for one in found if one not in chosen])
        return chosen

    def give_back_owed(self) -> None:
        """Lanes that were popped when Redis went away: they are ready again."""
        if self._owed:
            self.lanes.wake_at([(place, 0) for place in self._owed])
            self._owed = ()

    def _take(self, found: Sequence[Place], waiting: Mapping[Place, int]) -> None:
        """waiting: pushes that wait for each of these lanes, and for others."""
        lanes = {lane_id: self._lane(lane_id) for lane_id in {lane_id for lane_id, *_ in found}}
        rooms = self.running.pushes_room(found, [waiting[one] for one in found])
        wanted, takes = [], []
        for place, room in zip(found, rooms, strict=True):
            lane = lanes[place[0]]
            if lane is not None and lane.paused:
                paused = self.lanes.paused(place, Decision.LANE_PAUSED, SHUT_MOST_MS)
                takes.append((paused, room))
            else:
                terms = LaneTerms(gone=True) if lane is None else lane_terms(lane)
                wanted.append((place, terms, room))
        if wanted:
            taken_now = self.lanes.take(wanted, self._probe_s())
            takes += [(taken, one[2]) for taken, one in zip(taken_now, wanted, strict=True)]
        try:
            self._put_back([taken for taken, _ in takes], lanes)
        finally:  # what was taken is sent, whatever became of its lane's place
            begun: list[tuple[RunningRound, Lane | None]] = []
            for taken, room in self.running.rooms(takes):
                if not taken.entries:
                    continue
                running = self.running.begin(taken, room)
                if running is None:
                    self._threads.put_off(taken, lanes[taken.lane])
                    self._next_s = 0.0
                else:
                    begun.append((running, lanes[taken.lane]))
            self._threads.go(begun)

    def _lane(self, lane_id: str) -> Lane | None:
        app, vendor, business_id = lane_id.split(":", 2)
        key = (app, Vendor(vendor), business_id)
        catalog = self.runtime.catalog
        # Routing may see a new account a second before this process does: a removal is reported
        # only after a fresh look.
        return catalog.lane(*key) or catalog.fresh().lanes.get(key)

    def _probe_s(self) -> float:
        return max(PROBE_S, self.runtime.settings.send_timeout_s + 5.0)

    def _put_back(self, takes: Sequence[Taken], lanes: Mapping[str, Lane | None]) -> None:
        """Publishes at once when each lane may send next: other processes may continue with it."""
        due = [
            (taken, due_ms)
            for taken in takes
            if (due_ms := self._due_ms(taken, lanes.get(taken.lane))) is not None
        ]
        waits = [max(due_ms - taken.now_ms, 0) / 1000 for taken, due_ms in due]
        self._next_s = min(waits, default=None)
        self.lanes.wake_at([(place_of(taken), due_ms) for taken, due_ms in due])

    def _due_ms(self, taken: Taken, lane: Lane | None) -> int | None:
        if taken.what == "empty":
            return None
        if taken.what == "shut" and lane is not None:
            more = self._noted(lane, taken)
            if more or (more is not None and taken.due_ms <= taken.now_ms + 1):
                return taken.now_ms + 1  # all is noted: it may be asked again
            return min(max(taken.due_ms, taken.now_ms + 50), taken.now_ms + SHUT_MOST_MS)
        if taken.what == "wait":
            return max(taken.due_ms, taken.now_ms + 1)
        if taken.what == "probe":
            return taken.now_ms + AGAIN_MS if taken.left else None
        return max(taken.due_ms, taken.now_ms) if taken.left else None

    def _noted(self, lane: Lane, taken: Taken) -> bool | None:
        """Notes what waits behind a stopped lane as held; True when there may be more.

        None: it could not be. A server without free memory is only logged.
        """
        try:
            return self._threads.rounds_of(taken).unsent.note_outage(
                lane, taken, taken.why or Decision.UNAVAILABLE, NOTE_MAX
            )
        except RedisError as error:
            log.warning(
                "waiting pushes could not be marked", extra={"reason": type(error).__name__}
            )
            return None
