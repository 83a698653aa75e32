"""A round of usual pushes as they were packed (workers/delivery/alike.py): from its entries to what is written and counted of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from common.contracts import AlikeBatch, encode, read_batch
from common.ledger_records import accepted_row
from common.model import MessageClass, Verdict
from common.storage.lane_queues import LaneEntry, Taken
from workers.delivery import usual
from workers.delivery.alike import AlikeRound
from workers.delivery.lane import Lane
from workers.delivery.work import Hold
from workers.held_tokens import by_cohort


def read(taken: Taken, entries: Sequence[LaneEntry], lane: Lane, most: int) -> AlikeRound | None:
    """The round where it may take this way: whole entries that nobody had before, of a lane of which only the rate is asked.

    most: pushes that may be on the wire.
    """
    first = all(entry.deliveries == 1 and entry.order > max(taken.noted, taken.slowed) for entry in entries)
    if not first or taken.what != "go" or lane.spec.alike is None or not usual.fits(lane) or sum(entry.pushes for entry in entries) > most:
        return None
    found = list[tuple[str, AlikeBatch]]()
    for entry in entries:
        if b"\xa4rows" not in entry.blob:
            return None
        try:
            batch = read_batch(entry.blob)
        except msgspec.MsgspecError:  # the general way makes it a dead letter
            return None
        if not isinstance(batch, AlikeBatch) or not batch.rows:
            return None
        found.append((entry.id, batch))
    one = AlikeRound(Hold(taken.lane, taken.word), found) if found else None
    return one if one is not None and len(one.rows) <= most else None


def record(one: AlikeRound, lane: Lane, now_ms: int, lost: Collection[str]) -> bytes:
    """The ledger's rows of its pushes, all of which were accepted, but for those of lost entries; as ledger_rows.work_row has them."""
    rows, start, sent_ms = list[tuple[object, ...]](), 0, one.sent_ms
    account = (lane.vendor, lane.credential.business_id)
    for name, batch in one.entries:
        like, end = batch.like, start + len(batch.rows)
        classes, times = (like.downgraded, like.message_class, like.class_sent), (like.presence_ms, like.routed_ms, now_ms)
        app, word = batch.app, str(Verdict.ACCEPTED)
        if name not in lost:
            rows += [
                accepted_row(
                    *(app, row.event_id, row.ts_ms, row.user, row.device, account, classes, push_id),
                    *((sent_ms, "200", "", "", vendor_id, word), times),
                )
                for row, push_id, vendor_id in zip(batch.rows, one.push_ids[start:end], one.vendor_ids[start:end], strict=True)
            ]
        start = end
    return encode(rows)


def stored_by_class(one: AlikeRound) -> dict[MessageClass, list[int]]:
    """By class as sent when each push's event was stored, ms."""
    found: dict[MessageClass, list[int]] = {}
    for _, batch in one.entries:
        found.setdefault(batch.like.class_sent, []).extend([row.ts_ms for row in batch.rows])
    return found


def cohorts(one: AlikeRound, lane: Lane, now_ms: int) -> Counter[str]:
    return by_cohort([(row.app_version, row.registered_ms) for row in one.rows], lane, now_ms)
