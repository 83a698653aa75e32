"""The ledger writer: records from the ledger's stream into SQL, acknowledged after the commit."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from common.clock import now_ms
from common.ledger_records import DeadRecord, Record, decode_records
from common.storage import keys, sql
from common.storage.leases import Lease
from common.storage.streams import Entry
from workers.maintenance.role import AWAY
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Entries of one transaction: about 50,000 rows at most.
READ_MAX = 200
#: An empty stream is listened to for so long.
BLOCK_MS = 1_000
#: Between two looks for what a dead writer left.
TAKE_OVER_S = 2.0


class LedgerWriter:
    name = "ledger"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._take_over_at = 0.0

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # what two writers write is the same, and each acknowledges its own entries
        self.flush(BLOCK_MS)
        return 0.0

    def rest(self) -> None:
        """Nothing is kept."""

    def flush(self, block_ms: int | None = None) -> int:
        """Writes what lies on the ledger's stream, at most READ_MAX entries. Number of entries."""
        belts = self._runtime.belts
        entries: list[Entry] = []
        if block_ms is None or time.monotonic() >= self._take_over_at:
            entries = belts.take_over(keys.LEDGER, READ_MAX)
            self._take_over_at = time.monotonic() + (0 if entries else TAKE_OVER_S)
        entries = entries or belts.read([keys.LEDGER], READ_MAX, block_ms)
        if not entries:
            return 0
        try:
            again = any(entry.deliveries > 1 for entry in entries)
            self._write([record for entry in entries for record in decode_records(entry.blob)], again)
        except AWAY:
            belts.forgive(entries)
            self._take_over_at = 0.0
            raise
        except Exception:  # noqa: BLE001 - something in them can't be stored
            self._one_by_one(entries)
            return len(entries)
        belts.hand_on(entries)
        return len(entries)

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
                    self._runtime.ledger.write([self._dead(entry, error, msgspec.msgpack.encode(record))])
            self._runtime.belts.hand_on([entry])

    def _dead(self, entry: Entry, error: Exception, raw: bytes) -> DeadRecord:
        return DeadRecord(
            id=uuid.uuid4().hex,
            entry_id=entry.id.decode(),
            stage="ledger",
            reason=f"not_storable: {type(getattr(error, 'orig', error)).__name__}",
            app=None,
            at_ms=now_ms(),
            raw=self._runtime.vault.encrypt(raw),
            fields={"belt": entry.belt},
        )
