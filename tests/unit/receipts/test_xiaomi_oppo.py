"""Receipts of Xiaomi and OPPO: the pages' vectors, every event, and any bytes."""

import json
from urllib.parse import quote, urlencode

import pytest

from common.model import Verdict
from workers.vendors.oppo import receipts as oppo
from workers.vendors.receipt_bodies import Receipt
from workers.vendors.xiaomi import receipts as xiaomi

AT = 1767225600000
XIAOMI_VECTOR = (
    b"data=%7B%22msgA%22%3A%7B%22param%22%3A%22m-1001-u7%22%2C%22type%22%3A16%2C%22targets%22%3A%22r1%2Cr2%22%2C%22jobkey%22%3A%22%22"
    b"%2C%22timestamp%22%3A1767225600000%2C%22errorCode%22%3A1%7D%7D"
)
OPPO_VECTOR = (
    b'[{"messageId":"m","appId":"1","taskId":"m","registrationIds":"r1, r2",'
    b'"eventTime":"1767225600000","param":"m-1001-u7",'
    b'"eventType":"regid_invalid"}]'
)


def xiaomi_of(message_id="m", twice=False, **item):
    text = json.dumps({message_id: {"param": "p", "targets": "r1", "timestamp": AT, **item}})
    return xiaomi.read_receipts(urlencode({"data": quote(text) if twice else text}).encode(), {})


@pytest.mark.parametrize(
    ("read", "vector", "message_id"),
    [(xiaomi.read_receipts, XIAOMI_VECTOR, "msgA"), (oppo.read_receipts, OPPO_VECTOR, "m")],
)
def test_vector_9_5_drops_both_tokens(read, vector, message_id):
    dead = (message_id, "invalid", AT, Verdict.TOKEN_DEAD)
    assert read(vector, {}) == [Receipt(token, "m-1001-u7", *dead) for token in ("r1", "r2")]


XIAOMI_EVENTS = {
    "delivered": ({"type": 1, "barStatus": "Enable"}, "delivered", None),
    "delivered, shown to nobody": ({"type": 1, "barStatus": "Disable"}, "delivered", None),
    "clicked": ({"type": "2"}, "clicked", None),
    "invalid": ({"type": 16}, "invalid", Verdict.TOKEN_DEAD),
    "an alias": ({"type": 16, "errorCode": 2}, "invalid", None),
    "an account": ({"type": 16, "errorCode": "3"}, "invalid", None),
    "another region": (
        {"type": 16, "targetRegion": {"r1": "GLOBAL"}},
        "invalid",
        Verdict.TOKEN_FOREIGN,
    ),
    "another one's region": (
        {"type": 16, "targetRegion": {"r2": "GLOBAL"}},
        "invalid",
        Verdict.TOKEN_DEAD,
    ),
    "switched off": ({"type": 32}, "disabled", Verdict.SILENCED),
    "filtered": ({"type": 64}, "filtered", None),
    "the day's total": (
        {"type": 128, "extra": {"ack": "20000", "quota": "20000"}},
        "over_quota",
        Verdict.QUOTA_SPENT,
    ),
    "the device's cap": (
        {"type": 128, "extra": {"ack": 5, "quota": 20000}},
        "over_quota",
        Verdict.DEVICE_CAP,
    ),
    "over, no figures": ({"type": 128}, "over_quota", Verdict.DEVICE_CAP),
    "too late": ({"type": 1024}, "expired", None),
    "new": ({"type": 4096}, "other", None),
    "no type": ({}, "other", None),
}


@pytest.mark.parametrize(("item", "status", "verdict"), XIAOMI_EVENTS.values(), ids=XIAOMI_EVENTS)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "percent-encoded twice"])
def test_each_xiaomi_event_means_one_thing(item, status, verdict, twice):
    assert xiaomi_of(twice=twice, **item) == [Receipt("r1", "p", "m", status, AT, verdict)]


@pytest.mark.parametrize("moved", [{"r1": "n1"}, '{"r1":"n1"}'])
def test_a_moved_xiaomi_token_is_replaced_and_not_retired(moved):
    first, second = xiaomi_of(type=16, targets="r1,r2", replaceTarget=moved)
    assert (first.replacement, first.verdict) == ("n1", None)
    assert (second.replacement, second.verdict) == (None, Verdict.TOKEN_DEAD)


def test_several_xiaomi_messages_travel_in_one_post_and_either_spelling_of_the_time_is_read():
    first = {"type": 1, "targets": "r1", "timeStamp": str(AT)}
    text = json.dumps({"a": first, "b": {"type": 2, "targets": " r2 ,"}, "c": 7})
    receipts = xiaomi.read_receipts(urlencode({"data": text}).encode(), {})
    found = [(r.token, r.request_id, r.status, r.at_ms, r.tag) for r in receipts]
    assert found == [("r1", "a", "delivered", AT, ""), ("r2", "b", "clicked", 0, "")]


def test_oppo_receipts_of_one_url_come_merged():
    elements = [
        {"registrationIds": "a,b"},
        5,
        {"registrationIds": {"c": 1}},
        {"registrationIds": "d", "eventTime": "x"},
        {"registrationIds": "e", "eventTime": -1},
    ]
    body = json.dumps(elements).encode()
    found = [(r.token, r.request_id, r.at_ms) for r in oppo.read_receipts(body, {})]
    assert found == [("a", None, 0), ("b", None, 0), ("d", None, 0), ("e", None, 0)]
