"""Requests from a form are the vendor's own, whatever a usual push holds; so are their octets."""

from dataclasses import replace
from typing import Any

import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from common.columns import ColumnBatch, SharedBatch, ids_of, push_at, shared
from common.contracts import AlikeBatch, Attempt, Batch, LikeRow, Notification, Push, encode
from common.ledger_records import RowRecord, accepted_rows, decode_records
from common.model import Vendor
from common.push_ids import push_id
from tests.unit.vendors import cases
from workers.transport.http2 import Http2Connection, StreamSending, frame
from workers.vendors import VENDORS, forms
from workers.vendors.forms import PushValues, filled, form_of
from workers.vendors.types import PushItem, RequestBatch
from workers.wire import Request, RequestColumns, RequestForm, RequestParts

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


ROW = [("Ann", "hi", "m1", "t1", 1, 60)]


def both(
    vendor: Vendor, one: ColumnBatch, badges: list[int]
) -> tuple[RequestColumns | None, list[Request]]:
    """From the form, and by the vendor's `build`; odd ones are `build`'s in either."""
    spec, credential = VENDORS[vendor], cases.credential(vendor)
    built = list[Request]()
    for place, (row, badge) in enumerate(zip(one.rows, badges, strict=True)):
        push, ttl_s = push_at(one, place), (row.expires_at_ms - cases.NOW_MS) // 1000
        item = PushItem(push.note, push.targets[0], badge, ttl_s)
        built.append(
            spec.build(RequestBatch((item,), cases.NOW_MS, None), credential, cases.ACCESS)
        )
    ids = ids_of(one)
    if isinstance(one, AlikeBatch):
        rows = [(row.event_id, row.user, row.device) for row in one.rows]
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
def test_plain_chats_have_a_form_and_none_is_odd(vendor: Vendor) -> None:
    rows = [("Ann", "hi", "m1", "t1", 1, 60), ("李", "今晚八点开会", "m2", "t2", 2, 61)]
    columns, built = both(vendor, batch(vendor, {}, rows), [row[4] for row in rows])
    assert columns is not None
    assert not columns.odd
    assert list(columns) == built


#: What a group's notification may say beside: the values of the samples too.
WORDS = st.sampled_from(
    ["hi", "会议", 'a"b\\c', "%s 100%", "x" * 3_000, "7e57" * 16, "1234567 1912345601"]
)
SHARED_LIKES = st.builds(
    lambda like, more: {**like, **more},
    LIKES,
    st.fixed_dictionaries(
        {
            "body": WORDS,
            "expires_at_ms": st.sampled_from([cases.NOW_MS - 1, cases.NOW_MS + 60_000]),
        },
        optional={
            "title": WORDS,
            "message_id": IDS,
            "collapse_id": IDS,
            "conversation_id": IDS,
            "vendor_raw": st.just({"aps": {"relevance-score": 0.5}}),
            "image": st.just("https://example.com/a.png"),
            "hidden": st.booleans(),
        },
    ),
)
DEVICES = st.lists(
    st.tuples(
        st.sampled_from(["0" * 64, "a:b_c-d", "7e57" * 16, "%s"]), st.sampled_from([0, 1, 7, 2**31])
    ),
    min_size=1,
    max_size=4,
)


def of_one_note(vendor: Vendor, like: dict[str, Any], tokens: list[str]) -> SharedBatch:
    """A page of a group: one notification, a device each."""
    targets = tuple(
        cases.target(token, user=f"u{n}", push_id=f"{n:032x}") for n, token in enumerate(tokens)
    )
    note = cases.note(**like)
    pushes = (Push(note=note, targets=targets),)
    found = shared(
        Batch(app=note.app, vendor=vendor, business_id="b1", pushes=pushes, by_entry=True)
    )
    assert found is not None
    return found


@pytest.mark.parametrize("vendor", FORMED)
def test_a_page_of_a_group_has_a_form_and_none_is_odd(vendor: Vendor) -> None:
    one = of_one_note(
        vendor, {"body": "Ann(Team): 今晚八点", "title": "Team"}, ["0a" * 32, "0b" * 32]
    )
    columns, built = both(vendor, one, [1, 2])
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
        size = int.from_bytes(raw[at : at + 3])
        kind = raw[at + 3]
        stream = int.from_bytes(raw[at + 5 : at + 9])
        payload, at = raw[at + 9 : at + 9 + size], at + 9 + size
        found.append((kind, stream, sorted(decoder.decode(payload)) if kind == 1 else payload))
    return found


@pytest.mark.parametrize("before", [0, 2], ids=["alone", "among another lane's"])
@pytest.mark.parametrize("vendor", FORMED)
@settings(max_examples=40, deadline=None)
@given(LIKES, ROWS, st.integers(1, 400))
def test_a_server_reads_from_them_what_it_reads_from_the_requests_one_by_one(
    vendor: Vendor, before: int, like: dict[str, Any], rows: list[Any], octets_max: int
) -> None:
    columns, built = both(vendor, batch(vendor, like, rows * 3), [row[4] for row in rows * 3])
    if columns is not None:
        same_frames(columns, built, octets_max, before)


@pytest.mark.parametrize("vendor", FORMED)
@settings(max_examples=40, deadline=None)
@given(SHARED_LIKES, DEVICES, st.integers(1, 400))
def test_a_server_reads_a_page_of_a_group_as_its_requests_one_by_one(
    vendor: Vendor, like: dict[str, Any], devices: list[tuple[str, int]], octets_max: int
) -> None:
    one = of_one_note(vendor, like, [token for token, _ in devices * 3])
    columns, built = both(vendor, one, [badge for _, badge in devices * 3])
    if columns is not None:
        same_frames(columns, built, octets_max)


@pytest.mark.parametrize("vendor", FORMED)
def test_pages_of_a_group_are_written_together(vendor: Vendor) -> None:
    columns, built = both(vendor, of_one_note(vendor, {}, ["0a" * 32] * 9), [1] * 9)
    assert columns is not None
    assert same_frames(columns, built, 1 << 20) >= 7, "all but those that fill the table"


def same_frames(
    columns: RequestColumns, built: list[Request], octets_max: int, before: int = 0
) -> int:
    """Compares what a server reads; returns how many were written as columns.

    before: requests of another lane that stand before and behind them in one sending.
    """
    quick, slow = Http2Connection("h", 1000), Http2Connection("h", 1000)
    others = built[:1] * before
    all_of_them = RequestParts([others, columns, others]) if before else columns
    sending, singly = StreamSending(all_of_them, 9.0), StreamSending([*others, *built], 9.0)
    for one in (quick, slow):
        one.receive(frame(4, 0, 0), 1.0)
        one.met = True
    at, end, together = before, before + len(built), 0
    while at < end:
        count, _ = quick.begin_alike(sending, at, end, octets_max, 1.0)
        if not count:
            quick.begin(sending, at, all_of_them[at], 1.0)
        at += count or 1
        together += count
    for place, request in enumerate(built, before):
        slow.begin(singly, place, request, 1.0)
    assert told(quick) == told(slow)
    assert list(quick.streams) == list(slow.streams)
    assert [one[1] for one in quick.streams.values()] == list(range(before, end))
    return together


def test_parts_in_a_row_read_as_one_list() -> None:
    (first,) = [request("/a")]
    parts = RequestParts([[first], [request("/b"), request("/c")]])
    assert [one.path for one in parts] == ["/a", "/b", "/c"]
    assert [one.path for one in parts[1:]] == ["/b", "/c"]
    assert (parts[-1].path, len(parts)) == ("/c", 3)
    with pytest.raises(IndexError):
        parts[3]


def request(path: str) -> Request:
    return Request("APNS_PRODUCTION", path, {}, b"{}")


def test_more_lanes_than_a_large_fleet_has_keep_their_forms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 2,000 lanes, each of which is found once, whatever groups are sent to meanwhile."""
    spec, lanes = VENDORS[Vendor.APNS], range(2_000)
    one, credential = batch(Vendor.APNS, {}, ROW), cases.credential(Vendor.APNS)
    monkeypatch.setattr(forms, "_forms", {})
    found: list[RequestForm | None] = []
    for _ in range(2):
        for number in lanes:
            own = replace(credential, app=f"tenant{number}")
            found.append(form_of(spec, one, own, cases.ACCESS, None))
        for number in range(forms.SHARED_FORMS_MAX + 10):
            page = of_one_note(Vendor.APNS, {"body": f"message {number}"}, ["0a" * 32])
            assert form_of(spec, page, credential, cases.ACCESS, None) is not None
    assert len(forms._shared_forms) <= forms.SHARED_FORMS_MAX
    assert None not in found
    assert list(map(id, found[:2_000])) == list(map(id, found[2_000:]))


def test_rows_of_accepted_pushes_are_the_ledgers_records() -> None:
    like = {"downgraded": True, "presence_ms": 1, "routed_ms": 2}
    one = batch(Vendor.APNS, like, [("Ann", "hi", f"m{n}", "t", 1, 60) for n in range(3)])
    account, attempt = ("apns", "ios"), (9, "200", "accepted")
    rows = accepted_rows(one, account, ["p0", "p1", "p2"], ["id0", None, "id2"], attempt, 3)
    assert decode_records(encode([rows])) == [rows]
    assert rows.singly() == [
        RowRecord(
            app="demo",
            event_id=f"e{n}",
            ts_ms=5,
            user=f"u{n}",
            device="d",
            vendor="apns",
            business_id="ios",
            decision="accepted",
            downgraded=True,
            message_class=one.like.message_class,
            class_sent=one.like.class_sent,
            push_id=f"p{n}",
            attempts=(Attempt(9, "200", "", "", f"id{n}", "accepted"),),
            presence_ms=1,
            routed_ms=2,
            decided_ms=3,
            note="200",
        )
        for n in (0, 2)
    ]
