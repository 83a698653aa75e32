"""Is this an FCM v1 message? The reference as tables, and one walk over them that names every field
at fault.

Source: "REST reference: projects.messages" (fields), its text (ranges). Both spellings of a name
are taken, snake_case and lowerCamelCase; where a name comes twice the last one counts. Numbers may
be texts and enums their numbers ("ProtoJSON Format").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

MESSAGE_BYTES_MAX = 4096
TOPIC_BYTES_MAX = 2048
TTL_S_MAX = 2_419_200

Violations = list[tuple[str, str]]


class Invalid(Exception):  # noqa: N818 (it is the answer, no failure of ours)
    """400. violations: (field, description). by_fcm: FCM itself refused, so its FcmError is in the
    answer.
    """

    def __init__(self, words: str, violations: Violations, by_fcm: bool) -> None:
        super().__init__(words)
        self.words, self.violations, self.by_fcm = words, violations, by_fcm


_UPPER = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DURATION = re.compile(r"(-?\d{1,12})(\.\d{1,9})?s")
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?")
_TOPIC = re.compile(r"[a-zA-Z0-9\-_.~%]{1,900}")
_LABEL = re.compile(r"[a-zA-Z0-9\-_.~%]{1,50}")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")

Kind = str | tuple[str, ...] | dict[str, Any]

FCM_OPTIONS = {"analytics_label": "label"}
NOTIFICATION = {"title": "string", "body": "string", "image": "string"}
COLOR = {"red": "number", "green": "number", "blue": "number", "alpha": "number"}
LIGHT = {"color": COLOR, "light_on_duration": "duration", "light_off_duration": "duration"}
PRIORITIES = tuple(
    f"PRIORITY_{one}" for one in ("UNSPECIFIED", "MIN", "LOW", "DEFAULT", "HIGH", "MAX")
)
_SHOWN: dict[str, Kind] = {
    **dict.fromkeys(
        ("title", "body", "icon", "sound", "tag", "click_action", "body_loc_key", "title_loc_key"),
        "string",
    ),
    **dict.fromkeys(("channel_id", "ticker", "image", "event_time"), "string"),
    **dict.fromkeys(
        (
            "sticky",
            "local_only",
            "default_sound",
            "default_vibrate_timings",
            "default_light_settings",
        ),
        "bool",
    ),
    **dict.fromkeys(("body_loc_args", "title_loc_args"), "strings"),
    "color": "color",
    "notification_priority": PRIORITIES,
    "vibrate_timings": "durations",
    "visibility": ("VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    "notification_count": "integer",
    "light_settings": LIGHT,
}
ANDROID_NOTIFICATION = {
    **_SHOWN,
    "proxy": ("PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
    "bypass_proxy_notification": "bool",
}
_ANDROID: dict[str, Kind] = {
    "collapse_key": "string",
    "ttl": "ttl",
    "restricted_package_name": "string",
    "data": "data",
    "fcm_options": FCM_OPTIONS,
    **dict.fromkeys(
        ("direct_boot_ok", "bandwidth_constrained_ok", "restricted_satellite_ok"), "bool"
    ),
}
ANDROID = {
    **_ANDROID,
    "priority": ("NORMAL", "HIGH", "normal", "high"),
    "notification": ANDROID_NOTIFICATION,
}
ANDROID_V2 = {
    **_ANDROID,
    "remote_notification": {
        "notification": {**_SHOWN, "id": "string"},
        "mutable_content": "bool",
        "use_as_v1_data_message": "bool",
    },
    "background_sync": {},
}
MESSAGE: dict[str, Kind] = {
    **dict.fromkeys(("name", "fid", "token", "topic", "condition"), "string"),
    "data": "data",
    "notification": NOTIFICATION,
    "android": ANDROID,
    "android_v2": ANDROID_V2,
    "apns": {
        "headers": "map",
        "payload": "object",
        "live_activity_token": "string",
        "fcm_options": {**FCM_OPTIONS, "image": "string"},
    },
    "webpush": {
        "headers": "map",
        "data": "map",
        "notification": "object",
        "fcm_options": {**FCM_OPTIONS, "link": "link"},
    },
    "fcm_options": FCM_OPTIONS,
}
REQUEST: dict[str, Kind] = {"message": MESSAGE, "validate_only": "bool"}


def check(body: bytes) -> tuple[dict[str, Any], bool]:
    """(message in snake_case, validate_only) of a request's body, any bytes whatever. Raises
    Invalid.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid(
            "Invalid JSON payload received. Unexpected token.", [("", "not JSON")], by_fcm=False
        ) from None
    found: Violations = []
    request = _object(raw, REQUEST, "", found)
    if found:
        field, words = found[0]
        raise Invalid(
            f"Invalid value at '{field}' {words}" if field else words, found, by_fcm=False
        )
    message = request.get("message")
    if not message:
        raise Invalid(
            "Request contains an invalid argument.",
            [("message", "Message is missing")],
            by_fcm=True,
        )
    _check_meaning(message)
    return message, bool(request.get("validate_only", False))


# ---------------------------------------------------------------- shapes


def _snake(name: str) -> str:
    return _UPPER.sub(lambda match: f"_{match[1].lower()}", name)


def _object(value: Any, known: Mapping[str, Any], path: str, found: Violations) -> dict[str, Any]:
    if not isinstance(value, dict):
        found.append((path, "(an object is wanted)"))
        return {}
    result: dict[str, Any] = {}
    for name, inner in value.items():
        snake = _snake(name)
        at = f"{path}.{snake}" if path else snake
        if snake not in known:
            words = (
                "Invalid JSON payload received. Unknown name "
                f'"{name}"{f" at {path!r}" if path else ""}: Cannot find field.'
            )
            found.append((path or name, words))
        elif inner is not None:  # null is an absent field in proto3's JSON
            result[snake] = _value(inner, known[snake], at, found)
    return result


def _value(value: Any, kind: Kind, path: str, found: Violations) -> Any:
    if isinstance(kind, dict):
        return _object(value, kind, path, found)
    if isinstance(kind, tuple):
        if value not in kind and not (_whole(value) and 0 <= int(float(value)) < len(kind)):
            found.append((path, f"(TYPE_ENUM), {json.dumps(value)[:80]}"))
        return value
    if kind in ("data", "map") and isinstance(value, dict):
        for place, (key, inner) in enumerate(value.items()):
            if not isinstance(inner, str):
                found.append((f"{path}[{place}].value", f"(TYPE_STRING), {json.dumps(inner)[:80]}"))
            elif kind == "data" and reserved(key):
                found.append((f"{path}.{key}", f"Invalid data payload key: {key}"))
        return value
    if not _SHAPES[kind](value):
        found.append((path, f"({kind}), {json.dumps(value)[:80]}"))
    return value


def reserved(key: str) -> bool:
    """Source: message reference (`from`, `message_type`, `google.`, `gcm.notification.`) and error
    page (`gcm`, prefix `google`).
    """
    return key in ("from", "message_type", "gcm") or key.startswith(("google", "gcm.notification."))


def _duration(value: Any) -> bool:
    return isinstance(value, str) and _DURATION.fullmatch(value) is not None


def _ttl(value: Any) -> bool:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1].startswith("-"):
        return False
    whole = int(match[1])
    return whole < TTL_S_MAX or (whole == TTL_S_MAX and not (match[2] or ".0").strip(".0"))


def _number(value: Any) -> bool:
    """A number, or the text of one."""
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    """Of 32 bits."""
    return _number(value) and float(value).is_integer() and -(2**31) <= float(value) < 2**31


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "integer": _whole,
    "number": _number,
    "object": lambda value: isinstance(value, dict),
    "map": lambda value: isinstance(value, dict),
    "data": lambda value: isinstance(value, dict),
    "strings": _strings,
    "duration": _duration,
    "durations": lambda value: isinstance(value, list) and all(_duration(one) for one in value),
    "ttl": _ttl,
    "color": lambda value: isinstance(value, str) and _COLOR.fullmatch(value) is not None,
    "label": lambda value: isinstance(value, str) and _LABEL.fullmatch(value) is not None,
    "link": lambda value: isinstance(value, str) and value.startswith("https://"),
}


# ---------------------------------------------------------------- what goes together


def _check_meaning(message: Mapping[str, Any]) -> None:
    targets = [name for name in ("fid", "token", "topic", "condition") if message.get(name)]
    if len(targets) != 1:
        raise _refused(
            "message",
            f"Exactly one of fid, token, topic, condition is required; there are {len(targets)}",
        )
    if "topic" in targets and not _TOPIC.fullmatch(message["topic"]):
        raise _refused("message.topic", "Malformed topic name")
    if "android" in message and "android_v2" in message:
        raise _refused("message.android_v2", "android and android_v2 exclude each other")
    v2 = message.get("android_v2", {})
    if "remote_notification" in v2 and "background_sync" in v2:
        raise _refused(
            "message.android_v2", "remote_notification and background_sync exclude each other"
        )
    for where in (message.get("android", {}), v2.get("remote_notification", {})):
        light = where.get("notification", {}).get("light_settings")
        if light is not None and set(light) != set(LIGHT):
            raise _refused(
                "message.android.notification.light_settings",
                "color, light_on_duration, light_off_duration are required",
            )
    _check_size(
        message, TOPIC_BYTES_MAX if targets[0] in ("topic", "condition") else MESSAGE_BYTES_MAX
    )


def _check_size(message: Mapping[str, Any], limit: int) -> None:
    """UTF-8 bytes of all keys and values of data, notification and android.notification (derived:
    the reference does not say).
    """
    android = message.get("android", {})
    data = {**message.get("data", {}), **android.get("data", {})}
    parts = (data, message.get("notification", {}), android.get("notification", {}))
    size = sum(_bytes_of(part) for part in parts)
    if size > limit:
        raise Invalid("Android message is too big", [], by_fcm=True)
    payload = message.get("apns", {}).get("payload")
    if (
        payload is not None
        and len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
        > MESSAGE_BYTES_MAX
    ):
        raise Invalid("APNs payload is too big", [], by_fcm=True)


def _bytes_of(part: Mapping[str, Any]) -> int:
    def one(value: Any) -> int:
        return len(
            (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
        )

    return sum(len(key.encode()) + one(value) for key, value in part.items())


def _refused(field: str, words: str) -> Invalid:
    return Invalid(words, [(field, words)], by_fcm=True)
