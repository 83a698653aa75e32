"""The request that carries a batch to Huawei. Source: docs/vendors/huawei.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.huawei_classes import SERVICE
from workers.vendors.huawei_family import (
    TAG_HEX,
    Keep,
    badge_of,
    bearer,
    body_of,
    click_data,
    fitted,
    group_of,
    image_of,
    item_ttl_s,
    json_text,
    laid,
    part,
    plain,
    raw_fields,
    refuse_long,
    silent_body,
    text_id,
    text_option,
    title_of,
    ttl_of,
)
from workers.vendors.ids import number_id, receipt_tag
from workers.vendors.json_text import compact
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

#: Source: 消息分类标准, read 2026-05. Each needs its own 自分类权益; MARKETING needs none.
CATEGORIES: Final = SERVICE - {"MISS_CALL"}  # which v1 does not list
MARKETING: Final = "MARKETING"
#: Fields that vendor_raw.huawei.notification may set. Ids on the screen, texts and class are ours.
RAW_NOTIFICATION: Final = frozenset(
    {
        "badge",
        "click_action",
        "color",
        "default_sound",
        "foreground_show",
        "icon",
        "image",
        "light_settings",
        "profile_id",
        "sound",
        "use_default_light",
        "use_default_vibrate",
        "vibrate_config",
        "visibility",
        "when",
    }
)
#: Those of them that make a noise or light up.
NOISE: Final = frozenset(
    {
        "default_sound",
        "sound",
        "use_default_light",
        "light_settings",
        "use_default_vibrate",
        "vibrate_config",
    }
)
QUIET_SOUND: Final = {"default_sound": False, "use_default_vibrate": False}
#: These are texts too: not set when the person hides details.
RAW_WORDS: Final = frozenset({"buttons", "inbox_content", "notify_summary", "ticker"})
RAW_ANDROID: Final = frozenset({"collapse_key", "fast_app_target"})
CHECK_TOKEN: Final = "pushfleet-credential-check"


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    note = batch.items[0].note
    if note.push_type is PushType.SILENT:
        body = _data_message(note, ttl_of(batch), receipt_tag(batch))
    else:
        style = 2 if _big_text(note) else 1
        body = fitted(
            lambda title, text, keep: _alert(batch, credential, title, text, keep),
            title_of(note),
            body_of(note),
            style,
            note.prefix,
        )
    body["message"]["token"] = [item.target.token for item in batch.items]
    return _send(credential, access, body)


def _send(credential: Credential, access: AccessToken | None, body: dict[str, Any]) -> Request:
    return Request(
        "HUAWEI", f"/v1/{credential.options['app_id']}/messages:send", bearer(access), compact(body)
    )


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`payload_too_large` where the data of a silent push does not fit."""
    if item.note.push_type is not PushType.SILENT:
        return None
    return refuse_long(_data_message(item.note, item_ttl_s(item), "0" * TAG_HEX))


def _data_message(note: Notification, ttl_s: int, tag: str) -> dict[str, Any]:
    """No notification in it, so the app's process gets it and nothing is shown."""
    android = {"urgency": "NORMAL", "ttl": f"{ttl_s}s", "bi_tag": tag, **_test(note)}

    def body(data: str) -> dict[str, Any]:
        message = {"data": data, "android": android, "token": []}
        return {"validate_only": False, "message": message}

    return silent_body(note, body, part(note.vendor_raw, "message").get("data"))


def _alert(
    batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note, options = batch.items[0].note, credential.options
    raw = note.vendor_raw if keep is Keep.ALL else {}
    android: dict[str, Any] = {
        "category": category_of(note, credential.rights),
        "ttl": f"{ttl_of(batch)}s",
        "bi_tag": receipt_tag(batch),
        **_test(note),
    }
    if receipt_id := text_option(options, "receipt_id", 64):
        android["receipt_id"] = receipt_id
    android = laid(android, part(part(raw, "message"), "android"), RAW_ANDROID)
    shown = _notification(batch, options, title, text, keep)
    fields = RAW_NOTIFICATION - NOISE if quiet(note) else RAW_NOTIFICATION
    android["notification"] = laid(
        shown, part(raw, "notification"), raw_fields(batch, fields, RAW_WORDS)
    )
    if "inbox_content" in android["notification"]:
        android["notification"]["style"] = 3
    message: dict[str, Any] = {"android": android, "token": []}
    if data := click_data(note, keep):
        message = {"data": json_text(data), **message}
    message = _with_data(message, note) if keep is Keep.ALL else message
    return {"validate_only": False, "message": message}


def _test(note: Notification) -> dict[str, Any]:
    """Test message: 500 a day of the app, beside the device's day. Source: huawei.md."""
    wanted = plain(note.vendor.get("target_user_type")) == "1"
    return {"target_user_type": 1} if wanted else {}


def _with_data(message: dict[str, Any], note: Notification) -> dict[str, Any]:
    """vendor_raw.huawei.message.data, a text, takes the place of ours."""
    data = part(note.vendor_raw, "message").get("data")
    return {**message, "data": data} if isinstance(data, str) else message


def _notification(
    batch: RequestBatch, options: Mapping[str, str], title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note = batch.items[0].note
    shown: dict[str, Any] = {
        "title": title,
        "body": text,
        "click_action": _click(note, options, keep),
        "importance": importance_of(note),
        "notify_id": number_id(note.collapse_id),
        "tag": text_id(note.collapse_id),
        "group": group_of(note),
        **(QUIET_SOUND if quiet(note) else _sound(note.sound_android)),
    }
    if channel := text_option(_overrides(note), "channel_id") or text_option(
        note.placement, "channel_id"
    ):
        shown["channel_id"] = channel
    if _big_text(note):
        shown |= {"style": 1, "big_title": title, "big_body": text}
    if (image := image_of(batch)) and keep is Keep.ALL:
        shown["image"] = image
    # Without the entry activity's name Huawei refuses the badge, so no name means no badge.
    if (badge := badge_of(batch)) is not None and (activity := text_option(options, "badge_class")):
        shown["badge"] = {"set_num": badge, "class": activity}
    return shown


def _click(note: Notification, options: Mapping[str, str], keep: Keep) -> dict[str, Any]:
    """Open the app; with ext_as_intent open it by an intent that carries the ext (Tencent's
    ExtAsHuaweiIntentParam).
    """
    wanted = note.vendor.get("ext_as_intent") in (1, "1", True)
    if not wanted or note.ext is None or keep < Keep.EXT:
        return {"type": 3}
    package = text_option(options, "package")
    target = "action=android.intent.action.MAIN;category=android.intent.category.LAUNCHER;launchFlags=0x10000000;"  # noqa: E501
    target += f"package={quote(package, safe='')};" if package else ""
    intent = f"intent:#Intent;{target}S.ext={quote(note.ext, safe='', errors='replace')};end"
    return {"type": 1, "intent": intent}


def _sound(name: str | None) -> dict[str, Any]:
    """`none`: no sound of ours; a file name: `/raw/<name without suffix>`, as Android names
    resources.
    """
    if name in (None, "", "default"):
        return {}
    if name == "none":
        return {"default_sound": False}
    path = name if str(name).startswith("/") else f"/raw/{str(name).rsplit('.', 1)[0]}"
    return {"sound": path[:128], "default_sound": False}


def _big_text(note: Notification) -> bool:
    return plain(_overrides(note).get("style")) == "1"


def _overrides(note: Notification) -> dict[str, Any]:
    """`vendor.huawei` with vendor_raw's values of the same fields on top."""
    android = part(part(note.vendor_raw, "message"), "android")
    raw = {**android, **part(note.vendor_raw, "notification")}
    names = ("category", "importance", "channel_id", "style")
    return {**note.vendor, **{key: raw[key] for key in names if key in raw}}


def category_of(note: Notification, rights: frozenset[str]) -> str:
    """The placed category, or an override that does not raise it.

    Marketing stays marketing, and a category needs its right.
    """
    placed = note.placement.get("category", MARKETING)
    if note.bucket is Bucket.PUBLIC:
        return MARKETING
    wanted = plain(_overrides(note).get("category")).upper()
    granted = wanted in CATEGORIES and f"huawei.{wanted.lower()}" in rights
    return wanted if granted or wanted == MARKETING else placed


def importance_of(note: Notification) -> str:
    """NORMAL or LOW (silent). Marketing is never raised above its placement; a quiet push makes no
    sound.
    """
    public = note.bucket is Bucket.PUBLIC
    importance = note.placement.get("importance", "LOW" if public else "NORMAL")
    placed = "NORMAL" if importance == "NORMAL" else "LOW"
    wanted = plain(_overrides(note).get("importance")).upper()
    if quiet(note) or wanted == "LOW":
        return "LOW"
    return "NORMAL" if wanted == "NORMAL" and not public else placed


def check(credential: Credential, access: AccessToken | None) -> Request:
    """`validate_only`: Huawei looks at credential and format, nothing is delivered."""
    notification = {"title": "check", "body": "check", "click_action": {"type": 3}}
    message = {"android": {"notification": notification}, "token": [CHECK_TOKEN]}
    return _send(credential, access, {"validate_only": True, "message": message})
