"""Searches bytes of unknown form for a text as a whole value or key.

The forms: JSON, MessagePack, form encoding, broken ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

#: Values in values: deeper ones are not looked into.
DEPTH_MAX = 64
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")


def names(raw: bytes, wanted: str) -> bool:
    """True when `wanted` is in `raw`: as a value or key, or quoted in an unreadable part."""
    spelled = [
        json.dumps(wanted, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for ascii_only in (True, False)
    ]
    plain = unquote_to_bytes(raw) if b"%22" in raw else raw
    if any(one in plain for one in spelled) or any(one == wanted for one in texts(raw)):
        return True
    if _read(msgspec.json.decode, raw) is not None:  # whole: every text of it was seen
        return False
    return _unescaped(json.dumps(wanted, ensure_ascii=False)) in _unescaped(_as_text(plain))


def _as_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def _unescaped(text: str) -> str:
    """Each spelling of a text in JSON, and in JSON inside of JSON, as the same one.

    Writers escape as they like: `\\u5F20` or `\\u5f20`, `\\/` or `/`.
    """
    if "\\" not in text:
        return text
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    plain = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return plain.replace("\\", "")


def texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in a value; JSON and MessagePack inside of it are read, too."""
    if depth > DEPTH_MAX:
        return
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "[", '"'):
            yield from texts(_read(msgspec.json.decode, value), depth + 1)
    elif isinstance(value, bytes):
        found = _read(msgspec.json.decode, value)
        found = found if found is not None else _read(msgspec.msgpack.decode, value)
        yield from texts(found, depth + 1)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from texts(list(pair), depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one, depth + 1)


def _read(decode: Any, value: str | bytes) -> Any:
    """None where it can't be read, and for what holds no text."""
    try:
        return decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None
