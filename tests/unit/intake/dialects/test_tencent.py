"""Tencent Chat: each row of im-dialects §2 and of im-callbacks §1, its canonical
place and value.
"""

from typing import Any

import pytest

from tests.tables import table
from tests.unit.intake.dialects.bodies import (
    ABSENT,
    ENTRY_MS,
    at,
    c2c,
    data_of,
    group,
    push_of,
    run,
    state,
)
from workers.intake.dialects import DialectError, tenant_named, tencent


def info(**block: Any) -> dict[str, Any]:
    return {"OfflinePushInfo": block}


def android(**block: Any) -> dict[str, Any]:
    return info(AndroidInfo=block)


def apns(**block: Any) -> dict[str, Any]:
    return info(ApnsInfo=block)


#: What is left out and counted.
COUNTED = {
    "AndroidInfo.XiaoMiClassification (in no document)": android(XiaoMiClassification=1),
    "a Xiaomi template field (name unconfirmed)": android(XiaoMiTemplateId="t"),
    "an importance that is none": android(HuaWeiImportance="HIGH"),
    "a notify level that is none": android(OPPONotifyLevel=3),
    "an interruption level that is none": apns(InterruptionLevel="loud"),
    "a notification that is no JSON": {"V2TIMPushInfo": {"notification": "{"}},
    "a field of tomorrow": {"NewField": {"a": [1]}},
    "an element of tomorrow": {
        "MsgBody": [{"MsgType": "TIMHologramElem", "MsgContent": {"Text": "x"}}]
    },
}


@pytest.mark.parametrize("extra", COUNTED.values(), ids=COUNTED)
def test_what_is_not_documented_is_counted_and_left_out(extra):
    found = run("tencent", c2c(**extra))
    assert found.unknown_fields == 1
    push = found.events[0]["data"]["push"]
    assert {"gate", "display"} == set(push)


def test_a_picture_that_is_not_https_is_counted_and_left_to_intake_which_tells_of_it():
    found = run("tencent", c2c(**apns(Image="www.image.com")))
    assert found.unknown_fields == 1
    assert found.events[0]["data"]["push"]["image"] == {"ios": "www.image.com"}


#: MsgBody -> elements.
ELEMENTS = table("""
    text | {"MsgType": "TIMTextElem", "MsgContent": {"Text": "晚上见 🍜"}}
      | {"type": "text", "text": "晚上见 🍜"}
    face | {"MsgType": "TIMFaceElem", "MsgContent": {"Index": 6, "Data": "[x]"}} | {"type": "face"}
    location | {"MsgType": "TIMLocationElem", "MsgContent": {"Desc": "home", "Latitude": 1.5}}
      | {"type": "location"}
    sound | {"MsgType": "TIMSoundElem", "MsgContent": {"Second": 3}} | {"type": "sound"}
    image | {"MsgType": "TIMImageElem", "MsgContent": {"UUID": "u"}} | {"type": "image"}
    file | {"MsgType": "TIMFileElem", "MsgContent": {"FileName": "f"}} | {"type": "file"}
    video | {"MsgType": "TIMVideoFileElem", "MsgContent": {"VideoSecond": 3}} | {"type": "video"}
    relay | {"MsgType": "TIMRelayElem", "MsgContent": {"Title": "chat", "MsgNum": 2}}
      | {"type": "merger"}
    custom | {"MsgType": "TIMCustomElem", "MsgContent": {"Data": "secret", "Desc": "gift"}}
      | {"type": "custom", "text": "gift"}
    custom without Desc | {"MsgType": "TIMCustomElem", "MsgContent": {"Data": "secret"}}
      | {"type": "custom"}
""")


@pytest.mark.parametrize(("source", "element"), ELEMENTS.values(), ids=ELEMENTS)
def test_each_element_becomes_ours(source, element):
    data = data_of("tencent", c2c(MsgBody=[source]))
    assert data["elements"] == [element]
    assert "secret" not in repr(data)  # Data is never put in the push


def test_several_elements_keep_their_order():
    sources = [source for source, _ in ELEMENTS.values()]
    found = data_of("tencent", c2c(MsgBody=sources))["elements"]
    assert found == [element for _, element in ELEMENTS.values()]


CUSTOM = [
    {"MsgType": "TIMCustomElem", "MsgContent": {"Desc": "gift", "Ext": "X", "Sound": "coin.aiff"}}
]


def test_ext_and_sound_of_a_custom_element_count_only_without_a_push_block():
    assert at(push_of("tencent", c2c(MsgBody=CUSTOM)), "data.ext") == "X"
    assert at(push_of("tencent", c2c(MsgBody=CUSTOM)), "sound.ios") == "coin.aiff"
    with_block = push_of("tencent", c2c(MsgBody=CUSTOM, **info(Title="T")))
    assert "data" not in with_block
    assert "sound" not in with_block


def test_desc_of_the_push_block_wins_over_the_custom_element():
    assert at(push_of("tencent", c2c(MsgBody=CUSTOM, **info(Desc="D"))), "display.body") == "D"


PREFIXES = {
    "no block": ({}, "on"),
    "Title only": (info(Title="T"), "on"),
    "Desc": (info(Desc="D"), "off"),
    "empty Desc": (info(Desc=""), "on"),
}


@pytest.mark.parametrize(("extra", "prefix"), PREFIXES.values(), ids=PREFIXES)
def test_the_nick_goes_before_built_texts_only(extra, prefix):
    assert at(push_of("tencent", c2c(**extra)), "display.nick_prefix") == prefix


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("group_type", ["Public", "Work", "Community"])
def test_other_groups_do(group_type):
    assert len(run("tencent", group(Type=group_type)).events) == 1


def test_a_topic_of_a_community_is_its_own_conversation():
    (event,) = run("tencent", group(Type="Community", TopicId="@TGS#_1#@TOPIC#_9")).events
    assert event["data"]["conversation"] == {"type": "group", "id": "@TGS#_1#@TOPIC#_9"}
    assert event["id"] == "stored:@TGS#_1#@TOPIC#_9:7"


@pytest.mark.parametrize(
    ("extra", "sender"),
    [
        ({"NickName": "Jared"}, {"id": "alice", "nick": "Jared"}),
        ({"NickName": ""}, {"id": "alice"}),
        ({}, {"id": "alice"}),
    ],
)
def test_a_group_callback_may_carry_the_senders_nick(
    extra: dict[str, Any], sender: dict[str, str]
) -> None:
    """Not in the documented body; real ones have it (`NickName`)."""
    told = data_of("tencent", group(From_Account="alice", **extra))
    assert {name: value for name, value in told["sender"].items() if value} == sender


def test_a_directed_group_message_reaches_only_those_named():
    found = data_of("tencent", group(To_Account=["bob", "cid", "bob"]))["recipients"]
    assert found == ["bob", "cid"]
    assert data_of("tencent", group(To_Account="bob"))["recipients"] == ["bob"]
    assert "recipients" not in data_of("tencent", group())


def test_a_batch_gives_each_receiver_an_event_of_its_own():
    events = run("tencent", c2c(To_Account=["bob", "cid"])).events
    found = [(event["id"], event["data"]["recipients"]) for event in events]
    assert found == [("stored:ann:bob:1_2_3", ["bob"]), ("stored:ann:cid:1_2_3", ["cid"])]


MENTIONS = {
    **table("""
    two people | [{"GroupAtAllFlag": 0, "GroupAt_Account": "bob"}, {"GroupAtAllFlag": 0,
      "GroupAt_Account": "cid"}] | ["bob", "cid"]
    everybody and one | [{"GroupAtAllFlag": 0, "GroupAt_Account": "bob"}, {"GroupAtAllFlag": 1}]
      | ["@all"]
    """),
    "nobody": ([], ABSENT),
}


@pytest.mark.parametrize(("at_info", "mentions"), MENTIONS.values(), ids=MENTIONS)
def test_mentions(at_info, mentions):
    assert at(data_of("tencent", group(GroupAtInfo=at_info)), "mentions") == mentions


TIMES = {
    "EventTime": ({"EventTime": 1763787600412}, 1763787600412),
    "EventTime as text": ({"EventTime": "1763787600412"}, 1763787600412),
    "MsgTime in seconds": ({}, 1763787600000),
    "neither": ({"MsgTime": None}, ENTRY_MS),
}


@pytest.mark.parametrize(("extra", "ts"), TIMES.values(), ids=TIMES)
def test_the_time_of_a_message(extra, ts):
    assert run("tencent", c2c(**extra)).events[0]["ts"] == ts


def test_a_recall_of_an_older_app_has_the_entrys_time():
    body = {
        "CallbackCommand": "C2C.CallbackAfterMsgWithDraw",
        "From_Account": "ann",
        "To_Account": "bob",
        "MsgKey": "k",
        "UnreadMsgNum": 1,
    }
    (event,) = run("tencent", body).events
    assert (event["ts"], event["id"]) == (ENTRY_MS, "recalled:ann:bob:k")


def test_a_read_receipt_gives_one_event_for_each_message():
    items = [
        {"From_Account": "ann", "To_Account": "bob", "MsgKey": key, "MsgId": "m"}
        for key in ("k1", "k2", "k1")
    ]
    body = {
        "CallbackCommand": "C2C.CallbackAfterMsgReadReceipt",
        "Operator_Account": "bob",
        "Peer_Account": "ann",
        "C2CMsgInfo": items,
    }
    events = run("tencent", body | {"EventTime": 1763787600412}).events
    assert [event["id"] for event in events] == ["read:bob:ann:k1", "read:bob:ann:k2"]
    conversation = {"type": "c2c", "id": "ann"}
    assert events[0]["data"] == {"user": "bob", "conversation": conversation, "message_id": "k1"}


PLATFORMS = {
    "iOS": "ios",
    "iPad": "ipad",
    "Android": "android",
    "Windows": "windows",
    "Mac": "mac",
    "Web": "web",
    "Linux": "linux",
}


@pytest.mark.parametrize(("name", "platform"), PLATFORMS.items(), ids=PLATFORMS)
def test_a_logout_unbinds_the_platform_of_the_url(name, platform):
    (event,) = run("tencent", state("Logout"), f"SdkAppid=1&OptPlatform={name}").events
    found = (event["type"], event["data"])
    assert found == ("session.logout", {"user": "bob", "platform": platform})


@pytest.mark.parametrize(
    "query", [None, "", "OptPlatform=RESTAPI", "OptPlatform=Unknown", "OptPlatform=%ff", "&&&==%%%"]
)
def test_a_logout_without_a_platform_unbinds_nothing(query):
    assert run("tencent", state("Logout"), query).ignored == "no_platform"


def test_two_platforms_that_leave_in_one_millisecond_are_two_events():
    ids = {
        run("tencent", state("Logout"), f"OptPlatform={name}").events[0]["id"] for name in PLATFORMS
    }
    assert len(ids) == len(PLATFORMS)


def test_a_read_report_has_its_own_time_where_the_body_names_one():
    body = {
        "CallbackCommand": "C2C.CallbackAfterMsgReport",
        "Report_Account": "b",
        "Peer_Account": "a",
        "LastReadTime": 1763787641,
    }
    for more, ts in (({}, 1763787641000), ({"EventTime": "1763787700123"}, 1763787700123)):
        (event,) = run("tencent", body | more).events
        assert (event["ts"], event["data"]["up_to_ms"]) == (ts, 1763787641999)


def test_two_logouts_without_a_time_are_no_repeat_of_each_other():
    from workers.intake.dialects import DIALECTS

    body = state("Logout", EventTime=None)
    ids = {
        DIALECTS["tencent"](body, app="1", query="OptPlatform=iOS", entry_ms=ms).events[0]["id"]
        for ms in (1, 2)
    }
    assert len(ids) == 2


def test_a_body_of_nobody_is_refused():
    from workers.intake.dialects import DIALECTS

    with pytest.raises(DialectError, match="no_app"):
        DIALECTS["tencent"](c2c(), app=None, query=None, entry_ms=1)


def test_the_command_may_stand_in_the_url_only():
    found = run(
        "tencent", c2c(CallbackCommand=None), "SdkAppid=1&CallbackCommand=C2C.CallbackAfterSendMsg"
    )
    assert len(found.events) == 1


TENANTS = {
    "URL": ({}, "SdkAppid=1400000001&contenttype=json", ["1400000001"]),
    "URL with its question mark": ({}, "?SdkAppid=5", ["5"]),
    "URL in another case": ({}, "SDKAppID=5", ["5"]),
    "nowhere": ({}, None, []),
    "twice the same": ({"SdkAppid": 5}, "SdkAppid=5&SdkAppid=5", ["5"]),
    "in conflict": ({"SdkAppid": "6"}, "SdkAppid=5", ["5", "6"]),
}


@pytest.mark.parametrize(("body", "query", "named"), TENANTS.values(), ids=TENANTS)
def test_the_tenant_is_found_in_the_url(body, query, named):
    assert tenant_named("tencent", body, query) == named


NO_COMMAND_BUT_IN_EVENTS = {
    "all members": {"Events": [{"CallbackCommand": "Push.AllMemberPush", "TaskId": "t"}]},
    "a result": {
        "EventType": 1,
        "Events": [
            {"CallbackCommand": "Push.OfflinePushResult"},
            {"CallbackCommand": "Push.OfflinePushResult"},
        ],
    },
    "one of them without": {"Events": [None, {}, {"CallbackCommand": "Push.ClickResult"}]},
}


@pytest.mark.parametrize("body", NO_COMMAND_BUT_IN_EVENTS.values(), ids=NO_COMMAND_BUT_IN_EVENTS)
def test_a_report_about_pushes_names_its_command_in_its_events_only(body: dict[str, Any]) -> None:
    found = tencent.translate(body, app="1400000001", query=None, entry_ms=1)
    assert (found.events, found.ignored) == ((), "no_event")


@pytest.mark.parametrize(
    "body",
    [{"Events": []}, {"Events": [1]}, {"Events": "x"}, {"Events": [{"CallbackCommand": ""}]}, {}],
)
def test_a_body_without_any_command_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(DialectError, match="neither body nor query"):
        tencent.translate(body, app="1400000001", query=None, entry_ms=1)
