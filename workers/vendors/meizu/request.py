"""The request that carries a batch to Meizu. Source: docs/vendors/meizu.md."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.ids import receipt_tag
from workers.vendors.json_text import compact, whole
from workers.vendors.text import GENERIC, GENERIC_TITLE, body_within, cut
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

PATH: Final = "/garcia/api/server/push/varnished/pushByPushId"
TITLE_CHARACTERS_MAX: Final = 32
CONTENT_CHARACTERS_MAX: Final = 100
VALID_HOURS_MAX: Final = 72
NOTIFY_KEY_CHARACTERS: Final = 8
CALLBACK_BYTES_MAX: Final = 128
SAFE_TITLE: Final = GENERIC_TITLE
SAFE_CONTENT: Final = GENERIC["zh"]


def build(batch: RequestBatch, credential: Credential, _access: AccessToken | None) -> Request:
    """The form of pushByPushId for all tokens of the request batch; signed, so there is no access
    token.
    """
    form = {
        "appId": credential.options.get("app_id", ""),
        "pushIds": ",".join(whole(item.target.token) for item in batch.items),
        "messageJson": compact(_message(batch)).decode(),
    }
    return _request(form, credential)


def _request(form: Mapping[str, str], credential: Credential) -> Request:
    signed = {**form, "sign": sign(form, credential.secrets.get("app_secret", ""))}
    headers = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}
    return Request("MEIZU", PATH, headers, urlencode(signed).encode())


def sign(form: Mapping[str, str], app_secret: str) -> str:
    """MD5 over name=value in order of name, raw and without separators, then the secret.

    Source: Meizu's page.
    """
    base = "".join(f"{name}={form[name]}" for name in sorted(form)) + app_secret
    return hashlib.md5(base.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`silent_not_supported`: pass-through messages are not given to apps any more (110053)."""
    return "silent_not_supported" if item.note.push_type is PushType.SILENT else None


def _message(batch: RequestBatch) -> dict[str, Any]:
    """messageJson."""
    note = batch.items[0].note
    ttl_s = min(item.ttl_s for item in batch.items)
    hours = min(max(-(-ttl_s // 3600), 1), VALID_HOURS_MAX)
    advance: dict[str, Any] = {"notifyKey": notify_key(note.collapse_id)}
    if quiet(note):
        advance["suspend"] = 0
    if note.sound_android == "none" or quiet(note):
        advance["notificationType"] = {"vibrate": 0, "lights": 1, "sound": 0}
    click: dict[str, Any] = {"clickType": 0}
    parameters = _parameters(note)
    if parameters:
        click["parameters"] = parameters
    body = body_within(note, CONTENT_CHARACTERS_MAX, utf16_units)
    message = {
        "noticeBarInfo": {
            "noticeMsgType": _notice_type(note),
            "title": _first(TITLE_CHARACTERS_MAX, note.title, note.app_name, SAFE_TITLE),
            "content": _first(CONTENT_CHARACTERS_MAX, body, note.fallback_body, SAFE_CONTENT),
        },
        "clickTypeInfo": click,
        "pushTimeInfo": {"offLine": 1, "validTime": hours} if ttl_s > 0 else {"offLine": 0},
        "advanceInfo": advance,
    }
    if (
        batch.callback_url
        and len(batch.callback_url.encode("utf-8", "replace")) <= CALLBACK_BYTES_MAX
    ):
        message["extra"] = {
            "callback": batch.callback_url,
            "callback.param": receipt_tag(batch),
            "callback.type": "3",
        }
    return message


def _notice_type(note: Notification) -> int:
    """1 private, 0 public. A message in the public bucket is never lifted, a private one may be
    lowered by its sender.
    """
    if note.bucket is Bucket.PUBLIC or note.placement.get("notice_msg_type", "1") != "1":
        return 0
    return 0 if str(note.vendor.get("notice_msg_type", 1)) == "0" else 1


def _parameters(note: Notification) -> dict[str, Any]:
    """The app's click data: the payload's keys, the sender's own parameters, ext."""
    raw = note.vendor_raw.get("parameters")
    parameters = {**(note.payload or {}), **(raw if isinstance(raw, dict) else {})}
    if note.ext is not None:
        parameters["ext"] = note.ext
    return parameters


def _first(most: int, *candidates: str) -> str:
    """The first text that is not blank, cut to `most` characters as Java counts them."""
    return next(
        fitted for text in candidates if (fitted := cut(whole(text).strip(), most, utf16_units))
    )


def utf16_units(text: str) -> int:
    """Length in UTF-16 units: at least the characters, so it fits in either unit."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def notify_key(collapse_id: str) -> str:
    """Eight characters of [0-9A-Za-z_-] from the collapse id: 48 bits."""
    digest = hashlib.sha1(whole(collapse_id).encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:NOTIFY_KEY_CHARACTERS]


_TOKEN: Final = re.compile(r"[!-+\--~]{1,256}")


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks; a comma would make two of it."""
    return _TOKEN.fullmatch(token) is not None


def check(credential: Credential, _access: AccessToken | None) -> Request:
    """A push to an impossible pushId: refused as illegal, but only after the signature check."""
    notice = {"noticeMsgType": 1, "title": SAFE_TITLE, "content": SAFE_CONTENT}
    message = {"noticeBarInfo": notice, "pushTimeInfo": {"offLine": 0}}
    app_id = credential.options.get("app_id", "")
    form = {"appId": app_id, "pushIds": "0", "messageJson": compact(message).decode()}
    return _request(form, credential)
