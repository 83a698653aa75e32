"""The shapes of what the core publishes (contract §3), field by field; decoding checks them. null
counts as absent where a field may be.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.contracts import NO_WISHES, Conversation, Element, PushFields, Sender
from common.model import Vendor
from common.values import Value

EVENT_ID_MAX = 128
NAME_MAX = 512
#: The same in UTF-8: what is part of a key in PostgreSQL shares 2,700 bytes with the other parts.
NAME_BYTES_MAX = 1000
#: The longest token that the registry's keys hold; no vendor's comes near it.
TOKEN_BYTES_MAX = 2_048
APP_MAX = 64
PLATFORM_MAX = 16
#: The start of a locale name identifies the language; a phone's may continue with calendars and
#: numerals.
LANG_MAX = 16
UTF8_BYTES_MAX = 4  # of one character
Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
EventId = Annotated[str, Meta(min_length=1, max_length=EVENT_ID_MAX)]
#: No upper bound: a time too far ahead is treated as such later.
Millis = Annotated[int, Meta(ge=0)]
#: A badge, an unread total: no phone shows more.
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
#: `$` alone lets an end of line pass, `\d` the digits of other scripts.
Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)")]


class Envelope(msgspec.Struct, frozen=True):
    id: EventId
    type: str
    data: msgspec.Raw
    #: Absent: the time at which the entry was written.
    ts: Millis | None = None
    v: Literal[1] = 1
    app: str | None = None


class Event(Value, frozen=True):
    """One event that passed every check. type: a key of event_types.py's TYPES; data: its shape;
    entry: id of the stream entry.
    """

    app: str
    id: str
    type: str
    ts_ms: int
    received_ms: int
    entry: str
    data: Any


class Stored(msgspec.Struct, frozen=True):
    message_id: Name
    conversation: Conversation
    sender: Sender
    recipients: tuple[Name, ...] | None = None
    exclude: tuple[Name, ...] | None = ()
    mentions: tuple[Name, ...] | None = ()
    elements: tuple[Element, ...] | None = ()
    push: PushFields | None = NO_WISHES


class Read(msgspec.Struct, frozen=True):
    user: Name
    conversation: Conversation
    up_to_message_id: Name | None = None
    message_id: Name | None = None
    up_to_ms: Millis | None = None
    unread: Count | None = None


class Recalled(msgspec.Struct, frozen=True):
    message_id: Name
    conversation: Conversation


class Inviter(msgspec.Struct, frozen=True):
    id: Name
    nick: str | None = None


class Invited(msgspec.Struct, frozen=True):
    call_id: Name
    inviter: Inviter
    invitees: tuple[Name, ...]
    timeout_s: Annotated[int, Meta(ge=0)]
    push: PushFields | None = NO_WISHES


class Ended(msgspec.Struct, frozen=True):
    call_id: Name
    reason: str = ""
    users: tuple[Name, ...] | None = None


class Addressee(msgspec.Struct, frozen=True):
    """One token of one app, without a person. since_ms: when the app registered it, if anybody
    knows.
    """

    vendor: Vendor
    business_id: Annotated[str, Meta(min_length=1, max_length=32)]
    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_BYTES_MAX)]
    platform: Annotated[str, Meta(min_length=1, max_length=PLATFORM_MAX)]
    voip_token: Annotated[str, Meta(max_length=TOKEN_BYTES_MAX)] | None = None
    lang: Annotated[str, Meta(max_length=NAME_MAX)] | None = None
    since_ms: Millis | None = None


class Reply(msgspec.Struct, frozen=True):
    """Where the decision is told, and after how long at the latest that there is none yet; 0: only
    the decision.
    """

    key: Annotated[str, Meta(min_length=1, max_length=128)]
    wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0


class Direct(msgspec.Struct, frozen=True):
    target: Addressee
    message_id: Name
    conversation: Conversation | None = None
    sender: Sender | None = None
    elements: tuple[Element, ...] | None = ()
    kind: Literal["message", "call", "badge", "clear"] = "message"
    push: PushFields | None = NO_WISHES
    reply: Reply | None = None


class Registered(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name
    platform: Annotated[str, Meta(min_length=1, max_length=PLATFORM_MAX)]
    vendor: Vendor
    business_id: Annotated[str, Meta(min_length=1, max_length=32)]
    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_BYTES_MAX)]
    voip_token: Annotated[str, Meta(max_length=TOKEN_BYTES_MAX)] | None = None
    push_id: Annotated[str, Meta(max_length=512)] | None = None
    lang: Annotated[str, Meta(max_length=NAME_MAX)] | None = None
    tz: Annotated[str, Meta(max_length=64)] | None = None
    app_version: Annotated[str, Meta(max_length=NAME_MAX)] | None = None


class Unregistered(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name


class SessionEnded(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name | None = None
    platform: Name | None = None


class Background(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name
    badge: Count | None = None


class Foreground(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name


class Dnd(msgspec.Struct, frozen=True):
    start: Clock
    end: Clock
    tz: Annotated[str, Meta(max_length=64)] | None = None


class Mute(msgspec.Struct, frozen=True):
    conversation: Conversation
    mode: Literal["all", "none", "mention"]
    until_ms: Millis | None = None


class ContentKey(msgspec.Struct, frozen=True):
    device_id: Name
    key: str | None = None


class SettingsUpdated(msgspec.Struct, frozen=True):
    """UNSET: not named, so unchanged; None clears."""

    user: Name
    dnd: Dnd | UnsetType | None = UNSET
    mute: Mute | UnsetType | None = UNSET
    blocked: tuple[Name, ...] | UnsetType | None = UNSET
    show_detail: bool | UnsetType | None = UNSET
    content_key: ContentKey | UnsetType | None = UNSET
    mobile_when_desktop_online: bool | UnsetType | None = UNSET


decode_envelope = msgspec.json.Decoder(Envelope).decode


def decode_data(data: msgspec.Raw | bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """`data` of an event, by its type's decoder. Raises msgspec.ValidationError with the reason."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        found = msgspec.json.decode(data) if b"null" in bytes(data) else None
        if not isinstance(found, dict):
            raise
        inner = {name: read(found[name]) for name, read in _INNER if _is_object(found.get(name))}
        return msgspec.convert(_named(found | inner), decoder.type)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _given(push: dict[str, Any]) -> dict[str, Any]:
    """Wishes that are none are left out, here and one level deeper; what lies deeper is the
    sender's or the vendor's own, but for `display.loc`.
    """
    inner = {key: _named(push[key]) for key in _OBJECTS if isinstance(push.get(key), dict)}
    display = inner.get("display", {})
    if isinstance(display.get("loc"), dict):
        display["loc"] = _named(display["loc"])
    return _named(push | inner)


#: Objects of `push` whose members may each be absent.
_OBJECTS = (
    *("gate", "force", "display", "data", "badge", "sound"),
    *("image", "template", "vendor", "vendor_raw"),
)


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


#: Objects of an event whose members may each be absent, and how those are left out.
_INNER = (("push", _given), ("reply", _named))
