"""Records of the ledger's stream: events, rows of recipients, steps, dead letters.

All are frozen, keyword-only `msgspec.Struct`s packed as arrays: a field is only ever added at the
end, with a default.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from common.columns import ColumnBatch
from common.contracts import Attempt

#: Entries of the ledger's stream at which delivery stops taking batches: nothing is dropped.
STREAM_MAX = 20_000
#: (event id, user, device): a row's place among those of its message.
Place = tuple[str, str, str]


class EventRecord(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="e", gc=False
):
    """filed_ms: the time that sets its day; 0: its ts.

    kind: that of its pushes, "" where the type implies it.
    """

    app: str
    event_id: str
    message_id: str
    type: str
    conversation: str
    ts_ms: int
    received_ms: int
    decision: str | None
    note: str
    screen: str = ""
    filed_ms: int = 0
    kind: str = ""


class RowRecord(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="r", gc=False
):
    """device: "" where no device came into play. decision None: not final yet. kind: of the push;
    "": a message's. What has a default belongs to a push: a row without one leaves it out.
    """

    app: str
    event_id: str
    ts_ms: int
    user: str
    device: str
    vendor: str
    business_id: str
    decision: str | None
    downgraded: bool = False
    message_class: str
    class_sent: str | None = None
    push_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    presence_ms: int
    routed_ms: int
    decided_ms: int
    note: str
    kind: str = ""


class PageRecord(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="p", gc=False
):
    """Final rows of one event that differ in the person only, without a device.

    users: pack_users() of them; the same people in the same order are the same page. count: their
    number.
    """

    app: str
    event_id: str
    ts_ms: int
    decision: str
    message_class: str
    presence_ms: int
    decided_ms: int
    note: str
    count: int
    users: bytes


class NoteRecord(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="n", gc=False
):
    app: str
    event_id: str
    ts_ms: int
    user: str
    device: str
    kind: str
    stage: str
    at_ms: int
    note: str


class DeadRecord(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="d", gc=False
):
    """raw: encrypted already."""

    id: str
    entry_id: str
    stage: str
    reason: str
    app: str | None
    at_ms: int
    raw: bytes
    fields: dict[str, str]


Record = EventRecord | RowRecord | PageRecord | NoteRecord | DeadRecord

decode_records = msgspec.msgpack.Decoder(list[Record]).decode


def accepted_rows(
    batch: ColumnBatch,
    account: tuple[str, str],
    push_ids: Sequence[str],
    vendor_ids: Sequence[str | None],
    attempt: tuple[int, str, str],
    decided_ms: int,
) -> list[tuple[object, ...]]:
    """The packed RowRecords of a batch's pushes that were accepted at once, without the structs.

    account: vendor, business id. vendor_ids: None for a push that was not accepted. attempt: the
    time in ms, status and verdict.
    """
    app, like, (vendor, business_id), (sent_ms, status, word) = (
        batch.app,
        batch.like,
        account,
        attempt,
    )
    downgraded, message_class, class_sent = like.downgraded, like.message_class, like.class_sent
    presence_ms, routed_ms = like.presence_ms, like.routed_ms
    return [
        (
            *("r", app, row.event_id, row.ts_ms, row.user, row.device, vendor, business_id),
            *("accepted", downgraded, message_class, class_sent, push_id),
            ((sent_ms, status, "", "", vendor_id, word),),
            *(presence_ms, routed_ms, decided_ms, status, ""),
        )
        for row, push_id, vendor_id in zip(batch.rows, push_ids, vendor_ids, strict=True)
        if vendor_id is not None
    ]


def pack_users(users: Sequence[str]) -> bytes:
    """User ids (without U+0000, as everywhere) for PageRecord.users."""
    return zlib.compress("\0".join(users).encode("utf-8", "surrogatepass"), 1)


def unpack_users(packed: bytes) -> list[str]:
    """Reverses pack_users(). Raises zlib.error for other bytes."""
    return zlib.decompress(packed).decode("utf-8", "surrogatepass").split("\0")
