"""The shapes of what the core publishes (contract §3), field by field; decoding checks them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.contracts import Conversation, Element, PushFields, Sender
from common.model import Vendor

EVENT_ID_MAX = 128
NAME_MAX = 512
#: Of names that stand together in an index of ours, whose rows PostgreSQL bounds at 2704 bytes.
NAME_BYTES_MAX = 768
Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
EventId = Annotated[str, Meta(min_length=1, max_length=EVENT_ID_MAX)]
Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Clock = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Envelope(msgspec.Struct, frozen=True):
    id: EventId
    type: str
    ts: Millis
    data: msgspec.Raw
    v: Literal[1] = 1
    app: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Stored(msgspec.Struct, frozen=True):
    message_id: Name
    conversation: Conversation
    sender: Sender
    recipients: tuple[Name, ...] | None = None
    exclude: tuple[Name, ...] = ()
    mentions: tuple[Name, ...] = ()
    elements: tuple[Element, ...] = ()
    push: PushFields = PushFields()


class Read(msgspec.Struct, frozen=True):
    user: Name
    conversation: Conversation
    up_to_message_id: Name | None = None
    message_id: Name | None = None
    up_to_ms: Millis | None = None
    unread: Annotated[int, Meta(ge=0)] | None = None


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
    push: PushFields = PushFields()


class Ended(msgspec.Struct, frozen=True):
    call_id: Name
    reason: str = ""
    users: tuple[Name, ...] | None = None


class Registered(msgspec.Struct, frozen=True):
    user: Name
    device_id: Name
    platform: Annotated[str, Meta(min_length=1, max_length=16)]
    vendor: Vendor
    business_id: Annotated[str, Meta(min_length=1, max_length=32)]
    token: Annotated[str, Meta(min_length=1, max_length=4096)]
    voip_token: Annotated[str, Meta(max_length=4096)] | None = None
    push_id: Annotated[str, Meta(max_length=512)] | None = None
    lang: Annotated[str, Meta(max_length=16)] | None = None
    tz: Annotated[str, Meta(max_length=64)] | None = None
    app_version: Annotated[str, Meta(max_length=64)] | None = None


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
    badge: Annotated[int, Meta(ge=0)] | None = None


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


TYPES: dict[str, type[msgspec.Struct]] = {
    "message.stored": Stored,
    "message.read": Read,
    "message.recalled": Recalled,
    "call.invited": Invited,
    "call.ended": Ended,
    "device.registered": Registered,
    "device.unregistered": Unregistered,
    "session.logout": SessionEnded,
    "session.kicked": SessionEnded,
    "app.background": Background,
    "app.foreground": Foreground,
    "settings.updated": SettingsUpdated,
}
DECODERS: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(shape) for name, shape in TYPES.items()}
decode_envelope = msgspec.json.Decoder(Envelope).decode
