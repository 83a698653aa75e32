"""Records of the ledger's stream: events, rows of recipients, steps, dead letters.

All are frozen, keyword-only `msgspec.Struct`s packed as arrays: a field is only ever added at the
end, with a default.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from common.contracts import Attempt


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
    "": a message's.
    """

    app: str
    event_id: str
    ts_ms: int
    user: str
    device: str
    vendor: str
    business_id: str
    decision: str | None
    downgraded: bool
    message_class: str
    class_sent: str | None
    push_id: str | None
    attempts: tuple[Attempt, ...]
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


def accepted_row(
    app: str,
    event_id: str,
    ts_ms: int,
    user: str,
    device: str,
    lane: tuple[str, str],
    classes: tuple[bool, str, str],
    push_id: str,
    attempt: tuple[int, str, str, str, str | None, str],
    times_ms: tuple[int, int, int],
) -> tuple[object, ...]:
    """The packed RowRecord of a push accepted at its first attempt, without the struct.

    lane: vendor, business id. classes: downgraded, message class, class sent. attempt: the fields
    of an `Attempt`. times_ms: presence, routed, decided.
    """
    end = (attempt,), *times_ms, attempt[1], ""
    return "r", app, event_id, ts_ms, user, device, *lane, "accepted", *classes, push_id, *end


def pack_users(users: Sequence[str]) -> bytes:
    """User ids (without U+0000, as everywhere) for PageRecord.users."""
    return zlib.compress("\0".join(users).encode("utf-8", "surrogatepass"), 1)


def unpack_users(packed: bytes) -> list[str]:
    """Reverses pack_users(). Raises zlib.error for other bytes."""
    return zlib.decompress(packed).decode("utf-8", "surrogatepass").split("\0")
