"""The usual event, a message without wishes of its sender, decoded and checked in one reading.
Pure.

What it returns is what the general way (decoding.py) returns; whatever it can't be sure of goes
that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from common.contracts import NO_WISHES
from workers.intake import events
from workers.intake.json_keys import is_countable

#: Characters of an id that fit PostgreSQL's key size in bytes, whatever they are.
SAFE_CHARS: Final = events.NAME_BYTES_MAX // events.UTF8_BYTES_MAX
#: Keys that a usual message has at least: six of the envelope, three of its data, two of the
#: conversation, one of the sender.
_KEYS_MIN: Final = 12
_TYPE: Final = b'"message.stored"'


class UsualEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of one type, with all keys that may be absent elsewhere."""

    v: Literal[1]
    id: events.EventId
    type: Literal["message.stored"]
    app: events.Name
    ts: events.Millis
    data: events.Stored


_decode = msgspec.json.Decoder(UsualEvent).decode


def read_usual(raw: bytes) -> UsualEvent | None:
    """The event, if certainly a stored message without overrides; None: undecided, look closer.

    Colons are counted as in json_keys.py: one for each decoded key, and those of the decoded
    strings. A key that is unknown, repeated, null or empty has a colon in the text only.
    """
    if _TYPE not in raw or (b"\\" in raw and not is_countable(raw)):
        return None
    try:
        event = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    data = event.data
    if data.push is not NO_WISHES or not _fits(data):
        return None
    strange = raw.count(b":") - _keys(
        data
    )  # colons that end no key we know: those of strings, and there are never fewer
    if strange:
        strange -= data.conversation.id.count(":")
    if strange:
        strange -= sum([element.text.count(":") for element in data.elements or () if element.text])
    return event if not strange or strange == _colons(_names(event)) else None


def _keys(data: events.Stored) -> int:
    conversation, sender = data.conversation, data.sender
    keys = (
        _KEYS_MIN
        + (data.recipients is not None)
        + bool(data.exclude)
        + bool(data.mentions)
        + (conversation.name is not None)
    )
    keys += (
        (sender.nick is not None) + (sender.group_card is not None) + (sender.device_id is not None)
    )
    elements = data.elements
    if elements:
        keys += 1
        for element in elements:
            keys += 1 if element.text is None else 2
    return keys


def _names(event: UsualEvent) -> list[str | None]:
    """All strings that may hold a colon, without the texts and the conversation's id."""
    data = event.data
    conversation, sender = data.conversation, data.sender
    names = [event.id, event.app, data.message_id, conversation.name]
    names += [sender.id, sender.nick, sender.group_card, sender.device_id]
    return [*names, *(data.recipients or ()), *(data.exclude or ()), *(data.mentions or ())]


def _colons(strings: Sequence[str | None]) -> int:
    return sum([text.count(":") for text in strings if text])


def _fits(data: events.Stored) -> bool:
    """The checks of decoding.py (`_check`) that need no closer look."""
    if not 0 < len(data.conversation.id) <= SAFE_CHARS or not 0 < len(data.sender.id) <= SAFE_CHARS:
        return False
    people = data.recipients
    if people is None:
        return data.conversation.type != "c2c"
    if len(people) == 1:
        return len(people[0]) <= SAFE_CHARS
    return data.conversation.type != "c2c" and max(map(len, people), default=0) <= SAFE_CHARS
