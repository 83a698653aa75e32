"""Texts, click data and overrides for form-and-JSON vendors (Xiaomi, OPPO). Pure and total.

Any input gives a valid value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from common.contracts import Notification
from common.model import PRIVATE_CLASSES, Kind, PushType, Verdict
from workers.vendors.attempts import tries_met
from workers.vendors.json_text import compact, whole
from workers.vendors.text import GENERIC, body_within, cut, utf8_bytes
from workers.vendors.types import Credential, Outcome, PushItem, RequestBatch, quiet

#: Most characters of a vendor's code that are kept; real ones have at most six.
CODE_MAX: Final = 32
#: Tries of a push whose answers can't be read.
UNREADABLE_ATTEMPTS: Final = 3


def generic(note: Notification) -> str:
    """The text of a message that has nothing to show."""
    return GENERIC.get(note.lang[:2].lower()) or whole(note.fallback_body).strip() or GENERIC["en"]


def first_words(most: int, *candidates: str | None) -> str:
    """The first candidate that is not blank, cut to `most` characters at a grapheme; "" when all
    are.
    """
    for text in candidates:
        if text and (shown := whole(text).strip()):
            return cut(shown, most)
    return ""


def title_of(note: Notification, most: int) -> str:
    """A title that is never blank: both vendors refuse one."""
    return first_words(most, note.title, note.app_name, generic(note))


def body_of(note: Notification, most: int) -> str:
    """A body that is never blank."""
    return first_words(most, body_within(note, most), note.fallback_body, generic(note))


def text_only(note: Notification) -> bool:
    """True when only title and body may be shown: hidden details, a recall, or an ended call."""
    return note.hidden or quiet(note)


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`silent_not_supported`: a silent push without words of its sender. Both vendors show whatever
    they take, and people would be told of a message that there is not.
    """
    note = item.note
    if note.push_type is not PushType.SILENT:
        return None
    wordless = note.kind is Kind.CLEAR or (not note.hidden and note.text == note.fallback_body)
    return "silent_not_supported" if wordless else None


def click_text(
    note: Notification,
    most: int,
    under: Mapping[str, Any] | None = None,
    measure: Callable[[str], int] = utf8_bytes,
) -> str:
    """The app's click data as JSON text of at most `most` of `measure`: payload keys and `ext`.

    under: keys laid below ours. Parts that do not fit are dropped whole (first `under`, then the
    payload, then ext): half a JSON text would break the app. "" when nothing remains.
    """
    ext = {} if note.ext is None else {"ext": whole(note.ext)}
    payload = note.payload or {}
    for data in ({**(under or {}), **payload, **ext}, {**payload, **ext}, ext):
        text = json_text(data)
        if data and text is not None and measure(text) <= most:
            return text
    return ""


def json_text(value: Any) -> str | None:
    """Compact JSON, None for what JSON cannot express (a lone surrogate, an odd key)."""
    try:
        return compact(value).decode()
    except (ValueError, TypeError, RecursionError):
        return None


def scalar(value: Any, most: int) -> str | None:
    """An override as text: a text or whole number of 1 to `most` characters, None for anything
    else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return None
    text = whole(str(value)).strip()
    return text if 0 < len(text) <= most else None


def number(value: Any, low: int, high: int) -> int | None:
    """A whole number, also as text, of low to high; None for anything else."""
    text = scalar(value, 20)
    if text is None or not re.fullmatch(r"-?[0-9]+", text):
        return None
    return wanted if low <= (wanted := int(text)) <= high else None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or its JSON text (as some clouds' senders write template values); {} for anything
    else.
    """
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value.encode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def code_of(value: Any) -> str:
    """A vendor's code as text; "" for what can't be one."""
    return scalar(value, CODE_MAX) or ""


def unreadable_once(item: PushItem, outcome: Outcome) -> Outcome:
    """The `outcome` of an answer without a usable code, for this item.

    A push that may have been shown is retried under the same ids where a repeat does less harm than
    silence; after that, and in all other cases, the verdict is UNKNOWN.
    """
    if outcome.verdict is not Verdict.UNCERTAIN:
        return outcome
    again = (
        item.note.message_class in PRIVATE_CLASSES
        and tries_met(item, Verdict.UNCERTAIN) < UNREADABLE_ATTEMPTS
    )
    return outcome if again else replace(outcome, verdict=Verdict.UNKNOWN, alarm=True)


def unreadable(batch: RequestBatch, outcome: Outcome) -> Sequence[Outcome]:
    """The same for all items of a request."""
    return [unreadable_once(item, outcome) for item in batch.items]


def message_tag(item: PushItem) -> str:
    """32 hex digits of (app, event, kind): one for all tokens of a message, the same in every
    attempt.
    """
    note = item.note
    digest = hashlib.blake2b(digest_size=16)
    for part in (note.app, note.event_id, note.kind):
        raw = part.encode("utf-8", "replace")
        digest.update(len(raw).to_bytes(4) + raw)
    return digest.hexdigest()
