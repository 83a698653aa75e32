"""Tencent Cloud Chat: webhook bodies, bare or with the sender's push block, as native events.

Sources: im-callbacks §1 (commands), im-dialects §2 (push fields). The push block may come as the
REST OfflinePushInfo, as V2TIMOfflinePushInfo (native SDKs) or in the JS spelling; the spellings
share no field name with two meanings.
"""

from __future__ import annotations

from typing import Any, Final

from workers.intake.dialects import reading
from workers.intake.dialects.reading import (
    Call,
    DialectError,
    Fields,
    Found,
    Handler,
    Ignored,
    Row,
    Translated,
    put,
)

RECEIVERS_MAX: Final = 500  # To_Account of a batch

# ---------------------------------------------------------------- the push block (im-dialects §2.1,

#: OfflinePushInfo, REST.
REST: Final[tuple[Row, ...]] = (
    ("PushFlag", "gate.enabled", reading.negated),
    ("Title", "display.title", reading.text),
    ("Desc", "display.body", reading.text),
    ("Ext", "data.ext", reading.text),
)
REST_ANDROID: Final[tuple[Row, ...]] = (
    ("Sound", "sound.android", reading.sound),
    ("HuaWeiChannelID", "vendor.huawei.channel_id", reading.text),
    ("HuaWeiImportance", "vendor.huawei.importance", reading.one_of("LOW", "NORMAL")),
    ("HuaWeiCategory", "vendor.huawei.category", reading.text),
    ("HuaWeiImage", "image.huawei", reading.https),
    ("ExtAsHuaweiIntentParam", "vendor.huawei.ext_as_intent", reading.flag),
    ("HonorImportance", "vendor.honor.importance", reading.one_of("LOW", "NORMAL")),
    ("HonorImage", "image.honor", reading.https),
    ("XiaoMiChannelID", "vendor.xiaomi.channel_id", reading.text),
    ("OPPOChannelID", "vendor.oppo.channel_id", reading.text),
    ("OPPOCategory", "vendor.oppo.category", reading.text),
    ("OPPONotifyLevel", "vendor.oppo.notify_level", reading.one_of(1, 2, 16)),
    ("OPPOPrivateMsgTemplateId", "template.oppo.id", reading.text),
    ("OPPOPrivateTitleParameters", "template.oppo.title_params", reading.as_text),
    ("OPPOPrivateContentParameters", "template.oppo.content_params", reading.as_text),
    ("VIVOClassification", "vendor.vivo.classification", reading.one_of(0, 1)),
    ("VIVOCategory", "vendor.vivo.category", reading.text),
    ("VIVOAddBadge", "vendor.vivo.add_badge", reading.flag),
    ("MeiZuNoticeMsgType", "vendor.meizu.notice_msg_type", reading.one_of(0, 1)),
    ("GoogleChannelID", "vendor.fcm.channel_id", reading.text),
    ("GoogleImage", "image.fcm", reading.https),
)
REST_APNS: Final[tuple[Row, ...]] = (
    ("Sound", "sound.ios", reading.sound),
    ("BadgeMode", "vendor.apns.badge", reading.badge_kept),
    ("Title", "vendor.apns.title", reading.text),
    ("SubTitle", "display.subtitle", reading.text),
    ("Image", "image.ios", reading.https),
    ("MutableContent", "vendor.apns.mutable_content", reading.flag),
    (
        "InterruptionLevel",
        "vendor.apns.interruption_level",
        reading.one_of("active", "passive", "time-sensitive", "critical"),
    ),
)
#: V2TIMOfflinePushInfo, V2TIMPushInfo and the JS SDK's offlinePushInfo.
SDK: Final[tuple[Row, ...]] = (
    ("disablePush", "gate.enabled", reading.negated),
    ("title", "display.title", reading.text),
    ("desc", "display.body", reading.text),
    ("description", "display.body", reading.text),
    ("ext", "data.ext", reading.text),
    ("extension", "data.ext", reading.text),
    ("clickPayload", "data.ext", reading.text),
    ("iOSSound", "sound.ios", reading.sound),
    ("ignoreIOSBadge", "vendor.apns.badge", reading.badge_kept),
    (
        "iOSInterruptionLevel",
        "vendor.apns.interruption_level",
        reading.one_of("active", "passive", "time-sensitive", "critical"),
    ),
    ("iOSImage", "image.ios", reading.https),
    ("HarmonyImage", "image.harmony", reading.https),
    ("HarmonyCategory", "vendor.harmony.category", reading.text),
    ("ignoreHarmonyBadge", "vendor.harmony.badge", reading.negated),
)
#: The same with `Android` before each name (`android` in Dart and JS), or inside `androidInfo` (JS)
#: without it.
SDK_ANDROID: Final[tuple[Row, ...]] = (
    ("Sound", "sound.android", reading.sound),
    ("OPPOChannelID", "vendor.oppo.channel_id", reading.text),
    ("OPPOCategory", "vendor.oppo.category", reading.text),
    ("OPPONotifyLevel", "vendor.oppo.notify_level", reading.one_of(1, 2, 16)),
    ("FCMChannelID", "vendor.fcm.channel_id", reading.text),
    ("FCMImage", "image.fcm", reading.https),
    ("XiaoMiChannelID", "vendor.xiaomi.channel_id", reading.text),
    ("VIVOClassification", "vendor.vivo.classification", reading.one_of(0, 1)),
    ("VIVOCategory", "vendor.vivo.category", reading.text),
    ("HuaWeiCategory", "vendor.huawei.category", reading.text),
    ("HuaWeiImage", "image.huawei", reading.https),
    ("HonorImportance", "vendor.honor.importance", reading.one_of("LOW", "NORMAL")),
    ("HonorImage", "image.honor", reading.https),
    ("MeizuNotifyType", "vendor.meizu.notice_msg_type", reading.one_of(0, 1)),
)
#: JS apnsInfo and androidInfo.
JS_APNS: Final[tuple[Row, ...]] = (
    ("sound", "sound.ios", reading.sound),
    ("ignoreIOSBadge", "vendor.apns.badge", reading.badge_kept),
    ("image", "image.ios", reading.https),
)
JS_ANDROID: Final[tuple[Row, ...]] = (("sound", "sound.android", reading.sound), *SDK_ANDROID[1:])
#: vendorParams of V2TIMOfflinePushInfo, and `notification` of V2TIMPushInfo.
VENDOR_PARAMS: Final[tuple[Row, ...]] = (
    ("fcmPriority", "vendor.fcm.priority", reading.one_of("normal", "high")),
    ("vivoNotifyType", "vendor.vivo.notify_type", reading.one_of(1, 2, 3, 4)),
    ("oppoTemplateId", "template.oppo.id", reading.text),
    ("oppoTitleParam", "template.oppo.title_params", reading.as_text),
    ("oppoContentParam", "template.oppo.content_params", reading.as_text),
)
#: Keys under which a core may keep the block, the first found wins. A null V2TIMPushInfo means: no
#: push.
BLOCKS: Final = ("OfflinePushInfo", "offlinePushInfo", "V2TIMOfflinePushInfo", "V2TIMPushInfo")
#: Vendors whose shade can show a long text (PushStyle 1).
STYLED: Final = ("huawei", "honor", "oppo")


def push_block(block: Fields, push: dict[str, Any]) -> None:
    """Carry one push block, in whatever spelling, into push."""
    reading.apply(REST, block, push)
    android = block.fields("AndroidInfo")
    reading.apply(REST_ANDROID, android, push)
    if android is not None and android.flag("PushStyle"):
        for vendor in STYLED:
            put(push, f"vendor.{vendor}.style", 1)
    reading.apply(REST_APNS, block.fields("ApnsInfo"), push)
    reading.apply(SDK, block, push)
    for prefix in ("Android", "android"):
        reading.apply([(prefix + key, path, read) for key, path, read in SDK_ANDROID], block, push)
    reading.apply(JS_ANDROID, block.fields("androidInfo"), push)
    apns = block.fields("apnsInfo")
    reading.apply(JS_APNS, apns, push)
    _vendor_params(block, "vendorParams", push)
    _vendor_params(block, "notification", push)
    _push_type(block, apns, push)


def _vendor_params(block: Fields, key: str, push: dict[str, Any]) -> None:
    params = block.unpacked(key)
    if params is not None:
        reading.apply(VENDOR_PARAMS, block.adopt(params, key), push)


def _push_type(block: Fields, apns: Fields | None, push: dict[str, Any]) -> None:
    """Sets the push type: VoIP when requested and not forbidden, else alert, or silent for iOS.

    Requested: iOSPushType 1, or JS disableVoipPush false. Forbidden: disableVoipPush true.
    """
    refused = block.flag("disableVoipPush")
    if refused is None and apns is not None:
        refused = apns.flag("disableVoipPush")
    elif apns is not None:
        apns.skip("disableVoipPush")
    push_type = block.integer("iOSPushType")
    background = block.flag("enableIOSBackgroundNotification")
    if refused is not True and (push_type == 1 or (push_type is None and refused is False)):
        put(push, "push_type", "voip")
    elif background:  # Tencent: for iOS only
        put(push, "vendor.apns.push_type", "silent")


def push_fields(body: Fields, elements: list[Fields]) -> dict[str, Any]:
    """`push` of a stored message. Without a block the custom element's Ext and Sound are used, and
    the push is on.
    """
    push: dict[str, Any] = {}
    body.skip(*BLOCKS)
    key = next((name for name in BLOCKS if body.raw(name) not in (None, "")), None)
    block = None if key is None else body.fields(key)
    if block is not None:
        push_block(block, push)
    else:
        _from_custom_element(elements, push)
    _vendor_params(body, "vendorParams", push)
    _rest_request(body, push)
    unwanted = body.given("V2TIMPushInfo") and body.raw("V2TIMPushInfo") is None
    put(push, "gate.enabled", block is not None or not unwanted)
    put(push, "display.nick_prefix", "off" if "body" in push.get("display", {}) else "on")
    return push


def _from_custom_element(elements: list[Fields], push: dict[str, Any]) -> None:
    for element in elements:
        content = (
            element.fields("MsgContent") if element.text("MsgType") == "TIMCustomElem" else None
        )
        reading.apply(
            (("Ext", "data.ext", reading.text), ("Sound", "sound.ios", reading.sound)),
            content,
            push,
        )


def _rest_request(body: Fields, push: dict[str, Any]) -> None:
    """Fields of the REST request that the core may add: MsgLifeTime, OnlineOnlyFlag,
    SendMsgControl.
    """
    life_s = body.integer("MsgLifeTime")
    if life_s is not None and life_s < 0:
        raise DialectError("out_of_range", "MsgLifeTime is negative")
    if body.flag("OnlineOnlyFlag") or life_s == 0:
        put(push, "gate.online_only", True)
    if life_s:
        put(push, "ttl_s", min(life_s, reading.TTL_S_MAX))
    control = body.texts("SendMsgControl")
    if control is not None:
        put(push, "gate.respect_dnd", "WithMuteNotifications" in control)
        if "NoUnread" in control:
            put(push, "badge.counts_unread", False)


# ---------------------------------------------------------------- messages

#: MsgType -> our element type and the field of its text. Source: im-dialects §2.2.
ELEMENTS: Final[dict[str, tuple[str, str | None]]] = {
    "TIMTextElem": ("text", "Text"),
    "TIMFaceElem": ("face", None),
    "TIMLocationElem": ("location", None),
    "TIMSoundElem": ("sound", None),
    "TIMImageElem": ("image", None),
    "TIMFileElem": ("file", None),
    "TIMVideoFileElem": ("video", None),
    "TIMRelayElem": ("merger", None),
    "TIMCustomElem": ("custom", "Desc"),
}
#: ChatRoom is Meeting's name in older apps, BChatRoom a larger AVChatRoom of theirs.
ROOMS: Final = frozenset({"AVChatRoom", "BChatRoom", "Live", "Meeting", "ChatRoom"})


def _element(source: Fields, body: Fields) -> dict[str, Any]:
    msg_type = source.need("MsgType")
    if msg_type not in ELEMENTS:
        body.odd()
    kind, key = ELEMENTS.get(msg_type, ("custom", None))
    content = source.fields("MsgContent")
    words = content.text(key) if content is not None and key is not None else None
    return {"type": kind} if words is None else {"type": kind, "text": words}


def _message(body: Fields, message_id: str, conversation: dict[str, Any]) -> dict[str, Any]:
    """`data` of message.stored but for whom it is for."""
    body.skip(
        "MsgSeq",
        "MsgRandom",
        "MsgId",
        "ErrorInfo",
        "UnreadMsgNum",
        "CloudCustomData",
        "Operator_Account",
        "Random",
        "SdkAppid",
    )
    if body.array("MsgBody") is None:
        raise DialectError("missing_field", "MsgBody is missing")
    sources = body.objects("MsgBody")
    return {
        "message_id": message_id,
        "conversation": conversation,
        "sender": {"id": body.need("From_Account")}
        | ({"nick": nick} if (nick := body.text("NickName")) else {}),
        "elements": [_element(source, body) for source in sources],
        "push": push_fields(body, sources),
    }


def c2c_message(body: Fields, call: Call) -> Found:
    """C2C.CallbackAfterSendMsg. To_Account as a list (batch) gives one event for each receiver."""
    if body.integer("SendMsgResult"):
        return Ignored.SEND_FAILED
    sender, key = body.need("From_Account"), body.need("MsgKey")
    receivers = (
        body.texts("To_Account")
        if isinstance(body.raw("To_Account"), list)
        else [body.need("To_Account")]
    )
    if not receivers or len(receivers) > RECEIVERS_MAX:
        raise DialectError("out_of_range", f"To_Account names nobody or more than {RECEIVERS_MAX}")
    data = _message(body, key, {"type": "c2c", "id": sender})
    ts = reading.millis(body, ms=["EventTime"], s=["MsgTime"])
    return [
        call.event(
            "message.stored",
            reading.joined("stored", sender, to, key),
            ts,
            {**data, "recipients": [to]},
        )
        for to in receivers
    ]


def group_message(body: Fields, call: Call) -> Found:
    """Group.CallbackAfterSendMsg. To_Account is the core's own addition: the receivers of a
    directed message.
    """
    if body.text("Type") in ROOMS:
        return Ignored.ROOM
    group = _group(body)
    message_id = f"{group}:{body.need_integer('MsgSeq')}"
    data = _message(body, message_id, {"type": "group", "id": group})
    directed = body.texts("To_Account") if isinstance(body.raw("To_Account"), list) else None
    if directed is None and (one := body.text("To_Account")) is not None:
        directed = [one]
    if directed is not None:
        data["recipients"] = directed
    if mentions := _mentions(body):
        data["mentions"] = mentions
    ts = reading.millis(body, ms=["EventTime"], s=["MsgTime"])
    return [call.event("message.stored", f"stored:{message_id}", ts, data)]


def _group(body: Fields) -> str:
    """The conversation's id: a community's topic, else the group."""
    group = body.need("GroupId")
    return body.text("TopicId") or group


def _mentions(body: Fields) -> list[str]:
    everybody, people = False, []
    for item in body.objects("GroupAtInfo"):
        everybody = bool(item.flag("GroupAtAllFlag")) or everybody
        person = item.text("GroupAt_Account")
        people += [] if person is None else [person]
    return ["@all"] if everybody else list(dict.fromkeys(people))


# ---------------------------------------------------------------- recall, read, state


def c2c_recall(body: Fields, call: Call) -> Found:
    """C2C.CallbackAfterMsgWithDraw."""
    sender, to, key = body.need("From_Account"), body.need("To_Account"), body.need("MsgKey")
    body.skip("UnreadMsgNum", "MsgId", "SdkAppid")
    data = {"message_id": key, "conversation": {"type": "c2c", "id": sender}}
    return [
        call.event(
            "message.recalled",
            reading.joined("recalled", sender, to, key),
            reading.millis(body, ms=["EventTime"]),
            data,
        )
    ]


def group_recall(body: Fields, call: Call) -> Found:
    """Group.CallbackAfterRecallMsg: one event for each message."""
    body.skip("Operator_Account", "SdkAppid")
    if body.text("Type") in ROOMS:
        return Ignored.ROOM
    group, ts = _group(body), reading.millis(body, ms=["EventTime"])
    ids = dict.fromkeys(
        f"{group}:{item.need_integer('MsgSeq')}" for item in body.objects("MsgSeqList")
    )
    conversation = {"type": "group", "id": group}
    events = [
        call.event(
            "message.recalled",
            f"recalled:{one}",
            ts,
            {"message_id": one, "conversation": conversation},
        )
        for one in ids
    ]
    return events or Ignored.NOBODY


def c2c_read(body: Fields, call: Call) -> Found:
    """C2C.CallbackAfterMsgReport. UnreadMsgNum counts one-to-one chats only, so it is no badge base
    (G3).
    """
    user, peer, second = (
        body.need("Report_Account"),
        body.need("Peer_Account"),
        body.need_integer("LastReadTime"),
    )
    body.skip("UnreadMsgNum", "SdkAppid")
    if second <= 0:
        raise DialectError("out_of_range", "LastReadTime is no time")
    ts = reading.millis(body, ms=["EventTime"], s=["LastReadTime"])
    data = {
        "user": user,
        "conversation": {"type": "c2c", "id": peer},
        "up_to_ms": second * 1000 + 999,
    }
    return [call.event("message.read", reading.joined("read", user, peer, second), ts, data)]


def c2c_receipt(body: Fields, call: Call) -> Found:
    """C2C.CallbackAfterMsgReadReceipt: one event for each message read."""
    user, peer, ts = (
        body.need("Operator_Account"),
        body.need("Peer_Account"),
        reading.millis(body, ms=["EventTime"]),
    )
    body.skip("SdkAppid")
    keys = dict.fromkeys(item.need("MsgKey") for item in body.objects("C2CMsgInfo"))
    conversation = {"type": "c2c", "id": peer}
    return [
        call.event(
            "message.read",
            reading.joined("read", user, peer, key),
            ts,
            {"user": user, "conversation": conversation, "message_id": key},
        )
        for key in keys
    ] or Ignored.NOBODY


#: OptPlatform and KickedDevice.Platform; RESTAPI and Unknown are no device.
PLATFORMS: Final = {
    "ios": "ios",
    "ipad": "ipad",
    "android": "android",
    "harmony": "harmony",
    "harmonyos": "harmony",
    "windows": "windows",
    "mac": "mac",
    "linux": "linux",
    "web": "web",
}
#: Actions that leave the tokens alone: exactly then pushes are wanted.
STAYS: Final = frozenset({"Disconnect", "CustomStatusChange"})


def state_change(body: Fields, call: Call) -> Found:
    """State.StateChange: a logout unbinds a platform, a login names the kicked devices."""
    info = body.fields("Info")
    if info is None:
        raise DialectError("missing_field", "Info is missing")
    action, user = info.need("Action"), info.need("To_Account")
    info.skip("Reason", "CustomStatus")
    body.skip("SdkAppid")
    ts = reading.millis(body, ms=["EventTime"])
    if action == "Login":
        return _kicked(body, call, user, ts)
    if action != "Logout":
        return Ignored.NOT_A_LOGOUT if action in STAYS else Ignored.UNKNOWN_COMMAND
    body.skip("KickedDevice")
    platform = PLATFORMS.get(call.query.get("OptPlatform", "").lower())
    if platform is None:
        return Ignored.NO_PLATFORM
    # A logout that is taken for a repeat would leave the token bound: where an old body has no
    # EventTime the entry's time goes in, and two platforms may leave in one millisecond.
    event_id = reading.joined("state", user, ts or call.entry_ms, "logout", platform)
    return [call.event("session.logout", event_id, ts, {"user": user, "platform": platform})]


def _kicked(body: Fields, call: Call, user: str, ts: int | None) -> Found:
    kicked = [item.need("Platform").lower() for item in body.objects("KickedDevice")]
    known = dict.fromkeys(PLATFORMS[name] for name in kicked if name in PLATFORMS)
    if not known:
        return Ignored.NO_PLATFORM if kicked else Ignored.LOGIN
    return [
        call.event(
            "session.kicked",
            reading.joined("state", user, ts or call.entry_ms, "kicked", one),
            ts,
            {"user": user, "platform": one},
        )
        for one in known
    ]


COMMANDS: Final[dict[str, Handler]] = {
    "C2C.CallbackAfterSendMsg": c2c_message,
    "Group.CallbackAfterSendMsg": group_message,
    "C2C.CallbackAfterMsgWithDraw": c2c_recall,
    "Group.CallbackAfterRecallMsg": group_recall,
    "C2C.CallbackAfterMsgReport": c2c_read,
    "C2C.CallbackAfterMsgReadReceipt": c2c_receipt,
    "State.StateChange": state_change,
}
#: Known, and nothing for us in them (im-callbacks §1.4).
SILENT: Final = frozenset(
    {
        "Group.CallbackAfterReadReceipt",
        "C2C.CallbackAfterModifyMsg",
        "Group.CallbackSendMsgException",
    }
)


def tenants(body: dict[str, Any], query: str | None) -> list[str]:
    """SdkAppid of the URL; the core may also have put it into the body."""
    written = Fields(body).ident("SdkAppid")
    return list(
        dict.fromkeys(
            [*reading.named_in_query(query, "SdkAppid"), *([] if written is None else [written])]
        )
    )


def translate(
    body: dict[str, Any], *, app: str | None, query: str | None, entry_ms: int
) -> Translated:
    """Events of one webhook body. query: the callback's raw URL query, for OptPlatform and, in want
    of it in the body, the command.
    """
    source = Fields(body)
    command = (
        source.text("CallbackCommand")
        or reading.read_query(query).get("CallbackCommand")
        or _command_of_events(body)
    )
    if command is None:
        raise DialectError("no_command", "CallbackCommand is in neither body nor query")
    silent = {command} if command.startswith("Push.") else SILENT
    return reading.run(COMMANDS, silent, command, source, (app, query, entry_ms))


def _command_of_events(body: dict[str, Any]) -> str | None:
    """The command of reports about pushes, which is only in each of `Events`.

    They are Push.AllMemberPush and its results.
    """
    events = body.get("Events")
    named = (
        (one.get("CallbackCommand") for one in events if isinstance(one, dict))
        if isinstance(events, list)
        else ()
    )
    return next((name for name in named if isinstance(name, str) and name), None)
