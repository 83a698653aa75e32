"""The usual event, a message without wishes of its sender, decoded and checked in one reading.
Pure.

What it returns is what the general way (decoding.py) returns; whatever it can't be sure of goes
that way.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from common.contracts import NO_WISHES
from workers.intake import events
from workers.intake.dialects.mending import is_odd

#: Characters of an id that fit PostgreSQL's key size in bytes, whatever they are.
SAFE_CHARS: Final = events.NAME_BYTES_MAX // events.UTF8_BYTES_MAX
#: Strings that a usual message has at least: twelve keys, and seven values of them.
_STRINGS_MIN: Final = 19
#: The quotes of the strings of `_is_chat`: nick, recipients and elements with their values, beside.
_CHAT_QUOTES: Final = 2 * (_STRINGS_MIN + 2 + 2 + 5)
_TYPE: Final = b'"message.stored"'
_BACKSLASH: Final = ord("\\")  # a byte is found seven times as fast as a text of one


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

    Quotes are counted: two for each decoded string, keys and values, and those inside the strings.
    A key that is unknown, repeated, null or empty has quotes in the text only.
    """
    if _TYPE not in raw or (_BACKSLASH in raw and (b"\\u0022" in raw or is_odd(raw))):
        return None
    try:
        event = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    data = event.data
    if data.push is not NO_WISHES or not _fits(data):
        return None
    quotes = raw.count(b'"')
    if quotes == _CHAT_QUOTES and _is_chat(data):
        return event
    # quotes that delimit no string we know: those inside strings, and there are never fewer
    strange = quotes - 2 * _strings(data)
    if not strange or (b'\\"' in raw and strange == _quotes(event)):
        return event
    return None


def _is_chat(data: events.Stored) -> bool:
    """True where it has at least the strings of the most frequent message: one recipient, one text,
    the sender's nick.
    """
    people, elements = data.recipients, data.elements
    return (
        people is not None
        and len(people) == 1
        and elements is not None
        and len(elements) == 1
        and elements[0].text is not None
        and data.sender.nick is not None
    )


def _strings(data: events.Stored) -> int:
    """The strings, keys and values, of an event with this content."""
    conversation, sender = data.conversation, data.sender
    count = _STRINGS_MIN + 2 * (
        (conversation.name is not None)
        + (sender.nick is not None)
        + (sender.group_card is not None)
        + (sender.device_id is not None)
    )
    for people in (data.recipients, data.exclude, data.mentions):
        if people:
            count += 1 + len(people)
    if data.elements:
        count += 1
        for element in data.elements:
            count += 2 if element.text is None else 4
    return count


def _quotes(event: UsualEvent) -> int:
    """The quotes inside the strings of the event."""
    data = event.data
    conversation, sender = data.conversation, data.sender
    names = [event.id, event.app, data.message_id, conversation.id, conversation.name]
    names += [sender.id, sender.nick, sender.group_card, sender.device_id]
    names += [*(data.recipients or ()), *(data.exclude or ()), *(data.mentions or ())]
    names += [element.text for element in data.elements or ()]
    return sum([name.count('"') for name in names if name])


def _fits(data: events.Stored) -> bool:
    """The checks of checks.py (`of_stored`) that need no closer look."""
    conversation, people = data.conversation, data.recipients
    if not 0 < len(conversation.id) <= SAFE_CHARS or not 0 < len(data.sender.id) <= SAFE_CHARS:
        return False
    if people is not None and len(people) == 1:
        return len(people[0]) <= SAFE_CHARS
    if conversation.type == "c2c":
        return False
    return people is None or max(map(len, people), default=0) <= SAFE_CHARS
