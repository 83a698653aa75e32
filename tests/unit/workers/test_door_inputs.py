"""What the doors make of odd but possible requests: an event that intake takes, whatever the fields
hold. Pure.
"""

from typing import Any

import pytest

from common.model import Vendor
from workers.gateway import gorush, matrix, mattermost
from workers.gateway.aliases import Alias, DoorAccount, Found, overlap
from workers.gateway.clouds import CloudCallback, genuine
from workers.gateway.events import encoded
from workers.intake.decoding import Passed, read_entry
from workers.intake.dialects.signatures import tencent_sign

NOW = 1_800_000_000_000
ACCOUNT = DoorAccount("A", Vendor.APNS, "b", (Alias("x"),))
FOUND = Found(ACCOUNT, voip=False)


def taken(event: Any) -> Any:
    """The event's data as intake has it."""
    found = read_entry("im:events", f"{NOW}-0", {b"e": encoded(event, "k")["e"]}, ["A"], NOW)
    assert isinstance(found, Passed), found.reason
    return found.events[0].data


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def notification(**named: Any) -> dict[str, Any]:
    return {
        "event_id": "$e",
        "room_id": "!r",
        "type": "m.room.message",
        "sender": "@a",
        "content": {"msgtype": "m.text", "body": "hi"},
        **named,
    }


@pytest.mark.parametrize(
    ("counts", "badge"),
    [
        ({}, 0),  # the Matrix specification: counts that are zero should be omitted
        ({"missed_calls": 2}, 2),
        ({"unread": 0, "missed_calls": 0}, 0),
        ({"unread": -3}, 0),
        ({"unread": 2**40}, 2**31 - 1),
        ({"other": 7}, 0),
        (None, None),  # Synapse under msc4076: the icon stays as it is
        ({"unread": "7"}, None),
        ({"unread": True}, None),
    ],
)
def test_counts_that_are_left_out_are_zero(counts: Any, badge: int | None) -> None:
    event = matrix.event_of(notification(counts=counts), {"pushkey": "ab" * 32}, FOUND, "en", NOW)
    assert taken(event).push.badge.value == badge


DEEP = nested(40)


@pytest.mark.parametrize(
    "data",
    [
        {"default_payload": {"deep": DEEP, "kept": nested(15)}},
        {"default_payload": {"aps": {"deep": DEEP}, "kept": 1}},
    ],
)
def test_what_an_app_nests_too_deep_costs_no_message(data: dict[str, Any]) -> None:
    event = matrix.event_of(notification(), {"pushkey": "ab" * 32, "data": data}, FOUND, "en", NOW)
    push = taken(event).push
    assert "kept" in push.data.payload
    assert push.display.body == "hi"


def test_other_doors_leave_out_what_is_too_deep() -> None:
    post = {"device_id": "t", "sub_type": DEEP, "message": "hi"}
    assert taken(mattermost.event_of(post, FOUND, NOW)).push.display.body == "hi"
    data = {"d": DEEP, "k": 1}
    items = [{"platform": 1, "tokens": ["t"], "message": "hi", "data": data, "alert": DEEP}]
    sent = gorush.read_request(items, [ACCOUNT], NOW)
    (push,) = sent.pushes
    assert taken(push.event).push.data.payload == {"k": 1}


@pytest.mark.parametrize(("prio", "told"), [("low", "normal"), ("high", "high"), (None, "high")])
def test_fcm_gets_the_keys_that_sygnal_gives_it_with_ids_alone_too(prio: Any, told: str) -> None:
    account = DoorAccount("A", Vendor.FCM, "b", (Alias("x"),))
    device = {"pushkey": "t", "data": {"format": "event_id_only"}}
    given = {"event_id": "$e", "room_id": "!r", "counts": {"unread": 3}, "prio": prio}
    event = matrix.event_of(given, device, Found(account, voip=False), "en", NOW)
    payload = taken(event).push.data.payload
    assert payload == {
        "room_id": "!r",
        "event_id": "$e",
        "unread_count": 3,
        "prio": told,
        "unread": 3,
    }


def test_each_door_asks_apple_to_wake_the_app_beside_the_alert() -> None:
    aps = {"default_payload": {"aps": {"content-available": 1}}}
    by_matrix = matrix.event_of(notification(), {"pushkey": "ab", "data": aps}, FOUND, "en", NOW)
    post = {"device_id": "ab", "type": "message", "message": "hi", "cont_ava": 1}
    by_mattermost = mattermost.event_of(post, FOUND, NOW)
    one = {"platform": 1, "tokens": ["ab"], "message": "hi", "content_available": True}
    by_gorush = gorush.read_request([one], [ACCOUNT], NOW).pushes[0].event
    for event in (by_matrix, by_mattermost, by_gorush):
        push = taken(event).push
        assert push.vendor["apns"]["content_available"] is True
        assert push.push_type == "alert"


@pytest.mark.parametrize(
    ("lifetime", "ttl_s"), [(float("inf"), 60), (float("nan"), 60), (1e300, 60), (30_500, 30)]
)
def test_a_call_rings_a_minute_at_most_whatever_its_lifetime(lifetime: float, ttl_s: int) -> None:
    call = notification(type="m.call.invite", content={"lifetime": lifetime})
    event = matrix.event_of(call, {"pushkey": "ab" * 32}, FOUND, "en", NOW)
    assert taken(event).push.ttl_s == ttl_s


@pytest.mark.parametrize(
    ("device_id", "token"), [("apple_rn:t", "t"), ("t:u", "t:u"), ("apple_rn:", ""), (7, "")]
)
def test_mattermosts_token_stands_behind_the_platform(device_id: Any, token: str) -> None:
    assert mattermost.token_of({"platform": "apple_rn", "device_id": device_id}) == token


@pytest.mark.parametrize(("told", "read"), [(True, True), (False, None), (None, None), ("x", None)])
def test_mattermosts_app_is_told_to_fetch_by_the_name_that_it_reads(told: Any, read: Any) -> None:
    given = {"device_id": "ab" * 32, "type": "message", "message": "hi", "is_id_loaded": told}
    payload = taken(mattermost.event_of(given, FOUND, NOW)).push.data.payload
    assert payload.get("id_loaded") is read


@pytest.mark.parametrize("token", ["", "a\0b", "\ud83d", "x" * 2_049, "\u6c49" * 683, 7, None])
def test_gorush_tells_of_each_token_that_is_none(token: Any) -> None:
    read = gorush.read_request(
        [{"platform": 1, "tokens": [token, "good"], "message": "hi"}], [ACCOUNT], NOW
    )
    assert [push.token for push in read.pushes] == ["good"]
    assert [line["error"] for line in read.failed] == ["the token is empty, too long or no text"]
    assert read.count == 2


def test_gorush_tells_of_tokens_that_are_too_many() -> None:
    read = gorush.read_request(
        [{"platform": 1, "tokens": [f"t{n}" for n in range(1_003)]}], [ACCOUNT], NOW
    )
    assert (len(read.pushes), len(read.failed), read.count) == (1_000, 3, 1_003)


def test_a_byte_order_mark_before_a_callback_is_none_of_it() -> None:
    now = 1_763_787_650
    query = f"SdkAppid=a&RequestTime={now}&Sign={tencent_sign('token', str(now))}"
    raw = b'\xef\xbb\xbf{"CallbackCommand":"Push.AllMemberPush","q":"a=b"}'
    found = genuine(CloudCallback("tencent", query, {}, raw), {"a": ["token"]}, now)
    assert (found.app, found.body) == ("a", raw[3:])


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("org.x.ios", "org.x.ios", True),
        ("org.x.*", "org.x.ios", True),
        ("org.x.*", "*.ios", True),
        ("*a*", "b*", True),
        ("a?c", "ab?", True),
        ("[ab]1", "[bc]?", True),
        ("*", "x", True),
        ("org.x.ios", "org.x.android", False),
        ("org.x.*", "*.org", True),
        ("a*b", "a*c", False),
        ("a?", "a", False),
        ("[ab]1", "[cd]?", False),
        ("[!a]", "a", False),
        ("x[", "x", False),
    ],
)
def test_two_aliases_overlap_where_some_name_is_both(one: str, other: str, both: bool) -> None:
    assert overlap(one, other) is both
    assert overlap(other, one) is both


def test_long_patterns_are_compared_at_once() -> None:
    assert not overlap("*a" * 64 + "b", "a*" * 64 + "c")


def account_of(vendor: Vendor) -> DoorAccount:
    return DoorAccount("A", vendor, "b", (Alias("x"),))


@pytest.mark.parametrize(
    ("named", "tokens"),
    [
        ({"to": "t"}, ["t"]),
        ({"to": "u", "tokens": ["t"]}, ["t", "u"]),
        ({"to": "t", "tokens": ["t"]}, ["t"]),
        ({"to": "/topics/news"}, []),
        ({"to": ""}, []),
        ({"to": 7}, []),
    ],
)
def test_gorush_takes_the_single_token_of_older_callers(named: Any, tokens: list[str]) -> None:
    one = {"platform": 2, "message": "hi", **named}
    read = gorush.read_request([one], [account_of(Vendor.FCM)], NOW)
    assert [push.token for push in read.pushes] == tokens
    assert read.count == len(tokens)


HUAWEI: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "an object": ({"huawei_data": '{"a":1}'}, {"a": 1}, None),
    "beside data": ({"huawei_data": '{"a":1}', "data": {"b": 2}}, {"a": 1, "b": 2}, None),
    "a text": ({"huawei_data": "abc"}, None, "abc"),
    "none": ({}, None, None),
}


@pytest.mark.parametrize(("given", "payload", "ext"), HUAWEI.values(), ids=HUAWEI)
def test_gorush_hands_huaweis_own_data_on(given: Any, payload: Any, ext: Any) -> None:
    one = {"platform": 3, "tokens": ["t"], "message": "hi", **given}
    (push,) = gorush.read_request([one], [account_of(Vendor.HUAWEI)], NOW).pushes
    data = taken(push.event).push.data
    assert (data.payload, data.ext) == (payload, ext)


@pytest.mark.parametrize(
    ("given", "ttl_s"),
    [
        ({"huawei_ttl": "60s"}, 60),
        ({"android": {"ttl": "3.5s"}}, 3),
        ({"android": {"ttl": "soon"}}, 86_400),
        ({"time_to_live": 9, "android": {"ttl": "60s"}}, 9),
    ],
)
def test_gorush_reads_the_lifetime_where_each_vendor_has_it(given: Any, ttl_s: int) -> None:
    one = {"platform": 2, "tokens": ["t"], "message": "hi", **given}
    (push,) = gorush.read_request([one], [account_of(Vendor.FCM)], NOW).pushes
    assert taken(push.event).push.ttl_s == ttl_s


def test_gorush_reads_googles_own_config() -> None:
    android = {"priority": "NORMAL", "collapse_key": "c"}
    one = {"platform": 2, "tokens": ["t"], "message": "hi", "android": android}
    (push,) = gorush.read_request([one], [account_of(Vendor.FCM)], NOW).pushes
    wished = taken(push.event).push
    assert (wished.vendor["fcm"]["priority"], wished.collapse_key) == ("normal", "c")
