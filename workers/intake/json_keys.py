"""Whether a JSON text can be read in one way only, found without a callback an object."""

from __future__ import annotations

import re

import msgspec

#: White space that stands before a colon: then its quotation mark is not next to it.
_SPACE_BEFORE_COLON = re.compile(rb"[ \t\r\n]:")
_decode = msgspec.json.Decoder().decode


def certainly_unambiguous(raw: bytes) -> bool:
    """True: JSON in UTF-8 in which no object names a key twice. False: look closer; nothing is said of the text.

    Without a backslash every quotation mark begins or ends a string, so `":` stands behind each key, and elsewhere only where
    a string begins with a colon: there are never fewer of them than keys. A key named twice is counted twice there, and once
    in what was decoded.
    """
    if b"\\" in raw or _SPACE_BEFORE_COLON.search(raw):
        return False
    try:
        left = [_decode(raw)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    keys = 0
    while left:
        one = left.pop()
        if type(one) is dict:
            keys += len(one)
            left += one.values()
        elif type(one) is list:
            left += one
    return keys == raw.count(b'":')
