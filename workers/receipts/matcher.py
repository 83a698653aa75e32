"""From the belt `receipts` into the ledger: finds the push that each receipt speaks of, retires tokens. One thread of its process."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from datetime import time as day_time
from typing import Any, Protocol, cast

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from common import metrics
from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import DeadRecord, NoteRecord, Record
from common.model import PRIVATE_CLASSES, Bucket, Vendor
from common.storage import keys, sql
from common.storage.devices import Devices
from common.storage.guard import Guard
from common.storage.keys import Keys
from common.storage.ledger import Ledger
from common.storage.streams import DELIVERIES_MAX, Belts, Entry
from common.storage.vault import Vault
from workers.receipts.base import Receipt
from workers.receipts.readers import READERS, label_of
from workers.receipts.stage import LOOK_AGAIN_S, Callback, Sent, Settled, is_tag, settle

log = logging.getLogger(__name__)

READ_MAX = 100
DUE_MAX = 100
IDLE_S = 0.1
AWAY_S = 1.0
#: A store is away: the entries are not to blame.
AWAY = (RedisError, OSError, *sql.AWAY)
_decode = msgspec.msgpack.Decoder(Callback).decode


class Stores(Protocol):
    """What of the runtime the matcher uses."""

    @property
    def redis(self) -> Redis: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def belts(self) -> Belts: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def guard(self) -> Guard: ...
    @property
    def vault(self) -> Vault: ...
    def told_by_receipts(
        self, lane: tuple[str, Vendor, str], bucket: Bucket, capped: Sequence[tuple[str, int]], spent_ms: Sequence[int]
    ) -> None:
        """Of (app, vendor, business id): devices that had enough of the bucket, each with when it was sent to, and when pushes went
        out that were over its day."""
        ...


class Matcher:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.progress_at = time.monotonic()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Until told to stop; a store that is away is waited for."""
        while not stopping():
            try:
                if not self.once():
                    time.sleep(IDLE_S)
            except AWAY as error:
                log.warning("receipts wait in their belt: a store is away", extra={"reason": type(error).__name__})
                time.sleep(AWAY_S)
            self.progress_at = time.monotonic()  # also while a store is away: another process would not help

    def once(self) -> int:
        """One read of the belt; the number of entries that were finished."""
        self._release_due()
        belts = self._stores.belts
        entries = belts.take_over(keys.RECEIPTS, READ_MAX) or belts.read([keys.RECEIPTS], READ_MAX)
        fit = [entry for entry in entries if not self._poisoned(entry)]
        if not fit:
            return len(entries)
        try:
            self._finish(fit)
        except AWAY:
            belts.forgive(fit)
            raise
        except Exception as error:
            log.error("a callback broke its stage", extra={"queue": keys.RECEIPTS, "reason": type(error).__name__}, exc_info=error)
            self._one_by_one(fit)
        return len(entries)

    def _one_by_one(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                self._finish([entry])
            except AWAY:
                self._stores.belts.forgive([entry])
                raise
            except Exception as error:  # noqa: BLE001 - it stands alone now
                self._bury(entry, f"broke_stage: {type(error).__name__}")

    def _poisoned(self, entry: Entry) -> bool:
        if entry.deliveries <= DELIVERIES_MAX:
            return False
        self._bury(entry, f"poison: handed out {entry.deliveries} times and never finished")
        return True

    def _bury(self, entry: Entry, reason: str) -> None:
        raw = self._stores.vault.encrypt(entry.blob)
        where = {"belt": keys.RECEIPTS}
        record = DeadRecord(
            id=uuid.uuid4().hex,
            entry_id=entry.id.decode(),
            stage="receipts",
            reason=reason,
            app=None,
            at_ms=now_ms(),
            raw=raw,
            fields=where,
        )
        self._stores.belts.hand_on([entry], [(keys.LEDGER, encode([record]))])

    def _release_due(self) -> None:
        """Callbacks whose rows are to be looked for again come back to the belt."""
        key, redis = self._stores.keys.receipts_later, self._stores.redis
        for member in cast(list[bytes], redis.zrangebyscore(key, "-inf", time.time(), 0, DUE_MAX)):
            with redis.pipeline(transaction=True) as pipe:
                pipe.xadd(self._stores.keys.belt(keys.RECEIPTS), {"b": member[8:]})
                pipe.zrem(key, member)
                pipe.execute()

    def _finish(self, entries: Sequence[Entry]) -> None:
        records: list[Record] = []
        again: list[Callback] = []
        told: list[tuple[str, str]] = []
        for callback in _merged([_decode(entry.blob) for entry in entries]):
            settled = settle(callback.receipts, self._sent(callback), callback.looks, strict=READERS[callback.vendor].strict)
            self._retire(callback, settled)
            self._limit(callback, settled)
            records += [_note(row, receipt, callback.received_ms) for row, receipt in settled.noted]
            told += [(callback.vendor, label_of(receipt.status)) for _, receipt in settled.noted]
            told += [(callback.vendor, "unmatched")] * len(settled.lost)
            if settled.again:
                again.append(msgspec.structs.replace(callback, receipts=tuple(settled.again), looks=callback.looks + 1))
        later = {os.urandom(8) + encode(one): time.time() + LOOK_AGAIN_S[one.looks - 1] for one in again}
        adds = [(keys.LEDGER, encode(records))] if records else []
        more = (lambda pipe: pipe.zadd(self._stores.keys.receipts_later, later)) if later else None
        self._stores.belts.hand_on(entries, adds, more)
        for vendor, status in told:
            metrics.RECEIPTS.labels(vendor, status).inc()

    def _sent(self, callback: Callback) -> dict[int, Sent]:
        """Rows by the number of their receipt: by push id, else by the request's tag and the token."""
        tags = {
            number: tag for number, one in enumerate(callback.receipts) if is_tag(tag := one.tag.replace("-", ""))
        }  # or as `why` shows it
        by_push = self._stores.ledger.find_pushes(sorted(set(tags.values())))
        rows = {number: by_push[tag] for number, tag in tags.items() if tag in by_push}
        shared = [number for number in tags if number not in rows]
        asked = [(tags[number], callback.receipts[number].token) for number in shared]
        by_tag = self._stores.ledger.find_tagged(callback.app, callback.vendor, asked)
        rows |= {shared[index]: row for index, row in by_tag.items()}
        fit = {number: _sent(row) for number, row in rows.items() if _is_of(row, callback)}
        return self._of_their_tokens(callback, fit) if READERS[callback.vendor].strict else fit

    def _of_their_tokens(self, callback: Callback, found: Mapping[int, Sent]) -> dict[int, Sent]:
        """Those whose receipt names a token of the very device that the push went to."""
        tokens = sorted({callback.receipts[number].token for number in found})
        owners = self._stores.devices.owners(callback.app, callback.vendor, tokens) if tokens else {}
        return {number: row for number, row in found.items() if owners.get(callback.receipts[number].token) == (row.user, row.device)}

    def _retire(self, callback: Callback, settled: Settled) -> None:
        """What a vendor file's verdict would have done, with the same guard."""
        calm = {"dead": True, "foreign": True}
        if settled.dead or settled.foreign:
            lane = f"{callback.app}:{callback.vendor}:{callback.business_id}"
            calm = self._stores.guard.count(lane, 0, len(settled.foreign), len(settled.dead))
        devices, count = self._stores.devices, 0
        for chosen, state, allowed in (
            (settled.dead, "retired", calm["dead"]),
            (settled.foreign, "retired", calm["foreign"]),
            (settled.silenced, "silenced", True),
        ):
            if chosen and not allowed:
                log.error("the token guard stopped the retiring of tokens", extra={"vendor": callback.vendor, "count": len(chosen)})
                continue
            count += devices.retire([(*_whose(row, receipt), f"receipt: {receipt.status}") for row, receipt in chosen], state)
        if count:
            metrics.TOKENS_RETIRED.labels(callback.vendor).inc(count)
        moved = [
            (row.app, row.user, row.device, receipt.token, receipt.replacement or "", row.decided_ms) for row, receipt in settled.replaced
        ]
        devices.replace_tokens(moved)

    def _limit(self, callback: Callback, settled: Settled) -> None:
        """What a vendor tells too late for the push itself, of its day: no further one is sent to learn the same."""
        lane = (callback.app, callback.vendor, callback.business_id)
        for bucket in Bucket:
            capped = [(receipt.token, row.decided_ms) for row, receipt in settled.capped if row.bucket == bucket]
            spent_ms = [row.decided_ms for row, _ in settled.spent if row.bucket == bucket]
            if capped or spent_ms:
                self._stores.told_by_receipts(lane, bucket, capped, spent_ms)


def _whose(row: Sent, receipt: Receipt) -> tuple[str, str, str, str, int]:
    return row.app, row.user, row.device, receipt.token, row.decided_ms


def _merged(callbacks: Sequence[Callback]) -> list[Callback]:
    """Those of one lane and age as one: a vendor that posts each receipt alone costs no query each."""
    groups: dict[tuple[str, str, str, int], list[Callback]] = {}
    for one in callbacks:
        groups.setdefault((one.vendor, one.app, one.business_id, one.looks), []).append(one)
    return [
        msgspec.structs.replace(group[0], receipts=tuple(receipt for one in group for receipt in one.receipts)) for group in groups.values()
    ]


def _is_of(row: Mapping[str, Any], callback: Callback) -> bool:
    return (row["app"], row["vendor"], row["business_id"]) == (callback.app, callback.vendor, callback.business_id)


def _sent(row: Mapping[str, Any]) -> Sent:
    attempts = json.loads(row["attempts"]) if row["attempts"] else []
    day_ms = int(datetime.combine(row["day"], day_time(), UTC).timestamp() * 1000)
    names = frozenset(attempt[4] for attempt in attempts if attempt[4])
    bucket = Bucket.PRIVATE if (row["class_sent"] or row["class"]) in PRIVATE_CLASSES else Bucket.PUBLIC
    return Sent(row["app"], row["event_id"], day_ms, row["user"], row["device"], row["decided_ms"], names, bucket)


def _note(row: Sent, receipt: Receipt, received_ms: int) -> NoteRecord:
    at_ms = receipt.at_ms or received_ms
    return NoteRecord(
        app=row.app,
        event_id=row.event_id,
        ts_ms=row.day_ms,
        user=row.user,
        device=row.device,
        kind="receipt",
        stage="receipts",
        at_ms=at_ms,
        note=receipt.status,
    )
