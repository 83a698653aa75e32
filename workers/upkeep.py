"""What is done by the clock: release due pushes, ring what was missed, write the ledger, drop old days, show the fleet's gauges.

One process at a time under a lock; a second one waits for it to fall silent. The ledger is written in a thread of its
own, so that a database that is away does not stop the bells.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common import metrics
from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import DeadRecord, decode_records
from common.model import Vendor
from common.storage import keys, sql
from common.storage import lanes as lane_store
from common.storage.streams import Backlog, Entry
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.delivery.lane import Lane
from workers.fleet_watch import PauseWatch, show_memory, show_missing
from workers.gate import terms_of
from workers.runtime import Runtime
from workers.unparking import Unparking
from workers.withdraw import withdraw_due

log = logging.getLogger(__name__)

#: A store is away: what waits for it stays where it is.
AWAY = (RedisError, OSError, *sql.AWAY)
LOCK_MS = 5_000
TICK_S = 0.1
EVERY_S = 1.0
#: The lanes' states, all in one round trip, and the dead letters, in one query.
LANES_EVERY_S = 2.0
#: As pushfleet_lane_state tells them; a paused lane is a stopped one.
LANE_NUMBERS = {lane_store.FLOWING: 0, lane_store.PROBING: 1, lane_store.STOPPED: 2}
#: Where a dead letter can come from: shown as 0 before the first one comes, so that it is an increase.
LETTER_STAGES = ("intake", PRESENCE, ROUTING, DELIVERY, "ledger")
#: Gauges that cost a query, old days, dead readers.
SELDOM_S = 15.0
#: Ledger entries of one transaction: about 50,000 rows at most.
LEDGER_READ = 200
DEAD_READER_MS = 3_600_000
FULL_PACE_MOVES = 10


class Upkeep:
    def __init__(self, runtime: Runtime, stopping: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._stopping = stopping
        self._unparking = Unparking(runtime, self._ring)
        self._pauses = PauseWatch(runtime)
        self._word = uuid.uuid4().hex
        self._next = 0.0
        self._lanes = 0.0
        self._seldom = 0.0
        self.progress_at = time.monotonic()

    def run(self) -> None:
        """Until told to stop."""
        writer = threading.Thread(target=self._write_ledger, name="ledger", daemon=True)
        writer.start()
        while not self._stopping():
            try:
                if self._mine():
                    self._tick()
                else:
                    metrics.hide()
            except AWAY as error:
                log.warning("a store is away, waiting", extra={"reason": type(error).__name__})
                time.sleep(1.0)
            self.progress_at = time.monotonic()  # also while a store is away: another process would not help
            time.sleep(TICK_S)
        writer.join(20)
        self._let_go()

    # ------------------------------------------------------------ the lock

    def _mine(self) -> bool:
        redis, key = self._runtime.redis, self._runtime.keys.upkeep_lock
        if redis.set(key, self._word, nx=True, px=LOCK_MS):
            return True
        if redis.get(key) != self._word.encode():
            return False
        redis.pexpire(key, LOCK_MS)
        return True

    def _let_go(self) -> None:
        try:
            if self._runtime.redis.get(self._runtime.keys.upkeep_lock) == self._word.encode():
                self._runtime.redis.delete(self._runtime.keys.upkeep_lock)
        except RedisError:
            log.info("the lock ends by itself")

    # ------------------------------------------------------------ by the clock

    def _tick(self) -> None:
        belts: set[str] = set()
        for _ in range(FULL_PACE_MOVES):
            moved = self._runtime.delayed.release_due()
            belts |= moved
            if not moved:
                break
        self._ring(belts)
        self._unparking.go_on()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._each_second()
        if time.monotonic() >= self._lanes:
            self._lanes = time.monotonic() + LANES_EVERY_S
            self._without_database(self._show_lanes)
            self._without_database(self._show_dead_letters)
        if time.monotonic() >= self._seldom:
            self._seldom = time.monotonic() + SELDOM_S
            self._without_database(self._now_and_then)

    def _without_database(self, do: Callable[[], object]) -> None:
        """Does what needs the database, or leaves it for later: bells and due pushes must not wait for it."""
        try:
            do()
        except SQLAlchemyError as error:
            log.warning("the database is away", extra={"reason": type(error).__name__})

    def _each_second(self) -> None:
        found = self._runtime.belts.backlog((*keys.BELTS, keys.LEDGER))
        missed = {belt for belt, backlog in found.items() if backlog.unread}
        missed |= {belt for belt, backlog in found.items() if backlog.pending and self._runtime.belts.stale(belt)}
        self._ring(missed)
        self._without_database(self._unparking.look)
        self._show_waiting(found)
        self._without_database(lambda: withdraw_due(self._runtime))

    def _show_waiting(self, found: Mapping[str, Backlog]) -> None:
        """The belts, and what is no belt of ours: the core's streams and the delayed set."""
        core, now = self._runtime.core, now_ms()
        depth, oldest = 0, None
        for stream in self._runtime.settings.event_streams:
            depth += int(core.xlen(stream))
            first: Any = core.xrange(stream, count=1)
            oldest = min(oldest or now, int(first[0][0].split(b"-")[0])) if first else oldest
        due = self._runtime.delayed.oldest_due_ms()
        queues = {
            **{belt: (backlog.unread + backlog.pending, backlog.oldest_ms) for belt, backlog in found.items()},
            "events": (depth, oldest),
            "delayed": (self._runtime.delayed.waiting_count(), due),
        }
        metrics.show(metrics.BACKLOG, {(queue,): number for queue, (number, _) in queues.items()})
        ages = {queue: now - first if first is not None else 0 for queue, (_, first) in queues.items()}
        metrics.show(metrics.OLDEST_SECONDS, {(queue,): max(age, 0) / 1000 for queue, age in ages.items()})

    def _ring(self, belts: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if stage in belts:
                self._runtime.ring(stage)
        for vendor in {Vendor(belt.split(":")[1]) for belt in belts if belt.startswith("send:")}:
            self._runtime.ring(DELIVERY, vendor)

    def _now_and_then(self) -> None:
        runtime = self._runtime
        lanes = list(runtime.catalog.now.lanes.values())
        metrics.show(metrics.TOKEN_GUARD, {_labels(lane): int(runtime.guard.stopped(lane.id)) for lane in lanes})
        ends = {_labels(lane): lane.credential.options.get("expires_ms") for lane in lanes}
        metrics.show(metrics.CREDENTIAL_EXPIRES_SECONDS, {labels: (int(ms) - now_ms()) / 1000 for labels, ms in ends.items() if ms})
        self._show_quotas(lanes)
        show_memory(runtime)
        runtime.ledger.ready_for(datetime.now(UTC).date() + timedelta(days=1))
        dropped = runtime.ledger.drop_old(datetime.now(UTC).date() - timedelta(days=runtime.settings.ledger_days))
        if dropped:
            log.info("old days of the ledger were dropped", extra={"count": len(dropped)})
        for belt in (*keys.BELTS, keys.LEDGER):
            runtime.belts.forget_dead_readers(belt, DEAD_READER_MS)

    def _show_dead_letters(self) -> None:
        letters = {**dict.fromkeys(LETTER_STAGES, 0), **self._runtime.dead_letters.counts()}
        metrics.show(metrics.DEAD_LETTERS, {(stage,): count for stage, count in letters.items()})

    def _show_lanes(self) -> None:
        lanes = list(self._runtime.catalog.now.lanes.values())
        states = zip(lanes, self._runtime.lane_states.peek_all([lane.id for lane in lanes]), strict=True)
        self._pauses.look(lanes)
        metrics.show(metrics.LANE_PAUSED, {_labels(lane): int(lane.paused) for lane in lanes})
        show_missing(self._runtime)
        metrics.show(metrics.LANE_STATE, {_labels(lane): 2 if lane.paused else LANE_NUMBERS[state.state] for lane, state in states})

    def _show_quotas(self, lanes: Sequence[Lane]) -> None:
        admission, now = self._runtime.admission, now_ms()
        found = {(*_labels(lane), usage.bucket): usage for lane in lanes for usage in admission.usage(terms_of(lane, now))}
        metrics.show(metrics.QUOTA_USED, {labels: usage.used for labels, usage in found.items()})
        metrics.show(metrics.QUOTA_LIMIT, {labels: usage.limit for labels, usage in found.items() if usage.limit is not None})

    # ------------------------------------------------------------ the ledger

    def _write_ledger(self) -> None:
        pause_s = 0.05
        while not self._stopping():
            try:
                pause_s = 0.0 if self.flush() else 0.05
            except AWAY as error:
                log.warning("the ledger waits in its belt: a store is away", extra={"reason": type(error).__name__})
                pause_s = 1.0
            except Exception as error:  # without this thread nothing would reach the ledger any more
                log.exception("the ledger can't be written", extra={"reason": type(error).__name__})
                pause_s = 1.0
            time.sleep(pause_s)

    def flush(self) -> int:
        """Writes what lies on the ledger's belt, acknowledges after the commit. Number of entries."""
        belts = self._runtime.belts
        entries = belts.take_over(keys.LEDGER, LEDGER_READ) or belts.read([keys.LEDGER], LEDGER_READ)
        if not entries:
            return 0
        try:
            self._runtime.ledger.write([record for entry in entries for record in decode_records(entry.blob)])
        except AWAY:
            belts.forgive(entries)
            raise
        except Exception:  # noqa: BLE001 - something in them can't be stored
            self._one_by_one(entries)
            return len(entries)
        belts.hand_on(entries)
        return len(entries)

    def _one_by_one(self, entries: Sequence[Entry]) -> None:
        """Some record can't be read or stored: the others are, the culprit becomes a dead letter."""
        for entry in entries:
            try:
                records: list[Any] = decode_records(entry.blob)
            except msgspec.MsgspecError as error:
                self._runtime.ledger.write([self._dead(entry, error, entry.blob)])
                records = []
            for record in records:
                try:
                    self._runtime.ledger.write([record])
                except AWAY:
                    raise
                except Exception as error:
                    log.exception("a record can't be stored", extra={"reason": type(error).__name__})
                    self._runtime.ledger.write([self._dead(entry, error, encode(record))])
            self._runtime.belts.hand_on([entry])

    def _dead(self, entry: Entry, error: Exception, raw: bytes) -> DeadRecord:
        reason = f"not_storable: {type(getattr(error, 'orig', error)).__name__}"
        return DeadRecord(
            id=uuid.uuid4().hex,
            entry_id=entry.id.decode(),
            stage="ledger",
            reason=reason,
            app=None,
            at_ms=now_ms(),
            raw=self._runtime.vault.encrypt(raw),
            fields={"belt": entry.belt},
        )


def _labels(lane: Lane) -> tuple[str, ...]:
    return lane.credential.app, lane.vendor, lane.credential.business_id
