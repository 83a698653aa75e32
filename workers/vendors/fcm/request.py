"""The request that carries a batch to FCM. Source: docs/vendors/fcm.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.fcm.codes import text
from workers.vendors.ids import are_made_of, text_id
from workers.vendors.json_text import compact, merged
from workers.vendors.text import fitting, shrink, utf8_bytes
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import VISIBLE, Request

#: Keys and values of data, notification and android.notification, in UTF-8.
PAYLOAD_BYTES_MAX: Final = 4096
#: A text with this many characters always fits: four bytes per character at most.
WORDS_CHARACTERS_MAX: Final = 500
TTL_S_MAX: Final = 2_419_200  # 28 days
COUNT_MAX: Final = 2**31 - 1
TOKEN_CHARACTERS_MAX: Final = 4096
#: Keys of android.notification that a sender may lay over ours. Not `tag` (our identity on the
#: screen), not the count.
RAW_NOTIFICATION: Final = frozenset(
    {
        "icon",
        "color",
        "sound",
        "click_action",
        "channel_id",
        "ticker",
        "sticky",
        "event_time",
        "local_only",
        "notification_priority",
        "default_sound",
        "default_vibrate_timings",
        "default_light_settings",
        "vibrate_timings",
        "visibility",
        "light_settings",
        "image",
        "proxy",
    }
)
#: Those of them that make a noise, light up or come to the front.
NOISE: Final = frozenset(
    {
        "sound",
        "default_sound",
        "default_vibrate_timings",
        "vibrate_timings",
        "default_light_settings",
        "light_settings",
    }
    | {"notification_priority", "sticky", "ticker"}
)
#: A quiet push: up to Android 7; later the app's channel decides.
QUIET_LOOK: Final[Mapping[str, Any]] = {
    "notification_priority": "PRIORITY_LOW",
    "default_sound": False,
    "default_vibrate_timings": False,
}
#: Keys of a data message that the app draws.
DRAWN: Final = frozenset({"title", "body", "tag", "channel_id", "sound", "image", "badge"})
#: Of those the ones that an app's own server sets in a push to a token: Mattermost's apps read
#: their conversation as `channel_id`.
LOOKS: Final = frozenset({"channel_id", "sound", "image"})
_RESERVED: Final = re.compile(r"from|message_type|collapse_key|gcm.*|google.*", re.DOTALL)
_HEAD: Final = b'{"message":{"android":{"ttl":"%ds",'


@dataclass(frozen=True, slots=True)
class FcmPrepared:
    """The common part of all tokens of a notification: path, and the body around the badge.

    too_large: even with the text cut.
    """

    path: str
    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    badge: bytes  # the badge's JSON as a format, b"" where none is shown
    too_large: bool


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """POST …/messages:send for the batch's one item."""
    item = batch.items[0]
    ready = (
        batch.prepared
        if isinstance(batch.prepared, FcmPrepared)
        else prepare(item.note, credential)
    )
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authorization"] = f"Bearer {access.value}"
    # FCM: 0 means one more, not none
    shown = item.badge is not None and item.badge > 0 and ready.badge
    badge = ready.badge % min(item.badge or 0, COUNT_MAX) if shown else b""
    ttl = _HEAD % min(max(item.ttl_s, 0), TTL_S_MAX)
    body = b"".join(
        (ttl, ready.head, badge, ready.tail, b',"token":', compact(item.target.token), b"}}")
    )
    return Request("FCM", ready.path, headers, body)


def prepare(note: Notification, credential: Credential) -> FcmPrepared:
    """Path and body but for token, lifetime, access token and badge number."""
    data_only = _data_only(note, credential)
    head, tail, too_large = fitting(_data_message if data_only else _shown_message, note)
    badge = (
        b""
        if note.push_type is PushType.SILENT
        else b'"badge":"%d",'
        if data_only
        else b'"notification_count":%d,'
    )
    path = f"/v1/projects/{credential.options.get('project_id', '')}/messages:send"
    return FcmPrepared(path, head, tail, badge, too_large)


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`payload_too_large` where not even ten characters of text fit without data.

    It depends on the notification only.
    """
    note = item.note
    if note.payload is None and not note.vendor_raw:
        uncut = (
            *(note.ext, note.image, note.sound_android),
            *(note.vendor.get("image"), note.vendor.get("channel_id")),
            *(note.loc.args if note.loc is not None else ()),
        )
        if sum(len(text) for text in uncut if isinstance(text, str)) <= 256:
            return None
    too_long = fitting(_data_message, note)[2]
    return "payload_too_large" if too_long or fitting(_shown_message, note)[2] else None


def _data_only(note: Notification, credential: Credential) -> bool:
    """True when the app draws the notification: the message's option over the credential's.

    A silent push always is.
    """
    named = note.vendor.get("type")  # ZEGO's word for it
    default = named == "data" if named in ("data", "notification") else None
    if default is None:
        default = credential.options.get("data_only")
    wanted = note.vendor.get("data_only", default)
    return note.push_type is PushType.SILENT or wanted in (True, 1, "1", "true")


def _shown_message(note: Notification) -> tuple[bytes, bytes, bool]:
    """(up to the count, after it, True if still too large) of a message that Android draws."""
    look, data, words = _look(note), _data(note), _words(note)
    words, too_large = _fitted(
        words, (look, data), spare=len("notification_count") + 10, prefix=note.prefix
    )
    android = compact({"notification": look, "priority": _priority(note)})
    rest = {"data": data, "notification": words} if data else {"notification": words}
    split = len(b'{"notification":{')
    return android[1:split], android[split:] + b"," + compact(rest)[1:-1], too_large


def _data_message(note: Notification) -> tuple[bytes, bytes, bool]:
    """The same for a message that the app reads: everything in `data`, values are texts."""
    silent = note.push_type is PushType.SILENT
    extra, texts_shown = ({}, {}) if silent else (_drawing(note), _words(note))
    ours = frozenset() if silent else DRAWN.union(extra)
    data = {**extra, **_data(note, ours - LOOKS if note.direct else ours)}
    words, too_large = _fitted(texts_shown, (data,), spare=len("badge") + 10, prefix=note.prefix)
    if silent and note.badge_value is not None:
        data["badge"] = str(note.badge_value)
    priority = "NORMAL" if silent else _priority(note)
    head = compact({"priority": priority})[1:] + b',"data":{'
    return head, compact({**words, **data})[1:], too_large


def _fitted(
    words: dict[str, str], beside: Sequence[Mapping[str, Any]], spare: int, prefix: str
) -> tuple[dict[str, str], bool]:
    """Title and body cut to the limit; True if still too large.

    prefix: a name that the body may begin with.
    """
    left = PAYLOAD_BYTES_MAX - spare - sum(_weight(part) for part in beside)
    room = left - sum(map(utf8_bytes, words))
    texts: dict[str, str] = {name: words[name] for name in ("body", "title") if name in words}
    shrunk = shrink(texts, sum(map(utf8_bytes, texts.values())) - room, utf8_bytes, prefix)
    cut_words = {**words, **shrunk}
    return cut_words, sum(map(utf8_bytes, cut_words.values())) > room


def _weight(part: Mapping[str, Any]) -> int:
    """UTF-8 bytes of keys and values, which is how FCM counts."""
    return sum(
        utf8_bytes(key) + (utf8_bytes(value) if isinstance(value, str) else len(compact(value)))
        for key, value in part.items()
    )


def _words(note: Notification) -> dict[str, str]:
    raw = _raw_notification(note) if not note.hidden and not quiet(note) else {}
    title = text(raw.get("title")) or note.title or note.app_name
    body = text(raw.get("body")) or note.body
    return {"title": title, "body": body} if title else {"body": body}


def _look(note: Notification) -> dict[str, Any]:
    """android.notification: how it looks and sounds, and which one it replaces."""
    look: dict[str, Any] = {"tag": text_id(note.collapse_id)}
    channel = note.vendor.get("channel_id") or note.placement.get("channel_id")
    if isinstance(channel, str) and channel:
        look["channel_id"] = channel
    sound = note.sound_android if note.sound_android is not None else "default"
    if quiet(note):
        look |= QUIET_LOOK
    elif sound not in ("none", ""):
        look["sound"] = sound.rpartition(".")[0] or sound  # Android names resources without suffix
    image = note.vendor.get("image") or note.image
    if isinstance(image, str) and image.startswith("https://"):
        look["image"] = image
    if note.loc is not None and not quiet(note):
        look |= {"body_loc_key": note.loc.key, "body_loc_args": list(note.loc.args)}
    raw = _raw_notification(note)
    return merged(look, raw, RAW_NOTIFICATION - NOISE if quiet(note) else RAW_NOTIFICATION)


def _drawing(note: Notification) -> dict[str, str]:
    """The same for a message that the app draws."""
    return {
        key: value if isinstance(value, str) else compact(value).decode()
        for key, value in _look(note).items()
    }


def _raw_notification(note: Notification) -> dict[str, Any]:
    """The sender's own notification keys (NIM: fcmField, fcmFieldV1), legacy names turned into
    today's.
    """
    raw: dict[str, Any] = {}
    for name in ("notification", "fcm_v1"):
        part = note.vendor_raw.get(name)
        raw |= (
            {key: value for key, value in part.items() if value is not None}
            if isinstance(part, dict)
            else {}
        )
    if "android_channel_id" in raw:
        raw.setdefault("channel_id", raw["android_channel_id"])
    return raw


def _data(note: Notification, ours: frozenset[str] = frozenset()) -> dict[str, str]:
    """ext and the payload's keys, with values as texts, as FCM requires.

    A key that FCM reserves, or one of `ours`, gets the prefix x-: the payload does not set what the
    app draws (a hidden text stays hidden, a repeat replaces itself).
    """
    data = {}
    for key, value in (note.payload or {}).items():
        name = f"x-{key}" if key in ours or _RESERVED.fullmatch(key) else key
        data[name] = value if isinstance(value, str) else compact(value).decode()
    if note.ext is not None:
        data["ext"] = note.ext
    return data


def _priority(note: Notification) -> str:
    """HIGH wakes the device.

    A public message is never raised; a recall or a call's end never wakes.
    """
    placed = "NORMAL" if note.placement.get("priority") == "NORMAL" or quiet(note) else "HIGH"
    wish = text(note.vendor.get("priority")).upper()
    if wish == "NORMAL" or (wish == "HIGH" and note.bucket is Bucket.PRIVATE and not quiet(note)):
        return wish
    return placed


_TOKEN: Final = re.compile(rf"[!-~]{{1,{TOKEN_CHARACTERS_MAX}}}")


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks: registration tokens and installation ids are both opaque."""
    return _TOKEN.fullmatch(token) is not None


def tokens_valid(tokens: Sequence[str]) -> bool:
    """`token_valid` of all, in one look."""
    return are_made_of(VISIBLE, TOKEN_CHARACTERS_MAX, tokens)


def check(credential: Credential, access: AccessToken | None) -> Request:
    """Full validation of a push to a token that can't exist, with nothing delivered."""
    message = {"token": "pushfleet-credential-check", "notification": {"body": "check"}}
    body = {"message": message, "validate_only": True}
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authorization"] = f"Bearer {access.value}"
    path = f"/v1/projects/{credential.options.get('project_id', '')}/messages:send"
    return Request("FCM", path, headers, compact(body))
