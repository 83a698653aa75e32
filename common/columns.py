"""Batches whose pushes delivery handles in columns, without an object per push. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from common.contracts import AlikeBatch, Batch, LikeRow, Notification, Push, Target, push_like
from common.model import Vendor
from common.push_ids import push_ids
from common.values import Value, redacted


class SharedBatch(Value, frozen=True):
    """A `Batch` of one notification, as a group's page has it; only the devices differ.

    It is made from its entry and never packed. rows: of each target; their words are empty, those
    of `like` hold.
    """

    app: str
    vendor: Vendor
    business_id: str
    by_entry: bool
    platform: str
    like: Notification
    rows: tuple[LikeRow, ...]
    targets: tuple[Target, ...]

    __repr__ = redacted("like", "rows", "targets")


#: What a round in columns is made of.
ColumnBatch = AlikeBatch | SharedBatch


def shared(batch: Batch) -> SharedBatch | None:
    """The batch, if it is one notification at its first attempt to devices of one platform."""
    if len(batch.pushes) != 1:
        return None
    note, targets = batch.pushes[0].note, batch.pushes[0].targets
    if (
        not targets
        or note.app != batch.app
        or any(target.platform != targets[0].platform for target in targets)
        or not all(map(_is_new, targets))
    ):
        return None
    pattern = _row(note)
    rows = [
        LikeRow(
            *pattern,
            target.user,
            target.device,
            target.token,
            target.registered_ms,
            target.app_version,
        )
        for target in targets
    ]
    return SharedBatch(
        app=batch.app,
        vendor=batch.vendor,
        business_id=batch.business_id,
        by_entry=batch.by_entry,
        platform=targets[0].platform,
        like=note,
        rows=tuple(rows),
        targets=targets,
    )


def _row(note: Notification) -> tuple[str, str, str, int, int, int, str, str, str]:
    """The fields of its rows that the notification tells."""
    times = (note.ts_ms, note.received_ms, note.expires_at_ms)
    return (note.event_id, note.message_id, note.conversation_id, *times, "", "", note.sender_id)


def _is_new(target: Target) -> bool:
    """True when nothing was tried, taken or waited for."""
    return not (target.attempts or target.earlier or target.counted) and (
        target.held_by is None and target.again is None
    )


def push_at(batch: ColumnBatch, place: int) -> Push:
    """The push of one row."""
    if isinstance(batch, SharedBatch):
        return Push(note=batch.like, targets=(batch.targets[place],))
    return push_like(batch.like, batch.rows[place], batch.platform)


def ids_of(batch: ColumnBatch) -> Sequence[str]:
    """The push id of each row."""
    if isinstance(batch, SharedBatch):
        return [target.push_id for target in batch.targets]
    rows = [(row.event_id, row.user, row.device) for row in batch.rows]
    return push_ids(batch.app, rows, batch.like.kind)
