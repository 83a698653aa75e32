"""Entries of one lane -> requests or decisions, all results written in one step."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
from redis.exceptions import RedisError

from common import metrics
from common.clock import now_ms
from common.contracts import Batch, Push, Target, decode_batch, encode
from common.ledger_records import DeadRecord, Record
from common.model import Decision, MessageClass, Urgency, Vendor, Verdict
from common.storage import sql
from common.storage.admission import ROUND_S
from common.storage.claims import KEEP_S as CLAIM_KEEP_S
from common.storage.claims import day_of
from common.storage.delayed import as_new, retry_member
from common.storage.lane_queues import LaneCommit, LaneEntry, NewBatch, RateLease, Taken
from common.storage.redis import best_effort
from common.storage.screens import KEEP_MIN_MS
from workers.app import DELIVERY
from workers.delivery import alike, usual
from workers.delivery import deliver as delivery
from workers.delivery import settle as settling
from workers.delivery.coalescing import group_of, joins
from workers.delivery.lane import Lane
from workers.delivery.outcomes import GUARDED
from workers.delivery.pacing import LeasedPace, Pacer
from workers.delivery.settle import attempt_of, kept, trace_text
from workers.delivery.work import Hold, PendingPush
from workers.handlers import alike_rounds
from workers.handlers.ledger_rows import FOLLOW_UP_KINDS, delivery_row, pending_row, work_row
from workers.handlers.replies import tell_ended
from workers.held_tokens import accepted_by_cohort, held
from workers.late_binding import given_back, on_screens, uncounted
from workers.routing.fan_out import parts
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds after which counts of good rounds reach the token guard.
FLUSH_S = 1.0
#: A round of calls or chats that lost tokens as it was late leases more, so often.
LEASES_MORE = 3
#: Seconds of waiting for Redis to write the vendor's answers, in a running process and in one that
#: is stopping, and the interval; unwritten answers would mean that all is sent again.
WRITE_PATIENCE_S, LAST_PATIENCE_S, WRITE_AGAIN_S = 30.0, 5.0, 0.3
#: Seconds that probes of a stopped lane wait for the newest push of their conversation; then one
#: goes as it is.
PROBE_PATIENCE_S = 3.0


@dataclass(slots=True)
class OpenEntry:
    """One entry and its pushes in order; left: those that stay in it, with their current target."""

    entry: LaneEntry
    urgency: Urgency
    batch: Batch
    works: list[PendingPush]
    left: dict[int, Target] = field(default_factory=dict)  # by the work's place in the entry
    changed: bool = False

    def rest(self) -> NewBatch:
        """The remaining pushes, grouped again by notification."""
        notes: dict[int, tuple[PendingPush, list[Target]]] = {}
        for place, target in sorted(self.left.items()):
            work = self.works[place]
            notes.setdefault(id(work.note), (work, []))[1].append(target)
        pushes = tuple(
            Push(note=work.note, targets=tuple(targets)) for work, targets in notes.values()
        )
        batch = msgspec.structs.replace(self.batch, pushes=pushes)
        return as_new(batch, self.urgency, encode(batch))


def opened(taken: Taken, entries: Sequence[LaneEntry], *, sends: bool = True) -> list[OpenEntry]:
    """The entries with their pushes; the cause of a wait in the queue is known by place there."""
    found, hold = [], Hold(taken.lane, taken.word, sends)
    for entry in entries:
        batch = decode_batch(entry.blob)
        works = settling.works_of(entry.id, batch, hold)
        one = OpenEntry(entry, taken.urgency, batch, works)
        if entry.order <= taken.noted and taken.noted_why:
            for work in works:
                if work.target.held_by is None:
                    work.target = msgspec.structs.replace(work.target, held_by=taken.noted_why)
        if entry.order <= taken.slowed:
            for work in works:
                work.kept_by = Decision.THROTTLED
        found.append(one)
    return found


@dataclass(frozen=True, slots=True)
class HeldEntry:
    """One entry whose pushes are kept elsewhere."""

    entry: LaneEntry


Held = TypeVar("Held", OpenEntry, HeldEntry)


@dataclass(slots=True)
class OpenRound:
    """A round that has begun: its entries, the pushes that are tried, and their pace."""

    taken: Taken
    lane: Lane
    open_: list[OpenEntry]
    chosen: list[PendingPush]
    state: delivery.BreakerProbe | None
    pace: LeasedPace
    leases: list[RateLease]


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Suppresses errors after the write: an error here must not cause a second send."""
    try:
        yield
    except Exception as error:
        log.exception("a round could not be counted", extra={"reason": type(error).__name__})


class LaneRounds:
    """Rounds of one process. stopping: it is to end."""

    def __init__(self, runtime: Runtime, stopping: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._stopping = stopping
        self._worlds: dict[Vendor, delivery.DeliveryPorts] = {}
        self._good: dict[
            str, tuple[int, Counter[str]]
        ] = {}  # by lane: answers, and accepted pushes by cohort
        self._good_lock = threading.Lock()
        self._flush_at = 0.0
        self._trying: dict[str, float] = {}  # since when a lane's probes have sent nothing, by lane
        self.round_s = max(ROUND_S, runtime.settings.send_timeout_s + 5.0)

    def world(self, vendor: Vendor) -> delivery.DeliveryPorts:
        if vendor not in self._worlds:
            self._worlds[vendor] = self._runtime.delivery(vendor)
        return self._worlds[vendor]

    # ------------------------------------------------------------ sending

    def send(
        self,
        taken: Taken,
        entries: Sequence[LaneEntry],
        lane: Lane,
        most: int,
        lost: Collection[str] = (),
    ) -> delivery.Delivered:
        """Sends one round: at most `most` pushes, as many as the lane's rate has leased.

        The rest stays in its entry. lost: names of entries that another sender claims meanwhile;
        their unsent pushes are that sender's.
        """
        packed = alike_rounds.read(taken, entries, lane, most)
        if packed is not None:
            return self._send_alike(packed, taken, entries, lane, lost)
        one = self.open(taken, entries, lane, most)
        turn = delivery.LaneTurn(one.state, one.pace, lost, self._waits_for_newest(lane, one.state))
        deliver = usual.tried if self._may_be_usual(one) else delivery.deliver
        return self._ended(one, deliver(one.chosen, lane, self.world(lane.vendor), turn))

    def _send_alike(
        self,
        packed: alike.AlikeRound,
        taken: Taken,
        entries: Sequence[LaneEntry],
        lane: Lane,
        lost: Collection[str],
    ) -> delivery.Delivered:
        """As `send`, of batches of usual pushes as they were packed."""
        one = self._paced(taken, lane)
        turn, world = delivery.LaneTurn(None, one.pace, lost), self.world(lane.vendor)
        done = alike.tried(packed, lane, world, turn)
        if done is not None:
            self._trying.pop(lane.id, None)
            if done.whole:
                self._end_alike(one, packed, entries)
                return done
            one.open_, one.chosen = _others(packed, entries, taken.urgency), list(packed.others)
            return self._ended(one, done, packed)
        one.open_ = opened(taken, entries)
        one.chosen = [work for entry in one.open_ for work in entry.works]
        return self._ended(one, alike.generally(packed, one.chosen, lane, world, turn))

    def _ended(
        self, one: OpenRound, done: delivery.Delivered, packed: alike.AlikeRound | None = None
    ) -> delivery.Delivered:
        """The round is written and counted. packed: of which some were accepted, beside the round's
        works.
        """
        taken, lane = one.taken, one.lane
        if done.requests:
            self._trying.pop(lane.id, None)
        if done.whole:
            self._end_whole(one, done)
            return done
        written = replace(self.settle(one, done), packed=packed)
        self._write(taken, one.open_, written, WRITE_PATIENCE_S if done.requests else 0.0)
        with _counted():
            if packed is not None:
                self._good_round(
                    lane, done.accepted, alike_rounds.cohorts(packed, lane, written.now)
                )
                _count_accepted(lane, alike_rounds.stored_by_class(packed), written.now)
            if any(outcome.verdict in GUARDED for _, outcome in done.outcomes):
                self.flush()  # the guard judges refused tokens beside what was accepted
            self.after(
                written, {id(retired.work) for retired in self._retire(lane, done, written.settled)}
            )
        return done

    @staticmethod
    def _may_be_usual(one: OpenRound) -> bool:
        """True when the round may take the short path.

        It needs whole entries on their first delivery, and a lane that is limited by its rate only.
        """
        first = all(entry.entry.deliveries == 1 for entry in one.open_)
        return (
            first
            and len(one.chosen) == sum(len(entry.works) for entry in one.open_) > 0
            and usual.fits(one.lane)
        )

    def _end_whole(self, one: OpenRound, done: delivery.Delivered) -> None:
        """Writes and counts a round whose pushes were all accepted at their first attempt.

        It does the work of `settle`, `_commit` and `after` where nothing waits, goes again or is
        refunded.
        """
        lane, now = one.lane, now_ms()
        vendor, business_id, unused = lane.vendor, lane.credential.business_id, self._unused(one)

        def commit_of(mine: Sequence[OpenEntry], lost: set[str]) -> LaneCommit:
            owners = {entry.entry.id for entry in mine}
            outcomes = (
                [(work, outcome) for work, outcome in done.outcomes if work.entry in owners]
                if lost
                else done.outcomes
            )
            rows = [
                work_row(
                    work,
                    vendor,
                    business_id,
                    Decision.ACCEPTED,
                    (attempt_of(work, outcome, now),),
                    now,
                    trace_text(outcome),
                )
                for work, outcome in outcomes
            ]
            keys, ended = self._runtime.keys, [entry.entry for entry in mine]
            size, taken = (
                sum(len(entry.blob) for entry in ended),
                [keys.taken(entry.id) for entry in ended],
            )
            return LaneCommit(
                ended=ended, record=encode(rows), bytes_more=-size, unused=unused, taken=taken
            )

        self._write_as(one.taken, one.open_, commit_of, business_id, WRITE_PATIENCE_S)
        with _counted():
            self._good_round(lane, len(done.outcomes), accepted_by_cohort(done, lane, now))
            self._count_whole(one, len(done.outcomes), stored_by_class(done), now)

    def _end_alike(
        self, one: OpenRound, packed: alike.AlikeRound, entries: Sequence[LaneEntry]
    ) -> None:
        """The same for batches of usual pushes as they were packed."""
        lane, now, keys, unused = one.lane, now_ms(), self._runtime.keys, self._unused(one)

        def commit_of(mine: Sequence[HeldEntry], lost: set[str]) -> LaneCommit:
            ended = [held.entry for held in mine]
            size, taken = (
                sum(len(entry.blob) for entry in ended),
                [keys.taken(entry.id) for entry in ended],
            )
            record = encode(alike_rounds.rows(packed, lane, now, lost))
            return LaneCommit(
                ended=ended, record=record, bytes_more=-size, unused=unused, taken=taken
            )

        self._write_as(
            one.taken,
            [HeldEntry(entry) for entry in entries],
            commit_of,
            lane.credential.business_id,
            WRITE_PATIENCE_S,
        )
        with _counted():
            self._good_round(lane, len(packed.rows), alike_rounds.cohorts(packed, lane, now))
            self._count_whole(one, len(packed.rows), alike_rounds.stored_by_class(packed), now)

    def _count_whole(
        self, one: OpenRound, number: int, stored: Mapping[MessageClass, Sequence[int]], now: int
    ) -> None:
        """Counts a round whose pushes were all accepted; stored: by class the events' times, ms."""
        if one.taken.watched:
            self.world(one.lane.vendor).breaker.report(one.lane, number, 0, False, None)
        _count_accepted(one.lane, stored, now)
        self._flush_due()

    def _waits_for_newest(self, lane: Lane, state: delivery.BreakerProbe | None) -> bool:
        """True while a probe may wait for its conversation's newest push, perhaps far behind."""
        if state is None:
            return True
        return (
            time.monotonic() - self._trying.setdefault(lane.id, time.monotonic()) < PROBE_PATIENCE_S
        )

    def open(self, taken: Taken, entries: Sequence[LaneEntry], lane: Lane, most: int) -> OpenRound:
        """The entries read, and which of their pushes are tried; the others stay."""
        open_ = opened(taken, entries)
        works = [work for one in open_ for work in one.works]
        most = min(most, 1 if taken.what == "probe" else most, len(works))
        if lane.limits.rate_unit != "request":
            most = min(most, taken.tokens)
        state = (
            delivery.BreakerProbe(Decision(taken.why or Decision.UNAVAILABLE))
            if taken.what == "probe"
            else None
        )
        one = self._paced(taken, lane)
        one.open_, one.state = open_, state
        one.chosen = self._probe_of(works) if state is not None else works[:most]
        return one

    def _paced(self, taken: Taken, lane: Lane) -> OpenRound:
        """A round without its entries."""
        leases: list[RateLease] = []
        again = LEASES_MORE if taken.urgency in (Urgency.CALL, Urgency.CHAT) else 0
        pace = LeasedPace(
            taken.burst,
            lambda tokens, requests: self._leased(taken, tokens, requests, leases),
            again,
        )
        return OpenRound(taken, lane, [], [], None, pace, leases)

    def settle(self, one: OpenRound, done: delivery.Delivered) -> RoundEnd:
        """The round's results, to be written."""
        lane, open_ = one.lane, one.open_
        self._recollect(open_)
        works = [work for entry in open_ for work in entry.works]
        if len(one.chosen) < len(works):
            mine = {id(work) for work in one.chosen}
            self._keep(
                open_, {id(work): kept(work, work.target) for work in works if id(work) not in mine}
            )
        self._keep(open_, {id(work): kept(work, work.target) for work in done.left})
        now = now_ms()
        settled = settling.settle(
            done, lane, now, self._runtime.settings.retry_first_s, random.random
        )
        settled.waits = [wait_kept(wait) for wait in settled.waits]
        self._keep(
            open_,
            {id(wait.work): wait.target for wait in settled.waits if wait.delay_s is None},
            changed=True,
        )
        done.stays = any(entry.left for entry in open_)
        return RoundEnd(
            lane.vendor, lane.credential.business_id, now, settled, done, lane, self._unused(one)
        )

    @staticmethod
    def _unused(one: OpenRound) -> tuple[float, ...]:
        """The unused part of the round's tokens, as in LaneCommit."""
        pacer = one.pace.pacer
        return (
            (one.leases[-1].last_s, pacer.unused, one.leases[-1].rate_per_s)
            if pacer is not None and pacer.unused > 0
            else ()
        )

    def after(self, end: RoundEnd, retired: Collection[int] = ()) -> None:
        """Sends the replies and counts the written results."""
        tell_ended(self._runtime, end.vendor, end.business_id, end.settled.ended, retired)
        if end.lane is not None:
            count(end.lane, end.done, end.settled, end.now)

    def write_all(self, rounds: Sequence[tuple[OpenRound, RoundEnd]]) -> None:
        """Rounds of many lanes, each written in one step, all in one round trip; then counted. What
        can't be written so goes singly.
        """
        commits = [
            (one.taken, self._commit(one.taken, one.open_, end, set())) for one, end in rounds
        ]
        try:
            gone = self._runtime.lane_queues.commit_all(commits)
        except (
            RedisError,
            OSError,
        ):  # some may be written: they are another's then, and nothing is written twice
            gone = [[""]] * len(commits)
        for (one, end), lost in zip(rounds, gone, strict=True):
            if lost:
                self._write(
                    one.taken, one.open_, end, WRITE_PATIENCE_S if end.done.requests else 0.0
                )
        with _counted():
            self._count_all([end for _, end in rounds])

    def _count_all(self, ends: Sequence[RoundEnd]) -> None:
        for end in ends:
            if end.lane is None:
                continue
            refused = any(outcome.verdict in GUARDED for _, outcome in end.done.outcomes)
            retired: set[int] = set()
            if refused or end.settled.retires:
                self.flush()
                retired = {id(one.work) for one in self._retire(end.lane, end.done, end.settled)}
            elif end.done.outcomes:
                self._good_round(
                    end.lane,
                    len(end.done.outcomes),
                    accepted_by_cohort(end.done, end.lane, end.now),
                )
            self.after(end, retired)
        self._flush_due()

    def _good_round(self, lane: Lane, number: int, more: Counter[str]) -> None:
        """Counts a round without a refused token for the guard, reported later.

        more: accepted pushes by cohort.
        """
        with self._good_lock:
            total, accepted = self._good.get(lane.id, (0, Counter()))
            self._good[lane.id] = (total + number, accepted + more)

    def _flush_due(self) -> None:
        if time.monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Reports the accepted pushes of many lanes to the token guard, at the latest when idle."""
        self._flush_at = time.monotonic() + FLUSH_S
        with self._good_lock:
            good, self._good = self._good, {}
        if good:
            with best_effort("what the guard of tokens counts"):
                self._runtime.guard.count_good([(lane, *counts) for lane, counts in good.items()])

    def _leased(self, taken: Taken, tokens: int, requests: int, leases: list[RateLease]) -> Pacer:
        """Leases a few tokens more than needed: a late sender loses some; the rest is returned."""
        spare = 0 if taken.paced else max(1, tokens // 20)
        lease = self._runtime.lane_queues.lease(taken, tokens + spare, requests, self.round_s)
        leases.append(lease)
        return Pacer(
            lease.tokens, lease.first_s, lease.rate_per_s, lease.lim_s, time.monotonic, time.sleep
        )

    @staticmethod
    def _probe_of(works: Sequence[PendingPush]) -> list[PendingPush]:
        """The push that has failed least as the probe: one that always fails would keep it open."""
        return [min(works, key=lambda work: work.target.tried)] if works else []

    @staticmethod
    def _keep(
        open_: Iterable[OpenEntry], targets: dict[int, Target], *, changed: bool = False
    ) -> None:
        if not targets:
            return
        for one in open_:
            for place, work in enumerate(one.works):
                if id(work) in targets:
                    one.left[place] = targets[id(work)]
                    one.changed = one.changed or changed or targets[id(work)] is not work.target

    def _recollect(self, open_: Sequence[OpenEntry]) -> None:
        """Loads what an earlier sender took for pushes that were not attempted in this round."""
        again = [one for one in open_ if any(work.repeated and work.by_entry for work in one.works)]
        for one, record in zip(
            again, self._runtime.claims.taken([one.entry.id for one in again]), strict=True
        ):
            recollect([work for work in one.works if not work.leased], record)

    # ------------------------------------------------------------ deciding without sending

    def without_account(
        self, taken: Taken, entries: Sequence[LaneEntry], vendor: Vendor, business_id: str
    ) -> None:
        """The credential was removed while its pushes were on their way."""
        open_, now = opened(taken, entries), now_ms()
        ended = settling.without_lane([work for one in open_ for work in one.works])
        self._end(taken, open_, vendor, business_id, ended, now)

    def review(self, taken: Taken, words: str = "") -> int:
        """Decides withdrawn and expired pushes without sending; returns the number of decisions.

        words: not empty: all other pushes are decided `throttled`, with this note.
        """
        _, vendor, business_id = taken.lane.split(":", 2)
        open_, now = opened(taken, taken.entries, sends=False), now_ms()
        done = delivery.review(
            [work for one in open_ for work in one.works], self.world(Vendor(vendor))
        )
        if words:
            done.decided += [(work, Decision.THROTTLED, words) for work in done.left]
            done.left = []
        self._keep(open_, {id(work): kept(work, work.target) for work in done.left})
        ended = settling.decided(done)
        self._end(taken, open_, Vendor(vendor), business_id, ended, now, done)
        return len(ended)

    def _end(
        self,
        taken: Taken,
        open_: Sequence[OpenEntry],
        vendor: Vendor,
        business_id: str,
        ended: list[settling.FinalOutcome],
        now: int,
        done: delivery.Delivered | None = None,
    ) -> None:
        settled = settling.Settled(ended=ended)
        self._write(
            taken,
            open_,
            RoundEnd(vendor, business_id, now, settled, done or delivery.Delivered(), None, ()),
            0.0,
        )
        for one in ended:
            if one.work.note.kind not in FOLLOW_UP_KINDS:
                metrics.DECISIONS.labels(vendor, one.decision, metrics.NONE).inc()
        tell_ended(self._runtime, vendor, business_id, ended)

    def dead_letter(self, taken: Taken, entry: LaneEntry, reason: str) -> None:
        """Dead-letters the entry with its reason, encrypted; its pushes get undecided rows.

        A replay decides them.
        """
        works, blob = self.undecided(entry)
        stream = f"send:{taken.lane.split(':')[1]}:{taken.urgency}"
        dead = DeadRecord(
            id=uuid.uuid4().hex,
            entry_id=entry.owner,
            stage=DELIVERY,
            reason=reason,
            app=None,
            at_ms=now_ms(),
            raw=self._runtime.vault.encrypt(blob),
            fields={"belt": stream},
        )
        commit = LaneCommit(ended=[entry], bytes_more=-len(entry.blob))
        records: list[Record] = [dead]
        for work, batch in works:
            records.append(
                work_row(
                    work,
                    batch.vendor,
                    batch.business_id,
                    None,
                    work.target.attempts,
                    now_ms(),
                    f"dead letter: {reason}",
                )
            )
            self._free(commit, work)
        commit.record = encode(records)
        commit.taken.append(self._runtime.keys.taken(entry.id))
        self._runtime.lane_queues.commit(taken, commit)
        log.error("an item became a dead letter", extra={"queue": DELIVERY, "reason": reason})

    def split(self, taken: Taken, entry: LaneEntry) -> bool:
        """Splits an entry that kills its senders by push; False if unreadable or single."""
        batch_works, _ = self.undecided(entry)
        if len(batch_works) < 2:
            return False
        commit = LaneCommit(bytes_more=-len(entry.blob), taken=[self._runtime.keys.taken(entry.id)])
        for work, batch in batch_works:
            one = msgspec.structs.replace(
                batch, pushes=(Push(note=work.note, targets=(work.target,)),)
            )
            single = as_new(one, taken.urgency, encode(one))
            commit.changed.append((entry, single))
            commit.bytes_more += len(single.blob)
            self._free(commit, work)
        self._runtime.lane_queues.commit(taken, commit)
        self._runtime.lane_queues.wake_at([(taken.lane, taken.urgency, 0)])
        return True

    def undecided(self, entry: LaneEntry) -> tuple[list[tuple[PendingPush, Batch]], bytes]:
        """An undecided entry's pushes and bytes, with the numbers that its senders took."""
        works = _works(entry)
        (record,) = self._runtime.claims.taken([entry.id])
        if not works or not record:
            return works, entry.blob
        recollect([work for work, _ in works], record)
        targets = {work.place: kept(work, work.target) for work, _ in works}
        for work, _ in works:
            work.target = targets[work.place]
        one = OpenEntry(entry, Urgency.CHAT, works[0][1], [work for work, _ in works], targets)
        return works, one.rest().blob

    # ------------------------------------------------------------ pushes held by a stopped lane

    def note_outage(self, lane: Lane, taken: Taken, why: str, count_max: int) -> bool:
        """Marks pushes behind a stopped lane as held, in place; True when there may be more.

        Each is read once per outage: its row records the wait, and its conversation's group is
        counted.
        """
        queues = self._runtime.lane_queues
        found = queues.walk(taken.lane, taken.urgency, taken.noted, count_max)
        if not found:
            return False
        records: list[Record] = []
        held: list[tuple[tuple[str, ...], str, int, int]] = []
        now, business_id = now_ms(), lane.credential.business_id
        for _, blob in found:
            for work in _readable(blob):
                if work.target.held_by is None:
                    target = msgspec.structs.replace(work.target, held_by=why)
                    records.append(
                        pending_row(
                            settling.Deferral(work, target, None, why),
                            lane.vendor,
                            business_id,
                            now,
                        )
                    )
                if joins(work, why) and not joins(work, work.target.held_by):
                    held.append(
                        (
                            group_of(work),
                            work.target.push_id,
                            work.note.ts_ms,
                            work.note.received_ms,
                        )
                    )
        with queues.redis.pipeline(transaction=True) as pipe:
            if records:
                pipe.xadd(self._runtime.keys.stream("ledger"), {"b": encode(records)})
            self._runtime.backlog.join(pipe, held)
            queues.noted(pipe, taken.lane, taken.urgency, found[-1][0], why)
            pipe.execute()
        return len(found) == count_max

    # ------------------------------------------------------------ the write

    def _write(
        self, taken: Taken, open_: Sequence[OpenEntry], round_: RoundEnd, patience_s: float
    ) -> None:
        """Writes rows, claims, retries and our own entries in one step."""
        self._write_as(
            taken,
            open_,
            lambda mine, lost: self._commit(taken, mine, round_, lost),
            round_.business_id,
            patience_s,
        )

    def _write_as(
        self,
        taken: Taken,
        open_: Sequence[Held],
        commit_of: Callable[[Sequence[Held], set[str]], LaneCommit],
        business_id: str,
        patience_s: float,
    ) -> None:
        """commit_of: (our entries, ids of lost entries) -> the commit."""
        lost = set[str]()
        began = time.monotonic()
        while True:
            mine = [one for one in open_ if one.entry.id not in lost]
            if not mine:
                return
            try:
                gone = self._runtime.lane_queues.commit(taken, commit_of(mine, lost))
            except (RedisError, OSError) as error:
                if time.monotonic() - began >= (
                    min(patience_s, LAST_PATIENCE_S) if self._stopping() else patience_s
                ):
                    raise
                log.warning(
                    "Redis is away: answers wait to be written",
                    extra={"reason": type(error).__name__},
                )
                time.sleep(WRITE_AGAIN_S)
                continue
            if not gone:
                return
            log.warning(
                "another sender took entries over",
                extra={"count": len(gone), "business_id": business_id},
            )
            lost |= set(gone)

    def _commit(
        self, taken: Taken, open_: Sequence[OpenEntry], round_: RoundEnd, lost: set[str]
    ) -> LaneCommit:
        commit = LaneCommit(unused=round_.unused)
        owners = {one.entry.id for one in open_}
        for one in open_:
            size = len(one.entry.blob)
            commit.taken.append(self._runtime.keys.taken(one.entry.id))
            if not one.left:
                commit.ended.append(one.entry)
                commit.bytes_more -= size
            elif len(one.left) == len(one.works) and not one.changed:
                commit.back.append(one.entry)
            else:
                rest = one.rest()
                commit.changed.append((one.entry, rest))
                commit.bytes_more += len(rest.blob) - size
        ended = [one for one in round_.settled.ended if not lost or one.work.entry in owners]
        waits = [wait for wait in round_.settled.waits if not lost or wait.work.entry in owners]
        rows: list[object] = [
            delivery_row(one, round_.vendor, round_.business_id, round_.now) for one in ended
        ]
        if round_.packed is not None and round_.lane is not None:
            rows += alike_rounds.rows(round_.packed, round_.lane, round_.now, lost)
        rows += [
            pending_row(wait, round_.vendor, round_.business_id, round_.now)
            for wait in waits
            if _news(wait)
        ]
        commit.record = encode(rows) if rows else b""
        for batch, delay_ms in _later(waits, round_):
            stays = batch.lane == taken.lane
            commit.later.append((retry_member(batch, counted=stays), delay_ms))
            commit.bytes_more += len(batch.blob) if stays else 0
        self._marks(commit, ended, waits, round_.done.left, round_.now)
        return commit

    def _marks(
        self,
        commit: LaneCommit,
        ended: Sequence[settling.FinalOutcome],
        waits: Sequence[settling.Deferral],
        left: Sequence[PendingPush],
        now: int,
    ) -> None:
        """Claims, badge numbers, places on screens, and who waits with whom for an outage's end."""
        keys, backlog = self._runtime.keys, self._runtime.backlog
        waiting = [
            *waits,
            *(settling.Deferral(work, kept(work, work.target), None, "") for work in left),
        ]
        both = settling.Settled(ended=list(ended), waits=waiting)
        works = [*(one.work for one in ended), *(one.work for one in waiting)]
        owners = {work.target.push_id: work.entry.partition(";")[0] for work in works}
        for work in uncounted(both):
            commit.mark(
                "uncount",
                [keys.badges(work.note.app, work.target.user)],
                work.target.device,
                work.counted,
            )
        for given in given_back(both):
            names = [
                keys.claims(day_of(given.ts_ms), given.push_id),
                keys.badges(given.app, given.user),
            ]
            commit.mark(
                "free", names, given.push_id, owners[given.push_id], given.device, given.seen
            )
        for one in ended:
            target, note = one.work.target, one.work.note
            if not one.work.by_entry:
                commit.mark(
                    "done",
                    [keys.claims(day_of(note.ts_ms), target.push_id)],
                    target.push_id,
                    CLAIM_KEEP_S,
                )
            if target.held_by is not None:
                commit.mark("leave", backlog.names(group_of(one.work)), target.push_id)
            if one.decision == Decision.ACCEPTED and one.work.coalesced_count > 1:
                commit.mark(
                    "spoken", backlog.names(group_of(one.work)), note.ts_ms, backlog.marks_s
                )
        for place in on_screens(both, now):
            outcomes = (
                place.push_id,
                place.ts_ms if place.shown else -1,
                max(place.keep_ms, KEEP_MIN_MS),
            )
            commit.mark("screen", [self._runtime.screens.name(place.place)], *outcomes)
        for wait in waits:
            if joins(wait.work, wait.target.held_by) and not joins(
                wait.work, wait.work.target.held_by
            ):
                values = (
                    wait.work.target.push_id,
                    wait.work.note.ts_ms,
                    wait.work.note.received_ms,
                    backlog.keep_s,
                )
                commit.mark("join", backlog.names(group_of(wait.work)), *values)

    def _free(self, commit: LaneCommit, work: PendingPush) -> None:
        """Keeps the numbers of an entry's lease with a push that leaves undecided."""
        if work.by_entry:
            return
        note, target, keys = work.note, work.target, self._runtime.keys
        names = [
            keys.claims(day_of(note.ts_ms), target.push_id),
            keys.badges(note.app, target.user),
        ]
        commit.mark("free", names, target.push_id, work.entry, target.device, True)

    def _retire(
        self, lane: Lane, done: delivery.Delivered, settled: settling.Settled
    ) -> Sequence[settling.Retire]:
        """Those whose tokens are given up now. Foreign ones are on hold first
        (workers/held_tokens.py).
        """
        verdicts = [outcome.verdict for _, outcome in done.outcomes]
        foreign, dead = verdicts.count(Verdict.TOKEN_FOREIGN), verdicts.count(Verdict.TOKEN_DEAD)
        if not settled.retires and not verdicts:
            return ()
        now = now_ms()
        calm = self._runtime.guard.count(
            lane.id, len(verdicts), foreign, dead, accepted_by_cohort(done, lane, now)
        )
        on_hold = [held(one, lane, now) for one in settled.retires if one.foreign]
        self._runtime.guard.hold(lane.id, on_hold, now)
        own = [one for one in settled.retires if not one.foreign]
        chosen = [one for one in own if not one.guarded or calm["dead"]]
        if len(chosen) < len(own):
            named = {"business_id": lane.credential.business_id, "vendor": lane.vendor}
            log.error("the token guard stopped the retiring of tokens", extra=named)
        for state in ("retired", "silenced"):
            rows = [
                (
                    w.note.app,
                    w.target.user,
                    w.target.device,
                    w.target.token,
                    w.target.registered_ms,
                    one.reason,
                )
                for one in chosen
                if one.state == state
                for w in (one.work,)
            ]
            try:
                retired = self._runtime.devices.retire(rows, state)
            except (
                sql.DATABASE_UNAVAILABLE
            ) as error:  # the pushes are settled; the vendor will say the same of the next one
                log.warning(
                    "the database is away: dead tokens stay for now",
                    extra={"reason": type(error).__name__},
                )
                return ()
            if retired:
                metrics.TOKENS_RETIRED.labels(lane.vendor).inc(retired)
        return [one for one in chosen if one.state == "retired"]


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """The parts of a write. lane None: nothing was sent.

    packed: a round with accepted pushes that are not in `settled`.
    """

    vendor: Vendor
    business_id: str
    now: int
    settled: settling.Settled
    done: delivery.Delivered
    lane: Lane | None
    unused: tuple[float, ...]
    packed: alike.AlikeRound | None = None


def wait_kept(wait: settling.Deferral) -> settling.Deferral:
    target = kept(wait.work, wait.target)
    return (
        wait
        if target is wait.target
        else settling.Deferral(wait.work, target, wait.delay_s, wait.reason)
    )


def recollect(works: Iterable[PendingPush], record: Mapping[int, str]) -> None:
    """record: by place, the numbers taken by an earlier sender; the pushes may be on the screen."""
    for work in works:
        if work.by_entry and work.place in record:
            work.repeated, work.counted = True, record[work.place] or work.counted


def _readable(blob: bytes) -> list[PendingPush]:
    """The batch's pushes; none if unreadable: its sender dead-letters it in its turn."""
    try:
        return settling.works_of("", decode_batch(blob))
    except msgspec.MsgspecError:
        return []


def _works(entry: LaneEntry) -> list[tuple[PendingPush, Batch]]:
    try:
        batch = decode_batch(entry.blob)
    except msgspec.MsgspecError:
        return []
    return [(work, batch) for work in settling.works_of(entry.id, batch)]


def _later(waits: Sequence[settling.Deferral], round_: RoundEnd) -> list[tuple[NewBatch, int]]:
    """Retries with their delay in ms, by tenths of a second; held ones stay in their entry."""
    groups: dict[int, list[settling.Deferral]] = {}
    for wait in waits:
        if wait.delay_s is not None:
            groups.setdefault(int(wait.delay_s * 1000) // 100 * 100 + 100, []).append(wait)
    if not groups or round_.lane is None:
        return []
    return [
        (as_new(part, urgency, encode(part)), delay_ms)
        for delay_ms, group in groups.items()
        for urgency, batch in settling.batches(group, round_.lane)
        for part in (
            msgspec.structs.replace(batch, pushes=pushes) for pushes in parts(batch.pushes)
        )
    ]


def _news(wait: settling.Deferral) -> bool:
    """True when a wait changes the row: a first wait, an answer, another lane.

    Waiting for the rate again does not.
    """
    moved = wait.work.lane is not None
    return moved or wait.work.target.held_by is None or wait.target.tried != wait.work.target.tried


def stored_by_class(done: delivery.Delivered) -> dict[MessageClass, list[int]]:
    """By class as sent, the times at which all accepted messages were stored, ms."""
    stored: dict[MessageClass, list[int]] = {}
    for work, _ in done.outcomes:
        note = work.note
        stored.setdefault(note.class_sent, []).append(note.ts_ms)
    return stored


def _others(
    packed: alike.AlikeRound, entries: Sequence[LaneEntry], urgency: Urgency
) -> list[OpenEntry]:
    """The entries with those of their pushes that were not accepted; the others have left them."""
    found = []
    for entry, (name, of) in zip(entries, packed.entries, strict=True):
        batch = Batch(
            app=of.app,
            vendor=of.vendor,
            business_id=of.business_id,
            pushes=(),
            by_entry=of.by_entry,
        )
        found.append(
            OpenEntry(
                entry,
                urgency,
                batch,
                [work for work in packed.others if work.entry == name],
                changed=True,
            )
        )
    return found


def _count_accepted(lane: Lane, stored: Mapping[MessageClass, Sequence[int]], now: int) -> None:
    for class_sent, times in stored.items():
        _count_decided(lane, Decision.ACCEPTED, class_sent, times, now)


def _count_decided(
    lane: Lane, decision: Decision, class_sent: MessageClass, times: Sequence[int], now: int
) -> None:
    metrics.DECISIONS.labels(lane.vendor, decision, class_sent).inc(len(times))
    if decision is Decision.ACCEPTED:
        seconds = metrics.STORED_TO_ACCEPTED_SECONDS.labels(lane.vendor, class_sent)
        metrics.observe_all(seconds, [max(now - ts_ms, 0) / 1000 for ts_ms in times])


def count(lane: Lane, done: delivery.Delivered, settled: settling.Settled, now: int) -> None:
    stored: dict[tuple[Decision, MessageClass], list[int]] = {}
    for one in settled.ended:
        note = one.work.note
        if note.kind not in FOLLOW_UP_KINDS:  # they have no row of their own
            stored.setdefault((one.decision, note.class_sent), []).append(note.ts_ms)
    for (decision, class_sent), times in stored.items():
        _count_decided(lane, decision, class_sent, times, now)
    for reason, number in Counter(wait.reason for wait in settled.waits).items():
        metrics.RETRIES.labels(lane.vendor, reason).inc(number)
    if settled.alarms:
        metrics.UNKNOWN_CODES.labels(lane.vendor).inc(settled.alarms)
        codes = sorted(
            {
                f"{o.status}/{o.code}"[:40]
                for _, o in done.outcomes
                if o.alarm or o.verdict == Verdict.UNKNOWN
            }
        )
        log.error(
            "a vendor said something that nobody documents",
            extra={"vendor": lane.vendor, "code": " ".join(codes[:5])},
        )
