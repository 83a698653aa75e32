"""The request that carries a batch to Xiaomi. Source: docs/vendors/xiaomi.md."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.form_texts import (
    body_of,
    click_text,
    generic,
    json_text,
    mapping,
    message_tag,
    scalar,
    text_only,
    title_of,
)
from workers.vendors.ids import base62, number_id, receipt_tag
from workers.vendors.json_text import whole
from workers.vendors.text import GENERIC, cut, graphemes
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

TITLE_MAX: Final = 49  # "< 50" characters
DESCRIPTION_MAX: Final = 127  # "< 128" characters
PAYLOAD_BYTES_MAX: Final = 4095  # "< 4 KB"
TTL_MS_MAX: Final = {Bucket.PRIVATE: 864_000_000, Bucket.PUBLIC: 86_400_000}  # 10 days, 1 day
VALUE_MAX: Final = 128  # characters of one template value
TEMPLATE_VARIABLES_MAX: Final = 9
GIVEN_CHARS_MAX: Final = 10_000  # of a sender-given value before it is cleaned and cut; ours
CALLBACK_BYTES_MAX: Final = 128
JOBKEY_CHARS: Final = 20
EXTRA_CHARS_MAX: Final = 512  # of one override's value; ours
#: Keys and values of extras that are none of the page's, together (code 65015).
OWN_EXTRA_CHARS_MAX: Final = 1024
#: invalid target and delivered. A wrong sum silently stops all receipts: 17 is one that is known to
#: work.
CALLBACK_TYPE: Final = 17
SOUND, VIBRATE, LIGHT, ALL = 1, 2, 4, -1
#: Keys of `extra` that a sender may set verbatim. None of them names a target, a template, a
#: receipt or a mode; the channel is an override by the time it comes here
#: (workers/routing/classes.py: with_raw).
_RAW = (
    "channel_name channel_description notify_foreground notify_effect intent_uri web_uri "
    "sound_uri badge "
    "notification_style_type notification_large_icon_uri notification_small_icon_uri ticker "
    "notification_bigPic_uri"
)
RAW_EXTRA: Final = frozenset(_RAW.split())
#: Fields without a meaning on the vendor's page: the vendor counts them as the app's own, of which
#: it limits the size.
OWN_EXTRA: Final = frozenset(
    {"channel_name", "channel_description", "badge", "ticker", "notification_small_icon_uri"}
)
#: Those that show something of the message: not when details are hidden.
RAW_TELLING: Final = frozenset({"ticker", "notification_bigPic_uri", "notification_large_icon_uri"})
BIG_TEXT: Final = "1"  # of vendor.xiaomi.style and of extra.notification_style_type alike
#: Marks that make an emoji of a plain character (variation selector, keycap, skin tones): removed,
#: the character stays.
_EMOJI_MARKS: Final = re.compile("[\ufe0f\u20e3\U0001f3fb-\U0001f3ff]")
_REFUSED_KINDS: Final = frozenset({"So", "Cn", "Cs"})  # Cs can't be sent at all


def build(batch: RequestBatch, credential: Credential, _access: AccessToken | None) -> Request:
    """One message to 1..1000 regids of one app: `/v3/message/regid`, form-encoded once."""
    item = batch.items[0]
    note = item.note
    private = note.bucket is Bucket.PRIVATE
    fields: dict[str, str] = {
        "registration_id": ",".join(dict.fromkeys(each.target.token for each in batch.items)),
        "restricted_package_name": credential.options.get("package", ""),
        "pass_through": "0",
        "notify_type": str(_notify_type(note)),
        "notify_id": str(number_id(note.collapse_id)),
        "time_to_live": str(min(max(item.ttl_s, 1) * 1000, TTL_MS_MAX[note.bucket])),
        "title": title_of(note, TITLE_MAX),
        "description": body_of(note, DESCRIPTION_MAX),
        "payload": click_text(note, PAYLOAD_BYTES_MAX),
    }
    look = _within({**_look(note, credential), **_raw(note)})
    extra = {**_class_extra(note, private), **look, **_callback(batch), "jobkey": jobkey(batch)}
    form = [(key, value) for key, value in fields.items() if value] + [
        (f"extra.{key}", value) for key, value in extra.items()
    ]
    headers = {
        "authorization": f"key={credential.secrets.get('app_secret', '')}",
        "content-type": "application/x-www-form-urlencoded;charset=UTF-8",
    }
    return Request(endpoint_of(credential), "/v3/message/regid", headers, encode(form))


def encode(form: Sequence[tuple[str, str]]) -> bytes:
    """Ordinary form encoding, once: a payload encoded twice reaches the app as percent text."""
    return urlencode([(key, whole(value)) for key, value in form]).encode()


def jobkey(batch: RequestBatch) -> str:
    """Batch key; the client shows only its first message, so a repeat after silence is invisible.

    A message to one person has the push id's (`group` keeps it alone in its request); one to many
    has the message's own, which does not depend on the batches of the next attempt.
    """
    item = batch.items[0]
    alone = len(batch.items) == 1 and item.note.conversation_type == "c2c"
    return base62(item.target.push_id if alone else message_tag(item), JOBKEY_CHARS)


def group(item: PushItem) -> str:
    """A c2c push travels alone, under its own push id; the pushes of a group message share
    requests.
    """
    return item.target.push_id if item.note.conversation_type == "c2c" else ""


def _class_extra(note: Notification, private: bool) -> dict[str, str]:
    """Channel and template. Overrides move within the private class only: a public push never gets
    a private channel.
    """
    over = note.vendor if private else {}
    given = note.template if private and note.template else {}
    placed = note.placement
    channel = scalar(over.get("channel_id"), VALUE_MAX) or placed.get("channel_id")
    chosen = scalar(given.get("id"), VALUE_MAX)
    template = chosen or scalar(over.get("template_id"), VALUE_MAX) or placed.get("template_id")
    extra = {"channel_id": channel} if channel else {}
    if not (private and channel and template):
        return extra
    values = _given_values(note, given) if chosen else _own_values(note)
    return {**extra, "template_id": template, "template_param": json_text(values) or "{}"}


def _own_values(note: Notification) -> dict[str, str]:
    """The template's two variables; with hidden details only title and body may fill them."""
    placed, name, text = note.placement, note.sender_name or note.title, note.text or note.body
    if text_only(note):
        name, text = note.title, note.body
    cleaned = template_value(name)
    sender = (
        cleaned or template_value(note.app_name) or template_value(generic(note)) or GENERIC["en"]
    )
    words = (
        template_value(text)
        or template_value(note.fallback_body)
        or template_value(generic(note))
        or GENERIC["en"]
    )
    pairs = (
        (placed.get("template_sender", "sender"), sender),
        (placed.get("template_text", "text"), words),
    )
    return {whole(variable): value for variable, value in pairs if variable}


def _given_values(note: Notification, given: Mapping[str, Any]) -> dict[str, str]:
    """A sender-given template's values (objects, or their JSON text), each made valid.

    An empty value is replaced by our text: without a variable the vendor refuses the push (10017).
    """
    values: dict[str, str] = {}
    words = template_value(generic(note)) or GENERIC["en"]
    sides = (("title_params", template_value(note.app_name) or words), ("content_params", words))
    for part, spare in sides:
        for key, value in mapping(given.get(part)).items():
            shown = (
                words if text_only(note) else template_value(scalar(value, GIVEN_CHARS_MAX) or "")
            )
            if isinstance(key, str) and len(values) < TEMPLATE_VARIABLES_MAX:
                values[whole(key)] = shown or spare
    return values


def value_valid(value: str) -> bool:
    """True for a valid template value: 1..128 characters, not blank, no So, no Cn character.

    So: symbols; Cn: unassigned.
    """
    return (
        0 < len(value) <= VALUE_MAX
        and bool(value.strip())
        and not any(unicodedata.category(c) in _REFUSED_KINDS for c in value)
    )


def template_value(text: str) -> str:
    """`text` as the vendor takes it, "" when nothing remains. A grapheme with one refused character
    goes whole: no half emoji.
    """
    text = _EMOJI_MARKS.sub("", text)
    if not value_valid(text):
        shown = (match.group() for match in graphemes().finditer(text))
        text = "".join(
            part
            for part in shown
            if not any(unicodedata.category(c) in _REFUSED_KINDS for c in part)
        ).strip()
        text = cut(text, VALUE_MAX)
    return text if value_valid(text) else ""


def _notify_type(note: Notification) -> int:
    """Sound, vibration and light; a quiet and a silent push make no noise."""
    if quiet(note) or note.push_type is PushType.SILENT:
        return LIGHT
    return VIBRATE | LIGHT if note.sound_android == "none" else ALL


def _look(note: Notification, credential: Credential) -> dict[str, str]:
    """Click, sound and style. notify_effect is always there: without it a notification is withdrawn
    (2024-09-30).
    """
    extra = {"notify_effect": "1", "notify_foreground": "1"}
    if intent := credential.options.get("intent_uri"):
        extra |= {"notify_effect": "2", "intent_uri": intent}
    sound = re.sub(r"\..*$", "", note.sound_android or "")
    package = credential.options.get("package", "")
    if (
        sound not in ("", "none", "default")
        and not quiet(note)
        and re.fullmatch(r"[A-Za-z0-9_]{1,64}", sound)
    ):
        extra["sound_uri"] = f"android.resource://{package}/raw/{sound}"
    if scalar(note.vendor.get("style"), 4) == BIG_TEXT:
        extra["notification_style_type"] = BIG_TEXT
    if name := scalar(note.vendor.get("channel_name"), VALUE_MAX):
        extra["channel_name"] = name
    return extra


def _raw(note: Notification) -> dict[str, str]:
    """The sender's own `extra`, white-listed keys with short values; a click that lacks its address
    is left out.
    """
    raw = note.vendor_raw.get("extra")
    wanted = raw.items() if isinstance(raw, Mapping) else ()
    allowed = RAW_EXTRA - RAW_TELLING if text_only(note) else RAW_EXTRA
    if quiet(note):
        allowed -= {"sound_uri"}
    extra = {
        key: text
        for key, value in wanted
        if key in allowed and (text := scalar(value, EXTRA_CHARS_MAX))
    }
    needs = {"1": None, "2": "intent_uri", "3": "web_uri"}
    effect = extra.get("notify_effect")
    if effect is not None and (
        effect not in needs or (needs[effect] and needs[effect] not in extra)
    ):
        del extra["notify_effect"]
    return extra


def _within(extra: Mapping[str, str]) -> dict[str, str]:
    """`extra` within the bounds of the app's own fields, or the message would be refused."""
    kept, room = {}, OWN_EXTRA_CHARS_MAX
    for key, value in extra.items():
        size = len(key) + len(value) if key in OWN_EXTRA else 0
        if size <= room:
            kept[key] = value
            room -= size
    return kept


def _callback(batch: RequestBatch) -> dict[str, str]:
    """The receipt fields: a single push's id, or a list's tag, is echoed."""
    url = batch.callback_url
    if not url or len(whole(url).encode()) > CALLBACK_BYTES_MAX:
        return {}
    tag = receipt_tag(batch)
    return {"callback": url, "callback.param": tag, "callback.type": str(CALLBACK_TYPE)}


def endpoint_of(credential: Credential) -> str:
    return "XIAOMI_GLOBAL" if credential.options.get("region") == "global" else "XIAOMI"


def token_valid(token: str) -> bool:
    """Printable ASCII, 1..512, no comma (which would make two of it). The page gives no stricter
    form.
    """
    return bool(re.fullmatch(r"[!-+\--~]{1,512}", token))


def check(credential: Credential, _access: AccessToken | None) -> Request:
    """Today's quota: needs the secret, pushes nothing. At most one call a second."""
    headers = {"authorization": f"key={credential.secrets.get('app_secret', '')}"}
    return Request(endpoint_of(credential), "/v1/trace/quota/get", headers, b"", method="GET")
