"""Unambiguous JSON, checked without a callback per object."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.intake.dialects.mending import is_odd

_decode = msgspec.json.Decoder().decode


def is_countable(raw: bytes) -> bool:
    """True when each colon of the text ends a key or is in a decoded string.

    No string is mended then, and none holds an escaped colon.
    """
    return b"\\" not in raw or (b"\\u003" not in raw and not is_odd(raw))


def certainly_unambiguous(raw: bytes) -> bool:
    """True: JSON in UTF-8 in which no object repeats a key. False: undecided, look closer.

    Each colon of the text ends a key or is in a string. A repeated key leaves all its colons in the
    text, and only the last one's in the decoded value: the text never has fewer, and has as many
    only without a repeated key.
    """
    if not is_countable(raw):
        return False
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    colons = raw.count(b":")
    keys = 0
    strings: list[str] = []
    left: list[Any] = [value]
    while left:
        one = left.pop()
        if type(one) is dict:
            keys += len(one)
            strings += one
            left += one.values()
        elif type(one) is list:
            left += one
        elif type(one) is str:
            strings.append(one)
    return keys == colons or keys + sum(text.count(":") for text in strings) == colons
