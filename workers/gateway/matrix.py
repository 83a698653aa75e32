"""Matrix push gateway API: one notification of a homeserver -> one `push.direct` a device. Pure.

Behaviour of Synapse 1.163 as seen on the wire: docs/doors/synapse.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from common.model import Vendor
from workers.gateway.aliases import Found
from workers.gateway.events import BODY_CHARS_MAX, as_name, as_text, direct_event, fitting
from workers.routing.texts import translate

#: A call rings no longer than this, however long its lifetime is.
CALL_S_MAX: Final = 60
RING_TYPES: Final = frozenset({"m.rtc.notification", "org.matrix.msc4075.rtc.notification"})
ELEMENTS: Final = {
    "m.image": "image",
    "m.audio": "sound",
    "m.video": "video",
    "m.file": "file",
    "m.location": "location",
}
INVITED: Final = {"zh": "邀请您加入 {room}", "en": "invited you to {room}"}
_HEX = re.compile(r"[0-9a-fA-F]+")


def event_id_of(notification: Mapping[str, Any], app_id: str, pushkey: str, now_ms: int) -> str:
    """The id, the same for every attempt of one notification to one device.

    A badge update has no id on the wire.
    """
    digest = hashlib.sha256(f"{app_id}\0{pushkey}".encode("utf-8", "replace")).hexdigest()[:16]
    event_id = as_name(notification.get("event_id"))
    if not event_id:
        return f"mx:b:{digest}:{now_ms}"
    whole = f"mx:{event_id}:{digest}"
    return (
        whole
        if len(whole) <= 128
        else "mx:" + hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()
    )


def token_of(vendor: Vendor, pushkey: str) -> str:
    """As the vendor writes it: Apple's token comes in hex or in base64, by the client."""
    if vendor != Vendor.APNS or _HEX.fullmatch(pushkey):
        return pushkey
    try:
        raw = base64.b64decode(pushkey.strip() + "=" * (-len(pushkey.strip()) % 4), validate=True)
        return raw.hex() or pushkey
    except (binascii.Error, ValueError):
        return pushkey


def event_of(
    notification: Mapping[str, Any], device: Mapping[str, Any], found: Found, lang: str, now_ms: int
) -> dict[str, Any]:
    """The native event of one device. Total: whatever a field holds, it is used or left out."""
    pushkey, app_id = as_text(device.get("pushkey")), as_text(device.get("app_id"))
    data: dict[str, Any] = {"message_id": _message_id(notification, app_id, pushkey, now_ms)}
    data |= _about(notification)
    kind, push = _push(notification, device, found, lang)
    return direct_event(
        found,
        event_id_of(notification, app_id, pushkey, now_ms),
        token_of(found.account.vendor, pushkey),
        now_ms,
        {**data, "kind": kind, "push": push},
        since_ms=_seconds(device.get("pushkey_ts")),
    )


def _message_id(notification: Mapping[str, Any], app_id: str, pushkey: str, now_ms: int) -> str:
    return as_name(notification.get("event_id")) or event_id_of(
        notification, app_id, pushkey, now_ms
    )


def _seconds(value: Any) -> int:
    """pushkey_ts is in seconds; 0 without a value."""
    return (
        int(value) * 1000
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11
        else 0
    )


def _about(notification: Mapping[str, Any]) -> dict[str, Any]:
    """Conversation and sender. Without a sender (event_id_only) the room is both."""
    room, name = as_name(notification.get("room_id")), as_name(notification.get("room_name"))
    if not room:
        return {}
    sender = as_name(notification.get("sender")) or room
    conversation = (
        {"type": "group", "id": room, "name": name} if name else {"type": "c2c", "id": room}
    )
    nick = as_name(notification.get("sender_display_name"))
    whom = {"id": sender, "nick": nick} if nick else {"id": sender}
    return {"conversation": conversation, "sender": whom}


def _push(
    notification: Mapping[str, Any], device: Mapping[str, Any], found: Found, lang: str
) -> tuple[str, dict[str, Any]]:
    badge = _badge(notification)
    if not as_name(notification.get("event_id")):
        return (
            ("badge", {"badge": badge})
            if badge is not None
            else ("badge", {"badge": {"mode": "set", "value": 0}})
        )
    data = device.get("data") if isinstance(device.get("data"), Mapping) else {}
    default = data.get("default_payload") if isinstance(data, Mapping) else None
    default = default if isinstance(default, Mapping) else {}
    only_id = isinstance(data, Mapping) and data.get("format") == "event_id_only"
    push: dict[str, Any] = {
        "data": {"payload": fitting(_payload(notification, default, only_id, found.account.vendor))}
    }
    if badge is not None and not only_id:
        push["badge"] = badge
    kind, words = ("message", None) if only_id else _words(notification, lang)
    push["display"] = words or {}
    push |= _manner(notification, device, found, kind, shown=words is not None)
    aps = default.get("aps")
    if found.account.vendor == Vendor.APNS and isinstance(aps, Mapping):
        push["vendor_raw"] = {"apns": {"aps": fitting(_aps(aps, words is not None))}}
        if aps.get("content-available") == 1:
            push["vendor"]["apns"]["content_available"] = True
    if kind == "silent":
        return "message", {**push, "push_type": "silent"}
    return kind, push


def _aps(aps: Mapping[str, Any], is_text: bool) -> dict[str, Any]:
    """The app's own `aps`; its text is used only where the message has none.

    Badge and sound are the notification's.
    """
    kept = {name: value for name, value in aps.items() if name != "content-available"}
    if is_text:
        kept.pop("alert", None)
    elif isinstance(kept.get("alert"), str):
        kept["alert"] = {"body": kept["alert"]}
    return kept


def _badge(notification: Mapping[str, Any]) -> dict[str, Any] | None:
    """The badge; None without counts. A homeserver omits single counts of 0."""
    counts = notification.get("counts")
    if not isinstance(counts, Mapping):
        return None
    numbers = [counts[name] for name in ("unread", "missed_calls") if name in counts]
    known = [
        number for number in numbers if isinstance(number, int) and not isinstance(number, bool)
    ]
    if numbers and not known:
        return None
    return {"mode": "set", "value": min(max(sum(known), 0), 2**31 - 1)}


def _manner(
    notification: Mapping[str, Any],
    device: Mapping[str, Any],
    found: Found,
    kind: str,
    *,
    shown: bool,
) -> dict[str, Any]:
    """Volume and urgency, and ids by which a retry replaces its first attempt."""
    tweaks = device.get("tweaks") if isinstance(device.get("tweaks"), Mapping) else {}
    sound = as_text(tweaks.get("sound")) if isinstance(tweaks, Mapping) else ""
    apns: dict[str, Any] = (
        {"interruption_level": "active"}
        if isinstance(tweaks, Mapping) and tweaks.get("highlight")
        else {}
    )
    if not shown:
        apns["mutable_content"] = True
    vendor: dict[str, Any] = {"fcm": {"data_only": True}}
    if notification.get("prio") == "low":
        apns["priority"], vendor["fcm"]["priority"] = "5", "normal"
    collapse_key = as_name(notification.get("event_id"))
    manner: dict[str, Any] = {"collapse_key": collapse_key, "vendor": {**vendor, "apns": apns}}
    if room := as_name(notification.get("room_id")):
        manner["thread_id"] = room
    if sound != "default" and kind != "call":
        manner["sound"] = {"ios": sound or "none", "android": sound or "none"}
    if kind == "call":
        manner["ttl_s"] = _ring_s(_content(notification))
    if found.voip:
        manner["push_type"] = "voip"
    return manner


def _content(notification: Mapping[str, Any]) -> Mapping[str, Any]:
    content = notification.get("content")
    return content if isinstance(content, Mapping) else {}


def _ring_s(content: Mapping[str, Any]) -> int:
    """Seconds of ringing: the call's lifetime (ms), a minute at most."""
    lifetime = content.get("lifetime")
    known = isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and lifetime > 0
    # bounded first: JSON's 1e400 is read as infinity, which no integer is
    return max(1, int(min(lifetime / 1000, CALL_S_MAX))) if known else CALL_S_MAX  # type: ignore[operator]


def _words(notification: Mapping[str, Any], lang: str) -> tuple[str, dict[str, Any] | None]:
    """(kind, display); display None: the message has no text. kind `silent`: nothing is shown."""
    kind, content = as_text(notification.get("type")), _content(notification)
    name = as_name(notification.get("sender_display_name")) or as_name(notification.get("sender"))
    room = as_name(notification.get("room_name"))
    if kind == "m.call.invite" or (
        kind in RING_TYPES and content.get("notification_type") == "ring"
    ):
        body = (
            f"{name}: {translate('call_invite', lang)}" if room else translate("call_invite", lang)
        )
        return "call", {"title": room or name, "body": body}
    if kind == "m.room.member":
        # Synapse names it beside the content, the specification within
        membership = notification.get("membership") or content.get("membership")
        if as_text(membership) != "invite" or notification.get("user_is_target") is not True:
            return "silent", None
        invited = INVITED.get(lang, INVITED["en"]).format(
            room=room or as_name(notification.get("room_id"))
        )
        return "message", {"title": room or name, "body": f"{name} {invited}"}
    text = _text_of(content, lang) if kind == "m.room.message" else ""
    if not text:
        return "message", None
    return "message", {"title": room or name, "body": f"{name}: {text}" if room else text}


def _text_of(content: Mapping[str, Any], lang: str) -> str:
    """A message's text, or its kind."""
    msgtype = as_text(content.get("msgtype"))
    if msgtype in ELEMENTS:
        return translate(ELEMENTS[msgtype], lang)
    return as_text(content.get("body"))[:BODY_CHARS_MAX].strip()


def _payload(
    notification: Mapping[str, Any], default: Mapping[str, Any], only_id: bool, vendor: Vendor
) -> dict[str, Any]:
    """Keys for the app: its default payload, the ids, and the keys of FCM's data messages."""
    counts = notification.get("counts") if isinstance(notification.get("counts"), Mapping) else {}
    payload: dict[str, Any] = {name: value for name, value in default.items() if name != "aps"}
    for name in ("room_id", "event_id"):
        if text := as_name(notification.get(name)):
            payload[name] = text
    if isinstance(counts, Mapping):
        for name, ours in (("unread", "unread_count"), ("missed_calls", "missed_calls")):
            if isinstance(counts.get(name), int):
                payload[ours] = counts[name]
    if vendor != Vendor.FCM:
        return payload
    payload["prio"] = "normal" if notification.get("prio") == "low" else "high"
    if isinstance(counts, Mapping) and isinstance(counts.get("unread"), int):
        payload["unread"] = counts["unread"]
    if only_id:
        return payload
    for name in ("type", "sender", "sender_display_name", "room_name", "room_alias", "membership"):
        if text := as_name(notification.get(name)):
            payload[name] = text
    return payload | _flat(_content(notification), "content")


def _flat(content: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """`content_<key>`, nested ones too, texts only, as sygnal names them."""
    flat: dict[str, Any] = {}
    for key, value in list(content.items())[:50]:
        name = f"{prefix}_{key}"
        if isinstance(value, Mapping) and prefix.count("_") < 2:
            flat |= _flat(value, name)
        elif isinstance(value, str):
            flat[name] = value[:BODY_CHARS_MAX]
    return flat
