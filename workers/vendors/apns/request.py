"""The request that carries a batch to APNs. Source: docs/vendors/apns.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from common.contracts import Notification
from common.model import Bucket, Kind, PushType
from common.values import Value, redacted
from workers.vendors.ids import are_made_of, header_id, uuid_text
from workers.vendors.json_text import compact, merged
from workers.vendors.text import fitting, shrink
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

PAYLOAD_BYTES_MAX: Final = 4096
VOIP_PAYLOAD_BYTES_MAX: Final = 5120
COLLAPSE_ID_BYTES_MAX: Final = 64
TOKEN_CHARACTERS_MAX: Final = 512  # Apple names no length: 64 today, far fewer than this for ever
BADGE_MAX: Final = 2**31 - 1
_BADGE_BYTES: Final = len(b'"badge":%d,' % BADGE_MAX)
_LEVELS: Final = {"passive": 0, "active": 1, "time-sensitive": 2, "critical": 3}
_TOPIC_SUFFIX: Final = {PushType.ALERT: "", PushType.SILENT: "", PushType.VOIP: ".voip"}
_WIRE_TYPE: Final = {PushType.ALERT: "alert", PushType.SILENT: "background", PushType.VOIP: "voip"}
#: Keys of `aps` that a sender may lay over ours (NIM's apsField). No content-available: the push
#: type must match the payload.
RAW_APS: Final = frozenset(
    {
        "alert",
        "badge",
        "sound",
        "thread-id",
        "category",
        "mutable-content",
        "interruption-level",
        "relevance-score",
        "target-content-id",
        "filter-criteria",
    }
)


class ApnsPrepared(Value, frozen=True):
    """The common part of all tokens of a notification; the badge goes between head and tail.

    badge: True if it may be added. too_large: even with the text cut.
    """

    endpoint: str
    headers: Mapping[str, str]
    head: bytes
    tail: bytes
    badge: bool
    too_large: bool

    __repr__ = redacted("head", "tail")


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """POST /3/device/<token> for the batch's one item."""
    item = batch.items[0]
    prepared, target = batch.prepared, item.target
    ready = prepared if isinstance(prepared, ApnsPrepared) else prepare(item.note, credential)
    headers = {**ready.headers, "apns-id": uuid_text(target.push_id)}
    if access is not None and access.value:
        headers["authorization"] = _bearer(access.value)
    if ready.badge and item.badge is not None:
        body = b'%b"badge":%d,%b' % (ready.head, min(max(item.badge, 0), BADGE_MAX), ready.tail)
    else:
        body = ready.head + ready.tail
    return Request(ready.endpoint, "/3/device/" + target.token, headers, body)


@lru_cache(1024)
def _bearer(token: str) -> str:
    return f"bearer {token}"


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`payload_too_large` where not even ten characters of text fit without data.

    It depends on the notification only.
    """
    note = item.note
    if note.payload is None and note.voip is None and not note.vendor_raw:
        if (
            not note.vendor
            and note.image is None
            and note.loc is None
            and len(note.ext or "")
            + len(note.thread_id or note.conversation_id)
            + len(note.sound_ios or "")
            <= 512
        ):
            return None
        uncut = (
            note.ext,
            note.thread_id or note.conversation_id,
            note.image,
            note.sound_ios,
            *(note.loc.args if note.loc is not None else ()),
            note.vendor.get("category"),
        )
        if sum(len(text) for text in uncut if isinstance(text, str)) <= 512:
            return None  # six bytes a character at the most: it fits
    return "payload_too_large" if fitting(_whole_body, note)[2] else None


def prepare(note: Notification, credential: Credential) -> ApnsPrepared:
    """Headers and body but for token, id, access token and badge number."""
    options, usual = credential.options, _usual_body(note)
    head, tail, too_large = usual or fitting(_whole_body, note)
    if usual is None:
        priority, badge = _priority(note), _takes_badge(note)
    else:  # an alert of a message, and no wish of its sender
        priority, badge = "5" if note.placement.get("priority") == "5" else "10", True
    push_type, collapse_id = note.push_type, note.collapse_id
    headers = {
        "apns-topic": options.get("topic", "") + _TOPIC_SUFFIX[push_type],
        "apns-push-type": _WIRE_TYPE[push_type],
        "apns-priority": priority,
        "apns-expiration": str(max(note.expires_at_ms // 1000, 0)),
    }
    if collapse_id:
        headers["apns-collapse-id"] = header_id(collapse_id, COLLAPSE_ID_BYTES_MAX)
    endpoint = "APNS_SANDBOX" if options.get("env") == "sandbox" else "APNS_PRODUCTION"
    return ApnsPrepared(endpoint, headers, head, tail, badge, too_large)


def _priority(note: Notification) -> str:
    if note.push_type is PushType.VOIP:
        return "10"
    if note.push_type is PushType.SILENT or quiet(note):
        return "5"
    return "5" if note.placement.get("priority") == "5" else "10"


#: An alert with at most this many characters always fits: six bytes per character at most.
SHORT_CHARACTERS_MAX: Final = 500


class _UsualAlert(Value, frozen=True):
    title: str | msgspec.UnsetType
    body: str


class _UsualAps(Value, frozen=True):
    alert: _UsualAlert
    sound: str | msgspec.UnsetType
    thread: str = msgspec.field(name="thread-id")
    level: str | msgspec.UnsetType = msgspec.field(name="interruption-level", default=msgspec.UNSET)


class _Usual(Value, frozen=True):
    """The body of a short alert without wishes of its sender; fields in `_body`'s order."""

    aps: _UsualAps
    ext: str | msgspec.UnsetType

    __repr__ = redacted("aps", "ext")


_encode_usual: Final = msgspec.json.Encoder().encode


def _usual_body(note: Notification) -> tuple[bytes, bytes, bool] | None:
    """As `_body` for a short alert without overrides, made without a dict; None for any other."""
    if (
        note.kind is not Kind.MESSAGE
        or note.push_type is not PushType.ALERT
        or note.vendor
        or note.vendor_raw
    ):
        return None
    if note.payload or note.image or note.subtitle or note.loc is not None:
        return None
    title, body, ext, ring = note.title, note.body, note.ext, note.sound_ios
    thread = note.thread_id or note.conversation_id
    optional = (len(ext) if ext else 0) + (len(ring) if ring else 0)
    if len(body) + len(title) + len(thread) + optional > SHORT_CHARACTERS_MAX:
        return None
    unset, level = msgspec.UNSET, note.placement.get("interruption_level")
    sound = "default" if ring is None else unset if ring in ("none", "") else ring
    aps = _UsualAps(
        _UsualAlert(title or unset, body), sound, thread, level if level in _LEVELS else unset
    )
    try:
        raw = _encode_usual(_Usual(aps, unset if ext is None else ext))
    except UnicodeEncodeError:  # half a character
        return None
    return raw[:8], raw[8:], False  # {"aps":{ is eight bytes


def _whole_body(note: Notification) -> tuple[bytes, bytes, bool]:
    most = VOIP_PAYLOAD_BYTES_MAX if note.push_type is PushType.VOIP else PAYLOAD_BYTES_MAX
    aps, rest = _aps(note), _beside(note)
    room = most - (_BADGE_BYTES if _takes_badge(note) else 0)
    raw = compact({"aps": aps, **rest})
    excess = len(raw) - room
    if excess > 0 and "alert" in aps:
        words = {
            name: aps["alert"][name]
            for name in ("body", "subtitle", "title")
            if isinstance(aps["alert"].get(name), str)
        }
        aps["alert"] |= shrink(words, excess, _json_bytes, note.prefix)
        raw = compact({"aps": aps, **rest})
    return raw[:8], raw[8:], len(raw) > room  # {"aps":{ is eight bytes


def _json_bytes(text: str) -> int:
    """Bytes of `text` inside a JSON string: a quotation mark has two, a control character six."""
    return len(compact(text)) - 2


def _beside(note: Notification) -> dict[str, Any]:
    """The keys beside `aps`: ext, the app's own payload, a call's data, the picture. ext, aps and
    the call are never overwritten.
    """
    image = {"image": note.image} if note.image and note.push_type is PushType.ALERT else {}
    call = note.voip or {} if note.push_type is PushType.VOIP else {}
    rest: dict[str, Any] = {**image, **(note.payload or {}), **call}
    rest.pop("aps", None)
    if note.ext is not None:
        rest["ext"] = note.ext
    return rest


def _aps(note: Notification) -> dict[str, Any]:
    if note.kind is Kind.BADGE:
        return {"badge": note.badge_value}
    if note.push_type is PushType.SILENT:
        return {"content-available": 1} | (
            {} if note.badge_value is None else {"badge": note.badge_value}
        )
    if note.push_type is PushType.VOIP:
        return {"alert": _alert(note)}
    aps: dict[str, Any] = {"alert": _alert(note)}
    sound = _sound(note)
    if sound is not None:
        aps["sound"] = sound
    aps["thread-id"] = note.thread_id or note.conversation_id
    vendor = note.vendor
    if isinstance(vendor.get("category"), str):
        aps["category"] = vendor["category"]
    if note.image or vendor.get("mutable_content"):
        aps["mutable-content"] = 1
    if vendor.get("content_available") in (True, 1) and not quiet(note):
        aps["content-available"] = 1  # an alert that wakes the app, too
    if _count(vendor.get("badge")) is not None:
        aps["badge"] = _count(vendor["badge"])
    level = _level(
        note,
        note.placement.get("interruption_level"),
        vendor.get("interruption_level"),
        "critical" if vendor.get("critical") else None,
    )
    if level is not None:
        aps["interruption-level"] = level
    return _with_raw(note, aps, level)


def _alert(note: Notification) -> dict[str, Any]:
    """The alert, always an object. A sender's iOS title counts only with the message's own text."""
    own = note.vendor.get("title")
    title = own if isinstance(own, str) and own and _own_words(note) else note.title
    alert = {"title": title} if title else {}
    if note.subtitle:
        alert["subtitle"] = note.subtitle
    if note.loc is not None and _own_words(note):
        return {**alert, "loc-key": note.loc.key, "loc-args": list(note.loc.args)}
    alert["body"] = note.body
    return alert


def _own_words(note: Notification) -> bool:
    """True when neither hidden nor quiet: the neutral text must stay neutral."""
    return not note.hidden and not quiet(note)


def _sound(note: Notification) -> str | dict[str, Any] | None:
    """The file in the app, `default`, or an object for a critical alert; None for silence."""
    name = note.sound_ios if note.sound_ios is not None else "default"
    if quiet(note) or name in ("none", ""):
        return None
    if note.vendor.get("critical") and note.bucket is Bucket.PRIVATE:
        return {"critical": 1, "name": name, "volume": 1.0}
    return name


def _level(note: Notification, placed: Any, *wishes: Any) -> str | None:
    """The last valid level; a public message never exceeds `active` or its class's level.

    Quiet: no banner, no lit screen.
    """
    if quiet(note):
        return "passive"
    level = placed if placed in _LEVELS else None
    bound = 3 if note.bucket is Bucket.PRIVATE else _LEVELS[level or "active"]
    for wish in wishes:
        if isinstance(wish, str) and wish in _LEVELS and _LEVELS[wish] <= bound:
            level = wish
    return level


def _with_raw(note: Notification, aps: dict[str, Any], level: str | None) -> dict[str, Any]:
    """`aps` under the sender's own keys, if on the white list and of the shape that Apple takes."""
    raw = note.vendor_raw.get("aps")
    if not isinstance(raw, Mapping):
        return aps
    over = {key: value for key, value in raw.items() if value is not None}
    if not isinstance(over.get("alert"), Mapping) or not _own_words(note):
        over.pop("alert", None)  # a text would replace the object, and hidden words stay hidden
    else:
        over["alert"] = {key: value for key, value in over["alert"].items() if _is_words(value)}
    if "badge" in over and _count(over["badge"]) is None:
        del over["badge"]
    if quiet(note) or (isinstance(over.get("sound"), Mapping) and note.bucket is Bucket.PUBLIC):
        over.pop("sound", None)
    if over.pop("interruption-level", None) is not None:
        wanted = _level(note, level, raw["interruption-level"])
        over |= {"interruption-level": wanted} if wanted else {}
    return merged(aps, over, RAW_APS)


def _is_words(value: Any) -> bool:
    """All that an alert consists of: texts, and lists of texts for the slots of localised ones."""
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    )


def _count(value: Any) -> int | None:
    """A badge number, None for what is none."""
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BADGE_MAX
        else None
    )


def _takes_badge(note: Notification) -> bool:
    """True when the item's number is shown: alerts without a number of the sender's own."""
    if not note.vendor and not note.vendor_raw:
        return note.push_type is PushType.ALERT and note.kind is not Kind.BADGE
    raw = note.vendor_raw.get("aps")
    given = (
        _count(note.vendor.get("badge"))
        if not isinstance(raw, Mapping) or _count(raw.get("badge")) is None
        else raw["badge"]
    )
    return note.push_type is PushType.ALERT and given is None and note.kind is not Kind.BADGE


_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_TOKEN: Final = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{1,{TOKEN_CHARACTERS_MAX // 2}}}")


def token_valid(token: str) -> bool:
    """Bytes in hex; Apple warns against counting them, but half a byte is none."""
    return _TOKEN.fullmatch(token) is not None


def tokens_valid(tokens: Sequence[str]) -> bool:
    """`token_valid` of all, in one look."""
    even = sum([len(token) % 2 for token in tokens]) == 0
    return even and are_made_of(_HEX_DIGITS, TOKEN_CHARACTERS_MAX, tokens)


def check(credential: Credential, access: AccessToken | None) -> Request:
    """A push to a device token of zeros: BadDeviceToken proves that the credential was accepted."""
    body = compact({"aps": {"content-available": 1}})
    options = credential.options
    headers = {
        "apns-topic": options.get("topic", ""),
        "apns-push-type": "background",
        "apns-priority": "5",
        "apns-expiration": "0",
    }
    if access is not None and access.value:
        headers["authorization"] = f"bearer {access.value}"
    endpoint = "APNS_SANDBOX" if options.get("env") == "sandbox" else "APNS_PRODUCTION"
    return Request(endpoint, "/3/device/" + "0" * 64, headers, body)
