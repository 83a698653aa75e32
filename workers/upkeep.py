"""What is done by the clock: release due pushes, ring what was missed, write the ledger, drop old days, show the fleet's gauges.

One process at a time under a lock; a second one waits for it to fall silent. The ledger is written in a thread of its
own, so that a database that is away does not stop the bells.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common import metrics
from common.clock import now_ms
from common.model import Vendor
from common.storage import keys, ledger, sql
from common.storage import lanes as lane_store
from common.storage.streams import Entry
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.delivery.lane import Lane
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
        self._word = uuid.uuid4().hex
        self._next = 0.0
        self._lanes = 0.0
        self._seldom = 0.0
        self._buried: set[str] = set()
        self.progress_at = time.monotonic()

    def run(self) -> None:
        """Until told to stop."""
        writer = threading.Thread(target=self._write_ledger, name="ledger", daemon=True)
        writer.start()
        while not self._stopping():
            try:
                if self._mine():
                    self._tick()
                self.progress_at = time.monotonic()
            except AWAY as error:
                log.warning("a store is away, waiting", extra={"reason": type(error).__name__})
                time.sleep(1.0)
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
        _show(found)
        self._show_waiting()
        self._without_database(lambda: withdraw_due(self._runtime))

    def _show_waiting(self) -> None:
        """The core's streams and the delayed set, which are no belts of ours."""
        core, now = self._runtime.core, now_ms()
        depth, oldest = 0, now
        for stream in self._runtime.settings.event_streams:
            depth += int(core.xlen(stream))
            first: Any = core.xrange(stream, count=1)
            oldest = min(oldest, int(first[0][0].split(b"-")[0])) if first else oldest
        metrics.BACKLOG.labels("events").set(depth)
        metrics.OLDEST_SECONDS.labels("events").set(max(now - oldest, 0) / 1000)
        due = self._runtime.delayed.oldest_due_ms()
        metrics.BACKLOG.labels("delayed").set(self._runtime.delayed.waiting_count())
        metrics.OLDEST_SECONDS.labels("delayed").set(max(now - due, 0) / 1000 if due is not None else 0)

    def _ring(self, belts: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if stage in belts:
                self._runtime.ring(stage)
        for vendor in {Vendor(belt.split(":")[1]) for belt in belts if belt.startswith("send:")}:
            self._runtime.ring(DELIVERY, vendor)

    def _now_and_then(self) -> None:
        runtime = self._runtime
        for lane in runtime.catalog.now.lanes.values():
            labels = _labels(lane)
            metrics.TOKEN_GUARD.labels(*labels).set(int(runtime.guard.stopped(lane.id)))
            self._show_quotas(lane, labels)
            expires_ms = lane.credential.options.get("expires_ms")
            if expires_ms:
                metrics.CREDENTIAL_EXPIRES_SECONDS.labels(*labels).set((int(expires_ms) - now_ms()) / 1000)
        runtime.ledger.ready_for(datetime.now(UTC).date() + timedelta(days=1))
        dropped = runtime.ledger.drop_old(datetime.now(UTC).date() - timedelta(days=runtime.settings.ledger_days))
        if dropped:
            log.info("old days of the ledger were dropped", extra={"count": len(dropped)})
        for belt in (*keys.BELTS, keys.LEDGER):
            runtime.belts.forget_dead_readers(belt, DEAD_READER_MS)

    def _show_dead_letters(self) -> None:
        """By stage; one whose last letter is gone has none."""
        counts = self._runtime.dead_letters.counts()
        self._buried |= set(counts)
        for stage in self._buried:
            metrics.DEAD_LETTERS.labels(stage).set(counts.get(stage, 0))

    def _show_lanes(self) -> None:
        lanes = list(self._runtime.catalog.now.lanes.values())
        for lane, state in zip(lanes, self._runtime.lane_states.peek_all([lane.id for lane in lanes]), strict=True):
            metrics.LANE_STATE.labels(*_labels(lane)).set(2 if lane.paused else LANE_NUMBERS[state.state])

    def _show_quotas(self, lane: Lane, labels: tuple[str, ...]) -> None:
        for usage in self._runtime.admission.usage(terms_of(lane, now_ms())):
            metrics.QUOTA_USED.labels(*labels, usage.bucket).set(usage.used)
            if usage.limit is not None:
                metrics.QUOTA_LIMIT.labels(*labels, usage.bucket).set(usage.limit)

    # ------------------------------------------------------------ the ledger

    def _write_ledger(self) -> None:
        pause_s = 0.05
        while not self._stopping():
            try:
                pause_s = 0.0 if self.flush() else 0.05
                self._runtime.alive()
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
            self._runtime.ledger.write([record for entry in entries for record in ledger.decode(entry.blob)])
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
                records: list[Any] = ledger.decode(entry.blob)
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
                    self._runtime.ledger.write([self._dead(entry, error, ledger.encode_one(record))])
            self._runtime.belts.hand_on([entry])

    def _dead(self, entry: Entry, error: Exception, raw: bytes) -> ledger.DeadRecord:
        reason = f"not_storable: {type(getattr(error, 'orig', error)).__name__}"
        return ledger.DeadRecord(
            uuid.uuid4().hex, entry.id.decode(), "ledger", reason, None, now_ms(), self._runtime.vault.encrypt(raw), {"belt": entry.belt}
        )


def _labels(lane: Lane) -> tuple[str, ...]:
    return lane.credential.app, lane.vendor, lane.credential.business_id


def _show(found: dict[str, Any]) -> None:
    now = now_ms()
    for belt, backlog in found.items():
        metrics.BACKLOG.labels(belt).set(backlog.unread + backlog.pending)
        metrics.OLDEST_SECONDS.labels(belt).set(max(now - backlog.oldest_ms, 0) / 1000 if backlog.oldest_ms is not None else 0)
