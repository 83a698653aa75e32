"""ZEGO ZIM: callback bodies, bare or with the sender's push block, as native events.

Sources: im-callbacks §2 (events), im-dialects §3 (push fields). No push block, no push: ZEGO's own
rule.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

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

STRATEGY_CHARS_MAX: Final = 32
CALL_TIMEOUT_S: Final = 90  # ZEGO's default
CALL_TIMEOUT_S_MAX: Final = 600

# ---------------------------------------------------------------- the push block (im-dialects §3.1,

#: ZIMPushConfig, the clients' spelling. extendedData is payload's name before 2.5.0.
CLIENT: Final[tuple[Row, ...]] = (
    ("title", "display.title", reading.text),
    ("content", "display.body", reading.text),
    ("payload", "data.ext", reading.text),
    ("extendedData", "data.ext", reading.text),
    ("resourcesID", "strategy_id", reading.up_to(STRATEGY_CHARS_MAX)),
    ("threadID", "thread_id", reading.text),
)
CLIENT_TEMPLATE: Final[tuple[Row, ...]] = (
    ("templateID", "template.oppo.id", reading.text),
    ("titleParameters", "template.oppo.title_params", reading.as_text),
    ("contentParameters", "template.oppo.content_params", reading.as_text),
)
VOIP: Final[tuple[Row, ...]] = (
    ("iOSVoIPHandleType", "vendor.apns.voip.handle_type", reading.one_of(1, 2, 3)),
    ("iOSVoIPHandleValue", "vendor.apns.voip.handle", reading.text),
    ("iOSVoIPHasVideo", "vendor.apns.voip.video", reading.flag),
)
#: OfflinePush, the server's spelling.
SERVER: Final[tuple[Row, ...]] = (
    ("Title", "display.title", reading.text),
    ("Content", "display.body", reading.text),
    ("Payload", "data.ext", reading.text),
    ("PushStrategyId", "strategy_id", reading.up_to(STRATEGY_CHARS_MAX)),
    ("ThreadId", "thread_id", reading.text),
)
SERVER_TEMPLATE: Final[tuple[Row, ...]] = (
    ("TemplateId", "template.oppo.id", reading.text),
    ("TitleParameters", "template.oppo.title_params", reading.as_text),
    ("ContentParameters", "template.oppo.content_params", reading.as_text),
)
#: A vendor's big picture goes before its icon.
IMAGES: Final = {"HuaWei": "image.huawei", "FCM": "image.fcm"}
AUDIENCES: Final = {1: "online_and_offline", 2: "all_with_token"}


def _client_block(block: Fields, push: dict[str, Any]) -> None:
    put(push, "gate.enabled", True)
    reading.apply(CLIENT, block, push)
    reading.apply(CLIENT_TEMPLATE, block.fields("privateMessageTemplate"), push)
    _badge(block, "enableBadge", "badgeIncrement", push)
    voip = block.fields("voIPConfig")
    if voip is not None:
        put(push, "push_type", "voip")
        reading.apply(VOIP, voip, push)


def _server_block(block: Fields, push: dict[str, Any]) -> None:
    put(push, "gate.enabled", bool(block.flag("Enable")))
    reading.apply(SERVER, block, push)
    reading.apply(SERVER_TEMPLATE, block.fields("PrivateMessageTemplate"), push)
    _badge(block, "EnableBadge", "BadgeIncrement", push)
    pictures = block.fields("PushImageInfo")
    if pictures is not None:
        reading.apply((("Image", "image.ios", reading.https),), pictures.fields("Apns"), push)
        android = pictures.fields("Android")
        for key, path in IMAGES.items():
            found = None if android is None else android.fields(key)
            reading.apply(
                (("Image", path, reading.https), ("Icon", path, reading.https)), found, push
            )


def _badge(block: Fields, switch: str, step: str, push: dict[str, Any]) -> None:
    """Off or absent: the badge is left alone. An increment over 99 counts as 99 (ZEGO), a negative
    one as 0.
    """
    on, increment = block.flag(switch), block.integer(step)
    put(push, "badge.mode", "increment" if on else "none")
    if on:
        put(push, "badge.increment", min(max(increment or 0, 0), reading.BADGE_MAX))


def push_fields(body: Fields) -> dict[str, Any]:
    """`push` of a message or a call. What the sender wrote is shown as it is: no prefix, no
    built-in texts.
    """
    push: dict[str, Any] = {}
    client, server = body.fields("pushConfig"), body.fields("OfflinePush")
    if client is not None:
        _client_block(client, push)
    elif server is not None:
        _server_block(server, push)
    put(push, "gate.enabled", False)
    put(push, "display.nick_prefix", "off")
    return push


def _send_options(body: Fields, push: dict[str, Any]) -> None:
    """Fields of the server's request that the core may add: NoUnread and the audience of a push to
    all users.
    """
    options = body.fields("SendMsgOptions")
    if options is not None and options.flag("NoUnread"):
        put(push, "badge.counts_unread", False)
    audience = body.integer("PushType")
    if audience == 0:
        put(push, "gate.online_only", True)
    elif audience in AUDIENCES:
        put(push, "gate.audience", AUDIENCES[audience])
    elif audience is not None:
        body.odd()


# ---------------------------------------------------------------- messages

TEXT, MULTIPLE, COMBINED = 1, 10, 100
#: msg_type -> element type; what is not here is custom.
ELEMENTS: Final = {
    TEXT: "text",
    11: "image",
    12: "file",
    13: "sound",
    14: "video",
    COMBINED: "merger",
    200: "custom",
}
PEER, GROUP = 0, 2
ROOMS: Final = frozenset({1, 3})  # room, channel
#: Command and barrage: not stored, and documented as never sent.
SILENT_TYPES: Final = frozenset({2, 20})


def _decoded(content: Any) -> Any:
    """JSON, plain or percent-encoded ('+' is a plus); clients encode, servers may."""
    if not isinstance(content, str):
        return content
    value = reading.read_json(content)
    return value if value is not None else reading.read_json(unquote(content))


def _element(msg_type: int, content: Any) -> dict[str, Any]:
    """One element; its text is the text of a text message or the title of a combined one."""
    kind = ELEMENTS.get(msg_type, "custom")
    words = content if msg_type == TEXT else None
    if msg_type == COMBINED:
        inside = _decoded(content)
        words = inside.get("Title") if isinstance(inside, dict) else None
    usable = isinstance(words, str) and words and reading.is_unicode(words)
    return {"type": kind, "text": words} if usable else {"type": kind}


def _elements(body: Fields) -> list[dict[str, Any]]:
    """The elements of msg_body; a multiple one that can't be read is one custom element without
    text.
    """
    msg_type = body.need_integer("msg_type")
    content = body.raw("msg_body")
    if content is not None and not isinstance(content, str | dict):
        raise DialectError("wrong_type", "msg_body is not a text")
    if msg_type != MULTIPLE:
        return [_element(msg_type, content)]
    inside = _decoded(content)
    parts = inside.get("multi_msg") if isinstance(inside, dict) else None
    if not isinstance(parts, list):
        body.odd()
        return [{"type": "custom"}]
    sources = [Fields(part, "msg_body.multi_msg") for part in parts]
    return [
        _element(source.need_integer("msg_type"), source.raw("callback_content"))
        for source in sources
    ]


def _message(body: Fields, sender: str) -> dict[str, Any]:
    """`data` of message.stored but for its id, its conversation and its people."""
    body.skip(
        "appid", "nonce", "signature", "timestamp", "sub_msg_type", "source", "msg_seq", "payload"
    )
    push, elements = push_fields(body), _elements(body)
    _send_options(body, push)
    if all(one["type"] in ("text", "custom") and "text" not in one for one in elements):
        _show_title(push["display"])
    return {"sender": {"id": sender}, "elements": elements, "push": push}


def _show_title(display: dict[str, Any]) -> None:
    """Of a message without words of its own the title is all that its sender wrote to be shown."""
    if "title" in display and "body" not in display:
        display["body"] = display.pop("title")


def message(body: Fields, call: Call) -> Found:
    """send_msg. A server's batch to peers (user_list) gives one event for each receiver that has a
    message id.
    """
    conversation = body.need_integer("conv_type")
    if conversation in ROOMS:
        return Ignored.ROOM
    if conversation not in (PEER, GROUP):
        return Ignored.UNKNOWN_CONVERSATION
    if body.integer("send_result"):
        return Ignored.SEND_FAILED
    if body.integer("msg_type") in SILENT_TYPES:
        return Ignored.NO_EVENT
    sender, ts = body.need("from_user_id"), reading.millis(body, ms=["msg_time"])
    data = _message(body, sender)
    if conversation == GROUP:
        return [
            _stored(
                call,
                ts,
                body.need("msg_id", Fields.ident),
                {"type": "group", "id": body.need("conv_id")},
                _directed(body, data),
            )
        ]
    receivers = _receivers(body)
    view = {"type": "c2c", "id": sender}
    return [
        _stored(call, ts, one, view, {**data, "recipients": [to]}) for to, one in receivers
    ] or Ignored.SEND_FAILED


def _receivers(body: Fields) -> list[tuple[str, str]]:
    """(receiver, message id) of a peer message; without failed ones, which have no id."""
    batch = body.objects("user_list")
    if batch:
        body.skip("conv_id", "msg_id")
        pairs = [(item.need("UserId"), item.ident("MsgId")) for item in batch]
        return [(user, one) for user, one in pairs if one is not None]
    return [(body.need("conv_id"), body.need("msg_id", Fields.ident))]


def _directed(body: Fields, data: dict[str, Any]) -> dict[str, Any]:
    """Sets the recipients in a group: TargetOption, or `recipients` as the core adds it.

    A directed message is not counted as unread.
    """
    people = body.texts("recipients")
    target = body.fields("TargetOption")
    listed = None if target is None else target.texts("ReceiverUserIds")
    inclusive = None if target is None else target.flag("Inclusive")
    if people is None and listed is not None:
        put(data["push"], "badge.counts_unread", False)
        return {**data, ("exclude" if inclusive is False else "recipients"): listed}
    return data if people is None else {**data, "recipients": people}


def _stored(
    call: Call, ts: int | None, message_id: str, conversation: dict[str, Any], data: dict[str, Any]
) -> dict[str, Any]:
    return call.event(
        "message.stored",
        f"stored:{message_id}",
        ts,
        {"message_id": message_id, "conversation": conversation, **data},
    )


# ---------------------------------------------------------------- calls


def _invited(
    body: Fields, call: Call, inviter: str, timeout_s: int, event_id: str, ts: int | None
) -> Found:
    people = body.texts("user_ids")
    if people is None:
        raise DialectError("missing_field", "user_ids is missing")
    if not people:
        return Ignored.NOBODY
    push = push_fields(body)
    push |= {"class": "call", "ttl_s": timeout_s}
    body.skip("appid", "nonce", "signature", "timestamp", "payload", "mode")
    data = {
        "call_id": _call_id(body),
        "inviter": {"id": inviter},
        "invitees": people,
        "timeout_s": timeout_s,
        "push": push,
    }
    return [call.event("call.invited", event_id, ts, data)]


def _call_id(body: Fields) -> str:
    return body.need("call_id", Fields.ident)


def call_create(body: Fields, call: Call) -> Found:
    """create_time and timeout are seconds."""
    wished = body.integer("timeout")
    timeout_s = CALL_TIMEOUT_S if wished is None else min(max(wished, 1), CALL_TIMEOUT_S_MAX)
    ts = reading.millis(body, s=["create_time", "timestamp"])
    return _invited(body, call, body.need("caller"), timeout_s, f"call:{_call_id(body)}:create", ts)


def call_invite(body: Fields, call: Call) -> Found:
    """Into a running call; invite_time is milliseconds, and there is no timeout."""
    ts = reading.millis(body, ms=["invite_time"], s=["timestamp"])
    time = "" if ts is None else f":{ts}"
    return _invited(
        body, call, body.need("inviter"), CALL_TIMEOUT_S, f"call:{_call_id(body)}:invite{time}", ts
    )


def _ended(body: Fields, call: Call, reason: str, event_id: str, users: list[str] | None) -> Found:
    body.skip("appid", "nonce", "signature", "payload", "extend_data", "user_ids", "reason")
    data: dict[str, Any] = {"call_id": _call_id(body), "reason": reason}
    if users is not None:
        data["users"] = users
    return [call.event("call.ended", event_id, reading.millis(body, s=["timestamp"]), data)]


def call_cancel(body: Fields, call: Call) -> Found:
    """By the caller, or as the invitation ran out: for everybody."""
    reason = "timeout" if body.text("reason") == "timeout_cancel" else "cancelled"
    return _ended(body, call, reason, f"call:{_call_id(body)}:cancel", None)


def call_timeout(body: Fields, call: Call) -> Found:
    """Some or all callees did not answer."""
    users = body.texts("user_ids")
    if not users:
        return Ignored.NOBODY
    event_id = reading.joined(
        "call", _call_id(body), "timeout", body.need_integer("timestamp"), ",".join(sorted(users))
    )
    return _ended(body, call, "timeout", event_id, users)


def _answered(reason: str, what: str) -> Handler:
    def handler(body: Fields, call: Call) -> Found:
        user = body.need("user_id")
        event_id = reading.joined(
            "call", _call_id(body), what, user, body.need_integer("timestamp")
        )
        return _ended(body, call, reason, event_id, [user])

    return handler


# ---------------------------------------------------------------- sessions

PLATFORMS: Final = {
    "PC": "windows",
    "IOS_PHONE": "ios",
    "IPAD": "ipad",
    "ANDROID": "android",
    "ANDROID_TV": "android",
    "OHOS": "harmony",
    "MAC": "mac",
    "LINUX": "linux",
    "WEB": "web",
    "MINIPROGRAM": "web",
}
LOGIN, LOGOUT = 0, 1


def user_action(body: Fields, call: Call) -> Found:
    """Login, logout, offline. session_id is one connection: part of the event's
    id, never a device.
    """
    action, user = body.need_integer("action"), body.need("user_id")
    if action != LOGOUT:
        return Ignored.LOGIN if action == LOGIN else Ignored.NOT_A_LOGOUT
    platform = PLATFORMS.get((body.text("os") or "").strip().upper())
    if platform is None:
        return Ignored.NO_PLATFORM
    ts = reading.millis(body, s=["logout_time", "timestamp"])
    session = body.ident("session_id")
    body.skip(
        "appid",
        "nonce",
        "signature",
        "timestamp",
        "user_name",
        "login_time",
        "relogin",
        "logout_reason",
        "offline_time",
    )
    event_id = (
        reading.joined("state", session, "logout")
        if session
        else reading.joined("state", user, ts or call.entry_ms, "logout", platform)
    )
    return [call.event("session.logout", event_id, ts, {"user": user, "platform": platform})]


EVENTS: Final[dict[str, Handler]] = {
    "send_msg": message,
    "call_create": call_create,
    "call_invite": call_invite,
    "call_cancel": call_cancel,
    "call_timeout": call_timeout,
    "call_accept": _answered("accepted", "accept"),
    "call_reject": _answered("rejected", "reject"),
    "user_action": user_action,
}
#: Known, and nothing for us in them.
SILENT: Final = frozenset({"bot_msg", "before_send_msg"})


def tenants(body: dict[str, Any], query: str | None) -> list[str]:
    """`appid` of the body; the URL is the customer's own, so the query names no tenant."""
    _ = query
    named = Fields(body).ident("appid")
    return [] if named is None else [named]


def translate(
    body: dict[str, Any], *, app: str | None, query: str | None, entry_ms: int
) -> Translated:
    """Events of one callback body (the decoded JSON)."""
    source = Fields(body)
    name = source.text("event")
    if name is None:
        raise DialectError("no_command", "event is missing")
    return reading.run(EVENTS, SILENT, name, source, (app, query, entry_ms))
