"""The one way in which streams are consumed: read, reclaim, isolate, dead-letter, acknowledge. What
is done with entries is a handler's.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from redis.client import Pipeline

from common import metrics
from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import DeadRecord, Record
from common.model import Vendor
from common.storage import keys
from common.storage.commits import Commits, LostError
from common.storage.delayed import Delayed, Later
from common.storage.keys import Keys
from common.storage.streams import ALONE, READ_BYTES_MAX, Entry, StreamStore
from common.storage.unavailable import if_store_answers, store_unavailable
from common.storage.vault import Vault
from workers.queues.lease_renewer import LeaseRenewer

log = logging.getLogger(__name__)

#: Seconds of one slice; then it wakes its stage again and makes room.
SLICE_S = 5.0
#: Entries of dead readers that are claimed in one look at a stream, and the seconds between two
#: looks.
RECLAIM_MAX = 16
RECLAIM_EVERY_S = 1.0
#: Approximate bytes of records in one entry of the ledger's stream.
LEDGER_PACK_BYTES = 512 * 1024
#: Seconds that a process of its own waits for an unavailable store.
AWAY_S = 1.0

#: A stream and an entry's id.
Name = tuple[str, bytes]
#: A stage, and for delivery the vendor, that has something to do.
Wake = tuple[str, Vendor | None]


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that follows from some entries, written in one MULTI with their acknowledgement.

    forward: (stream, blob) of new entries. rows: for the ledger. deferred: entries that become due
    later. extra: further commands of the MULTI. wake: stages that get something to do. after: what
    is done once all is written (metrics); it writes nothing.
    """

    forward: Sequence[tuple[str, bytes]] = ()
    rows: Sequence[Record] = ()
    deferred: Sequence[Later] = ()
    extra: Sequence[Callable[[Pipeline], object]] = ()
    wake: frozenset[Wake] = frozenset()
    after: Sequence[Callable[[], None]] = ()

    def __add__(self, other: Commit) -> Commit:
        """Both, in this order."""
        return Commit(
            forward=(*self.forward, *other.forward),
            rows=(*self.rows, *other.rows),
            deferred=(*self.deferred, *other.deferred),
            extra=(*self.extra, *other.extra),
            wake=self.wake | other.wake,
            after=(*self.after, *other.after),
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """The part of an entry that a dead letter keeps.

    fields: what accompanies its bytes, for a replay.
    """

    raw: bytes
    fields: Mapping[str, str]
    app: str | None = None


class Handler(Protocol):
    """One stage's work on its entries."""

    def handle(self, entries: Sequence[Entry]) -> Commit | None:
        """The commit of the entries; None: the handler has committed or released them."""
        ...

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        """The entry's items as fields of single entries; one if unreadable or single."""
        ...

    def letter(self, entry: Entry) -> Letter:
        """The dead letter of an entry that cannot be handled."""
        ...

    def on_leave(self, entry: Entry, reason: str | None) -> Commit:
        """What is also written when an entry leaves its stream unhandled.

        reason: of the dead letter; None: the entry is split.
        """
        ...


class PackedEntries:
    """The part of a handler whose entries are one field `b`, of one item unless `items` says."""

    __slots__ = ()

    def items(self, _blob: bytes) -> Sequence[Any]:
        """The items, each to be packed singly. Raises MsgspecError: one item."""
        raise msgspec.DecodeError

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        try:
            return [{b"b": encode([item])} for item in self.items(entry.blob)]
        except msgspec.MsgspecError:
            return [{b"b": entry.blob}]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.stream})

    def on_leave(self, _entry: Entry, _reason: str | None) -> Commit:
        return Commit()


@dataclass(frozen=True, slots=True)
class Policy:
    """The way a stage's streams are read. counts: entries of one read by stream, most urgent first.

    beside: what is read instead, in turn, while urgent entries come. keeps_order: entries read
    before a store became unavailable are kept and retried before newer ones; else they are
    released. gather: seconds until the next look for entries that belong to those just read; 0:
    handle them now. hold: the entries that can wait for the next read; they stay this reader's, and
    are returned with it. goes_on: asked after reclaimed entries were finished; True: the next ones
    are reclaimed without a pause, where there may be more.
    """

    stage: str
    counts: Mapping[str, int]
    vendor: Vendor | None = None
    beside: Sequence[Mapping[str, int]] = ()
    bytes_max: int = READ_BYTES_MAX
    reclaim_max: int = RECLAIM_MAX
    reclaim_every_s: float = RECLAIM_EVERY_S
    keeps_order: bool = False
    gather: Callable[[Sequence[Entry]], float] = lambda _entries: 0.0
    hold: Callable[[Sequence[Entry]], Sequence[Entry]] = lambda _entries: ()
    goes_on: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a consumer. streams: the fleet's, where commits go.

    source: where entries come from, if elsewhere (the core's). room: True while another read's
    results fit. others: as Commits has them.
    """

    streams: StreamStore
    delayed: Delayed
    vault: Vault
    wake: Callable[[str, Vendor | None], None]
    source: StreamStore | None = None
    heard: Callable[[], None] = lambda: None
    room: Callable[[], bool] = lambda: True
    others: Sequence[Keys] = ()


class StreamConsumer:
    """One stage's streams in one process."""

    def __init__(self, handler: Handler, policy: Policy, stores: Stores) -> None:
        self.handler = handler
        self.policy = policy
        self.stopping: Callable[[], bool] = lambda: False
        self.progress_at = time.monotonic()
        self._stores = stores
        self._source = stores.source or stores.streams
        self._commits = Commits(stores.streams, self._source, stores.others)
        self._renewer = LeaseRenewer(self._source)
        self._beside = itertools.cycle(policy.beside) if policy.beside else None
        self._hurry = False
        self._kept: list[Entry] = []
        self._held: list[Entry] = []
        self._reclaim_at = 0.0
        #: Nothing was left at the last wait for entries.
        self.silent = False
        self._all_read = False  # the last further read of `_gathered` came to the end
        self._running = threading.Lock()
        self._called = threading.Event()

    # ------------------------------------------------------------ slices of a Celery task

    def __call__(self, stopping: Callable[[], bool]) -> None:
        """Runs one slice of work, one at a time per process.

        What is in flight stays within its bound, and no vendor takes all slots. A wake-up during
        the slice is handled when it ends: otherwise entries added after its last look would wait
        for the next wake-up.
        """
        self._called.set()
        while self._called.is_set() and self._running.acquire(blocking=False):
            self._called.clear()
            try:
                self._slice(stopping)
            finally:
                self._running.release()

    def _slice(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping
        try:
            self._stores.heard()
            end = time.monotonic() + SLICE_S
            while not stopping() and time.monotonic() < end:
                if not self._stores.room():
                    log.warning(
                        "the ledger's stream is full: nothing is taken until it has room",
                        extra={"queue": self.policy.stage},
                    )
                    return
                if not self.once():
                    self.progress_at = time.monotonic()
                    return
            self._stores.wake(self.policy.stage, self.policy.vendor)
        except store_unavailable() as error:
            log.warning(
                "a store is away; the work waits in its stream",
                extra={"reason": type(error).__name__, "queue": self.policy.stage},
            )

    # ------------------------------------------------------------ a process of its own

    def run(
        self, stopping: Callable[[], bool], turn: Callable[[], int], pause: Callable[[], object]
    ) -> None:
        """Runs until `stopping`. turn: one round of work; pause: waits after a round without work.

        It waits for an unavailable store; entries read before the failure are kept, in order.
        """
        self.stopping = stopping
        while not stopping():
            try:
                if not turn():
                    pause()
            except store_unavailable() as error:
                log.warning(
                    "a store is away, waiting",
                    extra={"reason": type(error).__name__, "queue": self.policy.stage},
                )
                time.sleep(AWAY_S)
            # also while a store is away: a restart would not help
            self.progress_at = time.monotonic()
        with if_store_answers():
            self.give_back()

    def give_back(self) -> None:
        """Releases the entries kept while a store was unavailable; no attempt is counted."""
        if self._kept:
            self._source.release(self._kept)

    def take_kept(self) -> Sequence[Entry]:
        """The entries kept while a store was unavailable, in order; the caller keeps them now."""
        kept, self._kept = self._kept, []
        return kept

    def give_back_held(self) -> None:
        """Releases the entries of Policy.hold; no attempt is counted."""
        held, self._held = self._held, []
        self._source.release(held)

    # ------------------------------------------------------------ one read

    def once(self, waits: bool = False) -> int:
        """Reads each kind once: kept, reclaimed and fresh entries; returns their number.

        waits: where nothing is done the caller waits for entries next, which finds the fresh ones
        alike; after a silent wait they are not looked for before.
        """
        kept = self.again()
        reclaimed = self._reclaimed()
        self.finish(reclaimed)
        if reclaimed and self.policy.goes_on():
            self._reclaim_at = 0.0
        silent, self.silent = self.silent, False
        fresh = [] if waits and silent and not self._held else self._read()
        self.finish(fresh)
        return kept + len(reclaimed) + len(fresh)

    def again(self) -> int:
        """Retries the entries read before a store failed, except those claimed by others."""
        if not self._kept:
            return 0
        kept, self._kept = self._source.renew(self._kept), []
        self.finish(kept)
        return len(kept)

    def _read(self) -> list[Entry]:
        entries: list[Entry] = []
        if self._beside is not None and self._hurry:
            entries = self._source.read_weighted(next(self._beside), self.policy.bytes_max)
        entries = entries or self._source.read_weighted(self.policy.counts, self.policy.bytes_max)
        self._hurry = self._beside is not None and any(is_urgent(entry) for entry in entries)
        return self._gathered(entries)

    def listen(self, block_ms: int) -> int:
        """Waits up to block_ms for the next entry and handles it; returns the number of entries."""
        entries = self._gathered(self._source.wait(list(self.policy.counts), block_ms))
        self.silent = not entries or self._all_read
        self.finish(entries)
        return len(entries)

    def _gathered(self, entries: list[Entry]) -> list[Entry]:
        """The entries to handle now: held back, new, and gathered (Policy.gather, Policy.hold)."""
        entries, self._held, self._all_read = self._held + entries, [], False
        most = sum(self.policy.counts.values())
        while entries and len(entries) < most and not self.stopping():
            wait_s = self.policy.gather(entries)
            if not wait_s or sum(len(entry.blob) for entry in entries) >= self.policy.bytes_max:
                break
            time.sleep(wait_s)
            try:
                more = self._source.read_weighted(self.policy.counts, self.policy.bytes_max)
            except store_unavailable():
                self._held = entries
                raise
            self._all_read = len(more) < min(self.policy.counts.values())
            entries += more
        if entries and not self.stopping() and (held := self.policy.hold(entries)):
            self._held = list(held)
            waits = {(entry.stream, entry.id) for entry in held}
            entries = [entry for entry in entries if (entry.stream, entry.id) not in waits]
        return entries

    @property
    def holds(self) -> bool:
        """True while entries wait for the next read (Policy.hold)."""
        return bool(self._held)

    def _reclaimed(self) -> list[Entry]:
        """The entries of readers that stopped renewing them."""
        if time.monotonic() < self._reclaim_at:
            return []
        self._reclaim_at = time.monotonic() + self.policy.reclaim_every_s
        found: list[Entry] = []
        room = self.policy.bytes_max
        for stream in self._source.with_pending(list(self.policy.counts)):
            if room > 0:
                found += self._source.take_over(stream, self.policy.reclaim_max, room)
                room = self.policy.bytes_max - sum(len(entry.blob) for entry in found)
        return found

    # ------------------------------------------------------------ suspects, poison

    def finish(self, entries: Sequence[Entry]) -> None:
        """All of the entries are handled, refused, split, or released (store_unavailable). Suspects
        come last, each alone.
        """
        if not entries:
            return
        self._commits.begin()
        with self._renewer.holding(entries), self._keeping(entries) as left:
            suspects = [entry for entry in entries if entry.is_suspect]
            for entry in suspects:  # until its turn comes, being taken over does not count
                self._source.set_delivery_count(entry, entry.deliveries - 1)
            others = [one for one in entries if not one.is_suspect] if suspects else entries
            self._handle(others, left)
            for entry in suspects:
                if not self.stopping():
                    self._alone(entry, left)

    @contextlib.contextmanager
    def _keeping(self, entries: Sequence[Entry]) -> Iterator[dict[Name, Entry]]:
        """Yields the unfinished entries. When a store fails they are kept, or released uncounted.

        When the process is to end they are released.
        """
        left = {(entry.stream, entry.id): entry for entry in entries}
        try:
            yield left
        except store_unavailable():
            if self.policy.keeps_order and not self.stopping():
                self._kept = list(left.values())
            else:
                self._source.release(list(left.values()))
            raise
        if left:
            self._source.release(list(left.values()))

    def _alone(self, entry: Entry, left: dict[Name, Entry]) -> None:
        if entry.is_poison:
            self._split_or_dead_letter(entry, "poison: it ends every process that reads it")
            del left[(entry.stream, entry.id)]
            return
        tried = msgspec.structs.replace(entry, deliveries=max(entry.deliveries, ALONE))
        if self._source.set_delivery_count(tried, tried.deliveries):
            with self._renewer.holding([tried]):
                self._handle([tried], left)
        else:
            del left[(entry.stream, entry.id)]

    def _handle(self, entries: Sequence[Entry], left: dict[Name, Entry]) -> None:
        if not entries:
            return
        started = time.perf_counter()
        try:
            self._commit(entries)
        except store_unavailable():
            raise
        except Exception as error:  # noqa: BLE001 - whatever an item breaks, the others must go on
            self._isolate(entries, error)
        if len(entries) == len(left):
            left.clear()
        else:
            for entry in entries:
                del left[(entry.stream, entry.id)]
        metrics.STAGE_SECONDS.labels(self.policy.stage).observe(time.perf_counter() - started)
        self.progress_at = time.monotonic()

    def _isolate(self, entries: Sequence[Entry], error: Exception) -> None:
        """Isolates an entry that breaks its stage: each entry alone, then each item alone."""
        if len(entries) > 1:
            for entry in entries:
                try:
                    self._commit([entry])
                except store_unavailable():
                    raise
                except Exception as own:  # noqa: BLE001
                    self._isolate([entry], own)
            return
        log.error(
            "an item broke its stage",
            extra={"queue": self.policy.stage, "reason": type(error).__name__},
            exc_info=error,
        )
        self._split_or_dead_letter(entries[0], f"broke_stage: {type(error).__name__}")

    def _commit(self, entries: Sequence[Entry]) -> None:
        commit = self.handler.handle(entries)
        if commit is None:
            return
        try:
            self.apply(entries, commit)
        except LostError as lost:
            self._lost(lost)
            if lost.mine:
                self._commit(lost.mine)

    def _lost(self, lost: LostError) -> None:
        log.warning(
            "entries are another reader's by now, or were written before",
            extra={"queue": self.policy.stage, "count": lost.count},
        )

    def _split_or_dead_letter(self, entry: Entry, reason: str) -> None:
        """Splits an entry of several items to isolate the culprit; dead-letters a single item."""
        singles = self.handler.split(entry)
        try:
            if len(singles) > 1:
                commit = self.handler.on_leave(entry, None)
                self._write([entry], commit, lambda pipe: self._source.split(pipe, entry, singles))
                self._stores.wake(self.policy.stage, self.policy.vendor)
            else:
                self.dead_letter(entry, reason)
        except LostError as lost:
            self._lost(lost)

    def dead_letter(self, entry: Entry, reason: str) -> None:
        """The entry becomes a dead letter with its reason, encrypted, and leaves its stream.
        LostError.
        """
        letter = dead_letter(
            self._stores.vault, entry, self.policy.stage, reason, self.handler.letter(entry)
        )
        self.apply([entry], Commit(rows=[letter]) + self.handler.on_leave(entry, reason))
        log.error(
            "an item became a dead letter", extra={"queue": self.policy.stage, "reason": reason}
        )

    # ------------------------------------------------------------ the commit

    def apply(self, entries: Sequence[Entry], commit: Commit) -> None:
        """Writes the commit and acknowledges the entries in one MULTI, then sends the wake-ups.

        When the entries come from another server, the commit is written first, then the
        acknowledgement. LostError: another reader has some of them; nothing was written.
        """
        if commit.forward or commit.rows or commit.deferred or commit.extra:
            self._write(entries, commit, lambda pipe: self._source.acknowledge(pipe, entries))
        else:
            self._commits.leave(entries)
        for stage, vendor in commit.wake:
            self._stores.wake(stage, vendor)
        try:
            for do in commit.after:
                do()
        except Exception:  # all is written: done once more it would be doubled
            log.exception("what follows a commit broke", extra={"queue": self.policy.stage})

    def _write(
        self, entries: Sequence[Entry], commit: Commit, leave: Callable[[Pipeline], None]
    ) -> None:
        streams, rows = self._stores.streams, packed_records(commit.rows)

        def fill(pipe: Pipeline) -> None:
            streams.add(pipe, [*commit.forward, *((keys.LEDGER, blob) for blob in rows)])
            self._stores.delayed.put(pipe, commit.deferred)
            for more in commit.extra:
                more(pipe)

        self._commits.write(entries, fill, leave)


def is_urgent(entry: Entry) -> bool:
    """True for entries that people wait for: calls and chats."""
    return entry.stream.endswith((":call", ":chat"))


def dead_letter(vault: Vault, entry: Entry, stage: str, reason: str, letter: Letter) -> DeadRecord:
    return DeadRecord(
        id=uuid.uuid4().hex,
        entry_id=entry.id.decode(),
        stage=stage,
        reason=reason,
        app=letter.app,
        at_ms=now_ms(),
        raw=vault.encrypt(letter.raw),
        fields=dict(letter.fields),
    )


def packed_records(records: Sequence[Record]) -> list[bytes]:
    """The records, in order, in blobs of about LEDGER_PACK_BYTES.

    A read may hold dozens of dead letters of the largest size.
    """
    blobs: list[bytes] = []
    pack: list[Any] = []
    size = 0
    for record in records:
        pack.append(record)
        size += len(record.raw) if isinstance(record, DeadRecord) else 0
        if size >= LEDGER_PACK_BYTES:
            blobs.append(encode(pack))
            pack, size = [], 0
    if pack:
        blobs.append(encode(pack))
    return blobs
