"""Half a surrogate pair and U+0000 in an event: U+FFFD in a text, refused in an id. Pure.

Cores cut previews by UTF-16 units, and JSON writes what is left of an emoji as half an escape,
which no UTF-8 can hold.
PostgreSQL keeps no U+0000.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
#: An escape in a JSON text: a whole pair, half a pair, U+0000, or any other.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)",
    re.DOTALL,
)
#: Characters that Unicode sets aside for no text at all: what marks a mended place until it is
#: known whether it is in a text.
_MARKS: Final = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
#: Parts of an event with a text in which no invalid character is replaced: ids and closed sets.
#: None: all of it; a dict: the named parts. Any other part is a text, the sender's own data, or
#: unknown and ignored.
_IDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            "message_id",
            "call_id",
            "recipients",
            "exclude",
            "mentions",
            "invitees",
            "users",
            "target",
            "reply_key",
        )
    ),
    "sender": {"id": None, "device_id": None},
    "inviter": {"id": None},
    "conversation": {"id": None, "type": None},
    "push": {
        "force": {"ids": None},
        **dict.fromkeys(
            ("gate", "kind", "class", "push_type", "collapse_key", "thread_id", "strategy_id")
        ),
    },
}
#: Of events without texts: every part that we know is an id or a setting, but for a conversation's
#: name.
_STATES: Final[Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            "user",
            "device_id",
            "platform",
            "vendor",
            "business_id",
            "token",
            "voip_token",
            "push_id",
            "lang",
            "tz",
            "app_version",
        )
    ),
    **dict.fromkeys(("message_id", "up_to_message_id", "dnd", "blocked", "content_key")),
    "conversation": {"id": None, "type": None},
    "mute": {"mode": None, "conversation": {"id": None, "type": None}},
}


class NotTextError(ValueError):
    """A mark is in the place of an id."""


def is_odd(raw: bytes) -> bool:
    """True when the JSON text may need mending; cheap and false for nearly all."""
    return b"\\u" in raw and any(match[1] for match in _ESCAPE.finditer(raw))


def marked(raw: bytes) -> tuple[bytes, str]:
    """The JSON text with a mark for each invalid character, and that mark, unique in the text."""
    mark = next(
        one
        for one in _MARKS
        if one.encode() not in raw and f"\\u{ord(one):04x}".encode() not in raw.lower()
    )
    shown = f"\\u{ord(mark):04x}".encode()
    return _ESCAPE.sub(lambda match: shown if match[1] else match[0], raw), mark


def mended(event: dict[str, Any], mark: str, *, has_texts: bool) -> tuple[dict[str, Any], int]:
    """A native event without marks, and their number. Raises NotTextError for one in an id.

    has_texts: of its type.
    """
    count = 0

    def walk(value: Any, ids: Any) -> Any:
        nonlocal count
        if isinstance(value, str) and mark in value:
            if ids is None:
                raise NotTextError
            count += value.count(mark)
            return value.replace(mark, REPLACEMENT)
        if isinstance(value, list):
            return [walk(one, ids) for one in value]
        if isinstance(value, dict):
            return {
                walk(key, ids): walk(one, ids.get(key, _TEXT) if ids else ids)
                for key, one in value.items()
            }
        return value

    data = _IDS if has_texts else _STATES
    found: dict[str, Any] = walk(event, {"id": None, "type": None, "app": None, "data": data})
    return found, count


#: A part without any ids.
_TEXT: Final[Mapping[str, Any]] = {}


def readable(text: str) -> str:
    """A JSON text inside a text, so that it can be decoded: U+0000 for half a pair. The event made
    of it is mended like any other.
    """
    if "\\u" not in text:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    return _ESCAPE.sub(lambda match: b"\\u0000" if match[1] else match[0], raw).decode(
        "utf-8", "surrogatepass"
    )
