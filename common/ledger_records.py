"""Records of the ledger's stream: events, rows of recipients, steps, dead letters.

All are frozen, keyword-only `msgspec.Struct`s packed as arrays: a field is only ever added at the
end, with a default. Usual events and rows stand in columns (`EventColumns`, `RowColumns`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from typing import Any

import msgspec

from common.columns import ColumnBatch
from common.contracts import Attempt
from common.model import Decision

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


class EventColumns(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="ec", gc=False
):
    """EventRecords of one app and type that nothing has decided: a value per event in each list."""

    app: str
    type: str
    event_ids: list[str]
    message_ids: list[str]
    conversations: list[str]
    times_ms: list[int]
    received_ms: list[int]

    def __post_init__(self) -> None:
        _check_lengths(self._columns())

    def _columns(self) -> tuple[list[str], list[str], list[str], list[int], list[int]]:
        return (
            self.event_ids,
            self.message_ids,
            self.conversations,
            self.times_ms,
            self.received_ms,
        )

    def part(self, chosen: Sequence[bool]) -> EventColumns:
        """Those of the places that are True."""
        names = ("event_ids", "message_ids", "conversations", "times_ms", "received_ms")
        return msgspec.structs.replace(self, **_chosen(names, self._columns(), chosen))

    def singly(self) -> list[EventRecord]:
        """The same as single records."""
        return [
            EventRecord(
                app=self.app,
                event_id=event_id,
                message_id=message_id,
                type=self.type,
                conversation=conversation,
                ts_ms=ts_ms,
                received_ms=received_ms,
                decision=None,
                note="",
            )
            for event_id, message_id, conversation, ts_ms, received_ms in zip(
                *self._columns(), strict=True
            )
        ]


class RowColumns(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="t", tag="rc", gc=False
):
    """RowRecords of pushes that one lane's vendor accepted at once: a value per push in each list.

    attempt: of all its time in ms, the vendor's status and the verdict.
    """

    app: str
    vendor: str
    business_id: str
    downgraded: bool
    message_class: str
    class_sent: str | None
    attempt: tuple[int, str, str]
    presence_ms: int
    routed_ms: int
    decided_ms: int
    event_ids: list[str]
    times_ms: list[int]
    users: list[str]
    devices: list[str]
    push_ids: list[str]
    vendor_ids: list[str]

    def __post_init__(self) -> None:
        _check_lengths(self._columns())

    def _columns(
        self,
    ) -> tuple[list[str], list[int], list[str], list[str], list[str], list[str]]:
        return (
            self.event_ids,
            self.times_ms,
            self.users,
            self.devices,
            self.push_ids,
            self.vendor_ids,
        )

    def part(self, chosen: Sequence[bool]) -> RowColumns:
        """Those of the places that are True."""
        names = ("event_ids", "times_ms", "users", "devices", "push_ids", "vendor_ids")
        return msgspec.structs.replace(self, **_chosen(names, self._columns(), chosen))

    def head(self) -> tuple[Any, ...]:
        """What all its pushes share."""
        return (
            *(self.app, self.vendor, self.business_id, self.downgraded),
            *(self.message_class, self.class_sent, self.attempt),
            *(self.presence_ms, self.routed_ms, self.decided_ms),
        )

    def joined(self, others: Sequence[RowColumns]) -> RowColumns:
        """With the pushes of these, whose heads are the same, behind its own."""
        if not others:
            return self
        event_ids, times_ms, users, devices, push_ids, vendor_ids = (
            list(chain.from_iterable(columns))
            for columns in zip(*[one._columns() for one in (self, *others)], strict=True)  # noqa: SLF001 - its own class
        )
        return msgspec.structs.replace(
            self,
            event_ids=event_ids,
            times_ms=times_ms,
            users=users,
            devices=devices,
            push_ids=push_ids,
            vendor_ids=vendor_ids,
        )

    def tried(self, vendor_id: str) -> tuple[Attempt, ...]:
        """The attempts of a push that has this id at the vendor."""
        sent_ms, status, verdict = self.attempt
        return (Attempt(sent_ms, status, "", "", vendor_id, verdict),)

    def singly(self) -> list[RowRecord]:
        """The same as single records."""
        return [
            RowRecord(
                app=self.app,
                event_id=event_id,
                ts_ms=ts_ms,
                user=user,
                device=device,
                vendor=self.vendor,
                business_id=self.business_id,
                decision=Decision.ACCEPTED,
                downgraded=self.downgraded,
                message_class=self.message_class,
                class_sent=self.class_sent,
                push_id=push_id,
                attempts=self.tried(vendor_id),
                presence_ms=self.presence_ms,
                routed_ms=self.routed_ms,
                decided_ms=self.decided_ms,
                note=self.attempt[1],
            )
            for event_id, ts_ms, user, device, push_id, vendor_id in zip(
                *self._columns(), strict=True
            )
        ]


def _check_lengths(columns: Sequence[Sequence[object]]) -> None:
    if len(set(map(len, columns))) > 1:
        raise ValueError("columns of different lengths")


def _chosen(
    names: Sequence[str], columns: Sequence[list[Any]], chosen: Sequence[bool]
) -> dict[str, list[Any]]:
    return {name: list(compress(one, chosen)) for name, one in zip(names, columns, strict=True)}


SingleRecord = EventRecord | RowRecord | PageRecord | NoteRecord | DeadRecord
Record = SingleRecord | EventColumns | RowColumns

decode_records = msgspec.msgpack.Decoder(list[Record]).decode


def singly(records: Iterable[Record]) -> list[SingleRecord]:
    """The records, those in columns as single ones."""
    found = list[SingleRecord]()
    for one in records:
        if isinstance(one, EventColumns | RowColumns):
            found += one.singly()
        else:
            found.append(one)
    return found


def joined_rows(records: Iterable[object]) -> list[object]:
    """The records; RowColumns that differ in nothing but their columns as one, where the first of
    them stands.
    """
    found, alike = list[object](), dict[tuple[Any, ...], tuple[int, list[RowColumns]]]()
    for one in records:
        if isinstance(one, RowColumns):
            place, those = alike.setdefault(one.head(), (len(found), []))
            those.append(one)
            if len(those) > 1:
                continue
        found.append(one)
    for place, (first, *others) in alike.values():
        found[place] = first.joined(others)
    return found


def accepted_rows(
    batch: ColumnBatch,
    account: tuple[str, str],
    push_ids: Sequence[str],
    vendor_ids: Sequence[str | None],
    attempt: tuple[int, str, str],
    decided_ms: int,
) -> RowColumns:
    """Those of a batch's pushes that were accepted at once.

    account: vendor, business id. vendor_ids: None for a push that was not accepted. attempt: as in
    RowColumns.
    """
    like, rows = batch.like, batch.rows
    if None in vendor_ids:
        good = [name is not None for name in vendor_ids]
        rows, push_ids = tuple(compress(rows, good)), tuple(compress(push_ids, good))
    return RowColumns(
        app=batch.app,
        vendor=account[0],
        business_id=account[1],
        downgraded=like.downgraded,
        message_class=like.message_class,
        class_sent=like.class_sent,
        attempt=attempt,
        presence_ms=like.presence_ms,
        routed_ms=like.routed_ms,
        decided_ms=decided_ms,
        event_ids=[row.event_id for row in rows],
        times_ms=[row.ts_ms for row in rows],
        users=[row.user for row in rows],
        devices=[row.device for row in rows],
        push_ids=list(push_ids),
        vendor_ids=[name for name in vendor_ids if name is not None],
    )


def pack_users(users: Sequence[str]) -> bytes:
    """User ids (without U+0000, as everywhere) for PageRecord.users."""
    return zlib.compress("\0".join(users).encode("utf-8", "surrogatepass"), 1)


def unpack_users(packed: bytes) -> list[str]:
    """Reverses pack_users(). Raises zlib.error for other bytes."""
    return zlib.decompress(packed).decode("utf-8", "surrogatepass").split("\0")
