"""The translators' common part: a native `push.direct`, and bounded outside texts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from workers.gateway.aliases import Found
from workers.intake.events import TOKEN_BYTES_MAX

#: Longer texts are cut here; vendors cut further.
BODY_CHARS_MAX: Final = 2_000
#: Longer texts are no ids and no names.
TEXT_CHARS_MAX: Final = 100_000
#: An id within the bounds of workers/intake/events.py.
NAME_CHARS_MAX: Final = 512
NAME_BYTES_MAX: Final = 1_000
NAME_CHARS_SURE: Final = NAME_BYTES_MAX // 4
#: JSON of an app's own keys; what is over goes, the longest first.
PAYLOAD_BYTES_MAX: Final = 3_000
#: A value of such a key is nested no deeper: with what is around it, intake's bound of a whole
#: event holds.
PAYLOAD_DEPTH_MAX: Final = 20


def as_text(value: Any) -> str:
    """A text in the form of intake and database: no NUL, no half surrogate pair; else ""."""
    if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX:
        return ""
    if value.isascii():
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def as_name(value: Any) -> str:
    """An id or a short name within intake's bounds; a longer one is replaced by its digest."""
    text = as_text(value)
    if len(text) <= NAME_CHARS_SURE or (
        len(text) <= NAME_CHARS_MAX and len(text.encode()) <= NAME_BYTES_MAX
    ):
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def fitting(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that fit PAYLOAD_BYTES_MAX, without values that JSON or our queues cannot carry."""
    sizes: dict[str, int] = {}
    for key, value in payload.items():
        if _too_deep(value, PAYLOAD_DEPTH_MAX):
            continue
        try:
            sizes[key] = (
                len(msgspec.json.encode({key: value})) + 1
                if msgspec.msgpack.encode(value) is not None
                else 0
            )
        except (UnicodeEncodeError, OverflowError, TypeError, RecursionError):
            continue
    kept = dict(sizes)
    while kept and sum(kept.values()) > PAYLOAD_BYTES_MAX:
        del kept[max(kept, key=lambda name: kept[name])]
    return {key: payload[key] for key in kept}


def _too_deep(value: Any, most: int) -> bool:
    if not isinstance(value, Mapping | list):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return most == 0 or any(_too_deep(one, most - 1) for one in inner)


def is_token(token: str) -> bool:
    """True for a possible token of any vendor: no NUL, no half surrogate pair, within the
    registry's bound.
    """
    try:
        return "\0" not in token and 0 < len(token.encode()) <= TOKEN_BYTES_MAX
    except UnicodeEncodeError:
        return False


def direct_event(
    found: Found,
    event_id: str,
    token: str,
    now_ms: int,
    data: Mapping[str, Any],
    *,
    since_ms: int = 0,
    lang: str = "",
) -> dict[str, Any]:
    """The envelope. A VoIP alias means that the token is one of Apple's for calls."""
    account = found.account
    target: dict[str, Any] = {
        "vendor": account.vendor.value,
        "business_id": account.business_id,
        "token": token,
    }
    target["platform"] = account.platform
    if found.voip:
        target["voip_token"] = token
    if since_ms:
        target["since_ms"] = since_ms
    if lang:
        target["lang"] = lang
    return {
        "v": 1,
        "id": event_id,
        "type": "push.direct",
        "app": account.app,
        "ts": now_ms,
        "data": {"target": target, **data},
    }


def encoded(event: Mapping[str, Any], reply_key: str | None = None) -> dict[str, bytes]:
    """The stream entry; reply_key: the key for its decision."""
    if reply_key is not None:
        event = {**event, "data": {**event["data"], "reply": {"key": reply_key}}}
    return {"e": msgspec.json.encode(event)}
