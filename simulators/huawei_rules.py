"""Huawei's field tables: v1/v2 (snake case) and v3 (camel case). Source: Huawei's page, sections 3a
and 3b.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from simulators.rules import (
    INT32_MAX,
    boolean,
    https,
    integer,
    listing,
    one_of,
    pattern,
    shape,
    text,
    text_bytes,
    wrong,
)
from simulators.state import VendorError

TOKENS_MAX = 1000
BODY_BYTES_MAX = 4096
TTL_S_MAX = 1_296_000
#: Service & communication. Everything else, also an unknown category, is marketing.
SERVICE = frozenset(
    {
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
    }
    | {"PLAY_VOICE"}
)
#: A text that the vendor's content check takes for sensitive.
SENSITIVE = "敏感词测试"

_RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"

_BADGE = {"class": text(least=1), "add_num": integer(1, 99), "set_num": integer(0, 99)}
_BUTTON = {
    "name": text(40, 1),
    "action_type": integer(0, 4),
    "intent_type": integer(0, 1),
    "data": text(1024),
}
_NOTIFICATION = {
    "title": text(least=1),
    "body": text(least=1),
    "click_action": shape(
        {"type": integer(1, 3), "intent": text(), "action": text(), "url": https}, ("type",)
    ),
    "importance": one_of("LOW", "NORMAL", "HIGH"),
    "channel_id": text(),
    "sound": text(),
    "default_sound": boolean,
    "badge": shape(_BADGE, ("class",)),
    "notify_id": integer(-1),
    "tag": text(),
    "group": text(),
    "style": one_of(0, 1, 3),
    "inbox_content": listing(text(1024), 5),
    "foreground_show": boolean,
    "visibility": one_of("VISIBILITY_UNSPECIFIED", "PUBLIC", "SECRET", "PRIVATE"),
    "image": https,
    "color": pattern("#[0-9A-Fa-f]{6}"),
    "when": pattern(_RFC3339),
    "ticker": text(),
    "notify_summary": text(),
    "profile_id": text(64),
    "vibrate_config": listing(text(), 10, 1),
    "use_default_vibrate": boolean,
    "use_default_light": boolean,
    "buttons": listing(shape(_BUTTON, ("name",)), 3),
}
_ANDROID = {
    "category": text(),
    "bi_tag": text(),
    "receipt_id": text(),
    "urgency": one_of("HIGH", "NORMAL"),
    "target_user_type": one_of(0, 1),
    "data": text(),
    "fast_app_target": one_of(1, 2),
    "notification": lambda value: isinstance(value, dict),
}
_REVIEW = listing(
    shape({"reviewer": one_of("tuibian"), "type": one_of(0)}, ("reviewer", "type")), 100
)

_V3_NOTIFICATION = {
    "category": text(least=1),
    "title": text(least=1),
    "body": text(least=1),
    "clickAction": shape(
        {
            "actionType": one_of(0, 1),
            "action": text(),
            "uri": text(),
            "data": lambda v: isinstance(v, dict),
        },
        ("actionType",),
    ),
    "badge": shape({"addNum": integer(1, 99), "setNum": integer(0, 99)}),
    "notifyId": integer(-1, INT32_MAX),
    "appMessageId": text(64, 1),
    "foregroundShow": boolean,
    "style": one_of(0, 1, 3),
    "inboxContent": listing(text(1024), 3),
    "image": https,
    "sound": text(),
    "soundDuration": integer(1, 60),
    "profileId": text(64),
}
_V3_OPTIONS = {
    "testMessage": boolean,
    "ttl": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "biTag": text_bytes(64),
    "receiptId": text(),
    "collapseKey": integer(-1, 100),
    "backgroundMode": one_of(0, 1),
}


def invalid(name: str) -> VendorError:
    return VendorError("80100001", f"Incorrect message field: {name}.", 400)


def _refuse(name: str | None, prefix: str = "") -> None:
    if name is not None:
        raise invalid(prefix + name)


def tokens_of(value: Any, most: int = TOKENS_MAX) -> list[str]:
    """The token list, or 80300010."""
    if not listing(text(least=1), most, 1)(value):
        raise VendorError(
            "80300010",
            "The number of tokens in the message body exceeds the default value or is 0.",
        )
    return list(value)


def check_size(raw: bytes, tokens: list[str]) -> None:
    """Raises 80300008 for too long a body, without the content of the compact token array."""
    listed = json.dumps(tokens, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    if len(raw) - (len(listed) - 2) > BODY_BYTES_MAX:
        raise VendorError("80300008", "The size of the message body exceeds the default value.")


def check_v1(body: Mapping[str, Any], message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuses what breaks a rule of v1/v2; returns message.android (empty when there is none)."""
    _refuse(wrong(body, {"validate_only": boolean, "review": _REVIEW}))
    shapes = {"data": text(), "notification": lambda value: isinstance(value, dict)}
    _refuse(wrong(message, shapes), "message.")
    common = message.get("notification") or {}
    _refuse(
        wrong(common, {"title": text(), "body": text(), "image": https}), "message.notification."
    )
    android = message.get("android")
    if android is not None and not isinstance(android, dict):
        raise VendorError("80100003", "Incorrect message structure.", 400)
    android = android or {}
    _refuse(wrong(android, _ANDROID), "message.android.")
    _check_ttl_text(android.get("ttl"))
    if android.get("collapse_key") is not None and not integer(-1, 100)(android["collapse_key"]):
        raise VendorError("80100013", "The collapse_key message field is invalid.", 400)
    if "wrong" in android.get("receipt_id", ""):
        raise VendorError("80300013", "Invalid receipt URL.")
    if android.get("notification") is not None:
        _check_v1_notification(android["notification"], common)
    elif common:
        raise invalid("message.android.notification")
    elif "data" not in message and "data" not in android:
        raise VendorError("80100003", "Incorrect message structure.", 400)
    return android


def _check_ttl_text(ttl: Any) -> None:
    if ttl is None:
        return
    if (
        not isinstance(ttl, str)
        or not re.fullmatch(r"-?\d{1,10}s", ttl)
        or int(ttl[:-1]) > TTL_S_MAX
    ):
        raise invalid("message.android.ttl")
    if int(ttl[:-1]) <= 0:
        raise VendorError(
            "80100004", "The message expiration time is earlier than the current time.", 400
        )


def _check_v1_notification(notification: Mapping[str, Any], common: Mapping[str, Any]) -> None:
    where = "message.android.notification."
    for name in ("title", "body"):
        if not (notification.get(name) or common.get(name)):
            raise invalid(where + name)
    _refuse(wrong(notification, _NOTIFICATION, ("click_action",)), where)
    click = notification["click_action"]
    needed = {1: ("intent", "action"), 2: ("url",), 3: ()}[click["type"]]
    if needed and not any(click.get(name) for name in needed):
        raise invalid(where + "click_action." + needed[0])
    needs = {1: ("big_title", "big_body"), 3: ("inbox_content",)}.get(
        notification.get("style", 0), ()
    )
    _refuse(next((name for name in needs if not notification.get(name)), None), where)
    texts = [notification.get(name) or common.get(name) for name in ("title", "body")]
    if any(SENSITIVE in one for one in texts if one):
        raise VendorError("80100016", "The message contains sensitive information.")


def check_v3(
    body: Mapping[str, Any], push_type: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Refuses what breaks a rule of v3; returns (payload.notification or empty, pushOptions)."""
    payload, options = body.get("payload"), body.get("pushOptions", {})
    if not isinstance(payload, dict) or not isinstance(options, dict):
        raise VendorError("80100003", "Incorrect message structure.", 400)
    _refuse(wrong(options, _V3_OPTIONS), "pushOptions.")
    ttl = options.get("ttl", 1)
    if ttl <= 0:
        raise VendorError(
            "80100004", "The message expiration time is earlier than the current time.", 400
        )
    if ttl > TTL_S_MAX or (options.get("collapseKey") is not None and push_type not in (0, 2)):
        raise invalid("pushOptions")
    if push_type != 0:
        if push_type in (6, 10) and not isinstance(payload.get("extraData"), str):
            raise invalid("payload.extraData")
        return {}, options
    notification = payload.get("notification")
    if not isinstance(notification, dict):
        raise VendorError("80100003", "Incorrect message structure.", 400)
    names = ("category", "title", "body", "clickAction")
    _refuse(wrong(notification, _V3_NOTIFICATION, names), "payload.notification.")
    click = notification["clickAction"]
    if click["actionType"] == 1 and not (click.get("action") or click.get("uri")):
        raise invalid("payload.notification.clickAction.action")
    if notification.get("style") == 3 and not notification.get("inboxContent"):
        raise invalid("payload.notification.inboxContent")
    return notification, options
