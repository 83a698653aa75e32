"""NetEase NIM: each row of im-dialects §4 and of im-callbacks §3, its canonical place and value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.intake.dialects.bodies import (
    ABSENT,
    ENTRY_MS,
    at,
    data_of,
    nim,
    nim_team,
    push_of,
    run,
)
from workers.intake.dialects import DialectError, tenant_named
from workers.intake.dialects.nim import allowed


def option(**block: Any) -> dict[str, Any]:
    return {"option": block}


def v2(**block: Any) -> dict[str, Any]:
    return {"push_config": block}


def client(**block: Any) -> dict[str, Any]:
    return {"pushConfig": block}


def web(**block: Any) -> dict[str, Any]:
    return {"pushInfo": block}


def payload(**block: Any) -> dict[str, Any]:
    return {"payload": json.dumps(block)}


ALL = {"on": True, "all": True}

#: What the body of a team message holds -> path in push, value there.
FIELDS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "no block": ({}, "gate.enabled", True),
    "no block, text": ({}, "display.body", "发来了一条消息"),
    "no block, nick": ({}, "display.nick_prefix", "on"),
    "option.push": (option(push=False), "gate.enabled", False),
    "option as text": ({"option": '{"push":false}'}, "gate.enabled", False),
    "option.badge": (option(badge=False), "badge", {"counts_unread": False, "mode": "keep"}),
    "option.badge true": (option(badge=True), "badge", {"counts_unread": True}),
    "option.needPushNick": (option(needPushNick=False), "display.nick_prefix", "off"),
    "option.persistent": (option(persistent=False), "gate.store_offline", False),
    "option.roam and its like": (
        option(roam=True, history=True, sendersync=True, route=True, sessionUpdate=True),
        "gate.enabled",
        True,
    ),
    "pushcontent": ({"pushcontent": "P"}, "display.body", "P"),
    "pushcontent of 501 characters": ({"pushcontent": "字" * 501}, "display.body", "字" * 500),
    "pushcontent empty": ({"pushcontent": ""}, "display.body", "发来了一条消息"),
    "ext": ({"ext": "{}"}, "data", ABSENT),
    "forcepushlist": (
        {"forcepushlist": '["bob"]'},
        "force",
        {"on": True, "all": False, "ids": ["bob"]},
    ),
    "forcepushlist as array": ({"forcepushlist": ["bob"]}, "force.ids", ["bob"]),
    "forcepushlist empty": ({"forcepushlist": "[]"}, "force", ABSENT),
    "forcepushall": ({"forcepushall": "true"}, "force", ALL),
    "forcepushall false": ({"forcepushall": "false"}, "force", ABSENT),
    "forcepushcontent": ({"forcepushall": True, "forcepushcontent": "F"}, "force.body", "F"),
    "forcepushcontent for nobody": ({"forcepushcontent": "F"}, "force", ABSENT),
    "isForcePush": (
        {"isForcePush": True, "forcePushAll": True, "forcePushContent": "F"},
        "force",
        {**ALL, "body": "F"},
    ),
    "isForcePush false": ({"isForcePush": False, "forcePushAll": True}, "force", ABSENT),
    "forcePushList": ({"isForcePush": True, "forcePushList": '["bob"]'}, "force.ids", ["bob"]),
    "bid": ({"bid": "x"}, "gate.enabled", True),
    "checkFriend": ({"checkFriend": "true"}, "gate.require_friend", True),
    "msgReceiverNoSense": (
        {"msgReceiverNoSense": 1, "option": {"push": True}},
        "gate.enabled",
        False,
    ),
    "msgSenderNoSense": ({"msgSenderNoSense": 1}, "gate.enabled", True),
    "env": ({"env": "x"}, "gate.enabled", True),
    "sound": ({"sound": "ring.caf"}, "sound.ios", "ring.caf"),
    "save 1": ({"save": 1}, "gate.online_only", True),
    "save 2": ({"save": "2"}, "gate.online_only", ABSENT),
    "push_enabled": (v2(push_enabled=False), "gate.enabled", False),
    "push_nick_enabled": (v2(push_nick_enabled=False), "display.nick_prefix", "off"),
    "push_content": (v2(push_content="P"), "display.body", "P"),
    "push_payload": (v2(push_payload='{"k":1}'), "data.payload", {"k": 1}),
    "push_badge_enabled": (v2(push_badge_enabled=False), "badge.mode", "keep"),
    "push_forcepush_enable": (
        v2(push_forcepush_enable=True, push_forcepush_all=True),
        "force",
        ALL,
    ),
    "push_forcepush_enable false": (
        v2(push_forcepush_enable=False, push_forcepush_all=True),
        "force",
        ABSENT,
    ),
    "push_forcepush_ids": (
        v2(push_forcepush_enable=True, push_forcepush_ids=["bob"]),
        "force",
        {"on": True, "all": False, "ids": ["bob"]},
    ),
    "push_forcepush_content": (
        v2(push_forcepush_enable=True, push_forcepush_all=True, push_forcepush_content="F"),
        "force.body",
        "F",
    ),
    "message_config.unread_enabled": (
        {"message_config": {"unread_enabled": False}},
        "badge.counts_unread",
        False,
    ),
    "message_config.offline_enabled": (
        {"message_config": {"offline_enabled": False}},
        "gate.store_offline",
        False,
    ),
    "p2p_option.check_friend": (
        {"p2p_option": {"check_friend": True}},
        "gate.require_friend",
        True,
    ),
    "receiver_no_sense": ({"receiver_no_sense": True}, "gate.enabled", False),
    "pushEnabled": (client(pushEnabled=False), "gate.enabled", False),
    "pushNickEnabled": (client(pushNickEnabled=False), "display.nick_prefix", "off"),
    "pushContent": (client(pushContent="P"), "display.body", "P"),
    "pushPayload": (client(pushPayload={"pushTitle": "T"}), "display.title", "T"),
    "forcePush, no list": (client(forcePush=True), "force", ALL),
    "forcePush, empty list": (
        client(forcePush=True, forcePushAccountIds=[]),
        "force",
        {"on": True, "all": False, "ids": []},
    ),
    "forcePushAccountIds": (
        client(forcePush=True, forcePushAccountIds=["bob"]),
        "force.ids",
        ["bob"],
    ),
    "forcePushContent": (client(forcePush=True, forcePushContent="F"), "force.body", "F"),
    "no forcePush": (client(forcePushAccountIds=["bob"]), "force", ABSENT),
    "needPush": (web(needPush=False), "gate.enabled", False),
    "needPush absent": (web(pushContent="P"), "gate.enabled", True),
    "needPushBadge": (web(needPushBadge=False), "badge.mode", "keep"),
    "needPushNick": (web(needPushNick=False), "display.nick_prefix", "off"),
    "needForcePush, no list": (web(needForcePush=True), "force", ALL),
    "needForcePush, everybody": (
        web(needForcePush=True, forcePushIDsList="#%@all@%#"),
        "force",
        ALL,
    ),
    "forcePushIDsList": (web(needForcePush=True, forcePushIDsList='["bob"]'), "force.ids", ["bob"]),
    "forcePushContent of 151 characters": (
        web(needForcePush=True, forcePushContent="x" * 151),
        "force.body",
        "x" * 150,
    ),
    "v1 goes before v2": ({"pushcontent": "A", **v2(push_content="B")}, "display.body", "A"),
    "pushTitle": (payload(pushTitle="T"), "display.title", "T"),
    "apsField": (payload(apsField={"sound": "s"}), "vendor_raw.apns", {"aps": {"sound": "s"}}),
    "hwField": (
        payload(hwField={"category": "IM"}),
        "vendor_raw.huawei",
        {"notification": {"category": "IM"}},
    ),
    "hwPassThroughField": (
        payload(hwPassThroughField={"data": "d"}),
        "vendor_raw.huawei",
        {"message": {"data": "d"}},
    ),
    "honorField": (
        payload(honorField={"ttl": "60s"}),
        "vendor_raw.honor",
        {"android": {"ttl": "60s"}},
    ),
    "honorPassThroughField": (
        payload(honorPassThroughField={"data": "d"}),
        "vendor_raw.honor",
        {"message": {"data": "d"}},
    ),
    "vivoField": (
        payload(vivoField={"classification": 1}),
        "vendor_raw.vivo",
        {"classification": 1},
    ),
    "oppoField": (payload(oppoField={"channel_id": "im"}), "vendor_raw.oppo", {"channel_id": "im"}),
    "fcmField": (payload(fcmField={"tag": "t"}), "vendor_raw.fcm", {"notification": {"tag": "t"}}),
    "fcmFieldV1": (payload(fcmFieldV1={"image": "i"}), "vendor_raw.fcm_v1", {"image": "i"}),
    "harmonyField": (
        payload(harmonyField={"category": "IM"}),
        "vendor_raw.harmony",
        {"category": "IM"},
    ),
    "channel_id and its like": (
        payload(channel_id="1", channel_name="n", notify_foreground=0),
        "vendor_raw.xiaomi.extra",
        {"channel_id": "1", "channel_name": "n", "notify_foreground": "0"},
    ),
    "Meizu's parameters": (
        payload(clickTypeInfo={"parameters": {"k": "v"}}),
        "vendor_raw.meizu",
        {"parameters": {"k": "v"}},
    ),
    "any other root key": (
        payload(sessionId="s", deep={"a": [1]}),
        "data.payload",
        {"sessionId": "s", "deep": {"a": [1]}},
    ),
    "payload as an object": ({"payload": {"k": 1}}, "data.payload", {"k": 1}),
}


@pytest.mark.parametrize(("extra", "path", "value"), FIELDS.values(), ids=FIELDS)
def test_each_push_field_has_its_canonical_place(extra, path, value):
    assert at(push_of("nim", nim_team(**extra)), path) == value
    assert run("nim", nim_team(**extra)).unknown_fields == 0


COUNTED = {
    "a payload that is no JSON": {"payload": "{"},
    "a payload that is a list": {"payload": "[1]"},
    "a payload of 2049 characters": {"payload": json.dumps({"k": "x" * 2040})},
    "a payload too deep": {"payload": '{"k":' + "[" * 40 + "]" * 40 + "}"},
    "a payload with a number beyond 64 bits": {"payload": '{"k":1' + "0" * 30 + "}"},
    "a vendor field that is text": payload(hwField="x"),
    "Meizu's click without parameters": payload(clickTypeInfo={"clickType": 2}),
    "an option that is no JSON": {"option": "push"},
    "a forced list that is no JSON": {"forcepushlist": "bob"},
    "more forced ids than 100": v2(push_forcepush_ids=[str(n) for n in range(101)]),
    "a sound of 31 characters": {"sound": "x" * 31},
    "the oldest SDK's memberPushOption": {"memberPushOption": {"forcePush": True}},
    "a field of tomorrow": {"glow": 1},
}


@pytest.mark.parametrize("extra", COUNTED.values(), ids=COUNTED)
def test_what_can_not_be_used_is_counted_and_the_push_is_kept(extra):
    found = run("nim", nim_team(**extra))
    assert found.unknown_fields == 1
    assert found.events[0]["data"]["push"] == {
        "gate": {"enabled": True},
        "display": {"body": "发来了一条消息", "nick_prefix": "on"},
    }


def test_the_first_hundred_forced_ids_are_kept():
    push = push_of(
        "nim",
        nim_team(**v2(push_forcepush_enable=True, push_forcepush_ids=[str(n) for n in range(150)])),
    )
    assert push["force"]["ids"] == [str(n) for n in range(100)]


def test_nobody_is_forced_in_a_chat_of_two():
    assert "force" not in push_of("nim", nim(forcepushall="true"))
    assert "force" not in push_of("nim", nim(**client(forcePush=True)))


FORBIDDEN = [
    "token",
    "to",
    "topic",
    "regId",
    "registration_id",
    "target",
    "target_value",
    "app_secret",
    "auth_token",
    "taskId",
    "requestId",
]
FORBIDDEN += [
    "pushMode",
    "callback",
    "callback.param",
    "call_back_url",
    "validate_only",
    "validateOnly",
    "testMessage",
    "restricted_package_name",
]


@pytest.mark.parametrize("key", FORBIDDEN)
def test_a_sender_can_not_set_target_credential_or_callback(key):
    assert allowed({key: "x", "title": "t"}) == {"title": "t"}
    assert allowed({"android": {key: "x", "title": "t"}}) == {"android": {"title": "t"}}
    raw = push_of("nim", nim(**payload(vivoField={key: "x", "category": "IM"})))["vendor_raw"]
    assert raw == {"vivo": {"category": "IM"}}


def test_the_apps_own_data_may_use_any_name():
    own = {"clientCustomMap": {"token": "mine", "callback": "mine"}}
    assert allowed(own) == own


# ---------------------------------------------------------------- messages

TYPES = {
    "TEXT": ("hi", {"type": "text", "text": "hi"}, "发来了一条消息"),
    "PICTURE": ("", {"type": "image"}, "发来了一张图片"),
    "AUDIO": ("发来了一段语音", {"type": "sound"}, "发来了一段语音"),
    "VIDEO": ("", {"type": "video"}, "发来了一段视频"),
    "LOCATION": ("", {"type": "location"}, "分享了一个地理位置"),
    "FILE": ("report.pdf", {"type": "file"}, "report.pdf"),
    "CUSTOM": ("", {"type": "custom"}, "发来了一条消息"),
    "text": ("hi", {"type": "text", "text": "hi"}, "发来了一条消息"),
    "ROBOT": ("", {"type": "custom"}, "发来了一条消息"),
}


@pytest.mark.parametrize(("msg_type", "expected"), TYPES.items(), ids=TYPES)
def test_each_type_has_its_element_and_its_built_in_text(msg_type, expected):
    words, element, built_in = expected
    data = data_of("nim", nim(msgType=msg_type, body=words))
    assert data["elements"] == [element]
    assert data["push"]["display"] == {"body": built_in, "nick_prefix": "on"}


SYSTEM = ["NOTIFICATION", "TIPS", "NRTC_NETCALL", "FRIEND_ADD", "TEAM_APPLY", "SUPERTEAM_INVITE"]


@pytest.mark.parametrize("msg_type", SYSTEM)
def test_a_system_message_is_pushed_only_with_words_of_its_own(msg_type):
    assert run("nim", nim_team(msgType=msg_type)).ignored == "system_notification"
    data = data_of("nim", nim_team(msgType=msg_type, pushcontent="P"))
    assert (data["elements"], data["push"]["display"]["body"]) == ([{"type": "custom"}], "P")
    assert (
        data_of("nim", notification(msgType=msg_type, customApnsText="A"))["push"]["display"][
            "body"
        ]
        == "A"
    )


def notification(**extra: Any) -> dict[str, Any]:
    return nim(convType="CUSTOM_PERSON", msgType="CUSTOM_P2P_MSG", body="") | extra


NOTIFICATIONS = {
    "text": ({"customApnsText": "A"}, "display", {"body": "A", "nick_prefix": "off"}),
    "no text": ({}, "display", {"nick_prefix": "off"}),
    "not stored": ({"customSafeFlag": "0"}, "gate", {"online_only": True, "enabled": True}),
    "stored": ({"customSafeFlag": "1"}, "gate", {"store_offline": True, "enabled": True}),
    "v1 wants the nick": ({"option": {"needPushNick": True}}, "display.nick_prefix", "on"),
    "v1 says nothing of it": ({"option": {"push": True}}, "display.nick_prefix", "off"),
    "v2 says nothing of it": (v2(push_content="P"), "display.nick_prefix", "on"),
    "pushcontent before customApnsText": (
        {"pushcontent": "P", "customApnsText": "A"},
        "display.body",
        "P",
    ),
}


@pytest.mark.parametrize(("extra", "path", "value"), NOTIFICATIONS.values(), ids=NOTIFICATIONS)
def test_a_custom_notification_has_no_built_in_text_and_v1s_defaults(extra, path, value):
    assert at(push_of("nim", notification(**extra)), path) == value


MEMBERS = {
    "without quotes": ("[ann, bob, cid]", ["bob", "cid"]),
    "with quotes": ('["ann","bob"]', ["bob"]),
    "an array": (["ann", "bob", "bob"], ["bob"]),
    "numbers stay as they are written": ("[007, 1e3]", ["007", "1e3"]),
    "the sender alone": ("[ann]", []),
    "nobody": ("[]", ABSENT),
    "empty": ("", ABSENT),
    "absent": (None, ABSENT),
}


@pytest.mark.parametrize(("members", "recipients"), MEMBERS.values(), ids=MEMBERS)
def test_the_members_of_a_small_team(members, recipients):
    assert at(data_of("nim", nim_team(tMembers=members)), "recipients") == recipients


def test_a_message_for_some_of_a_team():
    some = data_of(
        "nim",
        nim_team(
            tMembers="[ann, bob, cid]",
            target_option={"receiver_account_ids": ["cid"], "inclusive": True},
        ),
    )
    assert some["recipients"] == ["cid"]
    others = data_of(
        "nim", nim_team(target_option={"receiver_account_ids": ["cid"], "inclusive": False})
    )
    assert (others["exclude"], "recipients" in others) == (["cid"], False)


@pytest.mark.parametrize("conv_type", ["TEAM", "SUPER_TEAM", "CUSTOM_TEAM", "team"])
def test_teams_are_groups(conv_type):
    found = data_of("nim", nim(convType=conv_type, to="t1"))["conversation"]
    assert found == {"type": "group", "id": "t1"}


NO_EVENT = {
    "caught by the audit": (nim(antispam="true"), "blocked_by_cloud"),
    "of a blocked sender": (nim(blacklist=True), "blocked_by_cloud"),
    "a conversation of tomorrow": (nim(convType="SPHERE"), "unknown_conversation"),
    "a login": ({"eventType": "2", "accid": "bob"}, "login"),
    "a disconnect": (
        {"eventType": "3", "accid": "bob", "clientType": "AOS", "logOutReason": 2},
        "not_a_logout",
    ),
    "a logout without a reason": (
        {"eventType": 3, "accid": "bob", "clientType": "AOS"},
        "not_a_logout",
    ),
    "a logout of a REST client": (
        {"eventType": 3, "accid": "bob", "clientType": "REST", "logOutReason": 1},
        "no_platform",
    ),
    "a chat room": ({"eventType": "4"}, "no_event"),
    "the end of a call": ({"eventType": "5", "channelId": "1", "status": "SUCCESS"}, "no_event"),
    "a number of tomorrow": ({"eventType": "99"}, "unknown_command"),
}


@pytest.mark.parametrize(("body", "reason"), NO_EVENT.values(), ids=NO_EVENT)
def test_what_gives_no_event_says_why(body, reason):
    found = run("nim", body)
    assert (found.events, found.ignored) == ((), reason)


LEFT = {
    1: ("session.logout", "logout"),
    3: ("session.kicked", "kicked"),
    "4": ("session.kicked", "kicked"),
}


@pytest.mark.parametrize(("reason", "expected"), LEFT.items(), ids=str)
@pytest.mark.parametrize(
    ("name", "platform"),
    [("AOS", "android"), ("iOS", "ios"), ("PC", "windows"), ("HARMONY", "harmony")],
)
def test_a_logout_unbinds_its_platform(reason, expected, name, platform):
    body = {
        "eventType": "3",
        "accid": "bob",
        "clientType": name,
        "logOutReason": reason,
        "timestamp": "1763787668452",
        "sdkVersion": "155",
    }
    (event,) = run("nim", body).events
    assert (event["type"], event["data"]) == (expected[0], {"user": "bob", "platform": platform})
    assert event["id"] == f"state:bob:1763787668452:{expected[1]}:{platform}"


@pytest.mark.parametrize(
    ("number", "kind", "peer"), [("7", "c2c", "ann"), (8, "group", "t1"), ("25", "group", "t1")]
)
def test_recalls(number, kind, peer):
    (event,) = run("nim", {"eventType": number, "msgId": 500, "from": "ann", "to": "t1"}).events
    assert event["data"] == {"message_id": "500", "conversation": {"type": kind, "id": peer}}
    assert (event["id"], event["ts"]) == ("recalled:500", ENTRY_MS)


REFUSED = {
    "no event type": ({}, "no_command"),
    "an event type that is words": ({"eventType": "one"}, "wrong_type"),
    "no receiver": (nim(to=None), "missing_field"),
    "no message id": (nim(msgidServer=""), "missing_field"),
    "a nick that is a number": (nim(fromNick=5), "wrong_type"),
    "a time that is words": (nim(msgTimestamp="noon"), "wrong_type"),
    "a block that is text": (nim(push_config="{}"), "wrong_type"),
    "a switch that is words": (nim(option={"push": "maybe"}), "wrong_type"),
    "a list of numbers": (nim_team(forcepushlist="[1]"), "wrong_type"),
    "a recall of nothing": ({"eventType": "7", "from": "ann", "to": "bob"}, "missing_field"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_wrong_types_in_a_known_event_are_refused_without_showing_the_body(body, reason):
    with pytest.raises(DialectError) as caught:
        run("nim", body)
    assert caught.value.reason == reason
    assert not any(value in str(caught.value) for value in ("ann", "bob", "noon", "maybe"))


def test_a_copy_names_no_tenant():
    assert tenant_named("nim", nim(), "SdkAppid=5") == []
