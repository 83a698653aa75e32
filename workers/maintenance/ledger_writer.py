"""The ledger writer: records from the ledger's stream into SQL, acknowledged after the commit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, cast

import msgspec
from redis.exceptions import RedisError

from common.ledger_records import (
    EventColumns,
    EventRecord,
    PageRecord,
    Record,
    RowColumns,
    RowRecord,
    SingleRecord,
    decode_records,
    singly,
)
from common.model import PUSHED_EVENTS, Vendor
from common.storage import keys, sql
from common.storage.leases import Lease
from common.storage.ledger import Fence
from common.storage.shards import JointStreams
from common.storage.streams import Entry
from common.storage.unavailable import store_unavailable
from workers.queues.consumer import Commit, PackedEntries, Policy, Stores, StreamConsumer
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Entries of one transaction: about 50,000 rows at most.
READ_MAX: Final = 200
#: Entries of each stream, where those of many shards are read together.
READ_EACH_MIN: Final = 8
#: Milliseconds of one blocking read of an empty stream.
BLOCK_MS: Final = 2_000
#: Seconds between two claims of a dead writer's entries.
TAKE_OVER_S: Final = 2.0
#: Seconds after which the word that records may come in columns is said again: a server may have
#: lost it.
TOLD_S: Final = 1.0
#: Seconds that an event waits for its outcome: both are then written at once, as one row of a
#: transaction of thousands. While outcomes keep coming it waits on, up to the second bound.
HOLD_S: Final = 1.0
HOLD_MAX_S: Final = 3.0
#: Seconds that records without such events wait for others: a transaction costs as much as many
#: rows, and what sends meanwhile has the machine for itself.
GATHER_S: Final = 0.1
#: Age in seconds at which outcomes are no sign of further ones.
FLOW_S: Final = 0.3
#: Between two looks for the outcomes of events that wait: a lone push is there at the first one.
LOOK_S: Final = GATHER_S
LOOK_MAX_S: Final = 0.2
#: Remaining lease in seconds that a commit requires.
COMMIT_S: Final = 1.0

#: One object: `RowRecord | PageRecord` is made anew for each record that is asked.
_OUTCOMES: Final = (EventRecord, RowRecord, PageRecord)
#: (app, event id)
_Name = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Read:
    """The records of one entry that are not written yet. unmet: events without an
    outcome so far.
    """

    at: float
    records: list[Record]
    unmet: set[_Name]


class LedgerHandler(PackedEntries):
    """Records of the ledger's stream -> SQL; nothing follows from them in Redis."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.hold_s = HOLD_S
        #: Id of the ledger's entries: of rows in older ones another writer may have written a state
        #: before their events, which lay in other shards' streams.
        self.begun = b""
        self.fence: Fence | None = None
        #: Called before each transaction: a turn of many of them is not stuck.
        self.goes_on: Callable[[], None] = lambda: None
        self._reads: dict[tuple[str, bytes], _Read] = {}
        self._unmet: dict[_Name, _Read] = {}
        self._early: list[Record] = []
        self._met_at = 0.0

    def gather(self, entries: Sequence[Entry]) -> float:
        """Seconds until the next look for these events' outcomes; 0: they wait no longer."""
        now, fresh = time.monotonic(), list[_Read]()
        for entry in entries:
            if (entry.stream, entry.id) not in self._reads:
                read = self._reads[entry.stream, entry.id] = self._read(entry, now)
                fresh.append(read)
        for read in fresh if self._unmet else ():  # whichever came first
            self._meet(read, now)
        if not self._unmet:
            first = next(iter(self._reads.values()), None)
            waits = first is not None and self.hold_s
            return max(first.at + GATHER_S - now, 0.0) if first is not None and waits else 0.0
        waited_s = now - next(iter(self._unmet.values())).at
        left_s = self._patience(now) - waited_s
        return min(max(LOOK_S, waited_s / 4), LOOK_MAX_S, left_s) if left_s > 0 else 0.0

    def _patience(self, now: float) -> float:
        """Seconds that an event waits, as things are."""
        return (
            max(self.hold_s, HOLD_MAX_S)
            if self.hold_s and now - self._met_at < FLOW_S
            else self.hold_s
        )

    def _read(self, entry: Entry, now: float) -> _Read:
        """The entry's records, and which of its events have no outcome yet."""
        read = _Read(now, [], set())
        with contextlib.suppress(msgspec.MsgspecError):  # handle() says so
            read.records = decode_records(entry.blob)
        for record in read.records:
            read.unmet.update(_waiting(record))
        self._unmet.update(dict.fromkeys(read.unmet, read))
        return read

    def _meet(self, read: _Read, now: float) -> None:
        """The events of these outcomes wait no longer, nor does one that was decided as a whole."""
        for record in read.records:
            names = _decided(record)
            for of in set(map(self._unmet.pop, names, repeat(None))):
                if of is not None:
                    of.unmet.difference_update(names)
                    self._met_at = now

    def hold(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Entries with events whose outcomes may still come soon.

        Their other records are written with the others.
        """
        now = time.monotonic()
        since = now - self._patience(now)
        held = [
            entry
            for entry in entries
            if (read := self._reads.get((entry.stream, entry.id)))
            and read.unmet
            and read.at > since
        ]
        if not self.hold_s or len(held) >= READ_MAX or (held and len(held) == len(entries)):
            return ()
        for entry in held:
            read = self._reads[entry.stream, entry.id]
            parts = [part for record in read.records for part in _parted(record, read.unmet)]
            self._early += [record for record, waits in parts if not waits]
            read.records = [record for record, waits in parts if waits]
        return held

    def handle(self, entries: Sequence[Entry]) -> Commit:
        """Writes all of the records in one transaction. psycopg.DataError: one of them can never be
        stored.
        """
        try:
            again = any(entry.reclaimed or entry.id < self.begun for entry in entries)
            self._write(self._records_of(entries), again)
        except BaseException:  # what is held is read anew, whole: some of it may not be written
            self.forget()
            raise
        return Commit()

    def forget(self) -> None:
        """Forgets what was read: it is read again."""
        self._reads.clear()
        self._unmet.clear()

    def _records_of(self, entries: Sequence[Entry]) -> list[Record]:
        """Their records, after those that did not wait with their entries. msgspec.MsgspecError:
        one of the entries has none.
        """
        records, self._early = self._early, []
        for entry in entries:
            read = self._reads.pop((entry.stream, entry.id), None)
            records += (
                read.records if read is not None and read.records else decode_records(entry.blob)
            )
            if read is not None:
                for name in read.unmet:
                    self._unmet.pop(name, None)
        return records

    def _write(self, records: Sequence[Record], again: bool) -> None:
        """Writes the records; halves a batch that takes longer than a statement may.

        Each half is a transaction, and a repeat changes nothing.
        """
        self.goes_on()
        try:
            self._runtime.ledger.write(records, again, self.fence)
        except store_unavailable() as error:
            if len(records) < 2:
                records = singly(records)
            if not sql.took_too_long(error) or len(records) < 2:
                raise
            log.warning(
                "a write of the ledger took too long: it is halved", extra={"count": len(records)}
            )
            middle = len(records) // 2
            self._write(records[:middle], again)
            self._write(records[middle:], again)

    def items(self, blob: bytes) -> Sequence[SingleRecord]:
        return singly(decode_records(blob))


def _waiting(record: Record) -> Collection[_Name]:
    """The events of this record whose outcomes may still come."""
    if isinstance(record, EventColumns):
        return _names(record)
    if isinstance(record, EventRecord) and record.decision is None:
        return [(record.app, record.event_id)] if record.type in PUSHED_EVENTS else ()
    return ()


def _decided(record: Record) -> Collection[_Name]:
    """The events whose outcomes these are."""
    if isinstance(record, RowColumns):
        return _names(record)
    if isinstance(record, EventRecord) and record.decision is None:
        return ()
    if isinstance(record, _OUTCOMES):
        return [(record.app, record.event_id)]
    return ()


def _names(record: EventColumns | RowColumns) -> list[_Name]:
    return [*zip(repeat(record.app), record.event_ids, strict=False)]


def _parted(record: Record, unmet: Set[_Name]) -> list[tuple[Record, bool]]:
    """The record, or its parts, and whether it waits for its events' outcomes."""
    if isinstance(record, EventColumns):
        waits = [name in unmet for name in _names(record)]
        if any(waits) and not all(waits):
            rest = record.part([not one for one in waits])
            return [(rest, False), (record.part(waits), True)]
        return [(record, any(waits))]
    waits_alone = isinstance(record, EventRecord) and (record.app, record.event_id) in unmet
    return [(record, waits_alone)]


class LedgerWriter:
    name = "ledger"

    def __init__(
        self,
        runtime: Runtime,
        stopping: Callable[[], bool] = lambda: False,
        shards: Sequence[Runtime] = (),
    ) -> None:
        """shards: all of one server: one transaction writes all their streams' content."""
        self._redis = runtime.redis
        self._names = [one.keys.ledger_columns for one in shards or [runtime]]
        self._epoch, self._told_at = 0, float("-inf")
        joint = JointStreams(runtime.redis, [one.keys for one in shards]) if shards else None
        names = joint.names(keys.LEDGER) if joint is not None else [keys.LEDGER]
        self._handler = LedgerHandler(runtime)
        policy = Policy(
            keys.LEDGER,
            dict.fromkeys(names, max(READ_MAX // len(names), READ_EACH_MIN)),
            reclaim_max=READ_MAX,
            reclaim_every_s=TAKE_OVER_S,
            gather=self._handler.gather,
            hold=self._handler.hold,
        )
        stores = Stores(runtime.streams, runtime.delayed, runtime.vault, _wake, joint)
        self.consumer = StreamConsumer(self._handler, policy, stores)
        self.consumer.stopping = stopping

    def turn(self, lease: Lease | None = None) -> float:
        if lease is not None:
            self._handler.fence = Fence(lease.number, lambda: lease.left_s > COMMIT_S)
            self._handler.goes_on = lambda: setattr(lease, "busy_at", time.monotonic())
            self.begin(lease)
        self.flush(BLOCK_MS)
        if self.consumer.stopping() and self.consumer.holds:
            self.flush()
        return 0.0

    def begin(self, lease: Lease) -> None:
        """Tells the stages that records may come in columns (Runtime.old_ledger).

        Not each time: with a lone chat it would be a command in fifty.
        """
        if lease.epoch != self._epoch and len(self._names) > 1:
            seconds, micros = cast(Any, self._redis.time())
            self._handler.begun = b"%d" % (seconds * 1000 + micros // 1000)
        now = time.monotonic()
        if lease.epoch == self._epoch and now - self._told_at < TOLD_S:
            return
        self._told_at = now
        self._epoch, epochs = lease.epoch, [one.epoch for one in lease.parts]
        with contextlib.suppress(RedisError, OSError):  # a full server has to be emptied first
            self._redis.mset(dict(zip(self._names, epochs, strict=True)))

    def rest(self) -> None:
        """Releases held events for the next writer: two at once give one push two rows."""
        if self.consumer.holds:
            self.consumer.give_back_held()
            self._handler.forget()

    def flush(self, block_ms: int | None = None) -> int:
        """Writes the content of the ledger's stream, about READ_MAX entries; returns their number.

        block_ms: length of a blocking read of an empty stream, and events wait for their outcomes;
        without it nothing waits.
        """
        self._handler.hold_s = 0.0 if block_ms is None else HOLD_S
        done = self.consumer.once(waits=block_ms is not None)
        return done if done or block_ms is None else self.consumer.listen(block_ms)


def _wake(stage: str, vendor: Vendor | None) -> None:
    """The writer looks all the time."""
    del stage, vendor
