"""gorush's API: one request of many notifications -> one `push.direct` per token. Pure.

Fields: gorush 1.18 (docs/doors/gorush.md). Its own retries, topics and conditions are not
supported: each is reported per entry.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.model import Vendor
from workers.gateway.aliases import DoorAccount, Found, named
from workers.gateway.events import BODY_CHARS_MAX, as_name, as_text, direct_event, fitting, is_token
from workers.intake.dialects.reading import read_json

NOTIFICATIONS_MAX: Final = 100
TOKENS_MAX: Final = 1_000
#: A tenant's option: answers name what failed without being asked to, as gorush's `core.sync` does.
SYNC: Final = "gorush_sync"
#: platform -> vendor, and gorush's own name for it.
PLATFORMS: Final[Mapping[int, tuple[Vendor, str]]] = {
    1: (Vendor.APNS, "ios"),
    2: (Vendor.FCM, "android"),
    3: (Vendor.HUAWEI, "huawei"),
}


#: How FCM's topics begin where a token could stand.
TOPICS: Final = "/topics/"


@dataclass(frozen=True, slots=True)
class GorushEvent:
    platform: str
    token: str = field(repr=False)
    event: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True)
class GorushRequest:
    """pushes: to go on. failed: log lines of what can't. count: how many tokens were named."""

    pushes: list[GorushEvent] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    count: int = 0


def read_request(
    notifications: list[Any], accounts: list[DoorAccount], now_ms: int
) -> GorushRequest:
    read = GorushRequest()
    for one in notifications:
        if isinstance(one, Mapping):
            _notification(one, accounts, now_ms, read)
        else:
            read.failed.append(failed("unknown", "", "", "a notification is an object"))
    return read


def failed(platform: str, token: str, message: str, error: str) -> dict[str, str]:
    """One line of `logs`."""
    return {
        "type": "failed-push",
        "platform": platform,
        "token": token,
        "message": message,
        "error": error,
    }


def _notification(
    one: Mapping[str, Any], accounts: list[DoorAccount], now_ms: int, read: GorushRequest
) -> None:
    number = one.get("platform")
    _vendor, word = (
        PLATFORMS.get(number, (None, "unknown")) if isinstance(number, int) else (None, "unknown")
    )
    words = as_text(one.get("message"))
    tokens = _tokens(one)
    found = _account(one, accounts)
    if isinstance(found, str):
        read.failed += [failed(word, token, words, found) for token in tokens or [""]]
        read.count += len(tokens)
        return
    for number, token in enumerate(dict.fromkeys(tokens)):
        read.count += 1
        if not is_token(token) or number >= TOKENS_MAX:
            error = (
                f"more than {TOKENS_MAX} tokens"
                if number >= TOKENS_MAX
                else "the token is empty, too long or no text"
            )
            read.failed.append(failed(word, token[:64], words, error))
            continue
        read.pushes.append(GorushEvent(word, token, _event(one, found, token, now_ms)))
    if not tokens or (
        found.account.vendor != Vendor.APNS and (one.get("topic") or one.get("condition"))
    ):
        read.failed.append(
            failed(word, "", words, "topics and conditions are not taken: name tokens")
        )


def _tokens(one: Mapping[str, Any]) -> list[str]:
    """`tokens`, and `to`, which older callers name a single one by; "" for what is no text."""
    given, to = one.get("tokens"), one.get("to")
    tokens = (
        [token if isinstance(token, str) else "" for token in given]
        if isinstance(given, list)
        else []
    )
    return [*tokens, to] if isinstance(to, str) and to and not to.startswith(TOPICS) else tokens


def _account(one: Mapping[str, Any], accounts: list[DoorAccount]) -> Found | str:
    """The account by platform number: an alias of it, else the vendor's only account.

    The environment and topic must match, too.
    """
    number = one.get("platform")
    if not isinstance(number, int) or isinstance(number, bool) or number not in PLATFORMS:
        return "platform takes 1 (iOS), 2 (Android) or 3 (Huawei)"
    vendor = PLATFORMS[number][0]
    found = [each for each in named(accounts, str(number)) if each.account.vendor == vendor]
    found = found or [
        Found(account, voip=False) for account in accounts if account.vendor == vendor
    ]
    if len(found) > 1 and vendor == Vendor.APNS:
        env = "sandbox" if one.get("development") is True else "production"
        found = [each for each in found if each.account.env == env] or found
    topic = as_text(one.get("topic"))
    if topic and vendor == Vendor.APNS:
        found = [
            each
            for each in found
            if not each.account.topic or topic in (each.account.topic, f"{each.account.topic}.voip")
        ]
    if not found:
        return f"no {vendor} account fits: credential add {vendor} … --alias {number}"
    return (
        found[0]
        if len(found) == 1
        else f"several {vendor} accounts fit: give one of them --alias {number}"
    )


def _event(one: Mapping[str, Any], found: Found, token: str, now_ms: int) -> dict[str, Any]:
    digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:16]
    notif_id = as_text(one.get("notif_id")) or as_text(one.get("notification_id"))
    identity = f"gorush:{notif_id}:{digest}" if notif_id else f"gorush:{uuid.uuid4().hex}"
    if len(identity) > 128:
        identity = "gorush:" + hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
    message_id = as_name(notif_id) or identity
    push = _push(one, found, now_ms)
    data: dict[str, Any] = {"message_id": message_id, "kind": "message", "push": push}
    if thread := as_name(one.get("thread-id")) or as_name(one.get("thread_id")):
        data["conversation"] = {"type": "c2c", "id": thread}
    event = direct_event(found, identity, token, now_ms, data)
    if as_text(one.get("push_type")) == "voip":
        event["data"]["target"]["voip_token"] = token
        event["data"]["kind"] = "call"
        event["data"]["push"]["push_type"] = "voip"
    return event


def _push(one: Mapping[str, Any], found: Found, now_ms: int) -> dict[str, Any]:
    alert = one.get("alert") if isinstance(one.get("alert"), Mapping) else {}
    alert = alert if isinstance(alert, Mapping) else {}
    push: dict[str, Any] = {"display": _display(one, alert)} | _data(one, found.account.vendor)
    if (
        isinstance(one.get("badge"), int)
        and not isinstance(one.get("badge"), bool)
        and 0 <= one["badge"] < 2**31
    ):
        push["badge"] = {"mode": "set", "value": one["badge"]}
    push |= _sound(one) | _fold(one) | _ttl(one, now_ms)
    silent = as_text(one.get("push_type")) == "background" or (
        one.get("content_available") is True and not push["display"]
    )
    if silent:
        push["push_type"] = "silent"
    image = as_text(one.get("image"))
    if image.startswith("https://"):
        push["image"] = {
            "ios": image,
            **{vendor.value: image for vendor in (Vendor.FCM, Vendor.HUAWEI)},
        }
    vendor: dict[str, Any] = {"apns": _apns(one)}
    if "normal" in (as_text(one.get("priority")), as_text(_android(one).get("priority")).lower()):
        vendor["apns"]["priority"] = "5"
        vendor["fcm"] = {"priority": "normal"}
    push["vendor"] = vendor
    raw = _raw(one, found.account.vendor, alert)
    return push | ({"vendor_raw": raw} if raw else {})


def _data(one: Mapping[str, Any], vendor: Vendor) -> dict[str, Any]:
    """The app's own keys: `data`, and Huawei's text, whose object they may be."""
    own = one.get("data")
    payload = dict(own) if isinstance(own, Mapping) else {}
    text = as_text(one.get("huawei_data")) if vendor == Vendor.HUAWEI else ""
    inside = read_json(text) if text else None
    data: dict[str, Any] = {}
    if isinstance(inside, dict):
        payload |= inside
    elif text:
        data["ext"] = text
    if payload or isinstance(own, Mapping):
        data["payload"] = fitting(payload)
    return {"data": data} if data else {}


def _display(one: Mapping[str, Any], alert: Mapping[str, Any]) -> dict[str, Any]:
    texts = {
        "title": as_text(alert.get("title")) or as_text(one.get("title")),
        "subtitle": as_text(alert.get("subtitle")),
        "body": as_text(alert.get("body"))
        or as_text(one.get("message"))
        or as_text(one.get("body")),
    }
    display: dict[str, Any] = {name: text[:BODY_CHARS_MAX] for name, text in texts.items() if text}
    key = as_text(alert.get("loc-key"))
    if key and len(key) <= 128 and "body" not in display:
        args = alert.get("loc-args")
        display["loc"] = {
            "key": key,
            "args": [as_text(arg) for arg in args] if isinstance(args, list) else [],
        }
    return display


def _apns(one: Mapping[str, Any]) -> dict[str, Any]:
    apns: dict[str, Any] = {}
    if category := as_text(one.get("category")):
        apns["category"] = category
    for flag in ("mutable_content", "content_available"):
        if one.get(flag) is True:
            apns[flag] = True
    if level := as_text(one.get("interruption_level")):
        apns["interruption_level"] = level
    return apns


def _sound(one: Mapping[str, Any]) -> dict[str, Any]:
    """A name, or Apple's object {critical, name, volume}; gorush sends none where none is given."""
    sound = one.get("sound")
    name = (
        as_text(sound.get("name"))
        if isinstance(sound, Mapping)
        else as_text(sound) or as_text(one.get("name"))
    )
    if name == "default":
        return {}
    return {"sound": {"ios": name or "none", "android": name or "none"}}


def _fold(one: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    theirs = as_text(_android(one).get("collapse_key"))
    if key := as_text(one.get("collapse_id")) or as_text(one.get("collapse_key")) or theirs:
        found["collapse_key"] = key
    if thread := as_text(one.get("thread-id")) or as_text(one.get("thread_id")):
        found["thread_id"] = thread
    return found


def _ttl(one: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """expiration: Unix seconds (iOS); time_to_live: seconds (Android); `86400s` in Google's and
    Huawei's own places.
    """
    ends = (
        ("expiration", one.get("expiration")),
        ("time_to_live", one.get("time_to_live")),
        ("ttl", _span(_android(one).get("ttl"))),
        ("huawei_ttl", _span(one.get("huawei_ttl"))),
    )
    for name, seconds in ends:
        if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0:
            left = seconds - now_ms // 1000 if name == "expiration" else seconds
            return {"ttl_s": max(1, min(left, 7 * 86_400))}
    return {}


def _android(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Google's AndroidConfig, as FCM's own callers write it."""
    found = one.get("android")
    return found if isinstance(found, Mapping) else {}


def _span(value: Any) -> int | None:
    """Whole seconds of a duration such as `86400s` or `3.5s`."""
    found = re.fullmatch(r"([0-9]{1,9})(?:\.[0-9]{1,9})?s?", as_text(value))
    return int(found[1]) if found else None


def _object(value: Any, *names: str) -> dict[str, Any]:
    """The object by these names, one in the other; empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return fitting(value) if isinstance(value, Mapping) else {}


def _aps(one: Mapping[str, Any], alert: Mapping[str, Any]) -> dict[str, Any]:
    fields = _object(one, "apns", "payload", "aps").items()
    aps = {name: value for name, value in fields if name != "alert"}
    inner = {
        name: value
        for name, value in alert.items()
        if name not in ("title", "subtitle", "body", "loc-key", "loc-args")
    }
    return aps | ({"alert": fitting(inner)} if inner else {}) | _critical(one.get("sound"))


def _critical(sound: Any) -> dict[str, Any]:
    """Apple's object for a sound; all of it, as only Apple has `critical` and `volume`."""
    if not isinstance(sound, Mapping) or not as_text(sound.get("name")):
        return {}
    numbers = {
        name: sound[name]
        for name in ("critical", "volume")
        if isinstance(sound.get(name), int | float) and 0 <= sound[name] <= 1
    }
    return {"sound": {"name": as_text(sound["name"]), **numbers}}


_RAW: Final[Mapping[Vendor, Callable[..., tuple[str, dict[str, Any]]]]] = {
    Vendor.APNS: lambda one, alert: ("aps", _aps(one, alert)),
    Vendor.FCM: lambda one, _alert: (
        "notification",
        _object(one, "notification") | _object(one, "android", "notification"),
    ),
    Vendor.HUAWEI: lambda one, _alert: ("notification", _object(one, "huawei_notification")),
}


def _raw(one: Mapping[str, Any], vendor: Vendor, alert: Mapping[str, Any]) -> dict[str, Any]:
    """Verbatim fields; each vendor's file has its white list."""
    name, raw = _RAW[vendor](one, alert)
    return {vendor.value: {name: raw}} if raw else {}
