"""NetEase Yunxin NIM: message copies (消息抄送), bare or with the sender's push block, as native
events.

Sources: im-callbacks §3 (event types), im-dialects §4 (push fields). Nearly every value of a copy
is text, numbers too.
"""

from __future__ import annotations

from dataclasses import dataclass
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

CONTENT_CHARS_MAX: Final = 500
WEB_FORCE_CHARS_MAX: Final = 150
PAYLOAD_CHARS_MAX: Final = 2048
SOUND_CHARS_MAX: Final = 30
FORCE_IDS_MAX: Final = 100
#: In a list of the old web SDK: everybody.
EVERYBODY: Final = "#%@all@%#"

# ---------------------------------------------------------------- payload (im-dialects §4.4)

#: Key of payload -> path in vendor_raw.
RAW_FIELDS: Final = {
    "apsField": "apns.aps",
    "hwField": "huawei.notification",
    "hwPassThroughField": "huawei.message",
    "honorField": "honor.android",
    "honorPassThroughField": "honor.message",
    "vivoField": "vivo",
    "oppoField": "oppo",
    "fcmField": "fcm.notification",
    "fcmFieldV1": "fcm_v1",
    "harmonyField": "harmony",
}
#: Xiaomi's extras lie at the root, without a wrapper.
XIAOMI_EXTRA: Final = ("channel_id", "channel_name", "notify_foreground")
#: Names that a sender may never set: target, credential, task and request ids, push mode,
#: validate-only. Callback keys by prefix.
FORBIDDEN: Final = frozenset(
    {
        "token", "tokens", "to", "topic", "topics", "condition", "target", "targets", "targettype", "targetvalue", "targetusertype",  # noqa: E501
        "regid", "regids", "registrationid", "registrationids", "verifyregistrationid", "alias", "aliases", "useraccount", "audience",  # noqa: E501
        "pushid", "pushids", "restrictedpackagename", "appid", "appkey", "appsecret", "secret", "mastersecret", "authtoken",  # noqa: E501
        "accesstoken", "authorization", "credential", "credentials", "taskid", "requestid", "pushmode", "validateonly", "dryrun",  # noqa: E501
        "testmessage",
    }
)  # fmt: skip
#: Inside these the keys are the app's own.
APP_DATA: Final = frozenset({"data", "clientcustommap", "actionparameters", "parameters"})


def _name(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace(".", "")


def allowed(raw: dict[str, Any]) -> dict[str, Any]:
    """A vendor's object without forbidden keys, at any depth outside the app's own data."""
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        name = _name(key)
        if name in FORBIDDEN or name.startswith("callback"):
            continue
        kept[key] = allowed(value) if isinstance(value, dict) and name not in APP_DATA else value
    return kept


def _payload(block: Fields, key: str, push: dict[str, Any]) -> None:
    """pushTitle, vendor fields, Xiaomi's extras; every other key is custom data for the app. What
    is no JSON object is left out.
    """
    value = block.unpacked(key, PAYLOAD_CHARS_MAX)
    if value is None:
        return
    payload = block.adopt(value, key)
    reading.apply((("pushTitle", "display.title", reading.text),), payload, push)
    for name, path in RAW_FIELDS.items():
        raw = payload.unpacked(name)
        if raw is not None:
            put(push, f"vendor_raw.{path}", allowed(raw))
    for name in XIAOMI_EXTRA:
        extra = payload.ident(name)
        if extra is not None:
            put(push, f"vendor_raw.xiaomi.extra.{name}", extra)
    _meizu(payload, push)
    known = {"pushTitle", "clickTypeInfo", *RAW_FIELDS, *XIAOMI_EXTRA}
    custom = {name: value[name] for name in payload.keys() if name not in known}  # noqa: SIM118 (Fields is no mapping)
    payload.skip(*custom)
    if custom:
        put(push, "data.payload", custom)


def _meizu(payload: Fields, push: dict[str, Any]) -> None:
    """Only clickTypeInfo.parameters of Meizu's body may be set."""
    click = payload.unpacked("clickTypeInfo")
    if click is not None:
        parameters = payload.adopt(click, "clickTypeInfo").unpacked("parameters")
        if parameters is not None:
            put(push, "vendor_raw.meizu.parameters", parameters)


# ---------------------------------------------------------------- the push block (im-dialects §4.1-


@dataclass(frozen=True, slots=True)
class Names:
    """The field names of one spelling of the push block; "" where it has none."""

    enabled: str
    nick: str
    content: str
    payload: str
    badge: str
    force: str
    force_all: str
    force_ids: str
    force_text: str
    force_chars_max: int = CONTENT_CHARS_MAX


#: Key of the block and its names, the first found wins; a block in v1's form parameters comes
#: before all of these.
BLOCKS: Final = {
    "push_config": Names(
        "push_enabled",
        "push_nick_enabled",
        "push_content",
        "push_payload",
        "push_badge_enabled",
        "push_forcepush_enable",
        "push_forcepush_all",
        "push_forcepush_ids",
        "push_forcepush_content",
    ),
    "pushConfig": Names(
        "pushEnabled",
        "pushNickEnabled",
        "pushContent",
        "pushPayload",
        "",
        "forcePush",
        "",
        "forcePushAccountIds",
        "forcePushContent",
    ),
    "pushInfo": Names(
        "needPush",
        "needPushNick",
        "pushContent",
        "pushPayload",
        "needPushBadge",
        "needForcePush",
        "",
        "forcePushIDsList",
        "forcePushContent",
        WEB_FORCE_CHARS_MAX,
    ),
}
#: Form parameters of v1: sendMsg, and sendAttachMsg where it calls them differently.
V1: Final = (
    "option",
    "pushcontent",
    "payload",
    "forcepushlist",
    "forcepushall",
    "forcepushcontent",
)
V1_ATTACH: Final = ("isForcePush", "forcePushList", "forcePushAll", "forcePushContent")
#: v1's option but for route and its like, which are not push.
OPTION: Final[tuple[Row, ...]] = (
    ("push", "gate.enabled", reading.flag),
    ("persistent", "gate.store_offline", reading.flag),
    ("badge", "badge.counts_unread", reading.flag),
)


def push_block(body: Fields, team: bool, push: dict[str, Any]) -> bool | None:
    """Copies the push block into push; True for the nick in front, None where not given."""
    body.skip(*BLOCKS)
    if any(body.given(key) and body.raw(key) not in (None, "") for key in (*V1, *V1_ATTACH)):
        return _v1(body, team, push)
    for key, names in BLOCKS.items():
        block = body.fields(key)
        if block is not None:
            nick = _block(block, names, team, push)
            return True if nick is None else nick
    return None


def _v1(body: Fields, team: bool, push: dict[str, Any]) -> bool | None:
    nick = None
    unpacked = body.unpacked("option")
    if unpacked is not None:
        option = body.adopt(unpacked, "option")
        reading.apply(OPTION, option, push)
        _keep_badge(push)
        nick = option.flag("needPushNick")
        option.skip("roam", "history", "sendersync", "route", "sessionUpdate")
    reading.apply((("pushcontent", "display.body", reading.shown(CONTENT_CHARS_MAX)),), body, push)
    _payload(body, "payload", push)
    everybody = bool(body.flag("forcepushall")) or bool(body.flag("forcePushAll"))
    people = _people(body, "forcepushlist")
    people = _people(body, "forcePushList", FORCE_IDS_MAX) if people is None else people
    words = reading.shown(CONTENT_CHARS_MAX)
    text = words(body, "forcepushcontent") or words(body, "forcePushContent")
    forced = body.flag("isForcePush")
    on = forced if forced is not None else everybody or bool(people)
    if team and on:
        _force(push, everybody, people, text)
    return nick


def _block(block: Fields, names: Names, team: bool, push: dict[str, Any]) -> bool | None:
    reading.apply(((names.enabled, "gate.enabled", reading.flag),), block, push)
    reading.apply(((names.content, "display.body", reading.shown(CONTENT_CHARS_MAX)),), block, push)
    _payload(block, names.payload, push)
    if names.badge:
        reading.apply(((names.badge, "badge.counts_unread", reading.flag),), block, push)
        _keep_badge(push)
    everybody = bool(names.force_all and block.flag(names.force_all))
    people = _people(block, names.force_ids, FORCE_IDS_MAX)
    if not names.force_all and (
        people is None or EVERYBODY in people
    ):  # the clients' rule: no list is everybody
        everybody, people = True, None
    text = reading.shown(names.force_chars_max)(block, names.force_text)
    if team and block.flag(names.force):
        _force(push, everybody, people, text)
    return block.flag(names.nick)


def _force(
    push: dict[str, Any], everybody: bool, people: list[str] | None, text: str | None
) -> None:
    found = {"on": True, "all": everybody, "ids": people, "body": text}
    put(push, "force", {key: value for key, value in found.items() if value is not None})


def _keep_badge(push: dict[str, Any]) -> None:
    if push.get("badge", {}).get("counts_unread") is False:
        put(push, "badge.mode", "keep")


def _people(block: Fields, key: str, most: int | None = None) -> list[str] | None:
    """An array of user ids, or JSON text of one, or `#%@all@%#`. Beyond `most` they are left out
    and counted.
    """
    value = block.raw(key)
    if isinstance(value, str):
        listed = [EVERYBODY] if value == EVERYBODY else reading.read_json(value) if value else None
        if value and not isinstance(listed, list):
            block.odd()
            return None
        people = Fields({key: listed}, block.path(key)).texts(key)
    else:
        people = block.texts(key)
    if people is not None and most is not None and len(people) > most:
        block.odd()
        return people[:most]
    return people


def _around(body: Fields, push: dict[str, Any]) -> None:
    """Fields that the core may add beside the block: v1's, message_config and p2p_option."""
    body.skip(
        "bid", "env", "msgSenderNoSense", "sender_no_sense", "route_config", "antispam_config"
    )
    if body.flag("msgReceiverNoSense") or body.flag("receiver_no_sense"):
        push.setdefault("gate", {})["enabled"] = (
            False  # the receiver shall not see it, whatever the block says
        )
    reading.apply(
        (("checkFriend", "gate.require_friend", reading.flag), ("sound", "sound.ios", _sound)),
        body,
        push,
    )
    reading.apply(
        (("check_friend", "gate.require_friend", reading.flag),), body.fields("p2p_option"), push
    )
    config = body.fields("message_config")
    reading.apply(
        (
            ("unread_enabled", "badge.counts_unread", reading.flag),
            ("offline_enabled", "gate.store_offline", reading.flag),
        ),
        config,
        push,
    )
    if config is not None:
        config.skip(
            "history_enabled",
            "roaming_enabled",
            "conversation_update_enabled",
            "online_sync_enabled",
        )
    stored = body.integer("save")
    if stored == 1:
        put(push, "gate.online_only", True)


def _sound(source: Fields, key: str) -> str | None:
    value = reading.sound(source, key)
    if value is not None and len(value) > SOUND_CHARS_MAX:
        source.odd()
        return None
    return value


# ---------------------------------------------------------------- messages

#: convType -> conversation type, and whether it is a custom notification.
CONVERSATIONS: Final = {
    "PERSON": ("c2c", False),
    "TEAM": ("group", False),
    "SUPER_TEAM": ("group", False),
    "CUSTOM_PERSON": ("c2c", True),
    "CUSTOM_TEAM": ("group", True),
    "CUSTOM_SUPER_TEAM": ("group", True),
}
#: msgType -> element type; what is not here is custom.
ELEMENTS: Final = {
    "TEXT": "text",
    "PICTURE": "image",
    "AUDIO": "sound",
    "VIDEO": "video",
    "LOCATION": "location",
    "FILE": "file",
}
#: Built-in texts. Source: text message documented, the others policy (im-dialects §4.5).
BUILT_IN: Final = {
    "PICTURE": "发来了一张图片",
    "AUDIO": "发来了一段语音",
    "VIDEO": "发来了一段视频",
    "LOCATION": "分享了一个地理位置",
    "FILE": "发来了一个文件",
}
BUILT_IN_OTHER: Final = "发来了一条消息"
SYSTEM_TYPES: Final = frozenset({"NOTIFICATION", "TIPS", "NRTC_NETCALL"})
SYSTEM_PREFIXES: Final = ("FRIEND_", "TEAM_", "SUPERTEAM_")


def _is_system(msg_type: str) -> bool:
    return msg_type in SYSTEM_TYPES or msg_type.startswith(SYSTEM_PREFIXES)


def message(body: Fields, call: Call) -> Found:
    """eventType 1: a message, or a custom notification (convType CUSTOM_*)."""
    view = CONVERSATIONS.get(body.need("convType").upper())
    if view is None:
        return Ignored.UNKNOWN_CONVERSATION
    if body.flag("antispam") or body.flag("blacklist"):
        return Ignored.BLOCKED_BY_CLOUD
    kind, notification = view
    msg_type, sender, to = (
        body.need("msgType").upper(),
        body.need("fromAccount", Fields.ident),
        body.need("to", Fields.ident),
    )
    push = push_fields(body, kind == "group", notification, msg_type)
    if _is_system(msg_type) and "body" not in push["display"]:
        return Ignored.SYSTEM_NOTIFICATION
    message_id = body.need("msgidServer", Fields.ident)
    data = {
        "message_id": message_id,
        "conversation": {"type": kind, "id": sender if kind == "c2c" else to},
        "sender": _sender(body, sender),
        **_receivers(body, kind, sender, to, push),
        "elements": [_element(body, msg_type)],
        "push": push,
    }
    _skip_the_rest(body)
    return [
        call.event(
            "message.stored",
            f"stored:{message_id}",
            reading.millis(body, ms=["msgTimestamp"]),
            data,
        )
    ]


def push_fields(body: Fields, team: bool, notification: bool, msg_type: str) -> dict[str, Any]:
    """`push` of a message: the block, then customApnsText, then the built-in text of its type
    (never of a notification).
    """
    push: dict[str, Any] = {}
    nick = push_block(body, team, push)
    if notification:
        reading.apply(
            (("customApnsText", "display.body", reading.shown(CONTENT_CHARS_MAX)),), body, push
        )
        stored = body.flag("customSafeFlag")
        if stored is not None:
            put(push, "gate.store_offline" if stored else "gate.online_only", True)
    elif not _is_system(msg_type):
        own = body.ident("body") if msg_type in BUILT_IN else None
        put(push, "display.body", own or BUILT_IN.get(msg_type, BUILT_IN_OTHER))
    _around(body, push)
    put(push, "gate.enabled", True)
    put(
        push, "display.nick_prefix", "on" if (not notification if nick is None else nick) else "off"
    )
    return push


def _sender(body: Fields, sender: str) -> dict[str, Any]:
    found = {"id": sender, "nick": body.text("fromNick"), "device_id": body.text("fromDeviceId")}
    return {key: value for key, value in found.items() if value is not None}


def _element(body: Fields, msg_type: str) -> dict[str, Any]:
    words = body.ident("body") if msg_type == "TEXT" else None
    kind = ELEMENTS.get(msg_type, "custom")
    return {"type": kind} if words is None else {"type": kind, "text": words}


def _receivers(
    body: Fields, kind: str, sender: str, to: str, push: dict[str, Any]
) -> dict[str, Any]:
    """`recipients` or `exclude`: the other side, those named by target_option, the team's members
    (tMembers), or nothing.
    """
    members, target = _members(body), body.fields("target_option")
    if kind == "c2c":
        return {"recipients": [to]}
    listed = None if target is None else target.texts("receiver_account_ids")
    if target is not None and listed is not None:
        put(push, "badge.counts_unread", False)
        return {"exclude" if target.flag("inclusive") is False else "recipients": listed}
    return {"recipients": [one for one in members if one != sender]} if members else {}


def _members(body: Fields) -> list[str] | None:
    """tMembers: `[a, b]` without quotes, JSON text with them, or an array."""
    value = body.raw("tMembers")
    if isinstance(value, list):
        value = [str(one) if type(one) is int else one for one in value]
        return Fields({"tMembers": value}).texts("tMembers")
    if not isinstance(value, str):
        return body.texts("tMembers")
    value = value.strip()
    quoted = reading.read_json(value) if value.startswith('["') else None
    if isinstance(quoted, list):
        return Fields({"tMembers": quoted}).texts("tMembers")
    bare = value.removeprefix("[").removesuffix("]").split(",")
    return list(
        dict.fromkeys(one.strip() for one in bare if one.strip() and reading.is_unicode(one))
    )


def _skip_the_rest(body: Fields) -> None:
    body.skip(
        "eventType",
        "attach",
        "ext",
        "body",
        "fromClientType",
        "msgidClient",
        "resendFlag",
        "customSafeFlag",
        "customApnsText",
    )
    body.skip("yidunRes", "aiParams", "ip", "port", "appKey", "appkey", "fromExt")


# ---------------------------------------------------------------- recalls, sessions


def _recalled(kind: str) -> Handler:
    def handler(body: Fields, call: Call) -> Found:
        message_id = body.need("msgId", Fields.ident)
        peer, team = body.need("from", Fields.ident), body.need("to", Fields.ident)
        body.skip("eventType", "clientId", "fromClientType", "sendTime", "selfMsg", "attach")
        data = {
            "message_id": message_id,
            "conversation": {"type": kind, "id": peer if kind == "c2c" else team},
        }
        return [
            call.event(
                "message.recalled",
                f"recalled:{message_id}",
                reading.millis(body, ms=["deleteTime"]),
                data,
            )
        ]

    return handler


#: clientType, in any case. REST is no device.
PLATFORMS: Final = {
    "AOS": "android",
    "IOS": "ios",
    "PC": "windows",
    "WEB": "web",
    "MAC": "mac",
    "HARMONY": "harmony",
}
#: logOutReason -> event type and its name in the id; 2 (disconnected) and no reason leave the
#: tokens alone.
LEFT: Final = {
    1: ("session.logout", "logout"),
    3: ("session.kicked", "kicked"),
    4: ("session.kicked", "kicked"),
}


def login(body: Fields, call: Call) -> Found:
    """eventType 2: has no push token in it."""
    _ = body, call
    return Ignored.LOGIN


def logout(body: Fields, call: Call) -> Found:
    """eventType 3. No device id is documented, so all the user's devices on the
    platform are meant.
    """
    reason = body.integer("logOutReason")
    if reason not in LEFT:
        return Ignored.NOT_A_LOGOUT
    event_type, what = LEFT[reason]
    user, platform = (
        body.need("accid", Fields.ident),
        PLATFORMS.get((body.text("clientType") or "").upper()),
    )
    if platform is None:
        return Ignored.NO_PLATFORM
    ts = reading.millis(body, ms=["timestamp"])
    body.skip(
        "eventType", "code", "clientIp", "sdkVersion", "sdkHumanVersion", "deviceId", "customTag"
    )
    event_id = reading.joined("state", user, ts or call.entry_ms, what, platform)
    return [call.event(event_type, event_id, ts, {"user": user, "platform": platform})]


EVENTS: Final[dict[int, Handler]] = {
    1: message,
    2: login,
    3: logout,
    7: _recalled("c2c"),
    8: _recalled("group"),
    25: _recalled("group"),
}
#: Known, and nothing for us in them: chat rooms, audio and video, phone, SMS, anti-spam.
SILENT: Final = frozenset({4, 5, 6, 9, 10, 11, 12, 13, 14, 20})


def tenants(body: dict[str, Any], query: str | None) -> list[str]:
    """Always empty: a copy names its app nowhere that reaches us."""
    _ = body, query
    return []


def translate(
    body: dict[str, Any], *, app: str | None, query: str | None, entry_ms: int
) -> Translated:
    """Events of one copy."""
    source = Fields(body)
    number = source.integer("eventType")
    if number is None:
        raise DialectError("no_command", "eventType is missing")
    return reading.run(EVENTS, SILENT, number, source, (app, query, entry_ms))
