"""Rounds in columns (workers/delivery/alike.py): entries -> writes, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from common.columns import ColumnBatch, shared
from common.contracts import AlikeBatch, read_batch
from common.ledger_records import Record, accepted_rows
from common.ledger_records import singly as single_records
from common.model import MessageClass, Verdict
from common.storage.lane_entries import LaneEntry, Taken
from workers.delivery import usual
from workers.delivery.alike import AlikeRound
from workers.delivery.lane import Lane
from workers.delivery.work import Hold
from workers.held_tokens import by_cohort

#: Devices of one notification, on average, from which on a form of its own pays.
SHARED_PUSHES_MIN: Final = 8


def read(taken: Taken, entries: Sequence[LaneEntry], lane: Lane, most: int) -> AlikeRound | None:
    """The round as an AlikeRound, or None: it takes the general path.

    It needs whole entries on their first delivery, and a lane that is limited by its rate only.
    most: pushes that may be on the wire.
    """
    if lane.limits.rate_unit != "request":  # numbers are taken of what may leave now
        most = min(most, taken.tokens)
    first = all(
        entry.deliveries == 1 and entry.order > max(taken.noted, taken.slowed) for entry in entries
    )
    if (
        not first
        or taken.what != "go"
        or lane.spec.alike is None
        or not usual.fits(lane)
        or sum(entry.pushes for entry in entries) > most
    ):
        return None
    if not _may_be_columns(entries):
        return None
    found = list[tuple[str, ColumnBatch]]()
    for entry in entries:
        batch = _column_batch(entry.blob)
        if batch is None:
            return None
        found.append((entry.id, batch))
    one = AlikeRound(Hold(taken.lane, taken.word, shard=taken.shard), found) if found else None
    return one if one is not None and len(one.rows) <= most else None


def _may_be_columns(entries: Sequence[LaneEntry]) -> bool:
    """Tells by their names and their first bytes, without reading them."""
    others = [entry for entry in entries if b"\xa4rows" not in entry.blob]
    return (
        all(entry.requests == 1 for entry in others)
        and sum(entry.pushes for entry in others) >= len(others) * SHARED_PUSHES_MIN
    )


def _column_batch(blob: bytes) -> ColumnBatch | None:
    try:
        batch = read_batch(blob)
    except msgspec.MsgspecError:  # the general way makes it a dead letter
        return None
    if not isinstance(batch, AlikeBatch):
        return shared(batch)
    return batch if batch.rows else None


def rows(
    one: AlikeRound, lane: Lane, now_ms: int, lost: Collection[str], *, singly: bool
) -> Sequence[Record]:
    """The ledger's rows of accepted pushes, without those of lost entries.

    As ledger_rows.work_row has them. singly: not in columns.
    """
    found, start, attempt = list[Record](), 0, (one.sent_ms, "200", Verdict.ACCEPTED)
    account = (lane.vendor, lane.credential.business_id)
    for name, batch in one.entries:
        end = start + len(batch.rows)
        taken = one.vendor_ids[start:end]
        if name not in lost and taken.count(None) < len(taken):
            ids = one.push_ids[start:end]
            found.append(accepted_rows(batch, account, ids, taken, attempt, now_ms))
        start = end
    return single_records(found) if singly else found


def stored_by_class(one: AlikeRound) -> dict[MessageClass, list[int]]:
    """By class as sent, the times at which the accepted pushes' messages were stored, ms."""
    found: dict[MessageClass, list[int]] = {}
    names = iter(one.vendor_ids)
    for _, batch in one.entries:
        times = [
            row.ts_ms for row, name in zip(batch.rows, names, strict=False) if name is not None
        ]
        found.setdefault(batch.like.class_sent, []).extend(times)
    return found


def cohorts(one: AlikeRound, lane: Lane, now_ms: int) -> Counter[str]:
    """The cohorts of the accepted pushes."""
    rows = one.rows
    if one.others:
        both = zip(rows, one.vendor_ids, strict=True)
        rows = [row for row, name in both if name is not None]
    return by_cohort(
        [row.app_version for row in rows], [row.registered_ms for row in rows], lane, now_ms
    )
