"""What NetEase Yunxin's customers were promised, from NIM's own message copies to a simulator's
socket (docs/compatibility.md).
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Afterwards, Core
from tests.e2e.house import House, now_ms, wait_for

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def house(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(fleet, Path(tmp_path_factory.mktemp("nim")), "nim")


def copy(sender: str, to: str, **more: Any) -> dict[str, Any]:
    """A copy of a text message to one person, as NIM sends it: nearly every value is text."""
    body = {
        "eventType": "1",
        "convType": "PERSON",
        "to": to,
        "fromAccount": sender,
        "fromNick": "张三",
        "fromClientType": "IOS",
        "msgTimestamp": str(now_ms()),
        "msgType": "TEXT",
        "body": "晚上开会",
        "msgidServer": uuid.uuid4().hex,
    }
    return {**body, "msgidClient": uuid.uuid4().hex, "resendFlag": "0", **more}


def team(sender: str, members: list[str], **more: Any) -> dict[str, Any]:
    group = "t" + uuid.uuid4().hex[:6]
    return copy(sender, group, convType="TEAM", tMembers=f"[{', '.join(members)}]", **more)


def told(house: House, body: dict[str, Any]) -> str:
    """Hands the copy on; what was decided about its only recipient."""
    house.callback(body)
    return house.decision(body["msgidServer"])


def left(user: str, reason: int) -> dict[str, Any]:
    return {
        "eventType": "3",
        "accid": user,
        "clientType": "iOS",
        "code": 200,
        "timestamp": now_ms(),
        "logOutReason": reason,
    }


def test_nim_user_in_background_killed_or_without_network_gets_a_push(house: House) -> None:
    a, b, c = house.people(3)
    tokens = [house.register(user) for user in (b, c)]
    house.core.presence(house.app, b, "phone", "background")
    house.callback(left(c, 2))
    assert [told(house, copy(a, user)) for user in (b, c)] == ["accepted", "accepted"]
    assert all(house.push(token)["body"]["aps"]["alert"]["body"] for token in tokens)


def test_nim_foreground_user_gets_no_push(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.core.presence(house.app, b, "phone", "foreground")
    assert told(house, copy(a, b)) == "online"
    assert house.pushes(address) == []


def test_nim_logged_out_user_gets_no_push(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.callback(left(b, 1))
    assert told(house, copy(a, b)) == "no_device"
    house.register(b, token=address)
    assert told(house, copy(a, b)) == "accepted"


@pytest.mark.parametrize("reason", [3, 4])
def test_nim_kicked_device_gets_no_push(house: House, reason: int) -> None:
    a, b = house.people()
    address, droid = house.register(b), house.register(b, "droid", "fcm")
    house.callback(left(b, reason))
    assert told(house, copy(a, b)) == "accepted"
    assert (house.pushes(address), len(house.pushes(droid, "fcm"))) == ([], 1)


def test_nim_device_is_pushed_with_the_certificate_it_named(house: House) -> None:
    a, b, c, d = house.people(4)
    one, other = house.register(b), house.register(c, business_id="ios-other")
    house.register(d, business_id="nobodys-cert")
    found = [told(house, copy(a, user)) for user in (b, c, d)]
    assert found == ["accepted", "accepted", "no_credential"]
    seen = (house.push(one)["topic"], house.push(other)["topic"])
    assert seen == ("com.example.chat", "com.example.other")


def test_nim_updated_token_replaces_the_old_one(house: House) -> None:
    a, b = house.people()
    old, new = house.register(b), house.register(b)
    assert told(house, copy(a, b)) == "accepted"
    assert (house.pushes(old), len(house.pushes(new))) == ([], 1)


def test_nim_content_key_picks_its_text(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.event("settings.updated", {"user": b, "show_detail": False})
    house.event(
        "settings.updated", {"user": b, "content_key": {"device_id": "phone", "key": "quiet"}}
    )
    assert told(house, copy(a, b, pushcontent="the secret")) == "accepted"
    house.event("settings.updated", {"user": b, "content_key": {"device_id": "phone", "key": None}})
    assert told(house, copy(a, b, pushcontent="the secret")) == "accepted"
    shown = [push["body"]["aps"]["alert"]["body"] for push in house.pushes(address)]
    assert shown == ["有人找你", "您收到一条新消息"]
    assert "the secret" not in json.dumps(house.pushes(address))


def test_nim_message_without_options_is_pushed(house: House) -> None:
    a, b = house.people()
    house.register(b)
    assert told(house, copy(a, b)) == "accepted"


def test_nim_push_properties_of_a_message_are_kept(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.event("app.background", {"user": b, "device_id": "phone", "badge": 2})
    assert told(house, copy(a, b, option={"push": False}, pushcontent="x")) == "push_disabled"
    assert told(house, copy(a, b, pushcontent="第二页改好了")) == "accepted"
    quiet = {"badge": False, "needPushNick": False}
    assert told(house, copy(a, b, option=json.dumps(quiet), pushcontent="没有昵称")) == "accepted"
    config = {"push_enabled": True, "push_nick_enabled": False, "push_content": "v2"}
    assert told(house, copy(a, b, push_config=config)) == "accepted"
    first, second, third = (push["body"]["aps"] for push in house.pushes(address))
    assert (first["alert"]["body"], first["badge"]) == ("张三:第二页改好了", 3)
    assert (second["alert"]["body"], "badge" in second) == ("没有昵称", False)
    assert (third["alert"]["body"], third["badge"]) == ("v2", 4)


def test_nim_built_in_text_is_shown(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    for kind in ("TEXT", "PICTURE", "AUDIO"):
        found = told(house, copy(a, b, msgType=kind, body="" if kind != "TEXT" else "晚上开会"))
        assert found == "accepted"
    shown = [push["body"]["aps"]["alert"]["body"] for push in house.pushes(address)]
    assert shown == ["张三:发来了一条消息", "张三:发来了一张图片", "张三:发来了一段语音"]


def test_nim_push_payload_reaches_the_app(house: House) -> None:
    a, b = house.people()
    address, droid = house.register(b), house.register(b, "droid", "fcm")
    payload = {
        "pushTitle": "报价",
        "sessionId": "zhangsan",
        "sessionType": "p2p",
        "apsField": {"sound": "msg.caf", "mutable-content": 1},
    }
    payload |= {"fcmFieldV1": {"channel_id": "v1-channel"}, "hwField": {"token": ["not this"]}}
    body = copy(a, b, pushcontent="第二页", payload=json.dumps(payload))
    house.callback(body)
    house.why(body["msgidServer"], 2)
    apple = house.push(address)["body"]
    assert (apple["sessionId"], apple["sessionType"]) == ("zhangsan", "p2p")
    found = (apple["aps"]["sound"], apple["aps"]["mutable-content"], apple["aps"]["alert"]["title"])
    assert found == ("msg.caf", 1, "报价")
    google = house.push(droid, "fcm")["body"]
    assert google["data"]["sessionId"] == "zhangsan"
    assert google["android"]["notification"]["channel_id"] == "v1-channel"


def test_nim_custom_notification_is_pushed(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    custom = {
        "convType": "CUSTOM_PERSON",
        "msgType": "CUSTOM_P2P_MSG",
        "body": "",
        "attach": '{"no":"A1029"}',
    }
    found = told(house, copy(a, b, **custom, customApnsText="您有一笔新订单", customSafeFlag="1"))
    assert found == "accepted"
    assert told(house, copy(a, b, **custom)) == "no_text"
    seen = told(house, copy(a, b, **custom, customApnsText="x", customSafeFlag="0"))
    assert seen == "online_only"
    assert house.alert(address)["body"] == "您有一笔新订单"


def test_nim_message_of_a_stranger_is_not_pushed_when_friends_are_required(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    assert told(house, copy(a, b, checkFriend="true")) == "not_friend"
    assert told(house, copy(a, b)) == "accepted"
    house.core.redis.sadd(f"im:friends:{{{house.app}:{b}}}", a)
    assert told(house, copy(a, b, checkFriend="true")) == "accepted"
    assert len(house.pushes(address)) == 2


def test_nim_blocked_sender_is_not_pushed(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.event("settings.updated", {"user": b, "blocked": [a]})
    assert told(house, copy(a, b)) == "blocked"
    house.callback(copy(a, b, blacklist="true"))
    assert house.pushes(address) == []


#: Windows of do-not-disturb that hold now, whatever the hour.
ALWAYS = {"start": "00:00", "end": "00:00", "tz": "Asia/Shanghai"}


def test_nim_do_not_disturb_holds_a_push_back(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.event("settings.updated", {"user": b, "dnd": ALWAYS})
    assert told(house, copy(a, b)) == "dnd"
    house.event("settings.updated", {"user": b, "dnd": None})
    mute = {"conversation": {"type": "c2c", "id": a}, "mode": "all"}
    house.event("settings.updated", {"user": b, "mute": mute})
    assert told(house, copy(a, b)) == "muted"
    assert house.pushes(address) == []


def test_nim_forced_push_goes_through_do_not_disturb(house: House) -> None:
    a, b, c, d = house.people(4)
    tokens = {user: house.register(user) for user in (b, c, d)}
    for user in (b, c, d):
        house.event("settings.updated", {"user": user, "dnd": ALWAYS})
    house.event("settings.updated", {"user": d, "blocked": [a]})
    forced_ids = json.dumps([b, d])
    forced = {
        "forcepushlist": forced_ids,
        "forcepushcontent": "请立即参会",
        "forcepushall": "false",
    }
    body = team(a, [a, b, c, d], pushcontent="开会了", option={"needPushNick": False}, **forced)
    house.callback(body)
    assert house.decisions(body["msgidServer"], 3) == {b: "accepted", c: "dnd", d: "blocked"}
    assert house.alert(tokens[b])["body"] == "请立即参会"
    one = copy(a, c, **forced)
    assert told(house, one) == "dnd"


def test_nim_resent_copy_pushes_once(house: House, afterwards: Afterwards) -> None:
    a, b = house.people()
    address = house.register(b)
    body = copy(a, b)
    for flag in ("0", "1", "1"):
        house.callback({**body, "resendFlag": flag})
    assert told(house, body) == "accepted"
    afterwards(3, lambda: len(house.pushes(address)) == 1, "a copy that is resent, one push")


def test_a_nim_recall_replaces_what_was_shown(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    body = copy(a, b, pushcontent="the secret", payload='{"sessionId":"s1"}')
    assert told(house, body) == "accepted"
    msg_id = body["msgidServer"]
    house.callback(
        {"eventType": "7", "from": a, "to": b, "msgId": msg_id, "deleteTime": str(now_ms())}
    )
    wait_for(lambda: len(house.pushes(address)) == 2, "the recall")
    first, recall = house.pushes(address)
    assert first["collapse_id"] == recall["collapse_id"] == body["msgidServer"]
    assert not {"the secret", "张三", "s1"} & set(
        json.dumps(recall["body"], ensure_ascii=False).split('"')
    )
