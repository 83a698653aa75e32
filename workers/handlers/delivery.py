"""Batches of one vendor -> requests, and what became of each push."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from redis.exceptions import RedisError

from common import metrics
from common.clock import now_ms
from common.contracts import Batch, Push, decode_batch, encode
from common.ledger_records import Record
from common.model import Decision, MessageClass, Urgency, Vendor, Verdict
from common.storage import keys, sql
from common.storage.delayed import Later
from common.storage.streams import Entry
from workers.delivery import settle as settling
from workers.delivery import stage as delivery
from workers.delivery.fold import group_of, joins
from workers.delivery.lane import Lane
from workers.delivery.work import Work
from workers.handlers.ledger_rows import AFTERTHOUGHTS, delivery_row, pending_row, to_ledger, work_row
from workers.handlers.replies import tell_ended
from workers.held_tokens import accepted_by_cohort, held
from workers.late_binding import given_back, on_screens
from workers.queues.consumer import AWAY, Commit, Letter, is_urgent
from workers.queues.lease_renewer import LeaseRenewer
from workers.routing import stage as routing
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Entries of one read by urgency: the more urgent go first, and nothing starves. An entry of a group or a campaign holds about 200
#: pushes, a chat's often one: with 8 of them a read, 20 chats a second beside a fan-out waited for 20 s.
WEIGHTS = {Urgency.CALL: 32, Urgency.CHAT: 32, Urgency.GROUP: 3, Urgency.BULK: 1}
#: While calls and chats come, the others go in small portions between two looks for more of them: three of groups to one of bulk.
BESIDE = (
    {Urgency.CALL: 32, Urgency.CHAT: 32, Urgency.GROUP: 1},
    {Urgency.CALL: 32, Urgency.CHAT: 32, Urgency.GROUP: 1},
    {Urgency.CALL: 32, Urgency.CHAT: 32, Urgency.GROUP: 1, Urgency.BULK: 1},
)
#: What waited longer in this process is claimed anew before its round: while it was stopped, another may have taken it over.
LEASE_RENEW_S = 4.0
#: What a vendor has answered is written though Redis goes away meanwhile, or all of it would be sent again: so long it is waited for,
#: and so long by a process that is to end.
WRITE_PATIENCE_S, LAST_PATIENCE_S, WRITE_AGAIN_S = 30.0, 5.0, 0.3
#: Lanes of one vendor that are sent to at the same time.
LANES_AT_ONCE = 16
#: Lanes that are sent to beside the others (`Deliveries._aside`), and what share of the pushes on the wire each may have.
ASIDE_MAX, ASIDE_SHARE = 8, 1 / 32


LaneKey = tuple[str, Vendor, str]


class Deliveries:
    """One vendor's delivery in one process."""

    def __init__(self, runtime: Runtime, vendor: Vendor, in_flight_max: int, stopping: Callable[[], bool]) -> None:
        """in_flight_max: pushes on the wire at once. stopping: the process is to end."""
        self._runtime = runtime
        self._vendor = vendor
        self._in_flight_max = in_flight_max
        self._stopping = stopping
        self._keeper = LeaseRenewer(runtime.belts)
        self._world = runtime.delivery(vendor)
        self._pool = ThreadPoolExecutor(LANES_AT_ONCE, thread_name_prefix=f"lanes-{vendor}")
        self._aside_pool = ThreadPoolExecutor(ASIDE_MAX, thread_name_prefix=f"aside-{vendor}")
        self._aside_most = max(1, int(in_flight_max * ASIDE_SHARE))
        self._silent: set[LaneKey] = set()
        self._asides: set[LaneKey] = set()

    def entries(self, entries: Sequence[Entry]) -> None:
        """Rounds of at most in_flight_max pushes. A process that is to end gives back what no round has begun with."""
        read_at = time.monotonic()
        todo: list[tuple[Entry, Batch]] = [(entry, decode_batch(entry.blob)) for entry in entries]
        with self._keeper.holding(entries):
            todo = self._rounds(todo, read_at)
        self._runtime.belts.forgive([entry for entry, _ in todo])

    def _rounds(self, todo: list[tuple[Entry, Batch]], read_at: float) -> list[tuple[Entry, Batch]]:
        """What is left of them when the process is to end."""
        while todo and not self._stopping():
            round_, todo = _round(todo, self._most())
            if time.monotonic() - read_at > LEASE_RENEW_S:
                ours = {entry.id for entry in self._runtime.belts.renew([entry for entry, _ in round_])}
                round_ = [(entry, batch) for entry, batch in round_ if entry.id in ours]
            self._round(round_)
        return todo

    def _round(self, round_: Sequence[tuple[Entry, Batch]]) -> None:
        by_lane: dict[LaneKey, list[tuple[Entry, Batch]]] = {}
        for entry, batch in round_:
            by_lane.setdefault((batch.app, batch.vendor, batch.business_id), []).append((entry, batch))
        for key in by_lane.keys() & (self._silent | self._asides):
            self._aside(key, by_lane.pop(key))
        if not by_lane:
            return
        if len(by_lane) == 1:
            self._lane(*by_lane.popitem())
            return
        errors = [future.exception() for future in [self._pool.submit(self._lane, key, batches) for key, batches in by_lane.items()]]
        for error in errors:
            if error is not None:
                raise error

    def _most(self) -> int:
        """Pushes that a round may have on the wire beside the silent lanes'."""
        return max(self._in_flight_max - self._aside_most * len(self._asides), 1)

    def _aside(self, key: LaneKey, batches: Sequence[tuple[Entry, Batch]]) -> None:
        """A lane that let its last round wait in vain has a thread of its own: the others must not wait for its deadline each time it is
        tried. What comes for it meanwhile is given back, and looked at again within a second."""
        if key in self._asides or len(self._asides) >= ASIDE_MAX:
            self._runtime.belts.forgive([entry for entry, _ in batches])
            return
        self._asides.add(key)
        self._aside_pool.submit(self._beside, key, batches)

    def _beside(self, key: LaneKey, batches: Sequence[tuple[Entry, Batch]]) -> None:
        entries = [entry for entry, _ in batches]
        try:
            with self._keeper.holding(entries):
                self._lane(key, batches, self._aside_most)
        except AWAY as error:
            log.warning("a store is away; the work waits in its belt", extra={"reason": type(error).__name__, "queue": self._vendor})
            with contextlib.suppress(*AWAY):
                self._runtime.belts.forgive(entries)
        except Exception as error:  # it is handed out again, and counted
            log.exception("a round broke", extra={"queue": self._vendor, "reason": type(error).__name__})
        finally:
            self._asides.discard(key)

    def _learn(self, key: LaneKey, done: delivery.Delivered) -> None:
        waited = sum(outcome.status in ("timeout", "access") for _, outcome in done.told)
        if waited and waited * 2 >= len(done.told):
            self._silent.add(key)
        elif done.told:
            self._silent.discard(key)

    def _lane(self, key: LaneKey, batches: Sequence[tuple[Entry, Batch]], most: int | None = None) -> None:
        most = most or self._in_flight_max
        # routing may know of a new account a second before this process does: that one was removed is told after a fresh look only
        lane = self._runtime.catalog.lane(*key) or self._runtime.catalog.fresh().lanes.get(key)
        entries = [entry for entry, _ in batches]
        works = [work for entry, batch in batches for work in settling.works_of(owner_of(entry), batch)]
        if lane is None:
            self._without_lane(entries, works, key[2])
            return
        parts = [works[start : start + most] for start in range(0, len(works), most)] or [works]
        for part in parts:  # an entry may hold more than this process may have on the wire: it is acknowledged with the last of it
            self._part(part, lane, entries if part is parts[-1] else ())

    def _part(self, works: Sequence[Work], lane: Lane, entries: Sequence[Entry]) -> None:
        done = delivery.deliver(works, lane, self._world)
        self._learn((lane.credential.app, lane.vendor, lane.credential.business_id), done)
        now = now_ms()
        settled = settling.settle(done, lane, now, self._runtime.settings.retry_first_s, random.random)
        self._insist(lambda: self._write(entries, lane, settled, now), WRITE_PATIENCE_S if done.requests else 0.0)
        chosen = self._retire(lane, done, settled)
        tell_ended(self._runtime, lane.vendor, lane.credential.business_id, settled.ended, {id(one.work) for one in chosen})
        _count(lane, done, settled, now)

    def _insist(self, write: Callable[[], None], patience_s: float) -> None:
        """Writes, again and again while Redis is away. What is written twice changes nothing (docs/nothing-lost.md)."""
        began = time.monotonic()
        while True:
            try:
                return write()
            except (RedisError, OSError) as error:
                if time.monotonic() - began >= (min(patience_s, LAST_PATIENCE_S) if self._stopping() else patience_s):
                    raise
                log.warning("Redis is away: answers wait to be written", extra={"reason": type(error).__name__})
                time.sleep(WRITE_AGAIN_S)

    def _without_lane(self, entries: Sequence[Entry], works: Sequence[Work], business_id: str) -> None:
        """The credential was removed while its pushes were on their way."""
        now = now_ms()
        ended = settling.without_lane(works)
        rows = [delivery_row(one, self._vendor, business_id, now) for one in ended]

        def more(pipe: Any) -> None:
            self._runtime.claims.mark_done(pipe, [(work.target.push_id, work.note.ts_ms) for work in works])
            self._runtime.backlog.leave(pipe, _decided(ended))

        self._runtime.belts.hand_on(entries, to_ledger(rows), more)
        for one in ended:
            if one.work.note.kind not in AFTERTHOUGHTS:
                metrics.DECISIONS.labels(self._vendor, one.decision, metrics.NONE).inc()
        tell_ended(self._runtime, self._vendor, business_id, ended)

    def _write(self, entries: Sequence[Entry], lane: Lane, settled: settling.Settled, now: int) -> None:
        """Rows, claims, what goes again and the acknowledgement: all in one MULTI."""
        business_id = lane.credential.business_id
        rows: list[Record] = [delivery_row(one, lane.vendor, business_id, now) for one in settled.ended]
        rows += [pending_row(wait, lane.vendor, business_id, now) for wait in settled.waits if _news(wait)]
        later = _later(settled.waits, lane, now)
        done = [(one.work.target.push_id, one.work.note.ts_ms) for one in settled.ended]

        def more(pipe: Any) -> None:
            self._runtime.claims.release(pipe, given_back(settled))
            self._runtime.claims.mark_done(pipe, done)
            self._runtime.screens.settle(pipe, on_screens(settled, now))
            self._runtime.delayed.put(pipe, later)
            self._runtime.backlog.join(pipe, _held_back(settled.waits))
            self._runtime.backlog.leave(pipe, _decided(settled.ended))
            self._runtime.backlog.spoken(pipe, _spoken(settled.ended))

        self._runtime.belts.hand_on(entries, to_ledger(rows), more)

    def _retire(self, lane: Lane, done: delivery.Delivered, settled: settling.Settled) -> Sequence[settling.Retire]:
        """Those whose tokens are given up now. Foreign ones are on hold first (workers/held_tokens.py)."""
        verdicts = [outcome.verdict for _, outcome in done.told]
        foreign, dead = verdicts.count(Verdict.TOKEN_FOREIGN), verdicts.count(Verdict.TOKEN_DEAD)
        if not settled.retires and not verdicts:
            return ()
        now = now_ms()
        calm = self._runtime.guard.count(lane.id, len(verdicts), foreign, dead, accepted_by_cohort(done, lane, now))
        on_hold = [held(one, lane, now) for one in settled.retires if one.foreign]
        self._runtime.guard.hold(lane.id, on_hold, now)
        own = [one for one in settled.retires if not one.foreign]
        chosen = [one for one in own if not one.guarded or calm["dead"]]
        if len(chosen) < len(own):
            log.error(
                "the token guard stopped the retiring of tokens", extra={"business_id": lane.credential.business_id, "vendor": lane.vendor}
            )
        for state in ("retired", "silenced"):
            rows = [
                (w.note.app, w.target.user, w.target.device, w.target.token, w.target.registered_ms, one.reason)
                for one in chosen
                if one.state == state
                for w in (one.work,)
            ]
            try:
                retired = self._runtime.devices.retire(rows, state)
            except sql.AWAY as error:  # the pushes are settled; the vendor will say the same of the next one
                log.warning("the database is away: dead tokens stay for now", extra={"reason": type(error).__name__})
                return ()
            if retired:
                metrics.TOKENS_RETIRED.labels(lane.vendor).inc(retired)
        return [one for one in chosen if one.state == "retired"]


def _round(
    todo: list[tuple[Entry, Batch]], most: int = delivery.IN_FLIGHT_MAX
) -> tuple[list[tuple[Entry, Batch]], list[tuple[Entry, Batch]]]:
    """As many whole entries from the front as stay within `most` pushes (one at least), and the rest.

    A round ends with its last answer: the urgent are not in one with a group of hundreds.
    """
    size = 0
    for index, (entry, batch) in enumerate(todo):
        size += sum(len(push.targets) for push in batch.pushes)
        if index and (size > most or is_urgent(entry) != is_urgent(todo[0][0])):
            return todo[:index], todo[index:]
    return todo, []


def _later(waits: Sequence[settling.Wait], lane: Lane, now: int) -> list[Later]:
    """Retries by their due time (packed by tenths of a second); what a stopped lane holds goes to its parking lot by expiry."""
    groups: dict[tuple[str | None, int], list[settling.Wait]] = {}
    for wait in waits:
        if wait.delay_s is None:
            groups.setdefault((lane.id, wait.work.note.expires_at_ms // 1000 * 1000 + 1000), []).append(wait)
        else:
            groups.setdefault((None, (now + int(wait.delay_s * 1000)) // 100 * 100 + 100), []).append(wait)
    return [
        Later(keys.send(lane.vendor, urgency), encode(part), due_ms, parked)
        for (parked, due_ms), group in groups.items()
        for urgency, batch in settling.batches(group, lane)
        for part in _bounded(batch)
    ]


def _held_back(waits: Sequence[settling.Wait]) -> list[tuple[tuple[str, ...], str, int, int]]:
    """Those that an outage holds from now on, however short it may turn out to be: whether they fold, their backlog's age says
    when they come back (workers/delivery/fold.py)."""
    return [
        (group_of(wait.work), wait.work.target.push_id, wait.work.note.ts_ms, wait.work.note.received_ms)
        for wait in waits
        if joins(wait.work, wait.target.held_by) and not joins(wait.work, wait.work.target.held_by)
    ]


def _decided(ended: Sequence[settling.Ended]) -> list[tuple[tuple[str, ...], str]]:
    return [(group_of(one.work), one.work.target.push_id) for one in ended if one.work.target.held_by is not None]


def _spoken(ended: Sequence[settling.Ended]) -> list[tuple[tuple[str, ...], int]]:
    return [(group_of(one.work), one.work.note.ts_ms) for one in ended if one.decision == Decision.ACCEPTED and one.work.speaks_for > 1]


def _bounded(batch: Batch) -> list[Batch]:
    return [msgspec.structs.replace(batch, pushes=part) for part in routing.parts(batch.pushes)]


def _news(wait: settling.Wait) -> bool:
    """Whether a waiting push has something to tell: a first wait, or an answer. Waiting for the rate again is no news."""
    return wait.work.target.held_by is None or wait.target.tried != wait.work.target.tried


def _count(lane: Lane, done: delivery.Delivered, settled: settling.Settled, now: int) -> None:
    own = [one for one in settled.ended if one.work.note.kind not in AFTERTHOUGHTS]  # the others have no row of their own
    ended = Counter((one.decision, one.work.note.class_sent) for one in own)
    for (decision, class_sent), count in ended.items():
        metrics.DECISIONS.labels(lane.vendor, decision, class_sent).inc(count)
    seconds = {
        name: metrics.STORED_TO_ACCEPTED_SECONDS.labels(lane.vendor, name) for decision, name in ended if decision == Decision.ACCEPTED
    }
    taken: dict[MessageClass, list[float]] = {name: [] for name in seconds}
    for one in own:
        if one.decision is Decision.ACCEPTED:
            taken[one.work.note.class_sent].append(max(now - one.work.note.ts_ms, 0) / 1000)
    for name, amounts in taken.items():
        metrics.observe_all(seconds[name], amounts)
    for reason, count in Counter(wait.reason for wait in settled.waits).items():
        metrics.RETRIES.labels(lane.vendor, reason).inc(count)
    if settled.alarms:
        metrics.UNKNOWN_CODES.labels(lane.vendor).inc(settled.alarms)
        codes = sorted({f"{o.status}/{o.code}"[:40] for _, o in done.told if o.alarm or o.verdict == Verdict.UNKNOWN})
        log.error("a vendor said something that nobody documents", extra={"vendor": lane.vendor, "code": " ".join(codes[:5])})


def owner_of(entry: Entry) -> str:
    """The entry's name in the claims on its pushes."""
    return f"{entry.belt}/{entry.id.decode()}"


class DeliveryHandler:
    """One vendor's batches. They are committed round by round, lane by lane, so that `handle` returns nothing."""

    def __init__(self, runtime: Runtime, deliveries: Deliveries) -> None:
        self._claims = runtime.claims
        self._deliveries = deliveries

    def handle(self, entries: Sequence[Entry]) -> None:
        self._deliveries.entries(entries)

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        try:
            batch = decode_batch(entry.blob)
        except msgspec.MsgspecError:
            return [{b"b": entry.blob}]
        pushes = [Push(note=push.note, targets=(target,)) for push in batch.pushes for target in push.targets]
        return [{b"b": encode(msgspec.structs.replace(batch, pushes=(push,)))} for push in pushes]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.belt})

    def on_leave(self, entry: Entry, reason: str | None) -> Commit:
        """Frees the leases of pushes that are not finished. A dead letter's pushes have rows that are not decided: who replays it decides
        them.

        Whoever waits for one as the newest of a backlog loses patience by itself (common/storage/backlog.py).
        """
        try:
            batch = decode_batch(entry.blob)
        except msgspec.MsgspecError:
            return Commit()
        pushes = [(target.push_id, push.note.ts_ms) for push in batch.pushes for target in push.targets]
        return Commit(
            rows=_buried_rows(entry, batch, reason) if reason is not None else (),
            extra=[lambda pipe: self._claims.disown(pipe, owner_of(entry), pushes)],
        )


def _buried_rows(entry: Entry, batch: Batch, reason: str) -> list[Record]:
    works, now, words = settling.works_of(owner_of(entry), batch), now_ms(), f"dead letter: {reason}"
    return [work_row(work, batch.vendor, batch.business_id, None, work.target.attempts, now, words) for work in works]
