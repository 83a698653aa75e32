"""The ledger writer: records from the ledger's stream into SQL, acknowledged after the commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from common.contracts import encode
from common.ledger_records import EventRecord, PageRecord, Record, RowRecord, decode_records
from common.model import Vendor
from common.storage import keys, sql
from common.storage.leases import Lease
from common.storage.streams import Entry
from workers.maintenance.role import AWAY
from workers.queues.consumer import Commit, Letter, Policy, Stores, StreamConsumer
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Entries of one transaction: about 50,000 rows at most.
READ_MAX: Final = 200
#: An empty stream is listened to for so long.
BLOCK_MS: Final = 2_000
#: Between two looks for what a dead writer left.
TAKE_OVER_S: Final = 2.0
#: An event waits so long for its outcome: both are then written at once, as a rule in a transaction
#: of thousands.
HOLD_S: Final = 1.0
#: Between two looks for the outcomes of events that wait.
LOOK_S: Final = 0.05
#: Events whose pushes have rows of their own.
_PUSHED: Final = frozenset({"message.stored", "call.invited", "push.direct"})


class LedgerHandler:
    """Records of the ledger's stream -> SQL; nothing follows from them in Redis."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.hold_s = HOLD_S
        self._records: dict[bytes, list[Record]] = {}
        self._unmet: set[tuple[str, str]] = set()
        self._until = 0.0

    def gather(self, entries: Sequence[Entry]) -> float:
        """Seconds until the next look for the outcomes of the events among these; 0: they wait no longer."""
        if not self._records:
            self._until = time.monotonic() + self.hold_s
        new = [entry for entry in entries if entry.id not in self._records]
        for entry in new:
            try:
                self._records[entry.id] = decode_records(entry.blob)
            except msgspec.MsgspecError:  # handle() says so
                self._records[entry.id] = []
        records = [record for entry in new for record in self._records[entry.id]]
        for record in records:
            if isinstance(record, EventRecord) and record.decision is None and record.type in _PUSHED:
                self._unmet.add((record.app, record.event_id))
        self._unmet -= {(r.app, r.event_id) for r in records if isinstance(r, RowRecord | PageRecord)}
        left_s = self._until - time.monotonic()
        return min(LOOK_S, left_s) if self._unmet and left_s > 0 else 0.0

    def handle(self, entries: Sequence[Entry]) -> Commit:
        """Writes all of the records in one transaction. psycopg.DataError: one of them can never be stored."""
        gathered, self._records = self._records, {}
        self._unmet.clear()
        records: list[Record] = []
        for entry in entries:
            records += gathered.get(entry.id) or decode_records(entry.blob)
        self._write(records, any(entry.deliveries > 1 for entry in entries))
        return Commit()

    def _write(self, records: Sequence[Record], again: bool) -> None:
        """Halves what takes longer than a statement may: each half is a transaction, and a repeat changes nothing."""
        try:
            self._runtime.ledger.write(records, again)
        except AWAY as error:
            if not sql.took_too_long(error) or len(records) < 2:
                raise
            log.warning("a write of the ledger took too long: it is halved", extra={"count": len(records)})
            middle = len(records) // 2
            self._write(records[:middle], again)
            self._write(records[middle:], again)

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        try:
            return [{b"b": encode([record])} for record in decode_records(entry.blob)]
        except msgspec.MsgspecError:
            return [{b"b": entry.blob}]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.stream})

    def on_leave(self, entry: Entry, _reason: str | None) -> Commit:
        del entry
        return Commit()


class LedgerWriter:
    name = "ledger"

    def __init__(self, runtime: Runtime, stopping: Callable[[], bool] = lambda: False) -> None:
        self._source = runtime.streams
        self._handler = LedgerHandler(runtime)
        policy = Policy(
            keys.LEDGER,
            {keys.LEDGER: READ_MAX},
            reclaim_max=READ_MAX,
            reclaim_every_s=TAKE_OVER_S,
            gather=self._handler.gather,
        )
        self.consumer = StreamConsumer(self._handler, policy, Stores(runtime.streams, runtime.delayed, runtime.vault, _wake))
        self.consumer.stopping = stopping

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # what two writers write is the same, and each acknowledges its own entries
        self.flush(BLOCK_MS)
        return 0.0

    def rest(self) -> None:
        """Nothing is kept."""

    def flush(self, block_ms: int | None = None) -> int:
        """Writes what lies on the ledger's stream, about READ_MAX entries; the number of them.

        block_ms: an empty stream is listened to for so long, and events wait for their outcomes; without it nothing waits.
        """
        self._handler.hold_s = 0.0 if block_ms is None else HOLD_S
        done = self.consumer.once()
        return done if done or block_ms is None else self.consumer.listen(block_ms)


def _wake(stage: str, vendor: Vendor | None) -> None:
    """The writer looks all the time."""
    del stage, vendor
