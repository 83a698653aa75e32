"""What a round is made of: its entries as they are read, and the round before its write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from common.contracts import Batch, Push, Target, decode_batch, encode
from common.model import Decision, Urgency, Vendor
from common.storage.delayed import as_new
from common.storage.lane_entries import LaneCommit, LaneEntry, NewBatch, RateLease, Taken
from workers.delivery import alike
from workers.delivery import settle as settling
from workers.delivery.lane import Lane
from workers.delivery.pacing import LeasedPace
from workers.delivery.ports import BreakerProbe
from workers.delivery.results import Delivered
from workers.delivery.work import Hold, PendingPush


@dataclass(slots=True)
class OpenEntry:
    """One entry and its pushes in order; left: those that stay in it, with their current target.

    wait_ms: what is left waits on in the delayed set; None: in the lane's queue.
    """

    entry: LaneEntry
    urgency: Urgency
    batch: Batch
    works: list[PendingPush]
    left: dict[int, Target] = field(default_factory=dict)  # by the work's place in the entry
    changed: bool = False
    wait_ms: int | None = None

    def rest(self) -> NewBatch:
        """The remaining pushes, grouped again by notification."""
        notes: dict[int, tuple[PendingPush, list[Target]]] = {}
        for place, target in sorted(self.left.items()):
            work = self.works[place]
            notes.setdefault(id(work.note), (work, []))[1].append(target)
        pushes = tuple(
            Push(note=work.note, targets=tuple(targets)) for work, targets in notes.values()
        )
        batch = msgspec.structs.replace(self.batch, pushes=pushes)
        return as_new(batch, self.urgency, encode(batch))


def opened(taken: Taken, entries: Sequence[LaneEntry], *, sends: bool = True) -> list[OpenEntry]:
    """The entries with their pushes; the cause of a wait in the queue is known by place there."""
    found, hold = [], Hold(taken.lane, taken.word, sends)
    for entry in entries:
        batch = decode_batch(entry.blob)
        works = settling.works_of(entry.id, batch, hold)
        one = OpenEntry(entry, taken.urgency, batch, works)
        if entry.order <= taken.noted and taken.noted_why:
            for work in works:
                if work.target.held_by is None:
                    work.target = msgspec.structs.replace(work.target, held_by=taken.noted_why)
        if entry.order <= taken.slowed:
            for work in works:
                work.kept_by = Decision.THROTTLED
        found.append(one)
    return found


def others_of(
    packed: alike.AlikeRound, entries: Sequence[LaneEntry], urgency: Urgency
) -> list[OpenEntry]:
    """The entries with those of their pushes that were not accepted; the others have left them."""
    found = []
    for entry, (name, of) in zip(entries, packed.entries, strict=True):
        batch = Batch(
            app=of.app,
            vendor=of.vendor,
            business_id=of.business_id,
            pushes=(),
            by_entry=of.by_entry,
        )
        found.append(
            OpenEntry(
                entry,
                urgency,
                batch,
                [work for work in packed.others if work.entry == name],
                changed=True,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class HeldEntry:
    """One entry whose pushes are kept elsewhere."""

    entry: LaneEntry


@dataclass(slots=True)
class OpenRound:
    """A round that has begun: its entries, the pushes that are tried, and their pace."""

    taken: Taken
    lane: Lane
    open_: list[OpenEntry]
    chosen: list[PendingPush]
    state: BreakerProbe | None
    pace: LeasedPace
    leases: list[RateLease]


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """The parts of a write. lane None: nothing was sent.

    packed: a round with accepted pushes that are not in `settled`.
    """

    vendor: Vendor
    business_id: str
    now: int
    settled: settling.Settled
    done: Delivered
    lane: Lane | None
    unused: tuple[float, ...]
    packed: alike.AlikeRound | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """A round that is over, before its write. entries: ours, as far as we know; commit_of: (those
    of them that are ours, names of the others) -> the write.
    """

    taken: Taken
    entries: Sequence[Any]
    commit_of: Callable[[Sequence[Any], set[str]], LaneCommit]
    end: RoundEnd


def recollect(works: Iterable[PendingPush], record: Mapping[int, str]) -> None:
    """record: by place, the numbers taken by an earlier sender; the pushes may be on the screen."""
    for work in works:
        if work.by_entry and work.place in record:
            work.repeated, work.counted = True, record[work.place] or work.counted


def readable(blob: bytes, entry: str = "", hold: Hold | None = None) -> list[PendingPush]:
    """The batch's pushes; none if unreadable: its sender dead-letters it in its turn."""
    try:
        return settling.works_of(entry, decode_batch(blob), hold)
    except msgspec.MsgspecError:
        return []


def works_in(entry: LaneEntry) -> list[tuple[PendingPush, Batch]]:
    try:
        batch = decode_batch(entry.blob)
    except msgspec.MsgspecError:
        return []
    return [(work, batch) for work in settling.works_of(entry.id, batch)]


def keep(open_: Iterable[OpenEntry], targets: dict[int, Target], *, changed: bool = False) -> None:
    """The pushes with these targets, by their id, stay in their entries."""
    if not targets:
        return
    for one in open_:
        for place, work in enumerate(one.works):
            if id(work) in targets:
                one.left[place] = targets[id(work)]
                one.changed = one.changed or changed or targets[id(work)] is not work.target
