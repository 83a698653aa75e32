"""Whether a JSON text can be read in one way only, found without a callback an object."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.intake.dialects.mending import is_odd

_decode = msgspec.json.Decoder().decode


def is_countable(raw: bytes) -> bool:
    """Whether the colons of a JSON text are its keys' and those that stand in its decoded strings:
    no string is mended, none holds an escaped colon.
    """
    return b"\\" not in raw or (b"\\u003" not in raw and not is_odd(raw))


def certainly_unambiguous(raw: bytes) -> bool:
    """True: JSON in UTF-8 in which no object names a key twice. False: look closer; nothing is said
    of the text.

    Each colon of the text ends a key or stands in a string. Of a key that is named twice all colons
    stand in the text, and the last one's only in what was decoded: there are never fewer of them in
    the text, and as many only if no key is named twice.
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
