"""The way of a message, top to bottom: every Celery task of it drains one stage's belts.

Each `*_entries` below reads: take entries, let the stage work, hand on in one MULTI, ring the next bell. Nothing is kept
in memory between two of them; a process that dies in the middle leaves entries that another takes over.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from celery import Celery
from redis.exceptions import RedisError

from common import metrics
from common.clock import now_ms
from common.contracts import Batch, OfflineRecipients, Push, decode_batch, decode_messages, decode_offline, encode
from common.model import Decision, Kind, Urgency, Vendor, Verdict
from common.storage import keys, ledger, sql
from common.storage.delayed import Later
from common.storage.streams import DELIVERIES_MAX, Entry
from workers.app import DELIVERY, PRESENCE, ROUTING, queue_of, task_of
from workers.delivery import settle as settling
from workers.delivery import stage as delivery
from workers.delivery.fold import group_of, joins
from workers.delivery.lane import Lane
from workers.delivery.work import Work
from workers.keeping import Keeper
from workers.late_binding import given_back, on_screens
from workers.presence import stage as presence
from workers.routing import stage as routing
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: A drain goes on while there is work, so long; then it rings again and makes room.
SLICE_S = 5.0
#: Entries of one read of the stages before delivery.
READ_MAX = 4
TAKEOVER_MAX = 16
#: An entry that was handed out more often is worked on alone: its neighbours must not be blamed for what it does.
SUSPECT_AFTER = 2
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

#: Pushes about a push: they have no row of their own but a step in the first one's (contract §7).
AFTERTHOUGHTS = frozenset({Kind.RECALL, Kind.CALL_CANCEL})

#: A store is away: the entries are not to blame.
AWAY = (RedisError, OSError, *sql.AWAY)


class Drain:
    """One stage's belts in one process: read, finish, acknowledge, until they are empty or the slice is over."""

    def __init__(
        self,
        runtime: Runtime,
        stage: str,
        counts: Mapping[str, int],
        finish: Callable[[Sequence[Entry]], None],
        vendor: Vendor | None = None,
        beside: Sequence[Mapping[str, int]] = (),
    ) -> None:
        """counts: entries of one read by belt. beside: what is read instead, in turn, while urgent entries come."""
        self.runtime = runtime
        self.stage = stage
        self.vendor = vendor
        self.counts = counts
        self._beside = itertools.cycle(beside) if beside else None
        self._hurry = False
        self.finish = finish
        self._takeover_at = 0.0
        self._running = threading.Lock()
        self._called = threading.Event()
        self.stopping: Callable[[], bool] = lambda: False
        self.progress_at = time.monotonic()

    def __call__(self, stopping: Callable[[], bool]) -> None:
        """One slice of work. One at a time in a process: what is in flight stays within its bound, and no vendor takes all slots.

        A bell that rings meanwhile is heard when the slice ends: else what came after its last look would wait for the bell's end.
        """
        self._called.set()
        while self._called.is_set() and self._running.acquire(blocking=False):
            self._called.clear()
            try:
                self._slice(stopping)
            finally:
                self._running.release()

    def _slice(self, stopping: Callable[[], bool]) -> None:
        belts = self.runtime.belts
        self.stopping = stopping
        try:
            belts.clear_bell(queue_of(self.stage, self.vendor))
            end = time.monotonic() + SLICE_S
            self._finish(self._taken_over())
            while not stopping() and time.monotonic() < end:
                if self.stage == DELIVERY and belts.redis.xlen(belts.keys.belt(keys.LEDGER)) > ledger.BELT_MAX:
                    log.warning(
                        "the ledger's belt is full: no batch is taken until it drains", extra={"queue": queue_of(self.stage, self.vendor)}
                    )
                    return
                entries = self._read()
                if not entries:
                    self.progress_at = time.monotonic()
                    return
                self._finish(entries)
            self.runtime.ring(self.stage, self.vendor)
        except AWAY as error:
            log.warning("a store is away; the work waits in its belt", extra={"reason": type(error).__name__, "queue": self.stage})

    def _read(self) -> list[Entry]:
        entries: list[Entry] = []
        if self._beside is not None and self._hurry:
            entries = self.runtime.belts.read_weighted(next(self._beside))
        entries = entries or self.runtime.belts.read_weighted(self.counts)
        self._hurry = any(urgent(entry) for entry in entries)
        return entries

    def _taken_over(self) -> list[Entry]:
        """What other readers left behind when they fell silent; looked for once a second."""
        if time.monotonic() < self._takeover_at:
            return []
        self._takeover_at = time.monotonic() + 1.0
        return [entry for belt in self.counts for entry in self.runtime.belts.take_over(belt, TAKEOVER_MAX)]

    def _finish(self, entries: Sequence[Entry]) -> None:
        fit = [entry for entry in entries if not self._poisoned(entry)]
        suspects = [entry for entry in fit if entry.deliveries > SUSPECT_AFTER]
        for entry in suspects:  # until its turn comes, being taken over does not count
            self.runtime.belts.recount(entry, entry.deliveries - 1)
        self._work([entry for entry in fit if entry.deliveries <= SUSPECT_AFTER])
        for entry in suspects:
            if not self.stopping() and self.runtime.belts.recount(entry, entry.deliveries):
                self._work([entry])

    def _work(self, fit: Sequence[Entry]) -> None:
        if not fit:
            return
        started = time.perf_counter()
        try:
            self.finish(fit)
        except AWAY:
            self.runtime.belts.forgive(fit)
            raise
        except Exception as error:  # noqa: BLE001 - whatever an item breaks, the others must go on
            self._isolate(fit, error)
        metrics.STAGE_SECONDS.labels(self.stage).observe(time.perf_counter() - started)
        self.progress_at = time.monotonic()

    def _isolate(self, entries: Sequence[Entry], error: Exception) -> None:
        """Something in these entries breaks its stage: each alone, then each item alone, until the culprit stands alone."""
        if len(entries) > 1:
            for entry in entries:
                try:
                    self.finish([entry])
                except AWAY:
                    self.runtime.belts.forgive([entry])
                    raise
                except Exception as own:  # noqa: BLE001
                    self._isolate([entry], own)
            return
        log.error("an item broke its stage", extra={"queue": self.stage, "reason": type(error).__name__}, exc_info=error)
        self._split_or_bury(entries[0], f"broke_stage: {type(error).__name__}")

    def _poisoned(self, entry: Entry) -> bool:
        """Handed out too often: it kills whoever reads it."""
        if entry.deliveries <= DELIVERIES_MAX:
            return False
        self._split_or_bury(entry, f"poison: handed out {entry.deliveries} times and never finished")
        return True

    def _split_or_bury(self, entry: Entry, reason: str) -> None:
        singles = split_blob(entry)
        if len(singles) > 1:
            self.runtime.belts.split(entry, singles, _disowning(self.runtime, entry))
            self.runtime.ring(self.stage, self.vendor)
            return
        bury(self.runtime, entry, self.stage, reason)


def urgent(entry: Entry) -> bool:
    """Whether somebody waits for what is in it: calls and chats."""
    return entry.belt.endswith(_URGENT)


_URGENT = (f":{Urgency.CALL}", f":{Urgency.CHAT}")


def split_blob(entry: Entry) -> list[bytes]:
    """The entry's items, each packed alone; one blob when it can't be read or holds one item."""
    try:
        if entry.belt == keys.PRESENCE:
            return [encode([message]) for message in decode_messages(entry.blob)]
        if entry.belt == keys.ROUTING:
            return [encode([one]) for one in decode_offline(entry.blob)]
        batch = decode_batch(entry.blob)
        pushes = [Push(note=push.note, targets=(target,)) for push in batch.pushes for target in push.targets]
        return [encode(msgspec.structs.replace(batch, pushes=(push,))) for push in pushes]
    except msgspec.MsgspecError:
        return [entry.blob]


def owner_of(entry: Entry) -> str:
    """The entry's name in the claims on its pushes."""
    return f"{entry.belt}/{entry.id.decode()}"


def _disowning(runtime: Runtime, entry: Entry) -> Callable[[Any], None] | None:
    """What frees the leases of an entry that is about to go without its pushes being finished; None where it holds none."""
    if entry.belt in (keys.PRESENCE, keys.ROUTING):
        return None
    try:
        batch = decode_batch(entry.blob)
    except msgspec.MsgspecError:
        return None
    pushes = [(target.push_id, push.note.ts_ms) for push in batch.pushes for target in push.targets]
    return lambda pipe: runtime.claims.disown(pipe, owner_of(entry), pushes)


def bury(runtime: Runtime, entry: Entry, stage: str, reason: str) -> None:
    """The entry becomes a dead letter with its reason, encrypted, and leaves the belt. Its pushes have rows that are not decided: who
    replays it decides them.

    Whoever waits for it as the newest of a backlog loses patience by itself (common/storage/backlog.py).
    """
    record = ledger.DeadRecord(
        uuid.uuid4().hex, entry.id.decode(), stage, reason, None, now_ms(), runtime.vault.encrypt(entry.blob), {"belt": entry.belt}
    )
    runtime.belts.hand_on([entry], [(keys.LEDGER, encode([record, *_buried_rows(entry, reason)]))], _disowning(runtime, entry))
    log.error("an item became a dead letter", extra={"queue": stage, "reason": reason})


def _buried_rows(entry: Entry, reason: str) -> list[ledger.Record]:
    if entry.belt in (keys.PRESENCE, keys.ROUTING):
        return []
    try:
        batch = decode_batch(entry.blob)
    except msgspec.MsgspecError:
        return []
    works, now, words = settling.works_of(owner_of(entry), batch), now_ms(), f"dead letter: {reason}"
    return [_row(work, batch.vendor, batch.business_id, None, work.target.attempts, now, words) for work in works]


# ---------------------------------------------------------------- presence


def presence_entries(runtime: Runtime, entries: Sequence[Entry]) -> None:
    """Messages -> those of their recipients who are away; pages of large groups go on behind the others."""
    messages = [message for entry in entries for message in decode_messages(entry.blob)]
    now = now_ms()
    seen = presence.look(messages, runtime.members, runtime.presence, runtime.devices, now)
    if seen.malformed:
        metrics.IGNORED.labels("malformed_presence").inc(seen.malformed)
    adds = [(keys.ROUTING, blob) for blob in _packed(seen.offline, lambda one: len(one.recipients))]
    adds += [(keys.PRESENCE, encode([message])) for message in seen.onward]
    adds += _ledger([_presence_row(row, now) for row in seen.rows])
    later = [Later(keys.PRESENCE, encode([message]), now + presence.SECOND_LOOK_MS) for message in seen.later]
    runtime.belts.hand_on(entries, adds, lambda pipe: runtime.delayed.put(pipe, later))
    for row in seen.rows:
        metrics.DECISIONS.labels(row.device.vendor if row.device else "none", row.decision, "none").inc()
    if seen.offline:
        runtime.ring(ROUTING)
    if seen.onward:
        runtime.ring(PRESENCE)


def _packed(offline: Sequence[OfflineRecipients], size: Callable[[OfflineRecipients], int]) -> list[bytes]:
    """Entries of about PACK people: enough to be cheap, few enough to share among replicas."""
    blobs: list[bytes] = []
    pack: list[OfflineRecipients] = []
    people = 0
    for one in offline:
        pack.append(one)
        people += size(one)
        if people >= PACK:
            blobs.append(encode(pack))
            pack, people = [], 0
    if pack:
        blobs.append(encode(pack))
    return blobs


PACK = 200


def _ledger(records: Sequence[ledger.Record]) -> list[tuple[str, bytes]]:
    return [(keys.LEDGER, encode(records))] if records else []


def _presence_row(row: presence.Row, now: int) -> ledger.RowRecord:
    device = row.device
    return ledger.RowRecord(
        row.message.app,
        row.message.event_id,
        row.message.ts_ms,
        row.user,
        device.device_id if device else "",
        device.vendor if device else "",
        device.business_id if device else "",
        row.decision,
        False,
        row.message.push.message_class,
        None,
        None,
        (),
        now,
        0,
        now,
        "",
    )


# ---------------------------------------------------------------- routing


def routing_entries(runtime: Runtime, entries: Sequence[Entry]) -> None:
    """People who are away -> pushes, packed by lane and urgency."""
    offline = [one for entry in entries for one in decode_offline(entry.blob)]
    now = now_ms()
    routed = routing.route(offline, runtime.routing, now)
    adds = [(keys.send(batch.vendor, urgency), encode(batch)) for urgency, batch in routed.batches]
    adds += _ledger([_routing_row(row, now) for row in routed.rows])
    runtime.belts.hand_on(entries, adds)
    if routed.presets_missing:
        metrics.IGNORED.labels("unknown_strategy").inc(routed.presets_missing)
        log.warning("a message names a preset that is not stored: defaults are used", extra={"count": routed.presets_missing})
    for row in routed.rows:
        if row.message.kind not in AFTERTHOUGHTS:
            metrics.DECISIONS.labels(row.device.vendor, row.decision, "none").inc()
    for vendor in {batch.vendor for _, batch in routed.batches}:
        runtime.ring(DELIVERY, vendor)


def _routing_row(row: routing.Row, now: int) -> ledger.Record:
    message, device = row.message, row.device
    if message.kind in AFTERTHOUGHTS:
        said = f"{message.kind}: {row.decision}"
        return ledger.NoteRecord(message.app, message.event_id, message.ts_ms, row.user, device.device_id, "step", "routing", now, said)
    return ledger.RowRecord(
        message.app,
        message.event_id,
        message.ts_ms,
        row.user,
        device.device_id,
        device.vendor,
        device.business_id,
        row.decision,
        False,
        message.push.message_class,
        None,
        None,
        (),
        row.presence_ms,
        now,
        now,
        "",
    )


# ---------------------------------------------------------------- delivery


LaneKey = tuple[str, Vendor, str]


class Deliveries:
    """One vendor's delivery in one process."""

    def __init__(self, runtime: Runtime, vendor: Vendor, in_flight_max: int, stopping: Callable[[], bool]) -> None:
        """in_flight_max: pushes on the wire at once. stopping: the process is to end."""
        self._runtime = runtime
        self._vendor = vendor
        self._in_flight_max = in_flight_max
        self._stopping = stopping
        self._keeper = Keeper(runtime.belts)
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
        self._retire(lane, done, settled)
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
        rows = [_delivery_row(one, self._vendor, business_id, now) for one in ended]

        def more(pipe: Any) -> None:
            self._runtime.claims.mark_done(pipe, [(work.target.push_id, work.note.ts_ms) for work in works])
            self._runtime.backlog.leave(pipe, _decided(ended))

        self._runtime.belts.hand_on(entries, _ledger(rows), more)
        for one in ended:
            if one.work.note.kind not in AFTERTHOUGHTS:
                metrics.DECISIONS.labels(self._vendor, one.decision, metrics.NONE).inc()

    def _write(self, entries: Sequence[Entry], lane: Lane, settled: settling.Settled, now: int) -> None:
        """Rows, claims, what goes again and the acknowledgement: all in one MULTI."""
        business_id = lane.credential.business_id
        rows: list[ledger.Record] = [_delivery_row(one, lane.vendor, business_id, now) for one in settled.ended]
        rows += [_pending_row(wait, lane.vendor, business_id, now) for wait in settled.waits if _news(wait)]
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

        self._runtime.belts.hand_on(entries, _ledger(rows), more)

    def _retire(self, lane: Lane, done: delivery.Delivered, settled: settling.Settled) -> None:
        verdicts = [outcome.verdict for _, outcome in done.told]
        foreign, dead = verdicts.count(Verdict.TOKEN_FOREIGN), verdicts.count(Verdict.TOKEN_DEAD)
        if not settled.retires and not verdicts:
            return
        calm = self._runtime.guard.count(lane.id, len(verdicts), foreign, dead)
        chosen = [one for one in settled.retires if not one.guarded or calm["foreign" if one.foreign else "dead"]]
        if len(chosen) < len(settled.retires):
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
                return
            if retired:
                metrics.TOKENS_RETIRED.labels(lane.vendor).inc(retired)


def _round(
    todo: list[tuple[Entry, Batch]], most: int = delivery.IN_FLIGHT_MAX
) -> tuple[list[tuple[Entry, Batch]], list[tuple[Entry, Batch]]]:
    """As many whole entries from the front as stay within `most` pushes (one at least), and the rest.

    A round ends with its last answer: the urgent are not in one with a group of hundreds.
    """
    size = 0
    for index, (entry, batch) in enumerate(todo):
        size += sum(len(push.targets) for push in batch.pushes)
        if index and (size > most or urgent(entry) != urgent(todo[0][0])):
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


def _delivery_row(one: settling.Ended, vendor: Vendor, business_id: str, now: int) -> ledger.Record:
    return _row(one.work, vendor, business_id, one.decision, one.attempts, now, one.note)


def _pending_row(wait: settling.Wait, vendor: Vendor, business_id: str, now: int) -> ledger.Record:
    held = wait.target.held_by  # the ledger knows by this word what may be on a screen
    reason = wait.reason if held != Decision.UNCERTAIN or wait.reason == held else f"{held}, then {wait.reason}"
    note = f"waits: {reason}" + ("" if wait.delay_s is None else f", again in {wait.delay_s:.1f} s")
    return _row(wait.work, vendor, business_id, None, wait.target.attempts, now, note)


def _news(wait: settling.Wait) -> bool:
    """Whether a waiting push has something to tell: a first wait, or an answer. Waiting for the rate again is no news."""
    return wait.work.target.held_by is None or wait.target.tried != wait.work.target.tried


def _row(work: Work, vendor: Vendor, business_id: str, decision: Decision | None, attempts: Any, now: int, words: str) -> ledger.Record:
    note, target = work.note, work.target
    if note.kind in AFTERTHOUGHTS:
        said = f"{note.kind}: {decision or words}"
        return ledger.NoteRecord(note.app, note.event_id, note.ts_ms, target.user, target.device, "step", "delivery", now, said)
    return ledger.RowRecord(
        note.app,
        note.event_id,
        note.ts_ms,
        target.user,
        target.device,
        vendor,
        business_id,
        decision,
        note.downgraded,
        note.message_class,
        note.class_sent,
        target.push_id,
        attempts,
        note.presence_ms,
        note.routed_ms,
        now,
        words,
    )


def _count(lane: Lane, done: delivery.Delivered, settled: settling.Settled, now: int) -> None:
    own = [one for one in settled.ended if one.work.note.kind not in AFTERTHOUGHTS]  # the others have no row of their own
    ended = Counter((one.decision, one.work.note.class_sent) for one in own)
    for (decision, class_sent), count in ended.items():
        metrics.DECISIONS.labels(lane.vendor, decision, class_sent).inc(count)
    seconds = {
        name: metrics.STORED_TO_ACCEPTED_SECONDS.labels(lane.vendor, name) for decision, name in ended if decision == Decision.ACCEPTED
    }
    for one in own:
        if one.decision == Decision.ACCEPTED:
            seconds[one.work.note.class_sent].observe(max(now - one.work.note.ts_ms, 0) / 1000)
    for reason, count in Counter(wait.reason for wait in settled.waits).items():
        metrics.RETRIES.labels(lane.vendor, reason).inc(count)
    if settled.alarms:
        metrics.UNKNOWN_CODES.labels(lane.vendor).inc(settled.alarms)
        codes = sorted({f"{o.status}/{o.code}"[:40] for _, o in done.told if o.alarm or o.verdict == Verdict.UNKNOWN})
        log.error("a vendor said something that nobody documents", extra={"vendor": lane.vendor, "code": " ".join(codes[:5])})


# ---------------------------------------------------------------- the tasks


class Stages:
    """The drains of one process, made once.

    vendors: how many it delivers to. What a kill may double is the process's, so they share it. stopping: it is to end.
    """

    def __init__(self, runtime: Runtime, vendors: int = 1, stopping: Callable[[], bool] = lambda: False) -> None:
        self.runtime = runtime
        self.in_flight_max = delivery.IN_FLIGHT_MAX // vendors
        self.stopping = stopping
        self.drains: dict[str, Drain] = {}

    def drain(self, stage: str, vendor: Vendor | None = None) -> Drain:
        queue = queue_of(stage, vendor)
        if queue not in self.drains:
            self.drains[queue] = self._make(stage, vendor)
        return self.drains[queue]

    def _make(self, stage: str, vendor: Vendor | None) -> Drain:
        runtime = self.runtime
        if stage == PRESENCE:
            return Drain(runtime, stage, {keys.PRESENCE: READ_MAX}, lambda entries: presence_entries(runtime, entries))
        if stage == ROUTING:
            return Drain(runtime, stage, {keys.ROUTING: READ_MAX}, lambda entries: routing_entries(runtime, entries))
        if vendor is None:
            raise ValueError("delivery drains one vendor's belts")
        counts, *beside = ({keys.send(vendor, urgency): count for urgency, count in each.items()} for each in (WEIGHTS, *BESIDE))
        deliveries = Deliveries(runtime, vendor, self.in_flight_max, self.stopping)
        return Drain(runtime, stage, counts, deliveries.entries, vendor, beside)


def register(app: Celery, stages: Stages, stopping: Callable[[], bool]) -> None:
    """Puts the three tasks on the app. Their messages carry nothing but, for delivery, the vendor's name."""

    @app.task(name=task_of(PRESENCE))
    def drain_presence() -> None:
        stages.drain(PRESENCE)(stopping)

    @app.task(name=task_of(ROUTING))
    def drain_routing() -> None:
        stages.drain(ROUTING)(stopping)

    @app.task(name=task_of(DELIVERY))
    def drain_delivery(vendor: str) -> None:
        stages.drain(DELIVERY, Vendor(vendor))(stopping)
