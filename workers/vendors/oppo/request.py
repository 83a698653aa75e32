"""The request that carries a batch to OPPO. Source: docs/vendors/oppo.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from common.contracts import Notification
from common.model import Bucket, MessageClass, PushType
from workers.vendors.form_texts import (
    body_of,
    click_text,
    first_words,
    generic,
    json_text,
    mapping,
    number,
    scalar,
    text_only,
    title_of,
)
from workers.vendors.ids import number_id
from workers.vendors.json_text import whole
from workers.vendors.oppo.codes import NAME_MAX, without_level
from workers.vendors.oppo.registration_ids import group, sent
from workers.vendors.text import characters
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

TITLE_MAX: Final = 50
SUB_TITLE_MAX: Final = 10
CONTENT_MAX: Final = {1: 50, 2: 128}  # by style: standard, long text
PARAMETERS_CHARS_MAX: Final = 4000  # action_parameters
TEMPLATE_VALUE_MAX: Final = 50  # no limit is published: that of the content they become a part of
OFFLINE_TTL_S_MAX: Final = 864_000  # 10 days
#: The most a class may stay on the screen.
SHOW_TTL_S: Final = {Bucket.PRIVATE: 86_400, Bucket.PUBLIC: 43_200}
CALLBACK_URL_MAX: Final = 200
ACTIVITY_MAX, URL_MAX = 500, 2000
#: Classes of 2024-11-20. An unknown category is never sent.
PRIVATE_CATEGORIES: Final = frozenset(
    {"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"}
)
PUBLIC_CATEGORIES: Final = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
#: Shade, shade and lock screen, and the strong alert, which needs a right of its own and is for
#: chat messages only.
SHADE, LOCK_SCREEN, STRONG = 1, 2, 16
STRONG_CLASSES: Final = frozenset({MessageClass.CHAT, MessageClass.CALL})
#: Keys of `notification` that a sender may set verbatim. None names a target, a template, a receipt
#: or a mode; channel, category and level are overrides by the time they come here
#: (workers/routing/classes.py: with_raw).
RAW_NUMBERS: Final = {
    "click_action_type": (0, 5),
    "show_time_type": (0, 1),
    "show_start_time": (0, 1 << 53),
    "show_end_time": (0, 1 << 53),
    "network_type": (0, 1),
}
RAW_TEXTS: Final = {
    "sub_title": SUB_TITLE_MAX,
    "click_action_activity": ACTIVITY_MAX,
    "click_action_url": URL_MAX,
}
CLICK_NEEDS: Final = {
    0: None,
    1: "click_action_activity",
    2: "click_action_url",
    4: "click_action_activity",
    5: "click_action_url",
}


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """One target by unicast, several by unicast_batch.

    Each has its own message and its own `app_message_id`.
    """
    items = sent(batch)
    # what a notification's items have in common, rendered once
    shared: dict[tuple[int, bool], dict[str, Any]] = {}
    for item in items:
        key = (id(item.note), without_level(item))
        if key not in shared:
            shared[key] = _notification(item, credential)
    messages = [_message(item, shared[id(item.note), without_level(item)], batch) for item in items]
    if len(messages) == 1:
        path, field, value = "unicast", "message", json_text(messages[0])
    else:
        path, field, value = "unicast_batch", "messages", json_text(messages)
    form = (("auth_token", access.value if access else ""), (field, value or ""))
    return Request(group(items[0]), f"/server/v1/message/notification/{path}", FORM, encode(form))


FORM: Final = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}


def encode(form: Sequence[tuple[str, str]]) -> bytes:
    return urlencode([(key, whole(value)) for key, value in form]).encode()


def _message(item: PushItem, shared: Mapping[str, Any], batch: RequestBatch) -> dict[str, Any]:
    """One (target, message) pair. verify_registration_id: a device that got another id since then
    drops it.
    """
    ttl_s = min(max(item.ttl_s, 1), OFFLINE_TTL_S_MAX)
    own = {"app_message_id": item.target.push_id, "off_line_ttl": ttl_s}
    notification = {**own, **shared, **_callback(item, batch)}
    token = whole(item.target.token)
    return {
        "target_type": 2,
        "target_value": token,
        "verify_registration_id": True,
        "notification": notification,
    }


def _notification(item: PushItem, credential: Credential) -> dict[str, Any]:
    """The fields that do not depend on the target (but for `again`)."""
    note = item.note
    style = 2 if scalar(note.vendor.get("style"), 4) == "1" else 1
    notification: dict[str, Any] = {
        "style": style,
        "title": title_of(note, TITLE_MAX),
        "content": body_of(note, CONTENT_MAX[style]),
        "click_action_type": 0,
        "off_line": True,
        "show_ttl": SHOW_TTL_S[note.bucket],
        "notify_id": number_id(note.collapse_id),
        **_class_fields(item, _category(note), credential),
        **_raw(note),
    }
    if parameters := click_text(note, PARAMETERS_CHARS_MAX, _raw_parameters(note), characters):
        notification["action_parameters"] = parameters
    return notification


def _category(note: Notification) -> str:
    """The placed category, or the sender's: within the bucket or below it, never from public to
    private.
    """
    over = scalar(note.vendor.get("category"), NAME_MAX) or ""
    allowed = (
        PUBLIC_CATEGORIES
        if note.bucket is Bucket.PUBLIC
        else PRIVATE_CATEGORIES | PUBLIC_CATEGORIES
    )
    return over if over in allowed else note.placement.get("category", "")


def _private(note: Notification, category: str) -> bool:
    """True for communication & service. Without a category the channel decides (old scheme)."""
    return note.bucket is Bucket.PRIVATE and category not in PUBLIC_CATEGORIES


def _class_fields(item: PushItem, category: str, credential: Credential) -> dict[str, Any]:
    note = item.note
    private = _private(note, category)
    over = scalar(note.vendor.get("channel_id"), NAME_MAX) if private else None
    channel = over or note.placement.get("channel_id")
    level = _notify_level(item, category, credential.rights)
    fields: dict[str, Any] = {}
    if channel:
        fields["channel_id"] = whole(channel)
    if category:
        fields["category"] = whole(category)
    if category and level:
        fields["notify_level"] = level
    return {**fields, **_template(note, credential)} if private else fields


def _notify_level(item: PushItem, category: str, rights: frozenset[str]) -> int | None:
    """1, 2 or 16; 16 needs the right and a chat message, a quiet and a silent push take 1.

    Without a level the phone rings. None for a public push, where the vendor has refused it (67) or
    nothing was placed.
    """
    note = item.note
    if without_level(item) or not _private(note, category):
        return None
    if quiet(note) or note.push_type is PushType.SILENT:
        return SHADE
    placed = number(note.placement.get("notify_level"), SHADE, STRONG)
    wanted = number(note.vendor.get("notify_level"), SHADE, STRONG) or placed
    strong = note.message_class in STRONG_CLASSES and (placed == STRONG or "oppo.strong" in rights)
    most = STRONG if strong else LOCK_SCREEN
    levels = [level for level in (SHADE, LOCK_SCREEN, STRONG) if level <= min(wanted or 0, most)]
    return max(levels, default=None)


def _template(note: Notification, credential: Credential) -> dict[str, Any]:
    """The sender's private template, else the credential's with sender and text as variables."""
    given = note.template or {}
    chosen = scalar(given.get("id"), NAME_MAX)
    identity = chosen or note.placement.get("template_id")
    if not identity:
        return {}
    if chosen:
        title, content = (
            _given(note, given.get(part)) for part in ("title_params", "content_params")
        )
    else:
        title, content = _own(note)
    wire = json_text if credential.options.get("template_params") == "json_text" else dict
    fields: dict[str, Any] = {"private_msg_template_id": whole(identity)}
    filled = (("private_title_parameters", title), ("private_content_parameters", content))
    for name, values in filled:
        if values:
            fields[name] = wire(values)
    return fields


def _own(note: Notification) -> tuple[dict[str, str], dict[str, str]]:
    placed, name, text = note.placement, note.sender_name or note.title, note.text or note.body
    if text_only(note):
        name, text = note.title, note.body
    sender = first_words(TEMPLATE_VALUE_MAX, name, note.app_name, generic(note))
    words = first_words(TEMPLATE_VALUE_MAX, text, note.fallback_body, generic(note))
    title, content = placed.get("template_sender", "sender"), placed.get("template_text", "text")
    return ({whole(title): sender} if title else {}), ({whole(content): words} if content else {})


def _given(note: Notification, values: Any) -> dict[str, str]:
    """A sender's template values (an object, or its JSON text), each as text that is not blank.

    A missing or hidden value is replaced by ours: a missing variable would cost the person the
    message.
    """
    return {
        whole(key): first_words(
            TEMPLATE_VALUE_MAX,
            None if text_only(note) else scalar(value, PARAMETERS_CHARS_MAX),
            generic(note),
        )
        for key, value in mapping(values).items()
        if isinstance(key, str)
    }


def _raw_notification(note: Notification) -> Mapping[str, Any]:
    """A sender's own fields, at the root or under `notification`."""
    inner = note.vendor_raw.get("notification")
    return inner if isinstance(inner, Mapping) else note.vendor_raw


def _raw(note: Notification) -> dict[str, Any]:
    """White-listed fields with valid values; a click that lacks its address stays what it was."""
    raw = _raw_notification(note)
    fields: dict[str, Any] = {}
    for key, (low, high) in RAW_NUMBERS.items():
        if (value := number(raw.get(key), low, high)) is not None:
            fields[key] = value
    for key, most in RAW_TEXTS.items():
        if text := scalar(raw.get(key), most):
            fields[key] = text
    if (shorter := number(raw.get("show_ttl"), 0, SHOW_TTL_S[note.bucket])) is not None:
        fields["show_ttl"] = shorter
    if text_only(note):
        fields.pop("sub_title", None)
    click = fields.get("click_action_type")
    if click is not None and (
        click not in CLICK_NEEDS or (CLICK_NEEDS[click] and CLICK_NEEDS[click] not in fields)
    ):
        del fields["click_action_type"]
    return fields


def _raw_parameters(note: Notification) -> Mapping[str, Any]:
    """A sender's own action_parameters, object or text; they lie below `ext`."""
    return mapping(_raw_notification(note).get("action_parameters"))


def _callback(item: PushItem, batch: RequestBatch) -> dict[str, str]:
    url = whole(batch.callback_url or "")
    return (
        {"call_back_url": url, "call_back_parameter": item.target.push_id}
        if 0 < len(url) <= CALLBACK_URL_MAX
        else {}
    )
