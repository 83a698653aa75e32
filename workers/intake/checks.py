"""Checks that the shape of an event's data can't express: a dead letter's reason, or None. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from common.contracts import Conversation, PushFields, encode
from workers.intake import events

#: The parts of an event that carry an id of their own.
_NAMED_PARTS: Final = ("conversation", "sender", "inviter")


def of_stored(data: events.Stored) -> str | None:
    found = _parts(data) or _people(data.recipients or ()) or _conversation(data)
    found = found or _travels(data.push)
    if found is None and data.conversation.type == "c2c" and len(set(data.recipients or ())) != 1:
        return "wrong_shape: a c2c message has exactly one recipient"
    return found


def of_invited(data: events.Invited) -> str | None:
    return _parts(data) or _people(data.invitees) or _travels(data.push)


def of_direct(data: events.Direct) -> str | None:
    found = _parts(data) or _over("target.token", data.target.token, events.TOKEN_BYTES_MAX)
    found = found or _conversation(data) or _travels(data.push)
    badge = data.push.badge if data.push is not None else None
    if found is None and data.kind == "badge" and (badge is None or badge.value is None):
        return "wrong_shape: a push of kind badge has push.badge.value"
    return found


def of_state(data: Any) -> str | None:
    """Of a state event: the names of a person, their device and a conversation."""
    return _parts(data) or _names(data) or _conversation(data)


def of_read(data: events.Read) -> str | None:
    named = (data.up_to_message_id, data.message_id, data.up_to_ms)
    return of_state(data) or (
        "wrong_shape: a read report names exactly one of up_to_message_id, message_id, up_to_ms"
        if named.count(None) != 2
        else None
    )


def of_registered(data: events.Registered) -> str | None:
    return of_state(data) or _over("token", data.token, events.TOKEN_BYTES_MAX)


def of_settings(data: events.SettingsUpdated) -> str | None:
    found = of_state(data)
    if found is None and isinstance(data.mute, events.Mute):
        found = _over("mute.conversation.id", data.mute.conversation.id)
    if found is None and isinstance(data.content_key, events.ContentKey):
        found = _over("content_key.device_id", data.content_key.device_id)
    return found


def _parts(data: Any) -> str | None:
    for part in _NAMED_PARTS:
        named = getattr(data, part, None)
        if named is not None and not 0 < len(named.id) <= events.NAME_MAX:
            return f"wrong_shape: {part}.id has 1 to {events.NAME_MAX} characters"
    return None


def _names(data: Any) -> str | None:
    for name in ("user", "device_id", "platform", "push_id"):
        if (found := _over(name, getattr(data, name, None))) is not None:
            return found
    return None


def _people(people: Iterable[str]) -> str | None:
    longest = max(map(len, people), default=0)  # there may be thousands of them
    if longest * events.UTF8_BYTES_MAX <= events.NAME_BYTES_MAX:
        return None
    return next((long for one in people if (long := _over("recipients", one))), None)


def _conversation(data: Any) -> str | None:
    conversation: Conversation | None = getattr(data, "conversation", None)
    return None if conversation is None else _over("conversation.id", conversation.id)


def _over(name: str, value: str | None, most: int = events.NAME_BYTES_MAX) -> str | None:
    """A field that exceeds PostgreSQL's key size in UTF-8."""
    if value is None or len(value) * events.UTF8_BYTES_MAX <= most or len(value.encode()) <= most:
        return None
    return f"wrong_shape: {name} has too many bytes"


def _travels(push: PushFields | None) -> str | None:
    """The parts of any shape fit into what our queues carry."""
    if push is None:
        return None
    parts = (push.data.payload, push.template, push.vendor, push.vendor_raw, push.blob)
    found = [part for part in parts if part is not None]
    try:
        if found:
            encode(found)
    except OverflowError:
        return "out_of_range: push holds a number beyond 64 bits"
    return None
