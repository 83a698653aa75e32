"""What follows from a receipt: a word in the ledger, a retired token, another look, or nothing."""

import hashlib

import pytest

from common.contracts import Target
from common.model import MessageClass, Vendor, Verdict
from common.push_ids import event_tag
from tests.builders import notification
from workers.receipts.matched import LOOK_AGAIN_S, Callback, Sent, is_tag, settle
from workers.receipts.readers import READERS, STATUSES, label_of
from workers.vendors.huawei_family import note_tag
from workers.vendors.ids import receipt_tag
from workers.vendors.receipt_bodies import Receipt
from workers.vendors.types import PushItem, RequestBatch

SENT = Sent("app", "e1", 0, "u1", "d1", 1_000, frozenset({"r-1"}))


def receipt(verdict=None, request_id="r-1", replacement=None, status="delivered"):
    return Receipt("token", "0" * 32, request_id, status, 5, verdict, replacement)


FOLLOWS = {
    "delivered: only a word": (receipt(), {"noted"}),
    "dead": (receipt(Verdict.TOKEN_DEAD), {"noted", "dead"}),
    "of another region": (receipt(Verdict.TOKEN_FOREIGN), {"noted", "foreign"}),
    "switched off": (receipt(Verdict.SILENCED), {"noted", "silenced"}),
    "a device's cap retires nobody": (receipt(Verdict.DEVICE_CAP), {"noted", "capped"}),
    "nor does a spent day": (receipt(Verdict.QUOTA_SPENT), {"noted", "spent"}),
    "our own mistake retires nobody": (receipt(Verdict.REJECTED), {"noted"}),
    "a token that moved is replaced, not retired": (
        receipt(Verdict.TOKEN_DEAD, replacement="new"),
        {"noted", "replaced"},
    ),
}


def filled(settled):
    return {name for name in settled.__slots__ if getattr(settled, name)}


@pytest.mark.parametrize(("given", "expected"), FOLLOWS.values(), ids=FOLLOWS)
def test_what_follows_from_a_receipt_of_a_push_of_ours(given, expected):
    assert filled(settle([given], {0: SENT}, 0, strict=False)) == expected


@pytest.mark.parametrize(
    ("request_id", "expected"), [("r-1", {"noted", "dead"}), ("r-2", {"lost"}), (None, {"lost"})]
)
def test_where_nothing_proves_the_sender_the_vendors_own_id_must_fit(request_id, expected):
    found = filled(settle([receipt(Verdict.TOKEN_DEAD, request_id)], {0: SENT}, 0, strict=True))
    assert found == expected


def test_a_receipt_that_came_before_its_row_is_looked_for_again_and_then_lost():
    looks = [
        filled(settle([receipt(Verdict.TOKEN_DEAD)], {}, looks, strict=False))
        for looks in range(len(LOOK_AGAIN_S) + 1)
    ]
    assert looks == [{"again"}] * len(LOOK_AGAIN_S) + [{"lost"}]


def test_the_ledger_knows_the_tag_that_vendor_files_let_vendors_echo():
    note = notification(
        app="app", event_id="e-☎", conversation_type="group", message_class=MessageClass.CHAT
    )
    items = [
        PushItem(
            note,
            Target(f"u{n}", "d", "t", hashlib.md5(b"%d" % n).hexdigest(), "android", 0),
            None,
            60,
        )
        for n in range(2)
    ]
    tag = receipt_tag(RequestBatch(tuple(items), 0))
    assert tag == event_tag("app", "e-☎", "message") == "630407f68f666cbd364c0f06007f3ebf"
    assert tag == note_tag(note)
    assert receipt_tag(RequestBatch(tuple(items[:1]), 0)) == items[0].target.push_id
    assert is_tag(tag)


@pytest.mark.parametrize("tag", ["", "m-1001", "0" * 31, "0" * 33, "G" * 32, "０" * 32])
def test_what_is_no_tag_of_ours_is_not_looked_for(tag):
    assert not is_tag(tag)


def test_labels_stay_within_a_closed_set():
    assert {"delivered", "clicked", "token_dead", "other"} <= STATUSES | {"other"}
    assert {label_of(word) for word in (*STATUSES, "code 9999", "", "u1")} == STATUSES | {"other"}


def test_every_vendor_that_tells_receipts_has_a_reader():
    assert set(READERS) == set(Vendor) - {Vendor.APNS, Vendor.FCM}


def test_a_callback_shows_no_token():
    receipts = (Receipt("token-1", "", None, "delivered", 0, None, "token-1b"),)
    assert "token-1" not in repr(Callback(Vendor.MEIZU, "a", "b", 0, receipts))
