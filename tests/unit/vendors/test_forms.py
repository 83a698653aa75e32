"""Requests from a form are the vendor's own, whatever a usual push holds; so are their octets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from common.contracts import AlikeBatch, LikeRow, Notification, encode, push_like
from common.ledger_records import RowRecord, accepted_row
from common.model import Vendor
from common.push_ids import push_id, push_ids
from tests.unit.vendors import cases
from workers.transport.http2 import Http2Connection, StreamSending, frame
from workers.vendors import VENDORS
from workers.vendors.forms import PushValues, filled, form_of
from workers.vendors.types import PushItem, RequestBatch
from workers.wire import Request, RequestColumns

FORMED = sorted(vendor for vendor, spec in VENDORS.items() if spec.alike is not None)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["hi", "会议", 'a"b', "a\\b", "%s %d", "x" * 300, "\ud800", "a\u3000b", "Nick7"]
    ),
)
IDS = st.one_of(
    st.text("abc-019_", min_size=1, max_size=70),
    st.sampled_from(["m 1", "中", 'a"b', "%", "Screen7", "x" * 64]),
)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        TEXTS.filter(bool),
        IDS,
        IDS,
        st.sampled_from([0, 1, 7, 2**31]),
        st.sampled_from([0, 60, 604_800, 3 * 10**6]),
    ),
    min_size=1,
    max_size=4,
)
LIKES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["", "Ann"]),
        "app_name": st.sampled_from(["", "Demo", "Nick7"]),
        "ext": st.sampled_from(["", "{}", "%", "e" * 200]),
        "thread_id": st.sampled_from(["t", "%s"]),
        "sound_ios": st.sampled_from(["none", "ring.caf"]),
        "placement": st.sampled_from(
            [
                {"priority": "5"},
                {"interruption_level": "active"},
                {"priority": "NORMAL", "channel_id": "c"},
            ]
        ),
        "vendor": st.sampled_from([{"category": "c"}, {"channel_id": "c"}, {"badge": 7}]),
        "payload": st.just({"k": "Text7"}),
    },
)


def batch(
    vendor: Vendor, like: dict[str, Any], rows: list[tuple[str, str, str, str, int, int]]
) -> AlikeBatch:
    made = [
        LikeRow(
            f"e{n}",
            message,
            thread,
            5,
            6,
            cases.NOW_MS + 1000 * ttl,
            nick,
            text,
            "s",
            f"u{n}",
            "d",
            f"{n:064x}",
            1,
            None,
        )
        for n, (nick, text, message, thread, _, ttl) in enumerate(rows)
    ]
    note: Notification = cases.note(**like)
    return AlikeBatch(
        app="demo",
        vendor=vendor,
        business_id="b1",
        by_entry=True,
        platform="ios",
        like=note,
        rows=tuple(made),
    )


def both(
    vendor: Vendor, one: AlikeBatch, badges: list[int]
) -> tuple[RequestColumns | None, list[Request]]:
    """From the form, and by the vendor's `build`; odd ones are `build`'s in either."""
    spec, credential = VENDORS[vendor], cases.credential(vendor)
    built = list[Request]()
    for row, badge in zip(one.rows, badges, strict=True):
        push, ttl_s = (
            push_like(one.like, row, one.platform),
            (row.expires_at_ms - cases.NOW_MS) // 1000,
        )
        item = PushItem(push.note, push.targets[0], badge, ttl_s)
        built.append(
            spec.build(RequestBatch((item,), cases.NOW_MS, None), credential, cases.ACCESS)
        )
    rows = [(row.event_id, row.user, row.device) for row in one.rows]
    ids = push_ids(one.app, rows, one.like.kind)
    assert ids == [push_id(one.app, *row, one.like.kind) for row in rows]
    about = PushValues(
        ids, badges, [(row.expires_at_ms - cases.NOW_MS) // 1000 for row in one.rows]
    )
    form = form_of(spec, one, credential, cases.ACCESS, None)
    if form is None:
        return None, built
    columns, odd = filled(form, spec, one, about)
    return RequestColumns(form, columns, len(built), {place: built[place] for place in odd}), built


@pytest.mark.parametrize("vendor", FORMED)
@settings(max_examples=80, deadline=None)
@given(LIKES, ROWS)
def test_each_request_is_what_build_makes(
    vendor: Vendor, like: dict[str, Any], rows: list[Any]
) -> None:
    columns, built = both(vendor, batch(vendor, like, rows), [row[4] for row in rows])
    if columns is not None:
        assert list(columns) == built


@pytest.mark.parametrize("vendor", FORMED)
def test_plain_chats_have_a_form_and_none_is_odd(vendor: Vendor) -> None:
    rows = [("Ann", "hi", "m1", "t1", 1, 60), ("李", "今晚八点开会", "m2", "t2", 2, 61)]
    columns, built = both(vendor, batch(vendor, {}, rows), [row[4] for row in rows])
    assert columns is not None
    assert not columns.odd
    assert list(columns) == built


def told(connection: Http2Connection) -> list[tuple[int, int, Any]]:
    """What a server reads: (kind, stream, headers or octets) of each frame behind the connection's
    beginning.
    """
    raw, decoder, found = connection.take_out().partition(b"SM\r\n\r\n")[2], Decoder(), []
    at = 0
    while at < len(raw):
        size, kind, stream = (
            int.from_bytes(raw[at : at + 3]),
            raw[at + 3],
            int.from_bytes(raw[at + 5 : at + 9]),
        )
        payload, at = raw[at + 9 : at + 9 + size], at + 9 + size
        found.append((kind, stream, sorted(decoder.decode(payload)) if kind == 1 else payload))
    return found


@pytest.mark.parametrize("vendor", FORMED)
@settings(max_examples=40, deadline=None)
@given(LIKES, ROWS, st.integers(1, 400))
def test_a_server_reads_from_them_what_it_reads_from_the_requests_one_by_one(
    vendor: Vendor, like: dict[str, Any], rows: list[Any], octets_max: int
) -> None:
    columns, built = both(vendor, batch(vendor, like, rows * 3), [row[4] for row in rows * 3])
    if columns is None:
        return
    quick, slow = Http2Connection("h", 1000), Http2Connection("h", 1000)
    sending, singly = StreamSending(columns, 9.0), StreamSending(built, 9.0)
    for one in (quick, slow):
        one.receive(frame(4, 0, 0), 1.0)
        one.met = True
    at = 0
    while at < len(built):
        count, _ = quick.begin_alike(sending, at, len(built), octets_max, 1.0)
        if not count:
            quick.begin(sending, at, columns[at], 1.0)
        at += count or 1
    for place, request in enumerate(built):
        slow.begin(singly, place, request, 1.0)
    assert told(quick) == told(slow)
    assert list(quick.streams) == list(slow.streams)
    assert [one[1] for one in quick.streams.values()] == list(range(len(built)))


def test_a_row_of_the_ledger_is_the_records() -> None:
    attempt, times = (9, "200", "", "", "id", "accepted"), (1, 2, 3)
    packed = encode(
        [
            accepted_row(
                "a", "e", 5, "u", "d", ("apns", "ios"), (False, "chat", "chat"), "p", attempt, times
            )
        ]
    )
    record = msgspec.msgpack.decode(packed, type=list[RowRecord])[0]
    assert encode([record]) == packed
    assert (
        record.decision,
        record.attempts[0].vendor_message_id,
        record.decided_ms,
        record.note,
    ) == ("accepted", "id", 3, "200")
