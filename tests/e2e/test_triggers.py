"""Who is pushed and who is not: the trigger table of the three clouds, our rule's column, through
the stream and the simulators.

One case a row (P: push, N: none); the decision is read with `why`, the vendor's side in Apple's
simulator.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.house import now_ms
from tests.e2e.town import Town
from tests.tables import table

pytestmark = [pytest.mark.e2e]


@dataclass
class Scene:
    """One person with one iPhone, and a group of theirs."""

    town: Town
    user: str
    token: str
    group: str

    def settings(self, **fields: Any) -> None:
        self.town.event("settings.updated", {"user": self.user, **fields})

    def presence(self, state: str, device: str = "phone", platform: str = "ios") -> None:
        self.town.core.presence(self.town.app, self.user, device, state, platform)

    def tell(self, kind: str, **data: Any) -> None:
        self.town.event(kind, {"user": self.user, **data})

    def native(self, **more: Any) -> str:
        """Publishes a message of Ann's; its id."""
        data = self.town.of_ann(self.user, **more)
        self.town.event("message.stored", data)
        return str(data["message_id"])

    def in_group(self, **more: Any) -> str:
        self.town.core.redis.sadd(f"im:members:{{{self.town.app}:{self.group}}}", self.user, "ann")
        data = self.town.of_ann(
            None, conversation={"type": "group", "id": self.group, "name": "Team"}, **more
        )
        self.town.event("message.stored", data)
        return str(data["message_id"])

    def tencent(self, **more: Any) -> str:
        body = self.town.c2c(self.user, **more)
        self.town.callback(body)
        return str(body["MsgKey"])

    def cloud(self, dialect: str, body: dict[str, Any]) -> None:
        text = json.dumps(body, ensure_ascii=False)
        fields: dict[Any, Any] = {"e": text, "d": dialect, "app": self.town.app}
        self.town.core.redis.xadd("im:events", fields)
        self.town.core.settled()

    def nim(self, **more: Any) -> str:
        identity = uuid.uuid4().hex
        body = {
            "eventType": "1",
            "convType": "PERSON",
            "to": self.user,
            "fromAccount": "ann",
            "fromNick": "Ann",
            "msgType": "TEXT",
        }
        body = {
            **body,
            "msgTimestamp": str(now_ms()),
            "msgidServer": identity,
            "body": "hello",
            **more,
        }
        self.cloud("nim", body)
        return identity

    def zego(self, **more: Any) -> str:
        identity = uuid.uuid4().hex
        body = {
            "appid": self.town.app,
            "event": "send_msg",
            "from_user_id": "ann",
            "conv_type": 0,
            "conv_id": self.user,
            "msg_type": 1,
        }
        body = {
            **body,
            "msg_body": "hello",
            "msg_id": identity,
            "msg_time": now_ms(),
            "send_result": 0,
            **more,
        }
        self.cloud("zego", body)
        return identity

    def call(self, timeout_s: int = 60, ts: int | None = None) -> str:
        identity = "c-" + uuid.uuid4().hex
        data = {
            "call_id": identity,
            "inviter": {"id": "ann", "nick": "Ann"},
            "invitees": [self.user],
            "timeout_s": timeout_s,
        }
        self.town.event("call.invited", {**data, "push": {"class": "call"}}, ts=ts)
        return identity


@pytest.fixture
def scene(town: Town) -> Scene:
    user = town.person()
    return Scene(town, user, town.register(user), town.person("g"))


WHOLE_DAY = {"start": "00:00", "end": "00:00", "tz": "Asia/Shanghai"}


def _mute(scene: Scene, mode: str) -> None:
    scene.settings(mute={"conversation": {"type": "group", "id": scene.group}, "mode": mode})


def foreground(scene: Scene) -> str:
    scene.presence("foreground")
    return scene.native()


def background(scene: Scene) -> str:
    scene.presence("background")
    return scene.native()


def killed(scene: Scene) -> str:
    return scene.native()


def network_lost(scene: Scene) -> str:
    """A session whose heartbeat was due a second ago."""
    key = f"im:presence:{{{scene.town.app}:{scene.user}}}"
    scene.town.core.redis.hset(key, "phone", f"foreground|ios|{now_ms() - 1000}")
    return scene.native()


def logged_out(scene: Scene) -> str:
    scene.tell("session.logout", device_id="phone")
    return scene.native()


def kicked(scene: Scene) -> str:
    scene.tell("session.kicked", platform="ios")
    return scene.native()


def never_logged_in(scene: Scene) -> str:
    scene.user = scene.town.person()
    return scene.native()


def senders_own_device(scene: Scene) -> str:
    """Ann's other phone, in a group she writes to."""
    scene.town.core.redis.sadd(f"im:members:{{{scene.town.app}:{scene.group}}}", scene.user)
    conversation = {"type": "group", "id": scene.group}
    data = scene.town.of_ann(
        None, conversation=conversation, sender={"id": scene.user, "nick": "Me"}
    )
    scene.town.event("message.stored", data)
    return str(data["message_id"])


def muted(scene: Scene) -> str:
    _mute(scene, "all")
    return scene.in_group()


def muted_peer(scene: Scene) -> str:
    scene.settings(mute={"conversation": {"type": "c2c", "id": "ann"}, "mode": "all"})
    return scene.native()


def muted_but_mentioned(scene: Scene) -> str:
    _mute(scene, "mention")
    return scene.in_group(mentions=[scene.user])


def muted_but_all_mentioned(scene: Scene) -> str:
    _mute(scene, "mention")
    return scene.in_group(mentions=["@all"])


def muted_and_not_mentioned(scene: Scene) -> str:
    _mute(scene, "mention")
    return scene.in_group(mentions=["somebody"])


def window(scene: Scene) -> str:
    scene.settings(dnd=WHOLE_DAY)
    return scene.native()


def window_and_rest_message(scene: Scene) -> str:
    scene.settings(dnd=WHOLE_DAY)
    return scene.tencent(SendMsgControl=["NoMsgCheck"])


def window_and_rest_message_that_respects_it(scene: Scene) -> str:
    scene.settings(dnd=WHOLE_DAY)
    return scene.tencent(SendMsgControl=["WithMuteNotifications"])


def forced_to_a_muted_member(scene: Scene) -> str:
    _mute(scene, "all")
    scene.settings(dnd=WHOLE_DAY)
    return scene.in_group(push={"force": {"on": True, "ids": [scene.user]}})


def forced_to_another(scene: Scene) -> str:
    _mute(scene, "all")
    return scene.in_group(push={"force": {"on": True, "ids": ["somebody"]}})


def blocked(scene: Scene) -> str:
    scene.settings(blocked=["ann"])
    return scene.native()


def blocked_by_the_cloud(scene: Scene) -> str:
    """NIM says so itself: nothing comes of it, so the next message is the one looked at."""
    scene.nim(blacklist="true")
    scene.settings(blocked=["ann"])
    return scene.nim()


def not_a_friend(scene: Scene) -> str:
    return scene.native(push={"gate": {"require_friend": True}})


def a_friend(scene: Scene) -> str:
    scene.town.core.redis.sadd(f"im:friends:{{{scene.town.app}:{scene.user}}}", "ann")
    return scene.native(push={"gate": {"require_friend": True}})


def desktop(scene: Scene, wish: bool | None) -> str:
    if wish is not None:
        scene.settings(mobile_when_desktop_online=wish)
    scene.presence("foreground", "pc", "windows")
    return scene.native()


def directed(scene: Scene) -> str:
    """Somebody else is meant; this member of the group is not in the list."""
    other = scene.town.person()
    scene.town.register(other, device="other")
    return scene.in_group(recipients=[other])


def recalled(scene: Scene) -> str:
    """The recall was read before the message, as it may be when replicas share the stream."""
    data = scene.town.of_ann(scene.user)
    scene.town.event(
        "message.recalled", {"message_id": data["message_id"], "conversation": data["conversation"]}
    )
    scene.town.event("message.stored", data)
    return str(data["message_id"])


def read_elsewhere(scene: Scene) -> str:
    data = scene.town.of_ann(scene.user)
    ts = now_ms()
    scene.tell("message.read", conversation=data["conversation"], up_to_ms=ts)
    scene.town.event("message.stored", data, ts=ts)
    return str(data["message_id"])


def call_ended(scene: Scene) -> str:
    call_id = "c-" + uuid.uuid4().hex
    invited_ms = now_ms()
    scene.town.event("call.ended", {"call_id": call_id, "reason": "cancelled"}, ts=invited_ms + 1)
    data = {
        "call_id": call_id,
        "inviter": {"id": "ann"},
        "invitees": [scene.user],
        "timeout_s": 60,
        "push": {},
    }
    scene.town.event("call.invited", data, ts=invited_ms)
    return call_id


def imported(scene: Scene) -> str:
    """A core that fills in old conversations stores them with their own times: what is older than
    its ttl reaches nobody's phone.
    """
    data = scene.town.of_ann(scene.user)
    scene.town.event("message.stored", data, ts=now_ms() - 8 * 86_400_000)
    return str(data["message_id"])


def custom(scene: Scene, **block: Any) -> str:
    return scene.tencent(
        MsgBody=[{"MsgType": "TIMCustomElem", "MsgContent": {"Data": "{}"}}], **block
    )


PUSH = "accepted"
ROWS: dict[str, tuple[Callable[[Scene], str], str]] = {
    "in the foreground, connected": (foreground, "online"),
    "in the background": (background, PUSH),
    "process killed, still logged in": (killed, PUSH),
    "network lost, heartbeat timed out": (network_lost, PUSH),
    "logged out": (logged_out, "no_device"),
    "kicked by another login": (kicked, "no_device"),
    "never logged in": (never_logged_in, "no_device"),
    "the sender's own other devices": (senders_own_device, "sender"),
    "conversation muted": (muted, "muted"),
    "chat of two muted": (muted_peer, "muted"),
    "muted except mentions, mentioned": (muted_but_mentioned, PUSH),
    "muted except mentions, all mentioned": (muted_but_all_mentioned, PUSH),
    "muted except mentions, not mentioned": (muted_and_not_mentioned, "muted"),
    "do-not-disturb window": (window, "dnd"),
    "window, REST message without WithMuteNotifications": (window_and_rest_message, PUSH),
    "window, REST message with it": (window_and_rest_message_that_respects_it, "dnd"),
    "forced push to a muted member": (forced_to_a_muted_member, PUSH),
    "forced push to another member": (forced_to_another, "muted"),
    "blocked sender": (blocked, "blocked"),
    "blocked sender, NIM": (blocked_by_the_cloud, "blocked"),
    "not friends, friend check on": (not_a_friend, "not_friend"),
    "friends, friend check on": (a_friend, PUSH),
    "Tencent: PushFlag 1": (lambda s: s.tencent(OfflinePushInfo={"PushFlag": 1}), "push_disabled"),
    "Tencent: disablePush": (
        lambda s: s.tencent(offlinePushInfo={"disablePush": True}),
        "push_disabled",
    ),
    "ZEGO: Enable 0": (
        lambda s: s.zego(OfflinePush={"Enable": 0, "Title": "t", "Content": "c"}),
        "push_disabled",
    ),
    "ZEGO: no pushConfig": (lambda s: s.zego(), "push_disabled"),
    "ZEGO: pushConfig": (lambda s: s.zego(pushConfig={"title": "t", "content": "c"}), PUSH),
    "NIM: option.push false": (lambda s: s.nim(option={"push": False}), "push_disabled"),
    "Tencent: no push block": (lambda s: s.tencent(), PUSH),
    "Tencent: V2TIMPushInfo null": (lambda s: s.tencent(V2TIMPushInfo=None), "push_disabled"),
    "NIM: no options": (lambda s: s.nim(), PUSH),
    "Tencent: custom element without desc": (custom, "no_text"),
    "Tencent: custom element, desc in the block": (
        lambda s: custom(s, OfflinePushInfo={"Desc": "a gift"}),
        PUSH,
    ),
    "NIM: custom message": (lambda s: s.nim(msgType="CUSTOM", body="", attach="{}"), PUSH),
    "Tencent: onlineUserOnly": (lambda s: s.tencent(OnlineOnlyFlag=1), "online_only"),
    "Tencent: MsgLifeTime 0": (lambda s: s.tencent(MsgLifeTime=0), "online_only"),
    "NIM: persistent false": (lambda s: s.nim(option={"persistent": False}), "push_disabled"),
    "native: not to be stored": (
        lambda s: s.native(push={"gate": {"store_offline": False}}),
        "push_disabled",
    ),
    "imported history": (imported, "expired"),
    "desktop online, phones not wanted": (lambda s: desktop(s, False), "online_elsewhere"),
    "desktop online, phones wanted": (lambda s: desktop(s, True), PUSH),
    "desktop online, nothing said": (lambda s: desktop(s, None), PUSH),
    "recalled before the push was sent": (recalled, "recalled"),
    "read on another device before": (read_elsewhere, "read_elsewhere"),
    "call invitation, callee away": (lambda s: s.call(), PUSH),
    "call invitation, its time is over": (lambda s: s.call(5, now_ms() - 6000), "expired"),
    "call ended before": (call_ended, "call_ended"),
}


@pytest.mark.parametrize(("act", "wanted"), ROWS.values(), ids=ROWS)
def test_the_row_decides(scene: Scene, act: Callable[[Scene], str], wanted: str) -> None:
    told = scene.town.core.why(act(scene), scene.town.app)
    if told["decision"]:
        assert told["recipients"] == []
        decided = told["decision"]
    else:
        told = scene.town.core.why(told["message_id"], scene.town.app, user=scene.user)
        (row,) = told["recipients"]
        decided = row["decision"]
        assert row["steps"][-1]["note"].startswith(wanted)
    assert decided == wanted
    assert len(scene.town.pushes(scene.token)) == (1 if wanted == PUSH else 0)


def test_a_member_who_is_not_meant_has_no_row(scene: Scene) -> None:
    told = scene.town.core.why(directed(scene), scene.town.app)
    assert [row["user"] == scene.user for row in told["recipients"]] == [False]
    assert scene.town.pushes(scene.token) == []


ROOMS: dict[str, tuple[str, dict[str, Any]]] = table("""
    Tencent: AVChatRoom | tencent | {"CallbackCommand": "Group.CallbackAfterSendMsg",
      "GroupId": "room1", "Type": "AVChatRoom", "From_Account": "ann", "MsgSeq": 7, "MsgTime": 1,
      "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}]}
    ZEGO: room | zego | {"event": "send_msg", "from_user_id": "ann", "conv_type": 1,
      "conv_id": "room1", "msg_type": 1, "msg_id": "r1"}
    NIM: chat room | nim | {"eventType": "4", "msgidServer": "r2", "roomId": "9",
      "fromAccount": "ann"}
""")


@pytest.mark.parametrize(("dialect", "body"), ROOMS.values(), ids=ROOMS)
def test_a_room_message_is_no_event_and_no_dead_letter(
    scene: Scene, dialect: str, body: dict[str, Any]
) -> None:
    before = scene.town.command("dead-letters", "list", "--json")[1]
    scene.town.core.redis.sadd(f"im:members:{{{scene.town.app}:room1}}", scene.user)
    scene.cloud(dialect, body)
    assert scene.town.core.why(scene.native(), scene.town.app)["recipients"][0]["decision"] == PUSH
    assert len(scene.town.pushes(scene.token)) == 1  # the later message's own
    assert scene.town.command("dead-letters", "list", "--json")[1] == before


def test_an_account_that_was_blocked_with_its_tokens_unbound_gets_nothing(scene: Scene) -> None:
    """NIM's needUnbindPushToken: the core tells us device by device."""
    scene.town.register(scene.user, device="pad")
    for device in ("phone", "pad"):
        scene.tell("device.unregistered", device_id=device)
    found = scene.town.core.why(scene.native(), scene.town.app)["recipients"][0]["decision"]
    assert found == "no_device"
