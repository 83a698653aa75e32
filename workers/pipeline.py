"""The map of a message's way: each stage's streams, its handler, and the three Celery tasks that drain them.

Nothing is kept in memory between two reads; a process that dies in the middle leaves entries that another takes over.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec
from celery import Celery

from common import metrics
from common.clock import now_ms
from common.contracts import Push, decode_batch, decode_messages, decode_offline, encode
from common.ledger_records import DeadRecord
from common.model import Vendor
from common.storage import keys, ledger
from common.storage.streams import DELIVERIES_MAX, Entry
from workers.app import DELIVERY, PRESENCE, ROUTING, queue_of, task_of
from workers.delivery import stage as delivery
from workers.handlers.delivery import AWAY, BESIDE, WEIGHTS, Deliveries, buried_rows, disowning, urgent
from workers.handlers.presence import presence_entries
from workers.handlers.routing import routing_entries
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: A drain goes on while there is work, so long; then it rings again and makes room.
SLICE_S = 5.0
#: Entries of one read of the stages before delivery.
READ_MAX = 4
TAKEOVER_MAX = 16
#: An entry that was handed out more often is worked on alone: its neighbours must not be blamed for what it does.
SUSPECT_AFTER = 2


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
            self.runtime.belts.split(entry, singles, disowning(self.runtime, entry))
            self.runtime.ring(self.stage, self.vendor)
            return
        bury(self.runtime, entry, self.stage, reason)


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


def bury(runtime: Runtime, entry: Entry, stage: str, reason: str) -> None:
    """The entry becomes a dead letter with its reason, encrypted, and leaves the belt. Its pushes have rows that are not decided: who
    replays it decides them.

    Whoever waits for it as the newest of a backlog loses patience by itself (common/storage/backlog.py).
    """
    record = DeadRecord(
        id=uuid.uuid4().hex,
        entry_id=entry.id.decode(),
        stage=stage,
        reason=reason,
        app=None,
        at_ms=now_ms(),
        raw=runtime.vault.encrypt(entry.blob),
        fields={"belt": entry.belt},
    )
    runtime.belts.hand_on([entry], [(keys.LEDGER, encode([record, *buried_rows(entry, reason)]))], disowning(runtime, entry))
    log.error("an item became a dead letter", extra={"queue": stage, "reason": reason})


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
