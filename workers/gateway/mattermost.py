"""Mattermost's push proxy: one notification of a Mattermost server -> one `push.direct`. Pure.

Fields: PushNotification and PushNotificationAck of mattermost/server/public/model
(docs/doors/mattermost.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from workers.gateway.aliases import Found
from workers.gateway.events import BODY_CHARS_MAX, as_name, as_text, direct_event, fitting
from workers.routing.texts import translate

#: Keys that the app reads in its payload, as the server names them.
PAYLOAD_KEYS: Final = (
    *(
        "ack_id",
        "server_id",
        "type",
        "sub_type",
        "team_id",
        "channel_id",
        "root_id",
        "channel_name",
        "post_id",
        "sender_id",
    ),
    *(
        "sender_name",
        "override_username",
        "override_icon_url",
        "from_webhook",
        "version",
        "is_crt_enabled",
        "signature",
    ),
    *("is_id_loaded", "category", "message"),
)
TEST_WORDS: Final = "Test notification"


def platform_of(given: Mapping[str, Any]) -> str:
    """`apple_rn-v2` and `apple_rn` are one app; the suffix is the client's payload version."""
    platform = as_text(given.get("platform"))
    return platform.removesuffix("-v2")


def token_of(given: Mapping[str, Any]) -> str:
    """The device's token, without the `platform:` that the app puts before it; "" where there is no
    text.
    """
    token, platform = given.get("device_id"), as_text(given.get("platform"))
    return token.removeprefix(f"{platform}:") if isinstance(token, str) else ""


def event_of(
    given: Mapping[str, Any], found: Found, now_ms: int, lang: str = "en"
) -> dict[str, Any]:
    """Total: whatever a field beside the token holds, it is used or left out. lang: of the words
    that stand for those that the app fetches.
    """
    token = token_of(given)
    kind, push = _push(given, found, lang)
    ack = as_text(given.get("ack_id"))
    identity = (
        ack
        if 0 < len(ack) <= 128
        else f"mm:{now_ms}:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()[:16]}"
    )
    message_id = as_name(given.get("post_id")) or identity
    data: dict[str, Any] = {"message_id": message_id, "kind": kind, "push": push}
    if channel := as_name(given.get("channel_id")):
        name = as_name(given.get("channel_name"))
        data["conversation"] = (
            {"type": "group", "id": channel, "name": name}
            if name
            else {"type": "group", "id": channel}
        )
    if sender := as_name(given.get("sender_id")):
        data["sender"] = {"id": sender}
    return direct_event(found, identity, token, now_ms, data)


def _push(given: Mapping[str, Any], found: Found, lang: str) -> tuple[str, dict[str, Any]]:
    kind, badge = as_text(given.get("type")), _badge(given)
    payload = _payload(given, lang)
    if kind == "update_badge":
        return "badge", {"badge": badge}
    if kind == "clear":
        return "clear", {"badge": badge, "data": {"payload": payload}}
    data = {"payload": payload}
    push: dict[str, Any] = {"badge": badge, "data": data, "display": _display(given, kind)}
    if channel := as_name(given.get("channel_id")):
        push["thread_id"] = channel
    push |= _manner(given, kind)
    if as_text(given.get("sub_type")) == "calls" or found.voip:
        return "call", push
    return "message", push


def _payload(given: Mapping[str, Any], lang: str) -> dict[str, Any]:
    """The app's keys. It reads `id_loaded` where the server writes `is_id_loaded`, and shows
    `message` where it cannot fetch.
    """
    payload = {name: given[name] for name in PAYLOAD_KEYS if given.get(name) not in (None, "")}
    if given.get("is_id_loaded") is True:
        payload |= {"id_loaded": True, "message": translate("hidden", lang)}
    return fitting(payload)


def _badge(given: Mapping[str, Any]) -> dict[str, Any]:
    """Absent means 0: the server leaves it out then."""
    badge = given.get("badge")
    value = badge if isinstance(badge, int) and not isinstance(badge, bool) else 0
    return {"mode": "set", "value": min(max(value, 0), 2**31 - 1)}


def _display(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if given.get("is_id_loaded") is True:  # the app asks the server for the words
        return {}
    body = as_text(given.get("message")).strip() or (TEST_WORDS if kind == "test" else "")
    display = {"title": as_name(given.get("channel_name")), "body": body[:BODY_CHARS_MAX]}
    return {name: text for name, text in display.items() if text}


def _manner(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    apns: dict[str, Any] = {"mutable_content": True}
    if given.get("cont_ava") in (True, 1) and kind == "message":
        apns["content_available"] = True
    if category := as_text(given.get("category")):
        apns["category"] = category
    manner: dict[str, Any] = {"vendor": {"apns": apns, "fcm": {"data_only": True}}}
    sound = as_text(given.get("sound"))
    if sound and sound != "default":
        manner["sound"] = {"ios": sound, "android": sound}
    if kind == "session":
        manner["class"] = "account"
    return manner
