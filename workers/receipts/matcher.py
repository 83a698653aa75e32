"""The stream `receipts` -> the ledger: finds each receipt's push, retires tokens. One thread."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from datetime import time as day_time
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
from redis import Redis

from common import metrics
from common.clock import day_of, now_ms
from common.contracts import encode
from common.ledger_records import NoteRecord, Record
from common.model import PRIVATE_CLASSES, Bucket, Vendor
from common.storage import keys
from common.storage.bindings import digest_of
from common.storage.delayed import Delayed
from common.storage.guard import Guard, Held, cohort_of
from common.storage.keys import Keys
from common.storage.streams import Entry, StreamStore
from common.storage.vault import Vault
from common.tokens import token_user
from workers.queues.consumer import Commit, PackedEntries, Policy, Stores, StreamConsumer
from workers.receipts.matched import LOOK_AGAIN_S, Callback, MatchedReceipts, Sent, is_tag, settle
from workers.receipts.readers import READERS, label_of
from workers.vendors.receipt_bodies import Receipt

if TYPE_CHECKING:
    from common.storage.devices import Devices
    from common.storage.ledger import Ledger
    from common.storage.ledger_reads import ReceiptKey

log = logging.getLogger(__name__)

READ_MAX = 100
DUE_MAX = 100
#: Milliseconds of one blocking read of an empty stream.
BLOCK_MS = 2_000
#: Seconds between two claims of a dead reader's entries.
TAKE_OVER_S = 5.0
#: The last receipts that were counted: of more seconds than the ledger is behind.
COUNTED_MAX = 20_000
_decode = msgspec.msgpack.Decoder(Callback).decode


class ReceiptStores(Protocol):
    """The part of the runtime that the matcher uses."""

    @property
    def redis(self) -> Redis: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def streams(self) -> StreamStore: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def guard(self) -> Guard: ...
    @property
    def vault(self) -> Vault: ...
    @property
    def delayed(self) -> Delayed: ...
    def version_of(self, lane: tuple[str, Vendor, str]) -> int:
        """The credential's version of (app, vendor, business id), 0 for none."""
        ...

    def report_receipts(
        self,
        lane: tuple[str, Vendor, str],
        bucket: Bucket,
        capped: Sequence[tuple[str, int]],
        spent_ms: Sequence[int],
    ) -> None:
        """Reports of (app, vendor, business id): devices at their cap, and sends beyond the day.

        Each device has the time of its send.
        """
        ...


class ReceiptsHandler(PackedEntries):
    """Callbacks -> the pushes they speak of, retired tokens, days that are spent."""

    def __init__(self, stores: ReceiptStores) -> None:
        self._stores = stores
        self._counted: dict[ReceiptKey, None] = {}

    def release_due(self) -> None:
        """Callbacks whose rows are to be looked for again come back to the stream."""
        key, redis = self._stores.keys.receipts_later, self._stores.redis
        for member in cast(list[bytes], redis.zrangebyscore(key, "-inf", time.time(), 0, DUE_MAX)):
            with redis.pipeline(transaction=True) as pipe:
                pipe.xadd(self._stores.keys.stream(keys.RECEIPTS), {"b": member[8:]})
                pipe.zrem(key, member)
                pipe.execute()

    def handle(self, entries: Sequence[Entry]) -> Commit:
        records: list[Record] = []
        again: list[Callback] = []
        counted: list[tuple[str, str]] = []
        noted: list[tuple[str, ReceiptKey]] = []
        for callback in _merged([_decode(entry.blob) for entry in entries]):
            settled = settle(
                callback.receipts,
                self._sent(callback),
                callback.looks,
                strict=READERS[callback.vendor].strict,
            )
            self._retire(callback, settled)
            self._limit(callback, settled)
            records += [_note(row, receipt, callback.received_ms) for row, receipt in settled.noted]
            noted += [(callback.vendor, _key(row, receipt)) for row, receipt in settled.noted]
            counted += [(callback.vendor, "unmatched")] * len(settled.lost)
            if settled.again:
                again.append(
                    msgspec.structs.replace(
                        callback, receipts=tuple(settled.again), looks=callback.looks + 1
                    )
                )
        fresh = self._fresh(noted)
        counted += [(vendor, label_of(key[-1])) for key, vendor in fresh.items()]
        later = {
            os.urandom(8) + encode(one): time.time() + LOOK_AGAIN_S[one.looks - 1] for one in again
        }
        extra = [lambda pipe: pipe.zadd(self._stores.keys.receipts_later, later)] if later else ()
        return Commit(rows=records, extra=extra, after=[lambda: self._count(counted, fresh)])

    def _fresh(self, noted: Sequence[tuple[str, ReceiptKey]]) -> dict[ReceiptKey, str]:
        """The receipts that nobody told before, and their vendors: vendors repeat theirs.

        The ledger may not have those of the last seconds yet.
        """
        fresh = {key: vendor for vendor, key in noted if key not in self._counted}
        if not fresh:
            return fresh
        told = self._stores.ledger.told(list(fresh))
        return {key: vendor for key, vendor in fresh.items() if key not in told}

    def _count(self, counted: Sequence[tuple[str, str]], fresh: Iterable[ReceiptKey]) -> None:
        for vendor, status in counted:
            metrics.RECEIPTS.labels(vendor, status).inc()
        self._counted |= dict.fromkeys(fresh)
        for old in list(islice(self._counted, max(0, len(self._counted) - COUNTED_MAX))):
            del self._counted[old]

    def _sent(self, callback: Callback) -> dict[int, Sent]:
        """Rows by their receipt's index: by push id, else by the request's tag and the token."""
        tags = {
            number: tag
            for number, one in enumerate(callback.receipts)
            if is_tag(tag := one.tag.replace("-", ""))
        }  # or as `why` shows it
        by_push = self._stores.ledger.find_pushes(sorted(set(tags.values())))
        rows = {number: by_push[tag] for number, tag in tags.items() if tag in by_push}
        shared = [number for number in tags if number not in rows]
        pairs = [(tags[number], callback.receipts[number].token) for number in shared]
        by_tag = self._stores.ledger.find_tagged(callback.app, callback.vendor, pairs)
        rows |= {shared[index]: row for index, row in by_tag.items()}
        fit = {number: _sent(row) for number, row in rows.items() if _is_of(row, callback)}
        return self._of_their_tokens(callback, fit) if READERS[callback.vendor].strict else fit

    def _of_their_tokens(self, callback: Callback, found: Mapping[int, Sent]) -> dict[int, Sent]:
        """Those whose receipt names a token of the very device that the push went to, or the very
        token of a push without a person.
        """
        tokens = sorted({callback.receipts[number].token for number in found})
        owners = (
            self._stores.devices.owners(callback.app, callback.vendor, tokens) if tokens else {}
        )
        return {
            number: row
            for number, row in found.items()
            if (token := callback.receipts[number].token)
            and (
                owners.get(token) == (row.user, row.device)
                or row.user == token_user(callback.vendor, callback.business_id, token)
            )
        }

    def _retire(self, callback: Callback, settled: MatchedReceipts) -> None:
        """Applies the receipts as a vendor file's verdicts, with the same guard."""
        retirable = {"dead": True}
        if settled.dead or settled.foreign:
            lane = f"{callback.app}:{callback.vendor}:{callback.business_id}"
            retirable = self._stores.guard.count(lane, 0, len(settled.foreign), len(settled.dead))
            self._hold(callback, lane, settled)
        devices, count = self._stores.devices, 0
        for chosen, state, allowed in (
            (settled.dead, "retired", retirable["dead"]),
            (settled.silenced, "silenced", True),
        ):
            if chosen and not allowed:
                log.error(
                    "the token guard stopped the retiring of tokens",
                    extra={"vendor": callback.vendor, "count": len(chosen)},
                )
                continue
            count += devices.retire(
                [(*_whose(row, receipt), f"receipt: {receipt.status}") for row, receipt in chosen],
                state,
            )
        if count:
            metrics.TOKENS_RETIRED.labels(callback.vendor).inc(count)
        moved = [
            (
                row.app,
                row.user,
                row.device,
                receipt.token,
                receipt.replacement or "",
                row.decided_ms,
            )
            for row, receipt in settled.replaced
        ]
        devices.replace_tokens(moved)

    def _hold(self, callback: Callback, lane: str, settled: MatchedReceipts) -> None:
        """Puts foreign tokens on hold for their cohort: that of old registrations.

        A receipt does not contain the build.
        """
        now, names = now_ms(), (str(callback.vendor), callback.business_id)
        account = (callback.app, callback.vendor, callback.business_id)
        cohort = cohort_of(self._stores.version_of(account), None, 0, now)
        held = [
            Held(
                cohort,
                row.user,
                row.device,
                digest_of(*names, receipt.token),
                row.decided_ms,
                f"receipt: {receipt.status}",
            )
            for row, receipt in settled.foreign
        ]
        self._stores.guard.hold(lane, held, now)

    def _limit(self, callback: Callback, settled: MatchedReceipts) -> None:
        """Applies late reports on quota and caps to the day, which spares further pushes."""
        lane = (callback.app, callback.vendor, callback.business_id)
        for bucket in Bucket:
            capped = [
                (receipt.token, row.decided_ms)
                for row, receipt in settled.capped
                if row.bucket == bucket
            ]
            spent_ms = [row.decided_ms for row, _ in settled.spent if row.bucket == bucket]
            if capped or spent_ms:
                self._stores.report_receipts(lane, bucket, capped, spent_ms)


def _key(row: Sent, receipt: Receipt) -> ReceiptKey:
    return (day_of(row.day_ms), row.app, row.event_id, row.user, row.device, receipt.status)


def _whose(row: Sent, receipt: Receipt) -> tuple[str, str, str, str, int]:
    return row.app, row.user, row.device, receipt.token, row.decided_ms


def _merged(callbacks: Sequence[Callback]) -> list[Callback]:
    """Merges callbacks of one lane and age: single receipts cost no query each."""
    groups: dict[tuple[str, str, str, int], list[Callback]] = {}
    for one in callbacks:
        groups.setdefault((one.vendor, one.app, one.business_id, one.looks), []).append(one)
    return [
        msgspec.structs.replace(
            group[0], receipts=tuple(receipt for one in group for receipt in one.receipts)
        )
        for group in groups.values()
    ]


def _is_of(row: Mapping[str, Any], callback: Callback) -> bool:
    account = (row["app"], row["vendor"], row["business_id"])
    return account == (callback.app, callback.vendor, callback.business_id)


def _sent(row: Mapping[str, Any]) -> Sent:
    attempts = json.loads(row["attempts"]) if row["attempts"] else []
    day_ms = int(datetime.combine(row["day"], day_time(), UTC).timestamp() * 1000)
    names = frozenset(attempt[4] for attempt in attempts if attempt[4])
    bucket = (
        Bucket.PRIVATE if (row["class_sent"] or row["class"]) in PRIVATE_CLASSES else Bucket.PUBLIC
    )
    event_id = row["event_id"]
    return Sent(
        row["app"], event_id, day_ms, row["user"], row["device"], row["decided_ms"], names, bucket
    )


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


class Matcher:
    """The receipts' thread: reads their stream until it is stopped."""

    def __init__(self, stores: ReceiptStores) -> None:
        self._handler = ReceiptsHandler(stores)
        streams = {keys.RECEIPTS: READ_MAX}
        policy = Policy(keys.RECEIPTS, streams, reclaim_max=READ_MAX, reclaim_every_s=TAKE_OVER_S)
        own = Stores(stores.streams, stores.delayed, stores.vault, lambda *_: None)
        self.consumer = StreamConsumer(self._handler, policy, own)

    @property
    def progress_at(self) -> float:
        return self.consumer.progress_at

    def run(self, stopping: Callable[[], bool]) -> None:
        """Runs until `stopping`; waits for an unavailable store."""
        self.consumer.run(
            stopping, lambda: self.once(waits=True), lambda: self.consumer.listen(BLOCK_MS)
        )

    def once(self, waits: bool = False) -> int:
        """One read of the stream; the number of entries that were finished. waits: as the
        consumer's.
        """
        self._handler.release_due()
        return self.consumer.once(waits)
