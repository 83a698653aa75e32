"""What ZEGO's customers were promised, from ZEGO's own callback bodies to a simulator's socket
(docs/compatibility.md).
"""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Afterwards, Core
from tests.e2e.house import House, now_ms, wait_for
from workers.cli import run

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def house(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House(fleet, Path(tmp_path_factory.mktemp("zego")), "zego")
    channel = {"channel_id": "im-preset"}
    preset = {"sound": {"ios": "chime.caf"}, "fcm": channel, "huawei": {"channel_id": "hw-preset"}}
    fleet.runtime.strategies.add(house.app, "chat_default", preset)
    fleet.runtime.strategies.add(house.app, "ring", {"push_type": "voip"})
    house.changed()
    return house


WORDS = {"title": "小明", "content": "周末爬山去不去?"}


def peer(
    house: House, sender: str, to: str, config: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A send_msg callback of a chat of two; config: the sender's ZIMPushConfig."""
    body = {
        "appid": house.app,
        "event": "send_msg",
        "nonce": "350171",
        "timestamp": now_ms() // 1000,
        "from_user_id": sender,
        "conv_type": 0,
        "conv_id": to,
        "msg_type": 1,
        "msg_body": "hi",
        "msg_id": uuid.uuid4().hex,
        "msg_time": now_ms(),
    }
    body |= {"send_result": 0, "payload": "the message's own", **more}
    return body if config is None else {**body, "pushConfig": config}


def call(house: House, event: str, call_id: str, **more: Any) -> dict[str, Any]:
    return {
        "appid": house.app,
        "event": event,
        "nonce": "1",
        "timestamp": now_ms() // 1000,
        "call_id": call_id,
        **more,
    }


def created(
    house: House, caller: str, callees: list[str], config: dict[str, Any], timeout: int = 60
) -> dict[str, Any]:
    more = {
        "caller": caller,
        "user_ids": callees,
        "create_time": now_ms() // 1000,
        "timeout": timeout,
        "pushConfig": config,
    }
    return call(house, "call_create", uuid.uuid4().hex, **more)


def told(house: House, body: dict[str, Any]) -> str:
    """Hands the callback on; what was decided about its only recipient."""
    house.callback(body)
    return house.decision(body.get("msg_id") or body["call_id"])


def test_zego_user_whose_connection_timed_out_gets_a_push(house: House) -> None:
    a, b, c = house.people(3)
    for user in (b, c):
        house.register(user)
    house.core.presence(house.app, b, "phone", "background")
    assert told(house, peer(house, a, b, WORDS)) == "accepted"
    house.core.redis.hset(
        f"im:presence:{{{house.app}:{c}}}", "phone", f"foreground|ios|{now_ms() - 1}"
    )
    assert told(house, peer(house, a, c, WORDS)) == "accepted"


def test_zego_foreground_user_gets_no_push(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.core.presence(house.app, b, "phone", "foreground")
    assert told(house, peer(house, a, b, WORDS)) == "online"
    assert house.pushes(address) == []


def test_zego_push_id_belongs_to_the_user_who_logged_in_last(house: House) -> None:
    a, b, c = house.people(3)
    address = house.register(b, "phone", push_id="zpns-1")
    house.register(c, "phone", token=address, push_id="zpns-1")
    assert told(house, peer(house, a, b, WORDS)) == "no_device"
    assert told(house, peer(house, a, c, WORDS)) == "accepted"
    house.event("session.logout", {"user": c, "device_id": "zpns-1"})
    assert told(house, peer(house, a, c, WORDS)) == "no_device"
    assert len(house.pushes(address)) == 1


def test_zego_push_id_is_another_name_of_the_device_everywhere(house: House) -> None:
    """The gateway's presence and the app's own reports may use either name."""
    a, b = house.people()
    address = house.register(b, "phone", push_id="zpns-2")
    house.core.presence(house.app, b, "zpns-2", "foreground")
    assert told(house, peer(house, a, b, WORDS)) == "online"
    house.core.presence(house.app, b, "zpns-2", "background")
    house.event("app.background", {"user": b, "device_id": "zpns-2", "badge": 40})
    found = told(house, peer(house, a, b, {**WORDS, "enableBadge": True, "badgeIncrement": 1}))
    assert found == "accepted"
    assert house.push(address)["body"]["aps"]["badge"] == 41


def test_zego_logged_out_user_gets_no_push(house: House) -> None:
    a, b = house.people()
    time.sleep((300 - now_ms() % 1000) % 1000 / 1000)
    address = house.register(b)
    other = house.register(b, "droid", "fcm")
    logout = {
        "appid": house.app,
        "event": "user_action",
        "timestamp": now_ms() // 1000,
        "user_id": b,
        "os": "IOS_PHONE",
        "action": 1,
    }
    # in whole seconds: mostly before the registration's millisecond
    house.callback({**logout, "session_id": uuid.uuid4().hex, "logout_time": now_ms() // 1000})
    assert told(house, peer(house, a, b, WORDS)) == "accepted"
    assert (house.pushes(address), len(house.pushes(other, "fcm"))) == ([], 1)


def test_zego_user_who_never_logged_in_gets_no_push(house: House) -> None:
    a, b = house.people()
    assert told(house, peer(house, a, b, WORDS)) == "no_device"


def test_zego_environment_of_the_token_picks_the_certificate(house: House) -> None:
    """The simulator refuses a token that begins so in the other environment."""
    a, b = house.people()
    sandbox = house.register(b, "test-build", token="5a4d" + "00" * 30, business_id="ios-dev")
    production = house.register(b, "phone", token="9c0d" + "00" * 30)
    body = peer(house, a, b, WORDS)
    house.callback(body)
    found = [row["decision"] for row in house.why(body["msg_id"], 2)["recipients"]]
    assert found == ["accepted", "accepted"]
    assert (house.push(sandbox)["env"], house.push(production)["env"]) == ("sandbox", "production")


def test_zego_message_without_push_config_is_not_pushed(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    assert told(house, peer(house, a, b)) == "push_disabled"
    found = told(house, {**peer(house, a, b), "OfflinePush": {"Enable": 0, **WORDS}})
    assert found == "push_disabled"
    assert house.pushes(address) == []


def test_zego_title_and_content_are_shown_as_written(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    assert told(house, peer(house, a, b, WORDS)) == "accepted"
    assert house.alert(address) == {"title": "小明", "body": "周末爬山去不去?"}
    assert "badge" not in house.push(address)["body"]["aps"]


def test_zego_payload_reaches_the_app(house: House) -> None:
    a, b = house.people()
    address, droid = house.register(b), house.register(b, "droid", "fcm")
    body = peer(house, a, b, {**WORDS, "payload": '{"conv":"u_1001"}'})
    house.callback(body)
    house.why(body["msg_id"], 2)
    assert house.push(address)["body"]["ext"] == '{"conv":"u_1001"}'
    assert house.push(droid, "fcm")["body"]["data"]["ext"] == '{"conv":"u_1001"}'
    assert "the message's own" not in json.dumps([house.push(address), house.push(droid, "fcm")])


def test_zego_resources_id_picks_its_preset(house: House) -> None:
    a, b = house.people()
    address, droid = house.register(b), house.register(b, "droid", "fcm")
    for resource in ("chat_default", "nobody_knows", "x" * 33):
        body = peer(house, a, b, {**WORDS, "resourcesID": resource})
        house.callback(body)
        house.why(body["msg_id"], 2)
    found = [push["body"]["aps"]["sound"] for push in house.pushes(address)]
    assert found == ["chime.caf", "default", "default"]
    pushes = house.pushes(droid, "fcm")
    channels = [push["body"]["android"]["notification"].get("channel_id") for push in pushes]
    assert channels == ["im-preset", None, None]


def test_zego_peer_message_is_pushed(house: House) -> None:
    a, b = house.people()
    address = house.register(b)
    house.event("app.background", {"user": b, "device_id": "phone", "badge": 4})
    config = {**WORDS, "enableBadge": True, "badgeIncrement": 3, "threadID": "peer-1"}
    assert told(house, peer(house, a, b, config)) == "accepted"
    aps = house.push(address)["body"]["aps"]
    assert (aps["badge"], aps["thread-id"]) == (7, "peer-1")


def test_zego_group_message_is_pushed_to_absent_members(house: House) -> None:
    a, b, c, d = house.people(4)
    tokens = {user: house.register(user) for user in (a, b, c)}
    house.core.presence(house.app, b, "phone", "foreground")
    group = "g" + uuid.uuid4().hex[:6]
    house.core.redis.sadd(f"im:members:{{{house.app}:{group}}}", a, b, c, d)
    block = {"Enable": 1, "Title": "家", "Content": "妈妈今天生日🎂"}
    body = {**peer(house, a, group), "conv_type": 2, "OfflinePush": block}
    house.callback(body)
    found = house.decisions(body["msg_id"], 4)
    assert found == {a: "sender", b: "online", c: "accepted", d: "no_device"}
    assert house.alert(tokens[c]) == {"title": "家", "body": "妈妈今天生日🎂"}


def test_zego_call_invitation_is_pushed(house: House) -> None:
    a, b, c = house.people(3)
    voip = "bb" + uuid.uuid4().hex * 2
    house.register(b, voip_token=voip[:64])
    plain = house.register(c)
    send_wake_up = {"iOSVoIPHandleType": 1, "iOSVoIPHandleValue": "u_1001", "iOSVoIPHasVideo": True}
    body = created(house, a, [b, c], {**WORDS, "voIPConfig": send_wake_up})
    house.callback(body)
    assert house.decisions(body["call_id"], 2) == {b: "accepted", c: "accepted"}
    push = house.push(voip[:64])
    found = (push["topic"], push["push_type"], push["priority"])
    assert found == ("com.example.chat.voip", "voip", 10)
    assert push["body"]["call"] == {
        "id": body["call_id"],
        "action": "invite",
        "handle": "u_1001",
        "handle_type": 1,
        "video": True,
    }
    assert push["expiration"] == body["create_time"] + 60
    fallback = house.push(plain)
    seen = (fallback["push_type"], fallback["body"]["aps"]["alert"]["body"])
    assert seen == ("alert", WORDS["content"])


def test_zego_invitation_expires_with_the_call(house: House) -> None:
    a, b, c = house.people(3)
    address, other = house.register(b), house.register(c)
    body = created(house, a, [b], WORDS, timeout=1)
    body["create_time"] -= 5
    assert told(house, body) == "expired"
    running = created(house, a, [b, c], WORDS)
    house.callback(running)
    assert house.decisions(running["call_id"], 2) == {b: "accepted", c: "accepted"}
    house.callback(call(house, "call_reject", running["call_id"], user_id=b))
    wait_for(lambda: len(house.pushes(address)) == 2, "the cancel")
    invite, cancel = house.pushes(address)
    assert invite["collapse_id"] == cancel["collapse_id"] == running["call_id"]
    assert cancel["body"]["aps"]["alert"] == {"body": "已在其他设备拒接"}
    assert len(house.pushes(other)) == 1
    house.callback(
        call(house, "call_cancel", running["call_id"], user_ids=[b, c], reason="caller_cancel")
    )
    wait_for(lambda: len(house.pushes(other)) == 2, "the other's cancel")
    assert house.pushes(other)[1]["collapse_id"] == running["call_id"]
    assert house.step(running["call_id"], c, "call_cancel: accepted")


def test_zego_unregistered_device_gets_no_push(house: House) -> None:
    a, b = house.people()
    address = house.register(b, push_id="zpns-" + b)
    house.event("device.unregistered", {"user": b, "device_id": "zpns-" + b})
    assert told(house, peer(house, a, b, WORDS)) == "no_device"
    silent = house.message(a, b, push={"push_type": "silent", "data": {"ext": "sync"}})
    assert House.one(house.send(silent))["decision"] == "no_device"
    assert house.pushes(address) == []


def test_zego_retried_callback_pushes_once(house: House, afterwards: Afterwards) -> None:
    a, b = house.people()
    address = house.register(b)
    body = peer(house, a, b, WORDS)
    for nonce in range(5):
        house.callback({**body, "nonce": str(nonce), "signature": f"{nonce:040x}"})
    assert house.decision(body["msg_id"]) == "accepted"
    afterwards(3, lambda: len(house.pushes(address)) == 1, "a callback that is retried, one push")
    assert house.step(body["msg_id"], b, "came again")


def test_zego_test_push_shows_each_step(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (b,) = house.people(1)
    address, other = house.register(b, "phone", push_id="zpns-" + b), house.register(b, "tablet")
    settings = house.core.runtime.settings
    monkeypatch.setenv("PUSHFLEET_DATA_DIR", str(settings.data_dir))
    if settings.broker_url:
        monkeypatch.setenv("PUSHFLEET_BROKER_URL", settings.broker_url)
    assert run(["test-push", house.app, b, "--device", "zpns-" + b, "--body", "is this on?"]) == 0
    said = capsys.readouterr().out
    for words in ("intake", "routing", "to apns apns-1", "attempt", "200", "accepted by 1 of 1"):
        assert words in said
    assert house.alert(address)["body"] == "is this on?"
    assert house.pushes(other) == []
    house.event("device.unregistered", {"user": b, "device_id": "zpns-" + b})
    assert run(["test-push", house.app, b, "--device", "zpns-" + b]) == 1
