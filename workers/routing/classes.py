"""What a message is -> how it may travel: one policy for all vendors, as tables. Pure.

A lane sends a private class as private only with the right for it; without, it goes down to the public bucket and its row
says `downgraded`. It never goes up: no wish of a sender makes a public class private.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from common.model import PRIVATE_CLASSES, Bucket, MessageClass, PushType, Vendor
from common.values import Value
from workers.vendors.base import Credential

C = MessageClass


class Placement(Value, frozen=True):
    """bucket: the quota it counts in. fields: what the vendor file puts on the wire, names as in its own page."""

    bucket: Bucket
    class_sent: MessageClass
    downgraded: bool
    fields: Mapping[str, str]


#: The category word of each class by vendor. Sources: docs/vendors/<vendor>.md, message classes.
HUAWEI_CATEGORY: Final[Mapping[MessageClass, str]] = {
    C.CHAT: "IM",
    C.CALL: "VOIP",
    C.ACCOUNT: "ACCOUNT",
    C.ORDER: "EXPRESS",
    C.TODO: "WORK",
    C.DEVICE: "DEVICE_REMINDER",
    C.SUBSCRIPTION: "SUBSCRIPTION",
}
OPPO_CATEGORY: Final[Mapping[MessageClass, str]] = {
    C.CHAT: "IM",
    C.CALL: "IM",
    C.ACCOUNT: "ACCOUNT",
    C.ORDER: "ORDER",
    C.TODO: "TODO",
    C.DEVICE: "DEVICE_REMINDER",
    C.SUBSCRIPTION: "SUBSCRIPTION",
    C.NEWS: "NEWS",
    C.CONTENT: "CONTENT",
    C.MARKETING: "MARKETING",
    C.SOCIAL: "SOCIAL",
}
VIVO_CATEGORY: Final = OPPO_CATEGORY
#: Categories that Huawei knows as service and communication; each needs its right `huawei.<category>`.
HUAWEI_SERVICE: Final = frozenset(
    [
        "IM",
        "VOIP",
        "MISS_CALL",
        "SUBSCRIPTION",
        "TRAVEL",
        "HEALTH",
        "WORK",
        "ACCOUNT",
        "EXPRESS",
        "FINANCE",
        "DEVICE_REMINDER",
        "MAIL",
        "PLAY_VOICE",
    ]
)
OPPO_PRIVATE: Final = frozenset(OPPO_CATEGORY[one] for one in PRIVATE_CLASSES)


def place(wanted: MessageClass, push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    """How a message of this class travels on this lane. over: the sender's overrides for this vendor (they can only lower)."""
    placed = _TABLE[credential.vendor](wanted, push_type, credential, over)
    if over and placed.bucket is Bucket.PRIVATE:
        plain = _TABLE[credential.vendor](wanted, push_type, credential, _NO_WISH)
        return placed if plain.bucket is Bucket.PRIVATE else plain
    return placed


_NO_WISH: Final[Mapping[str, Any]] = {}


#: Where a sender's verbatim fields (vendor_raw) speak of class and channel: the object they stand in, if it is there, and their
#: names, which are those of the overrides. The other vendors' files read theirs themselves.
_RAW_WISHES: Final[Mapping[Vendor, tuple[str, tuple[str, ...]]]] = {
    Vendor.XIAOMI: ("extra", ("channel_id",)),
    Vendor.OPPO: ("notification", ("channel_id", "category", "notify_level")),
    Vendor.VIVO: ("", ("classification", "category")),
}


def with_raw(vendor: Vendor, over: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides with what the verbatim fields say of class and channel laid over them (im-dialects §1, precedence): one wish for
    the wire, the quota and the row."""
    part, names = _RAW_WISHES.get(vendor, ("", ()))
    inner = raw.get(part)
    fields = inner if isinstance(inner, Mapping) else raw
    return {**over, **{name: fields[name] for name in names if _word(fields.get(name))}}


def _word(value: Any) -> str:
    """A wish as text: a text or a whole number; "" for what is none."""
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _private(wanted: MessageClass, fields: Mapping[str, str]) -> Placement:
    return Placement(Bucket.PRIVATE, wanted, downgraded=False, fields=fields)


def _public(wanted: MessageClass, fields: Mapping[str, str], *, asked: bool = False) -> Placement:
    """asked: the sender himself wished it public; that is no downgrade of ours."""
    down = wanted in PRIVATE_CLASSES
    return Placement(Bucket.PUBLIC, C.MARKETING if down else wanted, downgraded=down and not asked, fields=fields)


def _huawei(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    prefix = "harmony" if credential.vendor == Vendor.HARMONY else "huawei"
    wish = str(over.get("category") or "").upper()
    fields = _channel(credential, wanted, over)
    if prefix == "huawei":
        fields["importance"] = "LOW" if str(over.get("importance") or "").upper() == "LOW" else "NORMAL"
    if wanted in PRIVATE_CLASSES and wish != "MARKETING":
        for category in (wish, HUAWEI_CATEGORY[wanted]):
            if category in HUAWEI_SERVICE and f"{prefix}.{category.lower()}" in credential.rights:
                return _private(wanted, {**fields, "category": category})
    return _public(wanted, {**fields, "category": "MARKETING"}, asked=wish == "MARKETING")


def _honor(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    lowered = str(over.get("importance") or "").upper() == "LOW"
    if wanted in PRIVATE_CLASSES and "honor.service" in credential.rights and not lowered:
        return _private(wanted, {"importance": "NORMAL"})
    return _public(wanted, {"importance": "LOW"}, asked=lowered)


def _xiaomi(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    channel, template = credential.channels.get(wanted), credential.templates.get(wanted)
    if wanted in PRIVATE_CLASSES and "xiaomi.private" in credential.rights and channel and template:
        fields = {"channel_id": _word(over.get("channel_id")) or channel, "template_id": _word(over.get("template_id")) or template.id}
        return _private(wanted, {**fields, "template_sender": template.sender, "template_text": template.text})
    public = credential.channels.get(wanted if wanted not in PRIVATE_CLASSES else C.MARKETING) or credential.channels.get(C.MARKETING)
    return _public(wanted, {"channel_id": public} if public else {})


def _oppo(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    wish = str(over.get("category") or "").upper()
    lowered = bool(wish) and wish not in OPPO_PRIVATE and wish in OPPO_CATEGORY.values()
    if wanted in PRIVATE_CLASSES and "oppo.private" in credential.rights and not lowered:
        strong = "oppo.strong" in credential.rights and wanted in (C.CHAT, C.CALL)
        level = str(over.get("notify_level") or ("16" if strong else "2"))
        if level not in ("1", "2") and not (level == "16" and strong):
            level = "2"
        category = wish if wish in OPPO_PRIVATE else OPPO_CATEGORY[wanted]
        fields = _channel(credential, wanted, over) | {"category": category, "notify_level": level}
        template = credential.templates.get(wanted)
        if template is not None:
            fields |= {"template_id": template.id, "template_sender": template.sender, "template_text": template.text}
        return _private(wanted, fields)
    sent = C.MARKETING if wanted in PRIVATE_CLASSES else wanted
    fields = _channel(credential, sent, {}) | {"category": wish if lowered else OPPO_CATEGORY[sent], "notify_level": "1"}
    return _public(wanted, fields, asked=lowered)


def _vivo(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    wish = str(over.get("category") or "").upper()
    lowered = str(over.get("classification", "1")) == "0"
    if wanted in PRIVATE_CLASSES and "vivo.system" in credential.rights and not lowered:
        return _private(wanted, {"classification": "1", "category": wish if wish in OPPO_PRIVATE else VIVO_CATEGORY[wanted]})
    sent = C.MARKETING if wanted in PRIVATE_CLASSES else wanted
    known = wish in VIVO_CATEGORY.values() and wish not in OPPO_PRIVATE
    return _public(wanted, {"classification": "0", "category": wish if known else VIVO_CATEGORY[sent]}, asked=lowered)


def _meizu(wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    lowered = str(over.get("notice_msg_type", "1")) == "0"
    if wanted in PRIVATE_CLASSES and "meizu.private" in credential.rights and not lowered:
        return _private(wanted, {"notice_msg_type": "1"})
    return _public(wanted, {"notice_msg_type": "0"}, asked=lowered)


def _fcm(wanted: MessageClass, push_type: PushType, credential: Credential, over: Mapping[str, Any]) -> Placement:
    private = wanted in PRIVATE_CLASSES
    lowered = str(over.get("priority") or "").lower() == "normal"
    fields = _channel(credential, wanted, over)
    fields["priority"] = "HIGH" if private and push_type != PushType.SILENT and not lowered else "NORMAL"
    return _private(wanted, fields) if private else _public(wanted, fields)


def _apns(wanted: MessageClass, push_type: PushType, _credential: Credential, over: Mapping[str, Any]) -> Placement:
    if push_type == PushType.SILENT:
        fields = {"priority": "5"}
    elif wanted == C.CALL:
        fields = {"priority": "10", "interruption_level": "time-sensitive"}
    elif wanted in PRIVATE_CLASSES:
        fields = {"priority": "10", "interruption_level": "active"}
    else:
        fields = {"priority": "5", "interruption_level": "passive"}
    if _word(over.get("priority")) == "5" and wanted != C.CALL:  # a sender may lower it
        fields["priority"] = "5"
    return _private(wanted, fields) if wanted in PRIVATE_CLASSES else _public(wanted, fields)


def _channel(credential: Credential, wanted: MessageClass, over: Mapping[str, Any]) -> dict[str, str]:
    channel = _word(over.get("channel_id")) or credential.channels.get(wanted)
    return {"channel_id": channel} if channel else {}


_TABLE: Final[Mapping[Vendor, Callable[[MessageClass, PushType, Credential, Mapping[str, Any]], Placement]]] = {
    Vendor.APNS: _apns,
    Vendor.FCM: _fcm,
    Vendor.HUAWEI: _huawei,
    Vendor.HARMONY: _huawei,
    Vendor.HONOR: _honor,
    Vendor.XIAOMI: _xiaomi,
    Vendor.OPPO: _oppo,
    Vendor.VIVO: _vivo,
    Vendor.MEIZU: _meizu,
}
