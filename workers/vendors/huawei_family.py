"""Bodies shared by Huawei, HarmonyOS and Honor: fitted texts, click data, ids, OAuth. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any
from urllib.parse import urlencode

import msgspec

from common.contracts import Notification
from common.model import Again, PushType, Verdict
from common.push_ids import event_tag
from workers.vendors.answers import read, retry_after_s
from workers.vendors.json_text import compact, merged
from workers.vendors.text import cut, named_within
from workers.vendors.types import AccessRefused, AccessToken, PushItem, RequestBatch
from workers.wire import HttpResponse, Request

#: Body of a request without its tokens, UTF-8. Huawei: code 80300008 above it. Honor: our policy.
#: Source: docs/vendors/huawei.md, 2026-05.
BODY_BYTES_MAX = 4096
#: Least bytes of title and body together; data beside the text is dropped to keep them.
WORDS_BYTES_MIN = 96
#: Room kept free while cutting: the quotes and commas that lines of an inbox style add.
SLACK_BYTES = 16
TTL_S_MAX = 1_296_000  # 15 days
TAG_HEX = 32  # digits of a receipt tag
IMAGE_URL_MAX = 1024
VENDOR_WORDS_MAX = 200
ACCESS_S_DEFAULT = 3600
ACCESS_S_MAX = 7 * 86_400
ACCESS_EARLY_S = 300

_TOKEN = re.compile(r"[!-~]{1,1024}")
_ID = re.compile(r"[!-~]{1,64}")


class Keep(IntEnum):
    """The amount of data beside the text when the body is too long; each step drops one part."""

    WORDS = 0
    EXT = 1
    PAYLOAD = 2
    ALL = 3  # image and raw fields too


Render = Callable[[str, str, Keep], dict[str, Any]]


# ---------------------------------------------------------------- bytes


def json_bytes(text: str) -> int:
    """Bytes that `text` takes inside a JSON text, escapes counted, quotes not."""
    return len(compact(text)) - 2


def fitted(
    render: Render, title: str, body: str, repeats: int = 1, prefix: str = ""
) -> dict[str, Any]:
    """The body with as much text as fits BODY_BYTES_MAX.

    repeats: how often the text occurs in it (big text style: 2). prefix: a leading name of the
    body, shortened before the text behind it. Title and body are cut on grapheme borders, the title
    to a third where both are long. Data beside them (image and raw fields, then payload, then ext)
    is dropped only when it would leave less than WORDS_BYTES_MIN for the text.
    """
    for keep in sorted(Keep, reverse=True):
        whole = render(title, body, keep)
        if len(compact(whole)) <= BODY_BYTES_MAX:
            return whole
        room = (BODY_BYTES_MAX - SLACK_BYTES - len(compact(render("", "", keep)))) // repeats
        if room >= WORDS_BYTES_MIN or keep is Keep.WORDS:
            head = cut(title, max(room // 3, room - json_bytes(body)), json_bytes)
            left = room - json_bytes(head)
            return render(
                head, cut(named_within(body, prefix, left, json_bytes), left, json_bytes), keep
            )
    raise AssertionError("Keep.WORDS always returns")


# ---------------------------------------------------------------- parts of a body


def title_of(note: Notification) -> str:
    """A title is required by all three: the note's, else the app's name, else an ellipsis."""
    return note.title or note.app_name or "…"


def body_of(note: Notification) -> str:
    return note.body or note.fallback_body or "…"


def click_data(note: Notification, keep: Keep = Keep.ALL) -> dict[str, Any]:
    """The app's click data: `{"ext": …}` with the payload's keys beside it (contract §8a)."""
    data = dict(note.payload or {}) if keep >= Keep.PAYLOAD else {}
    if note.ext is not None and keep >= Keep.EXT:
        data["ext"] = note.ext
    if note.badge_value is not None and note.push_type is PushType.SILENT:
        data["badge"] = note.badge_value  # the vendor's own field needs words beside it
    return data


def silent_body(
    note: Notification, render: Callable[[str], dict[str, Any]], raw_data: Any = None
) -> dict[str, Any]:
    """The body of a push that shows nothing, by `render` of its data as text. What does not fit is
    left out: raw_data (the sender's text in place of ours) first, then the payload; ext never.
    """
    ours = click_data(note)
    texts = [raw_data] if isinstance(raw_data, str) else []
    if ours or not texts:
        texts.append(json_text(ours))
    if note.ext is not None:
        texts.append(json_text(click_data(note, Keep.EXT)))
    bodies = (render(text) for text in texts)
    return next(
        (body for body in bodies if len(compact(body)) <= BODY_BYTES_MAX), render(texts[-1])
    )


def refuse_long(least: Mapping[str, Any]) -> str | None:
    """`payload_too_large` for a push that shows nothing and never fits; `least` is its shortest
    body. Half of its data would be worth nothing, so no request is made of it.
    """
    return "payload_too_large" if len(compact(least)) > BODY_BYTES_MAX else None


def json_text(data: Mapping[str, Any]) -> str:
    return compact(data).decode()


def note_tag(note: Notification) -> str:
    """32 hex digits of (app, event, kind): the same for every device and every attempt of one
    notification.
    """
    return event_tag(note.app, note.event_id, note.kind)


def text_id(value: str) -> str:
    """`value` if it is 1 to 64 printable ASCII characters, else its digest (32 hex digits)."""
    return (
        value
        if _ID.fullmatch(value)
        else hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=16).hexdigest()
    )


def group_of(note: Notification) -> str:
    return text_id(note.thread_id or note.conversation_id)


def ttl_of(batch: RequestBatch) -> int:
    """Seconds, 1 to 15 days; the least of the items, which is the last useful time."""
    return min(item_ttl_s(item) for item in batch.items)


def item_ttl_s(item: PushItem) -> int:
    return min(max(item.ttl_s, 1), TTL_S_MAX)


def badge_of(batch: RequestBatch) -> int | None:
    """The number for the icon, 0 to 99; None: leave it alone."""
    badge = batch.items[0].badge
    return None if badge is None else min(max(badge, 0), 99)


def image_of(batch: RequestBatch) -> str | None:
    """The note's image, or the vendor's address for it, if https and not refused before."""
    image = (batch.items[0].note.image if batch.image is None else batch.image) or ""
    https = image.startswith("https://")
    return image if https and len(image) <= IMAGE_URL_MAX and not image_refused(batch) else None


def image_refused(batch: RequestBatch) -> bool:
    return any(item.target.again == Again.WITHOUT_IMAGE for item in batch.items)


def text_option(options: Mapping[str, Any], name: str, most: int = 256) -> str | None:
    """`options[name]` where it is a text of 1 to `most` characters."""
    value = options.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= most else None


def part(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object at `raw[name]`; {} for anything else."""
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def raw_fields(
    batch: RequestBatch, fields: frozenset[str], words: frozenset[str]
) -> frozenset[str]:
    """The fields that vendor_raw may set: no texts when details are hidden, no refused image."""
    allowed = fields if batch.items[0].note.hidden else fields | words
    return allowed - {"image"} if image_refused(batch) else allowed


_BADGE_NUMBERS = frozenset({"add_num", "set_num", "addNum", "setNum"})


def laid(base: dict[str, Any], raw: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """`merged`, except that a raw non-object never replaces an object.

    A raw badge's number replaces ours: beside a number to be set the vendors ignore one to be
    added.
    """
    fitting = {
        key: value
        for key, value in raw.items()
        if isinstance(value, dict) or not isinstance(base.get(key), dict)
    }
    if "badge" in base and "badge" in allowed and _BADGE_NUMBERS & part(raw, "badge").keys():
        badge = {key: value for key, value in base["badge"].items() if key not in _BADGE_NUMBERS}
        base = {**base, "badge": badge}
    return merged(base, fitting, allowed)


def bearer(access: AccessToken | None) -> dict[str, str]:
    headers = {"content-type": "application/json; charset=UTF-8"}
    return {**headers, "authorization": f"Bearer {access.value}"} if access else headers


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks, up to 1024: nothing else ever was a push token (the vendors
    give no format).
    """
    return _TOKEN.fullmatch(token) is not None


# ---------------------------------------------------------------- OAuth


class _Grant(msgspec.Struct):
    access_token: Any = None
    expires_in: Any = None
    error: Any = None
    sub_error: Any = None
    error_description: Any = None


def token_request(endpoint: str, path: str, client_id: str, client_secret: str) -> Request:
    """OAuth 2.0 client credentials, every value URL-encoded."""
    form = urlencode(
        {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    )
    return Request(
        endpoint, path, {"content-type": "application/x-www-form-urlencoded"}, form.encode()
    )


def read_access(
    answer: HttpResponse, now_ms: int, refused: frozenset[str]
) -> AccessToken | AccessRefused:
    """The token and when to renew it (300 s early), or why there is none. refused: error codes that
    mean a bad credential on any status.
    """
    grant = read(answer, _Grant) or _Grant()
    value = grant.access_token
    if (
        answer.status == 200
        and isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and " " not in value.strip()
        and value.strip()
    ):
        life_s = _life_s(grant.expires_in)
        early_s = min(ACCESS_EARLY_S, life_s // 2)
        return AccessToken(
            value.strip(), now_ms + (life_s - early_s) * 1000, now_ms + life_s * 1000
        )
    code = ".".join(plain(part) for part in (grant.error, grant.sub_error) if plain(part))
    words = (
        cut(grant.error_description, VENDOR_WORDS_MAX)
        if isinstance(grant.error_description, str)
        else ""
    )
    verdict = _no_token(answer.status, code, refused)
    return AccessRefused(verdict, code or str(answer.status), words, retry_after_s(answer))


def _life_s(value: Any) -> int:
    try:
        life_s = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return ACCESS_S_DEFAULT
    return min(life_s, ACCESS_S_MAX) if life_s > 0 else ACCESS_S_DEFAULT


def _no_token(status: int, code: str, refused: frozenset[str]) -> Verdict:
    if code in refused or status in (403, 404, 405):
        return Verdict.CREDENTIAL_REFUSED
    if status in (429, 503):
        return Verdict.THROTTLED
    # An error with a vendor's message concerns our request; a proxy's page (no code) may pass.
    return (
        Verdict.CREDENTIAL_REFUSED
        if code and status < 500 and status != 408
        else Verdict.UNAVAILABLE
    )


def plain(value: Any) -> str:
    """A code or id (number or text) as text of at most 64 printable characters, else ""."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    return "".join(char for char in str(value).strip()[:64] if char.isprintable())
