"""NetEase NIM: each row of im-dialects §4 and of im-callbacks §3, its canonical place and value."""

import json
from typing import Any

import pytest

from tests.tables import spaced
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
from workers.intake.dialects import tenant_named
from workers.intake.dialects.nim import allowed


def option(**block: Any) -> dict[str, Any]:
    return {"option": block}


def v2(**block: Any) -> dict[str, Any]:
    return {"push_config": block}


def client(**block: Any) -> dict[str, Any]:
    return {"pushConfig": block}


def payload(**block: Any) -> dict[str, Any]:
    return {"payload": json.dumps(block)}


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
    display = {"body": "发来了一条消息", "nick_prefix": "on"}
    assert found.events[0]["data"]["push"] == {"gate": {"enabled": True}, "display": display}


def test_the_first_hundred_forced_ids_are_kept():
    forced = v2(push_forcepush_enable=True, push_forcepush_ids=[str(n) for n in range(150)])
    push = push_of("nim", nim_team(**forced))
    assert push["force"]["ids"] == [str(n) for n in range(100)]


def test_nobody_is_forced_in_a_chat_of_two():
    assert "force" not in push_of("nim", nim(forcepushall="true"))
    assert "force" not in push_of("nim", nim(**client(forcePush=True)))


FORBIDDEN = spaced("""
    token to topic regId registration_id target target_value app_secret auth_token taskId requestId
""")
FORBIDDEN += spaced("""
    pushMode callback callback.param call_back_url validate_only validateOnly testMessage
    restricted_package_name
""")


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
    display = data_of("nim", notification(msgType=msg_type, customApnsText="A"))["push"]["display"]
    assert display["body"] == "A"


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
    "an array of numbers": ([7, "bob"], ["7", "bob"]),
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
    target_option = {"receiver_account_ids": ["cid"], "inclusive": True}
    some = data_of("nim", nim_team(tMembers="[ann, bob, cid]", target_option=target_option))
    assert some["recipients"] == ["cid"]
    others = data_of(
        "nim", nim_team(target_option={"receiver_account_ids": ["cid"], "inclusive": False})
    )
    assert (others["exclude"], "recipients" in others) == (["cid"], False)


@pytest.mark.parametrize("conv_type", ["TEAM", "SUPER_TEAM", "CUSTOM_TEAM", "team"])
def test_teams_are_groups(conv_type):
    found = data_of("nim", nim(convType=conv_type, to="t1"))["conversation"]
    assert found == {"type": "group", "id": "t1"}


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


def test_a_copy_names_no_tenant():
    assert tenant_named("nim", nim(), "SdkAppid=5") == []
