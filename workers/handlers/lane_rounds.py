"""Rounds of one lane: entries -> requests -> results, all written in one step."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from common.clock import now_ms
from common.model import Decision, Urgency, Vendor
from common.storage.admission import ROUND_S
from common.storage.lane_entries import LaneCommit, LaneEntry, RateLease, Taken
from workers.delivery import alike, usual
from workers.delivery import deliver as delivery
from workers.delivery import settle as settling
from workers.delivery.lane import Lane
from workers.delivery.pacing import LeasedPace, Pacer
from workers.delivery.ports import BreakerProbe, DeliveryPorts, LaneTurn, RoundReport
from workers.delivery.results import Delivered
from workers.delivery.settle import attempt_of, kept, trace_text
from workers.delivery.work import PendingPush
from workers.handlers import alike_rounds
from workers.handlers.ledger_rows import work_row
from workers.handlers.noted_breaker import NotedBreaker
from workers.handlers.round_counts import RoundCounts, stored_by_class, suppressed
from workers.handlers.round_entries import (
    Ending,
    HeldEntry,
    OpenEntry,
    OpenRound,
    RoundEnd,
    keep,
    opened,
    others_of,
    recollect,
)
from workers.handlers.round_marks import RoundMarks
from workers.handlers.round_writes import RoundWriter
from workers.handlers.unsent_entries import UnsentEntries
from workers.held_tokens import accepted_by_cohort
from workers.runtime import Runtime

#: A round of calls or chats that lost tokens as it was late leases more, so often.
LEASES_MORE = 3
#: Seconds that a sender may be late with its lease without a loss: other threads have the processor
#: in between. At 50,000 a second one token is 20 µs.
LATE_S = 0.0005
#: Seconds that probes of a stopped lane wait for the newest push of their conversation; then one
#: goes as it is.
PROBE_PATIENCE_S = 3.0


def with_spare(taken: Taken, tokens: int) -> int:
    """Tokens to lease for a round that needs these: a sender that is late loses some."""
    return tokens + max(1, tokens // 20, int(taken.terms.rate_per_s * LATE_S))


class LaneRounds:
    """Rounds of one process. stopping: it is to end.

    counts: of what was written; unsent: entries that are ended without a send.
    """

    def __init__(self, runtime: Runtime, stopping: Callable[[], bool]) -> None:
        marks = RoundMarks(runtime.keys, runtime.backlog, runtime.screens)
        self._runtime = runtime
        self._ports: dict[Vendor, DeliveryPorts] = {}
        self._writer = RoundWriter(runtime, marks, stopping)
        self.counts = RoundCounts(runtime, self.ports)
        self.unsent = UnsentEntries(runtime, marks, self._writer, self.ports)
        self._trying: dict[str, float] = {}  # since when a lane's probes have sent nothing, by lane
        self.round_s = max(ROUND_S, runtime.settings.send_timeout_s + 5.0)

    def ports(self, vendor: Vendor) -> DeliveryPorts:
        if vendor not in self._ports:
            self._ports[vendor] = self._runtime.delivery(vendor)
        return self._ports[vendor]

    def send(
        self,
        taken: Taken,
        entries: Sequence[LaneEntry],
        lane: Lane,
        most: int,
        lost: Collection[str] = (),
        reached: Callable[[bool], bool] = lambda _whole: True,
    ) -> Delivered:
        """Sends one round: at most `most` pushes, as many as the lane's rate has leased.

        The rest stays in its entry. lost: names of entries that another sender claims meanwhile;
        their unsent pushes are that sender's. reached: as RunningRounds has it.
        """
        packed = alike_rounds.read(taken, entries, lane, most)
        if packed is not None:
            return self._send_alike(packed, taken, entries, lane, lost, reached)
        one = self.open(taken, entries, lane, most)
        if not reached(False):
            return self._left(one)
        turn = LaneTurn(one.state, one.pace, lost, self._waits_for_newest(lane, one.state))
        deliver = usual.tried if self._may_be_usual(one) else delivery.deliver
        return self._ended(one, deliver(one.chosen, lane, self._ports_of(taken, lane), turn))

    def _ports_of(self, taken: Taken, lane: Lane) -> DeliveryPorts:
        """The vendor's; of good answers its breaker is told only where it counts them."""
        ports = self.ports(lane.vendor)
        return ports if taken.watched else replace(ports, breaker=NotedBreaker(ports.breaker))

    def _send_alike(
        self,
        packed: alike.AlikeRound,
        taken: Taken,
        entries: Sequence[LaneEntry],
        lane: Lane,
        lost: Collection[str],
        reached: Callable[[bool], bool],
    ) -> Delivered:
        """As `send`, of batches of usual pushes as they were packed."""
        one = self.paced(taken, lane)
        turn, ports = LaneTurn(None, one.pace, lost), self.ports(lane.vendor)
        (ready,) = alike.prepared([(lane, packed)], ports)
        if not reached(ready is not None):
            one.open_ = opened(taken, entries)
            return self._left(one, packed.numbers)
        done = alike.tried(ready, ports, turn)
        if done is None:
            return self.send_generally(one, packed, entries, lost)
        self._trying.pop(lane.id, None)
        self.write_ending(self.ending_alike(one, packed, entries, done, now_ms()))
        if done.whole and taken.watched:
            with suppressed():
                ports.breaker.report(lane, RoundReport(done.accepted))
        return done

    def send_generally(
        self,
        one: OpenRound,
        packed: alike.AlikeRound,
        entries: Sequence[LaneEntry],
        lost: Collection[str],
    ) -> Delivered:
        """Sends a packed round that has not been sent, in the general way, and writes it."""
        one.open_ = opened(one.taken, entries)
        one.chosen = [work for entry in one.open_ for work in entry.works]
        turn = LaneTurn(None, one.pace, lost)
        ports = self.ports(one.lane.vendor)
        return self._ended(one, alike.generally(packed, one.chosen, one.lane, ports, turn))

    def _left(self, one: OpenRound, numbers: Sequence[tuple[int, str]] | None = None) -> Delivered:
        """A round that is not sent now: its entries go back to their places.

        numbers: as AlikeRound has them; they are given back. None: of what is noted with an entry
        an earlier sender may have sent something, as where our own answer was lost.
        """
        works = [work for entry in one.open_ for work in entry.works]
        if numbers is None:
            self._recollect_all(one.open_)
        else:
            for work, (_, counted) in zip(works, numbers, strict=True):
                work.counted, work.leased = counted, True
        one.chosen, done = works, Delivered(left=works)
        self.write_ending(self.ending(one, done))
        return done

    def _ended(self, one: OpenRound, done: Delivered) -> Delivered:
        """The round is written and counted."""
        if done.requests:
            self._trying.pop(one.lane.id, None)
        if done.whole:
            self._end_whole(one, done)
        else:
            self.write_ending(self.ending(one, done))
        return done

    def write(self, one: Ending) -> None:
        """In one step; what others hold by now is left out."""
        self._writer.write(one)

    def write_ending(self, one: Ending) -> None:
        """It is written, then counted."""
        self._writer.write(one)
        with suppressed():
            self.counts.count_all([one.end])

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

    def _end_whole(self, one: OpenRound, done: Delivered) -> None:
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
                ended=ended, records=rows, bytes_more=-size, unused=unused, taken=taken
            )

        end = RoundEnd(vendor, business_id, now, settling.Settled(), done, lane, unused)
        self._writer.write(Ending(one.taken, one.open_, commit_of, end))
        with suppressed():
            self.counts.good_round(lane, len(done.outcomes), accepted_by_cohort(done, lane, now))
            self.counts.count_whole(one, len(done.outcomes), stored_by_class(done), now)

    def ending(
        self, one: OpenRound, done: Delivered, packed: alike.AlikeRound | None = None
    ) -> Ending:
        """packed: of which some were accepted, beside the round's works."""
        return self._writer.ending(
            one.taken, one.open_, replace(self._settled(one, done), packed=packed)
        )

    def ending_alike(
        self,
        one: OpenRound,
        packed: alike.AlikeRound,
        entries: Sequence[LaneEntry],
        done: Delivered,
        now: int,
    ) -> Ending:
        """The same of batches of usual pushes as they were packed, decided at `now`, ms."""
        if not done.whole:
            one.open_ = others_of(packed, entries, one.taken.urgency)
            one.chosen = list(packed.others)
            return self.ending(one, done, packed)
        lane, keys, unused = one.lane, self._runtime.keys, self._unused(one)

        def commit_of(mine: Sequence[HeldEntry], lost: set[str]) -> LaneCommit:
            ended = [held.entry for held in mine]
            size, taken = (
                sum(len(entry.blob) for entry in ended),
                [keys.taken(entry.id) for entry in ended],
            )
            singly = self._runtime.old_ledger()
            rows = alike_rounds.rows(packed, lane, now, lost, singly=singly)
            return LaneCommit(
                ended=ended, records=rows, bytes_more=-size, unused=unused, taken=taken
            )

        account = lane.credential.business_id
        end = RoundEnd(lane.vendor, account, now, settling.Settled(), done, lane, unused, packed)
        return Ending(one.taken, list(map(HeldEntry, entries)), commit_of, end)

    def _waits_for_newest(self, lane: Lane, state: BreakerProbe | None) -> bool:
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
            BreakerProbe(Decision(taken.why or Decision.UNAVAILABLE))
            if taken.what == "probe"
            else None
        )
        one = self.paced(taken, lane)
        one.open_, one.state = open_, state
        one.chosen = self._probe_of(works) if state is not None else works[:most]
        return one

    def paced(self, taken: Taken, lane: Lane) -> OpenRound:
        """A round without its entries."""
        leases: list[RateLease] = []
        again = LEASES_MORE if taken.urgency in (Urgency.CALL, Urgency.CHAT) else 0
        pace = LeasedPace(
            taken.burst,
            lambda tokens, requests: self._leased(taken, tokens, requests, leases),
            again,
        )
        return OpenRound(taken, lane, [], [], None, pace, leases)

    def _leased(self, taken: Taken, tokens: int, requests: int, leases: list[RateLease]) -> Pacer:
        """Leases a few tokens more than needed: a late sender loses some; the rest is returned."""
        wanted = tokens if taken.paced else with_spare(taken, tokens)
        asked_at = time.monotonic()
        lease = self._runtime.lane_queues.lease(taken, wanted, requests, self.round_s)
        leases.append(lease)
        return pacer_of(lease, asked_at)

    @staticmethod
    def _probe_of(works: Sequence[PendingPush]) -> list[PendingPush]:
        """The push that has failed least as the probe: one that always fails would keep it open."""
        return [min(works, key=lambda work: work.target.tried)] if works else []

    def _settled(self, one: OpenRound, done: Delivered) -> RoundEnd:
        """The round's results, to be written."""
        lane, open_ = one.lane, one.open_
        self._recollect(open_)
        works = [work for entry in open_ for work in entry.works]
        if len(one.chosen) < len(works):
            mine = {id(work) for work in one.chosen}
            keep(
                open_, {id(work): kept(work, work.target) for work in works if id(work) not in mine}
            )
        keep(open_, {id(work): kept(work, work.target) for work in done.everyone_left()})
        now = now_ms()
        settled = settling.settle(
            done, lane, now, self._runtime.settings.retry_first_s, random.random
        )
        settled.waits = [_wait_kept(wait) for wait in settled.waits]
        keep(
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

    def _recollect(self, open_: Sequence[OpenEntry]) -> None:
        """Loads what an earlier sender took for pushes that were not attempted in this round."""
        again = [
            one
            for one in open_
            if one.entry.deliveries > 1  # of which this round may not have come to a push
            or any(work.repeated and work.by_entry for work in one.works)
        ]
        self._recollect_all(again)

    def _recollect_all(self, open_: Sequence[OpenEntry]) -> None:
        records = self._runtime.claims.taken([one.entry.id for one in open_])
        for one, record in zip(open_, records, strict=True):
            recollect([work for work in one.works if not work.leased], record)


def pacer_of(lease: RateLease, asked_at: float) -> Pacer:
    """asked_at: see Pacer; of the monotonic clock."""
    return Pacer(
        lease.tokens,
        lease.first_s,
        lease.rate_per_s,
        lease.lim_s,
        time.monotonic,
        time.sleep,
        asked_at,
    )


def _wait_kept(wait: settling.Deferral) -> settling.Deferral:
    target = kept(wait.work, wait.target)
    return (
        wait
        if target is wait.target
        else settling.Deferral(wait.work, target, wait.delay_s, wait.reason)
    )
