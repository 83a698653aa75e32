"""ZEGO ZIM: each row of im-dialects §3 and of im-callbacks §2, its canonical place and value."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.unit.intake.dialects.bodies import at, data_of, push_of, run, zego, zego_call
from workers.intake.dialects import DialectError, tenant_named


def client(**block: Any) -> dict[str, Any]:
    return {"pushConfig": block}


def server(**block: Any) -> dict[str, Any]:
    return {"OfflinePush": {"Enable": 1} | block}


def test_the_clients_block_goes_before_the_servers():
    push = push_of("zego", zego(**client(title="A"), **server(Title="B")))
    assert at(push, "display.title") == "A"


COUNTED = {
    "a strategy id of 33 characters": client(resourcesID="r" * 33),
    "a picture that is not https": server(PushImageInfo={"Apns": {"Image": "http://x/y"}}),
    "a handle type that is none": client(voIPConfig={"iOSVoIPHandleType": 9}),
    "an audience of tomorrow": {"PushType": 9},
    "a field of tomorrow": {"new_field": 1},
    "a push field of tomorrow": client(glow=True),
    "a multiple message that can't be read": {"msg_type": 10, "msg_body": "%7Bbroken"},
}


@pytest.mark.parametrize("extra", COUNTED.values(), ids=COUNTED)
def test_what_is_not_documented_is_counted_and_left_out(extra):
    assert run("zego", zego(**extra)).unknown_fields == 1


# ---------------------------------------------------------------- messages

MEDIA = json.dumps(
    {
        "md5": "0c4b",
        "file_name": "a+b 🐱.png",
        "download_url": "https://cdn.example.com/c.png?x=1&y=2",
    },
    ensure_ascii=False,
)
MULTI = {
    "multi_msg": [
        {"msg_type": 1, "callback_content": "a+b"},
        {"msg_type": 11, "callback_content": {"md5": "x"}},
        {"msg_type": 200, "sub_msg_type": 7, "callback_content": "{}"},
        {"msg_type": 100, "callback_content": {"Title": "chat"}},
    ]
}
MULTI_ELEMENTS = [
    {"type": "text", "text": "a+b"},
    {"type": "image"},
    {"type": "custom"},
    {"type": "merger", "text": "chat"},
]
ELEMENTS = {
    "text": (1, "hi 🍜", [{"type": "text", "text": "hi 🍜"}]),
    "text that looks encoded": (1, "100%25", [{"type": "text", "text": "100%25"}]),
    "empty text": (1, "", [{"type": "text"}]),
    "image, encoded": (11, quote(MEDIA), [{"type": "image"}]),
    "file, plain JSON": (12, MEDIA, [{"type": "file"}]),
    "audio": (13, quote(MEDIA), [{"type": "sound"}]),
    "video, unreadable": (14, "%%%", [{"type": "video"}]),
    "combined, encoded": (
        100,
        quote('{"Title":"a+b","Summary":"s"}'),
        [{"type": "merger", "text": "a+b"}],
    ),
    "combined, plain": (100, '{"Title":"t"}', [{"type": "merger", "text": "t"}]),
    "combined, unreadable": (100, "{", [{"type": "merger"}]),
    "custom": (200, '{"vote":1}', [{"type": "custom"}]),
    "a type of tomorrow": (77, "x", [{"type": "custom"}]),
    "multiple, plain": (10, json.dumps(MULTI), MULTI_ELEMENTS),
    "multiple, encoded": (10, quote(json.dumps(MULTI)), MULTI_ELEMENTS),
    "multiple, unreadable": (10, "nothing", [{"type": "custom"}]),
}


@pytest.mark.parametrize(("msg_type", "msg_body", "elements"), ELEMENTS.values(), ids=ELEMENTS)
def test_each_message_type_becomes_our_elements(msg_type, msg_body, elements):
    assert data_of("zego", zego(msg_type=msg_type, msg_body=msg_body))["elements"] == elements


TITLE_ONLY = {
    "a custom message": ({"msg_type": 200}, {"body": "T"}),
    "a text of nothing": ({"msg_body": ""}, {"body": "T"}),
    "a text": ({"msg_body": "hi"}, {"title": "T"}),
    "a picture": ({"msg_type": 11}, {"title": "T"}),
}


@pytest.mark.parametrize(("extra", "shown"), TITLE_ONLY.values(), ids=TITLE_ONLY)
def test_a_title_is_shown_alone_where_the_message_has_no_words(extra, shown):
    display = push_of("zego", zego(**client(title="T"), **extra))["display"]
    assert display == {**shown, "nick_prefix": "off"}


def test_a_group_message_for_some_reaches_only_them():
    group = {"conv_type": 2, "conv_id": "g"}
    some = data_of(
        "zego", zego(**group, TargetOption={"Inclusive": True, "ReceiverUserIds": ["bob"]})
    )
    assert some["recipients"] == ["bob"]
    assert some["push"]["badge"] == {"counts_unread": False}
    others = data_of(
        "zego", zego(**group, TargetOption={"Inclusive": False, "ReceiverUserIds": ["bob"]})
    )
    assert (others["exclude"], "recipients" in others) == (["bob"], False)
    assert data_of("zego", zego(**group, recipients=["cid"]))["recipients"] == ["cid"]
    assert "recipients" not in data_of("zego", zego(**group))


# ---------------------------------------------------------------- calls and sessions


def test_an_invitation_into_a_running_call_has_the_clouds_own_timeout():
    body = zego_call(
        "call_invite",
        inviter="ann",
        user_ids=["bob", "bob"],
        invite_time=1763787690123,
        pushConfig={"content": "call"},
    )
    (event,) = run("zego", body).events
    assert (event["id"], event["ts"]) == ("call:77:invite:1763787690123", 1763787690123)
    found = (event["data"]["invitees"], event["data"]["timeout_s"], event["data"]["push"]["ttl_s"])
    assert found == (["bob"], 90, 90)


@pytest.mark.parametrize(
    ("asked", "timeout_s"), [(60, 60), (0, 1), (-5, 1), (601, 600), (None, 90), ("30", 30)]
)
def test_a_calls_timeout_is_bounded(asked, timeout_s):
    body = zego_call(
        "call_create", caller="ann", user_ids=["bob"], create_time=1763787690, timeout=asked
    )
    data = data_of("zego", body)
    found = (data["timeout_s"], data["push"]["ttl_s"], data["push"]["class"])
    assert found == (timeout_s, timeout_s, "call")
    assert data["push"]["gate"] == {"enabled": False}


ENDED = {
    "call_cancel by the caller": (
        zego_call("call_cancel", user_ids=["bob"], reason="caller_cancel"),
        "cancelled",
        None,
    ),
    "call_cancel by time": (
        zego_call("call_cancel", user_ids=["bob"], reason="timeout_cancel"),
        "timeout",
        None,
    ),
    "call_timeout": (zego_call("call_timeout", user_ids=["bob"]), "timeout", ["bob"]),
    "call_accept": (zego_call("call_accept", user_id="bob", extend_data=""), "accepted", ["bob"]),
    "call_reject": (zego_call("call_reject", user_id="bob", extend_data=""), "rejected", ["bob"]),
}


@pytest.mark.parametrize(("body", "reason", "users"), ENDED.values(), ids=ENDED)
def test_what_ends_an_invitation_says_for_whom(body, reason, users):
    found = run("zego", body)
    (event,) = found.events
    assert event["type"] == "call.ended"
    seen = event["data"]
    assert seen == {"call_id": "77", "reason": reason} | ({} if users is None else {"users": users})
    assert found.unknown_fields == 0


def test_answers_of_two_people_in_one_second_are_two_events():
    pair = ("bob", "cid")
    ids = {run("zego", zego_call("call_reject", user_id=user)).events[0]["id"] for user in pair}
    ids |= {
        run("zego", zego_call("call_timeout", user_ids=users)).events[0]["id"]
        for users in (["bob"], ["cid", "dan"], ["dan", "cid"])
    }
    assert len(ids) == 4


PLATFORMS = {
    "PC ": "windows",
    "IOS_PHONE": "ios",
    "ANDROID": "android",
    "MAC": "mac",
    "LINUX": "linux",
    "WEB": "web",
    "MINIPROGRAM": "web",
    "ANDROID_TV": "android",
}


@pytest.mark.parametrize(("name", "platform"), PLATFORMS.items(), ids=PLATFORMS)
def test_a_logout_unbinds_its_platform(name, platform):
    body = zego_call(
        "user_action", user_id="bob", action=1, os=name, session_id="s", logout_time=1763787760
    )
    (event,) = run("zego", body).events
    assert event["data"] == {"user": "bob", "platform": platform}
    assert (event["id"], event["ts"]) == ("state:s:logout", 1763787760000)


def test_retries_with_another_nonce_and_signature_have_the_same_id():
    bodies = [
        zego(nonce=nonce, signature=nonce * 2, timestamp=1763787600 + n)
        for n, nonce in enumerate("abc")
    ]
    assert len({run("zego", body).events[0]["id"] for body in bodies}) == 1


def test_the_tenant_is_found_in_the_body():
    assert tenant_named("zego", {"appid": "5"}, "SdkAppid=6") == ["5"]
    assert tenant_named("zego", {"appid": 5}, None) == ["5"]
    assert tenant_named("zego", {}, None) == []
    with pytest.raises(DialectError):
        tenant_named("zego", {"appid": ["5"]}, None)
