"""vivo's texts: their measure and cut, and the app's click data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from common.contracts import Notification
from workers.vendors.ids import receipt_tag
from workers.vendors.json_text import compact, whole
from workers.vendors.text import GENERIC, GENERIC_TITLE, body_within, cut, leaner
from workers.vendors.types import Credential, RequestBatch
from workers.vendors.vivo.codes import CONTENT, TITLE

TITLE_WEIGHT_MAX: Final = 40
CONTENT_WEIGHT_MAX: Final = 100
CUSTOM_CHARACTERS_MAX: Final = 1024  # keys and values of clientCustomMap
CUSTOM_PAIRS_MAX: Final = 10  # named by the older page only
CALLBACK_CHARACTERS_MAX: Final = 128
SAFE_CONTENT: Final = GENERIC["zh"]
SAFE_TITLE: Final = GENERIC_TITLE


def weight(text: str) -> int:
    """The count of vivo's server SDK 3.3 (vivo.md §3): two for CJK, U+2000-206F and U+FF00-FFEF,
    one for others.

    Two also beyond the BMP, where Java sees two characters, and for every other wide character.
    """
    return sum(2 if _is_heavy(char) else 1 for char in text)


def _is_heavy(char: str) -> bool:
    point = ord(char)
    if point < 0x1100:
        return False
    if point > 0xFFFF or 0x2000 <= point <= 0x206F or 0xFF00 <= point <= 0xFFEF:
        return True
    return unicodedata.east_asian_width(char) in "WF"


def formal(text: str) -> bool:
    """True when vivo takes it as title or content (10085, 10104).

    Not accepted: only digits, Latin letters or symbols, 测试, braces or brackets. White space is
    ignored: whether Latin texts with spaces pass is not documented.
    """
    if any(mark in text for mark in ("测试", "{", "}", "[", "]")):
        return False
    dense = "".join(text.split())
    only_digits = dense.isdigit()
    only_symbols = not any(char.isalnum() for char in dense)
    only_latin = all(char.isalpha() and ord(char) < 0x250 for char in dense)
    return not (only_digits or only_symbols or only_latin)


def words(note: Notification, refused: frozenset[str]) -> tuple[str, str, dict[str, str]]:
    """(title, content, the originals of what was replaced). refused: the parts that vivo has
    refused before.
    """
    titles = (note.app_name,) if TITLE in refused else (note.title, note.app_name)
    body = body_within(note, CONTENT_WEIGHT_MAX, weight)
    contents = () if CONTENT in refused else (body, note.fallback_body)
    title = _first_formal(titles, TITLE_WEIGHT_MAX) or SAFE_TITLE
    content = _first_formal(contents, CONTENT_WEIGHT_MAX) or SAFE_CONTENT
    replaced = {}
    if note.title and title != _fit(note.title, TITLE_WEIGHT_MAX):
        replaced["title"] = whole(note.title)
    if note.body and content != _fit(body, CONTENT_WEIGHT_MAX):
        replaced["content"] = whole(note.body)
    return title, content, replaced


def _first_formal(candidates: Sequence[str], most: int) -> str | None:
    return next((text for one in candidates if formal(text := _fit(one, most))), None)


def _fit(text: str, most: int) -> str:
    return cut(whole(text), most, weight)


def _custom(note: Notification) -> dict[str, str]:
    """The part that fits the map: all, else without the payload, else nothing (contract §7)."""
    for lean in leaner(note):
        custom = all_custom(lean)
        if characters(custom) <= CUSTOM_CHARACTERS_MAX:
            return custom
    return {}


def all_custom(note: Notification) -> dict[str, str]:
    """ext and the payload's keys as texts; too many keys become one, `payload`."""
    payload = note.payload or {}
    if len(payload) >= CUSTOM_PAIRS_MAX:
        payload = {"payload": payload}
    custom = {
        whole(key): whole(value) if isinstance(value, str) else compact(value).decode()
        for key, value in payload.items()
    }
    if note.ext is not None:
        custom["ext"] = whole(note.ext)
    return custom


def custom_with(note: Notification, replaced: Mapping[str, str]) -> dict[str, str]:
    """The map with the texts that vivo's rules replaced, as far as they fit; the app's keys win."""
    custom = _custom(note)
    for name, text in replaced.items():
        room = CUSTOM_CHARACTERS_MAX - characters(custom) - len(name)
        if name not in custom and len(custom) < CUSTOM_PAIRS_MAX and room > 0:
            kept = cut(text, room)
            custom |= {name: kept} if kept else {}
    return custom


def characters(custom: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in custom.items())


def receipt(batch: RequestBatch, credential: Credential) -> dict[str, str]:
    """The receipt fields: the console's receipt id if set, else the address (single push only)."""
    if not batch.callback_url:
        return {}
    receipt_id = credential.options.get("callback_id")
    if receipt_id:
        return {"callback.id": receipt_id, "callback.param": receipt_tag(batch)}
    if len(batch.items) > 1 or len(batch.callback_url) > CALLBACK_CHARACTERS_MAX:
        return {}
    return {"callback": batch.callback_url, "callback.param": receipt_tag(batch)}


TOKEN: Final = re.compile(r"[!-~]{1,512}")
