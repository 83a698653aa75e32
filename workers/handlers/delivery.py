"""One vendor's lanes in this process: the most urgent first, each in turn, without waiting."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, cast

from redis.exceptions import RedisError

from common import metrics
from common.model import Decision, Urgency, Vendor
from common.storage import keys, ledger
from common.storage.lane_queues import RANK, LaneEntry, LaneTerms, Taken
from common.storage.lanes import FLOWING, PROBE_S
from common.storage.streams import DELIVERIES_MAX
from common.storage.unavailable import STORE_UNAVAILABLE
from workers.app import DELIVERY, queue_of
from workers.delivery import deliver as delivery
from workers.delivery.lane import Lane
from workers.gate import lane_terms
from workers.handlers.joint_rounds import JointRounds, Wanted
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.old_streams import OldStreams
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds of one slice of work; then it wakes its worker again and makes room.
SLICE_S: Final = 5.0
#: Lanes that are sent to at the same time, and those of them that let their last round wait in
#: vain: these must not keep the others from being sent to; and what share of the pushes on the wire
#: each of them may have.
LANES_AT_ONCE: Final = 32
#: The same of a vendor whose lanes' rounds go together, and how many pushes on the wire there must
#: be for each: as many as lanes had of late, within these bounds.
LANES_TOGETHER: Final = 250
PUSHES_EACH, PUSHES_EACH_MIN = 16, 2
#: Longest wait after a take, seconds, for more room when many lanes are active and little room is
#: left; otherwise the rounds would split into many small ones.
GATHER_S: Final = 0.01
#: Weight of one take's lanes in that average.
LEARN_SHARE: Final = 0.25
SILENT_MAX, SILENT_SHARE = 8, 1 / 32
#: Share of the pushes on the wire, and of the lanes at once, for groups and bulk: a call always
#: finds room.
OTHERS_SHARE: Final = 0.6
#: Share of the pushes on the wire for one lane: the first round of a hanging lane must leave room.
LANE_SHARE: Final = 0.8
#: Longest wait, seconds, of a lane's less urgent rounds for its more urgent ones, and the interval
#: of the check.
TURN_S: Final = 0.3
TURN_MS: Final = 20
#: Concurrent rounds of one lane and urgency in a process when the lane is at its rate.
PACED_MAX: Final = 2
#: Seconds after its last round in which a slice learns of new work without the broker: a wake-up
#: through the broker costs both ends milliseconds.
LINGER_S: Final = 0.25
#: Interval of the look for work while rounds run: the first one, doubled each time up to the
#: second.
LOOK_S, LOOK_MAX_S = 0.008, 0.032
#: Seconds between two looks at the depth of the ledger's stream.
LEDGER_LOOK_S: Final = 0.05
#: Delay of the next look at a lane that could not be served.
AGAIN_MS: Final = 500
#: Interval of the look at a stopped lane: new entries are marked as held, and a lane that an
#: operator has resumed sends within 2 s.
SHUT_MOST_MS: Final = 1_500
#: Entries marked in one look as held by a stopped lane.
NOTE_MAX: Final = 50
#: Entries are kept for their sender so often, three times within their lease.
RENEW_S: Final = 4.0
#: An entry with more dead senders is handled alone: its neighbours are not blamed for it.
SUSPECT_AFTER: Final = 2

_URGENT = frozenset({Urgency.CALL, Urgency.CHAT})


@dataclass(slots=True)
class RunningRound:
    """One running round. most: pushes it may have on the wire.

    paced: it sends at its lane's rate; the next round may begin before its last answer, and still
    follows it. together: with rounds of other lanes. lost: names of entries that another sender has
    claimed.
    """

    taken: Taken
    entries: list[LaneEntry]
    most: int
    silent: bool = False
    paced: bool = False
    together: bool = False
    lost: set[str] = field(default_factory=set)
    renewed: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Rest:
    """The state of a slice that has nothing to start.

    lingers_until: until then it learns of new work by itself, as its last round has just begun.
    hears: producers notify this slice directly. listens: producers wake a worker through the broker
    from now on: only before this one sleeps, not once per entry.
    """

    lingers_until: float = 0.0
    look_s: float = LOOK_S
    hears: bool = False
    listens: bool = False


#: In place of a round that is over.
_ELSEWHERE: Final = RunningRound(Taken("", Urgency.BULK, "", "empty", 0), [], 0)


class LaneSender:
    """One vendor's delivery in one process: takes ready lanes and sends them in parallel rounds.

    It ends when nothing is ready, or with the slice.
    """

    def __init__(
        self, runtime: Runtime, vendor: Vendor, in_flight_max: int, stopping: Callable[[], bool]
    ) -> None:
        """in_flight_max: pushes on the wire at once. stopping: the process is to end."""
        self.runtime = runtime
        self.vendor = vendor
        self.in_flight_max = in_flight_max
        self.progress_at = time.monotonic()
        self._ends = stopping
        self._rounds = LaneRounds(runtime, lambda: self._ends() or self._stopping())
        self._joint = JointRounds(runtime, self._rounds, self._over, self._apart, self._slow)
        self._stopping: Callable[[], bool] = lambda: False
        self._pool = ThreadPoolExecutor(LANES_TOGETHER, thread_name_prefix=f"lanes-{vendor}")
        self._lock = threading.Lock()
        self._running: dict[str, RunningRound] = {}  # by the take's word
        self._silent: set[str] = set()
        self._slice_lock = threading.Lock()
        self._called = threading.Event()
        self._woken = threading.Event()
        self._old = OldStreams(runtime, vendor)
        self._old_at = self._ledger_at = 0.0
        self._passed: dict[tuple[str, Urgency], float] = {}
        self._owed: Sequence[tuple[str, Urgency]] = ()
        self._each = float(PUSHES_EACH)
        self._took_at = 0.0
        self._listens = False  # whoever brings work tells this worker, and nobody else
        self._leader: LaneSender | None = (
            None  # the one for all shards, if this one is of a shard among several
        )
        self._keeper: threading.Thread | None = None

    # ------------------------------------------------------------ of a shard among several

    def joins(self, leader: LaneSender) -> None:
        """Lets the leader begin this one's rounds, with shared bound, threads and wake-ups.

        They also share their knowledge of slow lanes.
        """
        self._leader = leader
        self._pool, self._woken, self._silent = leader._pool, leader._woken, leader._silent

    def slice_until(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping

    def own_rounds(self) -> list[RunningRound]:
        with self._lock:
            return list(self._running.values())

    def rounds_at_work(self) -> list[RunningRound]:
        """Those that share the bound of pushes on the wire."""
        return self.own_rounds() if self._leader is None else self._leader.rounds_at_work()

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
        except STORE_UNAVAILABLE as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self.vendor},
            )
        finally:
            self._stopping = self._ends
            with contextlib.suppress(
                *STORE_UNAVAILABLE
            ):  # else the mark runs out, and upkeep sends another
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
            self._called.clear()
            self.progress_at = time.monotonic()
            if self._ledger_full():
                break
            busy = (
                self._busy()
            )  # asked first: the look passes over the lane of a round that ends meanwhile
            started, next_s = self.start()
            if started:
                rest = _Rest(time.monotonic() + LINGER_S)
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

    def _rests(self, rest: _Rest, next_s: float | None, end: float, *, busy: bool) -> bool:
        """Waits for more work; False when this slice has nothing to wait for."""
        streams, queue, now = self.runtime.wakes, queue_of(DELIVERY, self.vendor), time.monotonic()
        if now < rest.lingers_until and not rest.listens:
            if busy or self._busy():
                self._woken.wait(min(rest.look_s, next_s or LOOK_MAX_S))
                rest.look_s = min(2 * rest.look_s, LOOK_MAX_S)
            elif not rest.hears:
                streams.listen(
                    queue
                )  # and then once more a look: what came before rang for another
                rest.hears = self._listens = True
            else:
                streams.hear(queue, min(rest.lingers_until - now, next_s or LINGER_S))
                rest.hears = False
        elif not rest.listens:
            streams.clear_wake_up(queue)
            rest.listens, self._listens = True, False
        elif busy or self._busy():
            self._woken.wait(min(0.5, next_s or 0.5))
        elif next_s is not None and now + next_s < end:
            self._woken.wait(next_s)
        else:
            return False
        return True

    def flush(self) -> None:
        self._rounds.flush()

    def _ledger_lengths(self) -> list[int]:
        streams = self.runtime.streams
        return [streams.redis.xlen(streams.keys.stream(keys.LEDGER))]

    def _ledger_full(self) -> bool:
        if time.monotonic() < self._ledger_at:
            return False
        if max(self._ledger_lengths()) <= ledger.STREAM_MAX:
            self._ledger_at = time.monotonic() + LEDGER_LOOK_S
            return False
        log.warning(
            "the ledger's stream is full: nothing is sent until it drains",
            extra={"queue": queue_of(DELIVERY, self.vendor)},
        )
        return True

    def _busy(self) -> bool:
        """True when a running round will end soon; rounds of slow lanes do not count."""
        return any(not one.silent for one in self.rounds_at_work())

    def _wait_for_rounds(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._busy() and time.monotonic() < end:
            self._woken.clear()
            self._woken.wait(0.05)

    # ------------------------------------------------------------ taking

    def start(self) -> tuple[bool, float | None]:
        """Begins rounds with the ready lanes; True if any, and the seconds until the next lane."""
        most = self._room()
        if not any(most.values()):
            return False, None
        gathers_s = self._took_at + GATHER_S - time.monotonic()
        if gathers_s > 0 and most[Urgency.CHAT] < LANES_AT_ONCE <= sum(
            one.together for one in list(self._running.values())
        ):
            return False, gathers_s
        found, next_s = self.runtime.lane_queues.pop(self.vendor, most, self._occupied())
        if found:
            self._owed = found
            chosen = self._in_turn(found)
            if chosen:
                self._take(chosen)
                self._took_at = time.monotonic()
            self._owed = ()
            return bool(chosen), TURN_MS / 1000
        return False, next_s

    def _in_turn(self, found: Sequence[tuple[str, Urgency]]) -> list[tuple[str, Urgency]]:
        """Each lane's most urgent entries; the less urgent follow after them, or after TURN_S."""
        first: dict[str, int] = {}  # by lane, the rank of the most urgent at work or chosen
        with self._lock:
            for one in self._running.values():
                if not one.paced and not one.silent:
                    first[one.taken.lane] = min(
                        RANK[one.taken.urgency], first.get(one.taken.lane, len(RANK))
                    )
        chosen, later, now = (
            list[tuple[str, Urgency]](),
            list[tuple[str, Urgency]](),
            time.monotonic(),
        )
        for lane, urgency in found:
            ahead = first.get(lane, len(RANK)) < RANK[urgency]
            if ahead and now - self._passed.setdefault((lane, urgency), now) < TURN_S:
                later.append((lane, urgency))
            else:
                self._passed.pop(
                    (lane, urgency), None
                )  # also where the lane turns out to be shut: it waits anew when it opens
                chosen.append((lane, urgency))
                first[lane] = min(RANK[urgency], first.get(lane, len(RANK)))
        if later:
            seconds, micros = cast(Any, self.runtime.redis.time())
            due_ms = seconds * 1000 + micros // 1000 + TURN_MS
            self.runtime.lane_queues.wake_at([(lane, urgency, due_ms) for lane, urgency in later])
        return chosen

    def _occupied(self) -> list[tuple[str, Urgency]]:
        """Lanes that this process takes no more of now: later entries must not overtake."""
        with self._lock:
            running = list(self._running.values())
        count = Counter((one.taken.lane, one.taken.urgency) for one in running)
        whole = {(one.taken.lane, one.taken.urgency) for one in running if not one.paced}
        return [name for name, number in count.items() if number >= PACED_MAX or name in whole]

    def give_back_owed(self) -> None:
        """Lanes that were popped when Redis went away: they are ready again."""
        if self._owed:
            self.runtime.lane_queues.wake_at(
                [(lane_id, urgency, 0) for lane_id, urgency in self._owed]
            )
            self._owed = ()

    def _take(self, found: Sequence[tuple[str, Urgency]]) -> None:
        lanes = {lane_id: self._lane(lane_id) for lane_id in {lane_id for lane_id, _ in found}}
        queues = self.runtime.lane_queues
        rooms = self._pushes_room([urgency for _, urgency in found])
        wanted, takes = [], []
        for (lane_id, urgency), room in zip(found, rooms, strict=True):
            lane = lanes[lane_id]
            if lane is not None and lane.paused:
                takes.append(
                    (queues.paused(lane_id, urgency, Decision.LANE_PAUSED, SHUT_MOST_MS), room)
                )
            else:
                wanted.append(
                    (
                        lane_id,
                        urgency,
                        LaneTerms(gone=True) if lane is None else lane_terms(lane),
                        room,
                    )
                )
        if wanted:
            taken_now = queues.take(wanted, self._probe_s())
            takes += [(taken, one[3]) for taken, one in zip(taken_now, wanted, strict=True)]
            self._learn_sizes(taken_now)
        try:
            self._put_back([taken for taken, _ in takes], lanes)
        finally:  # what was taken is sent, whatever became of its lane's place
            begun: list[tuple[RunningRound, Lane | None]] = []
            for taken, room in self._rooms(takes):
                if (
                    taken.entries
                    and (running := self._begun(taken, lanes[taken.lane], room)) is not None
                ):
                    begun.append((running, lanes[taken.lane]))
            self._go(begun)

    def _learn_sizes(self, taken_now: Sequence[Taken]) -> None:
        """Learns the size of a lane's take: many lanes with few pushes each share one round.

        The fixed cost of a round is then paid once.
        """
        sizes = [
            sum(entry.pushes for entry in taken.entries) + taken.left
            for taken in taken_now
            if taken.entries
        ]
        if sizes:
            mean = max(PUSHES_EACH_MIN, min(PUSHES_EACH, sum(sizes) / len(sizes)))
            self._each += LEARN_SHARE * (mean - self._each)

    def _lane(self, lane_id: str) -> Lane | None:
        app, vendor, business_id = lane_id.split(":", 2)
        key = (app, Vendor(vendor), business_id)
        catalog = self.runtime.catalog
        # Routing may see a new account a second before this process does: a removal is reported
        # only after a fresh look.
        return catalog.lane(*key) or catalog.fresh().lanes.get(key)

    def _probe_s(self) -> float:
        return max(PROBE_S, self.runtime.settings.send_timeout_s + 5.0)

    @cached_property
    def _joins(self) -> bool:
        return self._joint.serves(self.vendor)

    def _room(self) -> dict[Urgency, int]:
        """Lanes that may be taken now by urgency."""
        running = self.rounds_at_work()
        pushes = self.in_flight_max - sum(one.most for one in running)
        at_once = LANES_TOGETHER if self._joins else LANES_AT_ONCE
        lanes = min(
            at_once - len(running), max(LANES_AT_ONCE - len(running), int(pushes / self._each))
        )
        others = [one for one in running if one.taken.urgency not in _URGENT]
        spare = min(int(at_once * OTHERS_SHARE) - len(others), lanes)
        few = (
            max(0, spare)
            if pushes > 0
            and sum(one.most for one in others) < max(1, self.in_flight_max * OTHERS_SHARE)
            else 0
        )
        many = max(0, lanes) if pushes > 0 else 0
        return {Urgency.CALL: many, Urgency.CHAT: many, Urgency.GROUP: few, Urgency.BULK: few}

    def _pushes_room(self, urgencies: Sequence[Urgency]) -> list[int]:
        """The pushes that each of these lanes may have on the wire."""
        running = self.rounds_at_work()
        left = self.in_flight_max - sum(one.most for one in running)
        others = sum(one.most for one in running if one.taken.urgency not in _URGENT)
        each = min(left // len(urgencies), int(self.in_flight_max * LANE_SHARE))
        spare = int(self.in_flight_max * OTHERS_SHARE) - others
        return [
            max(1, each if urgency in _URGENT else min(each, spare // len(urgencies)))
            for urgency in urgencies
        ]

    def _rooms(self, takes: Sequence[tuple[Taken, int]]) -> list[tuple[Taken, int]]:
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

    def _put_back(self, takes: Sequence[Taken], lanes: Mapping[str, Lane | None]) -> None:
        """Publishes at once when each lane may send next: other processes may continue with it."""
        due = [(taken, self._due_ms(taken, lanes.get(taken.lane))) for taken in takes]
        self.runtime.lane_queues.wake_at(
            [(taken.lane, taken.urgency, due_ms) for taken, due_ms in due if due_ms is not None]
        )

    def _due_ms(self, taken: Taken, lane: Lane | None) -> int | None:
        if taken.what == "empty":
            return None
        if taken.what == "shut" and lane is not None:
            more = self._noted(lane, taken)
            return (
                taken.now_ms + 1
                if more
                else min(max(taken.due_ms, taken.now_ms + 50), taken.now_ms + SHUT_MOST_MS)
            )
        if taken.what == "wait":
            return max(taken.due_ms, taken.now_ms + 1)
        if taken.what == "probe":
            return taken.now_ms + AGAIN_MS if taken.left else None
        return max(taken.due_ms, taken.now_ms) if taken.left else None

    def _noted(self, lane: Lane, taken: Taken) -> bool:
        """Marks what waits behind a stopped lane as held; True when there may be more.

        A server without free memory is only logged.
        """
        try:
            return self._rounds.note_outage(
                lane, taken, taken.why or Decision.UNAVAILABLE, NOTE_MAX
            )
        except RedisError as error:
            log.warning("what waits could not be told so", extra={"reason": type(error).__name__})
            return False

    # ------------------------------------------------------------ rounds

    def _begun(self, taken: Taken, lane: Lane | None, most: int) -> RunningRound | None:
        """The round as a running one; None: it is put off.

        A lane whose last round waited in vain for answers runs in the slow share: few pushes on the
        wire, few such lanes at a time.
        """
        silent = taken.lane in self._silent
        if silent:
            at_work = self.rounds_at_work()
            crowd = sum(one.silent for one in at_work)
            twin = any(one.taken.lane == taken.lane for one in at_work)
            if crowd >= SILENT_MAX or twin:
                self._later(taken, lane)
                return None
            most = min(most, max(1, int(self.in_flight_max * SILENT_SHARE)))
        most = min(most, sum(entry.pushes for entry in taken.entries))
        running = RunningRound(taken, list(taken.entries), most, silent, taken.paced)
        with self._lock:
            self._running[taken.word] = running
            if self._keeper is None:
                self._keeper = threading.Thread(
                    target=self._renew, name=f"leases-{self.vendor}", daemon=True
                )
                self._keeper.start()
        return running

    def _go(self, begun: Sequence[tuple[RunningRound, Lane | None]]) -> None:
        """Rounds of many lanes together where they may, else each in a thread of its own."""
        together: list[Wanted] = []
        for running, lane in begun:
            if (
                self._joins
                and lane is not None
                and not running.silent
                and self._joint.may_join(lane, running.taken)
            ):
                running.together = True
                together.append(
                    Wanted(running.taken, running.entries, lane, running.most, running.lost)
                )
            else:
                self._pool.submit(self._round, running, lane)
        if len(together) == 1:
            self._apart(together[0])
        elif together:
            self._pool.submit(self._together, together)

    def _together(self, wanted: Sequence[Wanted]) -> None:
        started = time.perf_counter()
        try:
            self._joint.send(wanted)
        except STORE_UNAVAILABLE as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self.vendor},
            )
            for one in wanted:
                if self._running.get(one.taken.word, _ELSEWHERE).together:
                    self._give_back(one.taken, one.entries)
        except Exception as error:  # they are taken again when their leases end, and counted
            log.exception(
                "rounds broke", extra={"queue": self.vendor, "reason": type(error).__name__}
            )
        finally:
            metrics.STAGE_SECONDS.labels(DELIVERY).observe(time.perf_counter() - started)
            self._forget(
                [
                    one.taken.word
                    for one in wanted
                    if self._running.get(one.taken.word, _ELSEWHERE).together
                ]
            )

    def _over(self, rounds: Sequence[tuple[Wanted, delivery.Delivered]]) -> None:
        """These are written: their lanes may go on."""
        for one, done in rounds:
            self._learn(one.taken.lane, done)
        self._forget([one.taken.word for one, _ in rounds])
        try:
            self.runtime.lane_queues.wake_at(
                [self._rest_due(one.taken, done) for one, done in rounds if done.stays]
            )
        except (RedisError, OSError) as error:
            log.warning(
                "lanes wait until they are looked after", extra={"reason": type(error).__name__}
            )

    def _apart(self, one: Wanted) -> None:
        """This round is done in the general way."""
        running = self._running[one.taken.word]
        running.together = False
        self._pool.submit(self._round, running, one.lane)

    def _slow(self, one: Wanted, rest: Callable[[], delivery.Delivered]) -> None:
        """The rest of a round that waits for its lane's rate."""
        running = self._running[one.taken.word]
        running.together = False
        self._pool.submit(self._round, running, one.lane, rest)

    def _forget(self, words: Sequence[str]) -> None:
        with self._lock:
            for word in words:
                self._running.pop(word, None)
        self._woken.set()

    def _later(self, taken: Taken, lane: Lane | None) -> None:
        self.runtime.lane_queues.give_back(taken, taken.entries, taken.now_ms + AGAIN_MS)
        if taken.what == "probe" and lane is not None:  # it was not sent: another may be it
            self.runtime.lane_states.tell(
                lane.id, lane.credential.version, good=0, failed=0, refused=False
            )

    def _round(
        self,
        running: RunningRound,
        lane: Lane | None,
        rest: Callable[[], delivery.Delivered] | None = None,
    ) -> None:
        """rest: the remainder of a round that was prepared with others."""
        taken, started = running.taken, time.perf_counter()
        try:
            if rest is None:
                self._fit(running, lane)
            else:
                done = rest()
                self._learn(taken.lane, done)
                self.runtime.lane_queues.wake_at(
                    [self._rest_due(taken, done)] if done.stays else []
                )
        except STORE_UNAVAILABLE as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self.vendor},
            )
            self._give_back(taken, running.entries)
        except Exception as error:  # it is taken again when its lease ends, and counted
            log.exception(
                "a round broke", extra={"queue": self.vendor, "reason": type(error).__name__}
            )
        finally:
            metrics.STAGE_SECONDS.labels(DELIVERY).observe(time.perf_counter() - started)
            self._forget([taken.word])

    def _fit(self, running: RunningRound, lane: Lane | None) -> None:
        """Handles entries that outlived their senders: suspects go alone.

        An entry delivered too often is split or dead-lettered.
        """
        fit: list[LaneEntry] = []
        for entry in list(running.entries):
            if entry.deliveries > DELIVERIES_MAX:
                self._split_or_dead_letter(
                    running,
                    entry,
                    f"poison: handed out {entry.deliveries} times and never finished",
                )
            else:
                fit.append(entry)
        suspects = [entry for entry in fit if entry.deliveries > SUSPECT_AFTER]
        fit = [entry for entry in fit if entry.deliveries <= SUSPECT_AFTER]
        if suspects and (fit or len(suspects) > 1):  # their turn comes, one by one
            alone = [] if fit else suspects[:1]
            self._give_back(running.taken, [entry for entry in suspects if entry not in alone])
            running.entries = fit or alone
        elif suspects:
            running.entries = suspects
        else:
            running.entries = fit
        if running.entries:
            self._send(running, lane)

    def _send(self, running: RunningRound, lane: Lane | None) -> None:
        try:
            self._sent(running, running.entries, lane)
        except STORE_UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an entry breaks, the others must go on
            self._isolate(running, lane, error)

    def _sent(self, running: RunningRound, entries: Sequence[LaneEntry], lane: Lane | None) -> None:
        taken = running.taken
        if lane is None:
            _, vendor, business_id = taken.lane.split(":", 2)
            self._rounds.without_account(taken, entries, Vendor(vendor), business_id)
            return
        done = self._rounds.send(taken, entries, lane, running.most, running.lost)
        self._learn(taken.lane, done)
        self.runtime.lane_queues.wake_at([self._rest_due(taken, done)] if done.stays else [])
        if taken.what == "probe" and self.runtime.lane_states.peek(taken.lane).state == FLOWING:
            self.runtime.lane_queues.wake_now(taken.lane)  # all that waits behind it

    @staticmethod
    def _rest_due(taken: Taken, done: delivery.Delivered) -> tuple[str, Urgency, int]:
        """The lane's next due time for what returned to the queue."""
        return (
            taken.lane,
            taken.urgency,
            taken.now_ms if done.on_hold else max(taken.due_ms, taken.now_ms),
        )

    def _isolate(self, running: RunningRound, lane: Lane | None, error: Exception) -> None:
        """Isolates an entry that breaks the round: each entry alone, then each push alone."""
        if len(running.entries) == 1:
            self._broken(running, running.entries[0], error)
            return
        for entry in list(running.entries):
            if entry.id in running.lost:
                continue
            try:
                self._sent(running, [entry], lane)
                self._past(running, entry)
            except STORE_UNAVAILABLE:
                raise
            except Exception as own:  # noqa: BLE001
                self._broken(running, entry, own)

    def _broken(self, running: RunningRound, entry: LaneEntry, error: Exception) -> None:
        log.error(
            "an entry broke its round",
            extra={"queue": self.vendor, "reason": type(error).__name__},
            exc_info=error,
        )
        self._split_or_dead_letter(running, entry, f"broke_stage: {type(error).__name__}")

    def _split_or_dead_letter(self, running: RunningRound, entry: LaneEntry, reason: str) -> None:
        if not self._rounds.split(running.taken, entry):
            self._rounds.dead_letter(running.taken, entry, reason)
        self._past(running, entry)

    @staticmethod
    def _past(running: RunningRound, entry: LaneEntry) -> None:
        running.entries = [one for one in running.entries if one is not entry]

    def _give_back(self, taken: Taken, entries: Sequence[LaneEntry]) -> None:
        try:
            self.runtime.lane_queues.give_back(taken, entries, taken.now_ms)
        except (RedisError, OSError) as error:
            log.warning(
                "entries come back by themselves when their lease ends",
                extra={"reason": type(error).__name__},
            )

    def _learn(self, lane: str, done: delivery.Delivered) -> None:
        waited = sum(outcome.status in ("timeout", "access") for _, outcome in done.outcomes)
        if waited and waited * 2 >= len(done.outcomes) + done.accepted:
            self._silent.add(lane)
        elif done.outcomes or done.accepted:
            self._silent.discard(lane)

    def _renew(self) -> None:
        """Ends with the process."""
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
        entries = list(one.entries)
        try:
            lost = set(self.runtime.lane_queues.renew(one.taken, entries))
        except (RedisError, OSError) as error:
            log.warning("entries could not be kept", extra={"reason": type(error).__name__})
            return
        one.renewed = time.monotonic()
        if (
            lost and one.taken.word in self._running
        ):  # else it has just ended, and they are nobody's
            log.warning(
                "another sender took entries over", extra={"count": len(lost), "queue": self.vendor}
            )
            one.lost |= lost
            one.entries = [entry for entry in entries if entry.id not in lost]
