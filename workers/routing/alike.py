"""The usual push: a c2c message without overrides, to one device without settings. Pure.

The first one of a lane and language is made the general way (fan_out.py); the others differ from it
in the fields of `LikeRow` only.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from common.contracts import (
    PLAIN,
    Conversation,
    Device,
    Element,
    LikeRow,
    Notification,
    OfflineRecipients,
    Push,
    Sender,
)
from common.contracts import push_like as made_like
from common.model import Kind, Vendor
from common.visible_text import shows

#: Lane, language and platform: pushes with the same key differ in ids, times, names and texts only.
Pattern = tuple[str, Vendor, str, str | None, str]


def pattern_of(one: OfflineRecipients, now_ms: int) -> Pattern | None:
    """The pattern that the push shares with others; None: it takes the general path.

    The caller checks that person and tenant have no settings.
    """
    message, recipients = one.message, one.recipients
    push = message.push
    if (
        (push is not PLAIN and push != PLAIN)
        or message.kind != Kind.MESSAGE
        or message.conversation.type != "c2c"
    ):
        return None
    if (
        len(recipients) != 1
        or len(recipients[0].devices) != 1
        or message.mentions
        or message.direct
        or message.reply_key is not None
    ):
        return None
    elements = message.elements
    if len(elements) != 1 or elements[0].type != "text" or message.expires_at_ms <= now_ms:
        return None
    text = elements[0].text
    if not shows(text):
        return None
    device = recipients[0].devices[0]
    return (message.app, device.vendor, device.business_id, device.lang, device.platform)


def push_like(pattern: Notification, one: OfflineRecipients) -> Push:
    """The push, its notification made from that of another one of the same pattern."""
    message, who = one.message, one.recipients[0]
    device = who.devices[0]
    row = like_row(
        message,
        message.event_id,
        message.ts_ms,
        message.received_ms,
        message.expires_at_ms,
        who.user,
        device,
    )
    push = made_like(pattern, row, device.platform)
    if push.note.presence_ms == one.presence_ms:
        return push
    return Push(
        note=msgspec.structs.replace(push.note, presence_ms=one.presence_ms), targets=push.targets
    )


class Chat(Protocol):
    """The fields that a message and its event share."""

    @property
    def message_id(self) -> str: ...
    @property
    def conversation(self) -> Conversation: ...
    @property
    def sender(self) -> Sender: ...
    @property
    def elements(self) -> tuple[Element, ...] | None: ...


def like_row(
    chat: Chat,
    event_id: str,
    ts_ms: int,
    received_ms: int,
    expires_ms: int,
    user: str,
    device: Device,
) -> LikeRow:
    """The push's own fields. chat: with one text element."""
    sender = chat.sender
    nick = sender.nick
    return LikeRow(
        event_id,
        chat.message_id,
        chat.conversation.id,
        ts_ms,
        received_ms,
        expires_ms,
        nick if shows(nick) else "",
        (chat.elements or _NONE)[0].text or "",
        sender.id,
        user,
        device.device_id,
        device.token,
        device.registered_ms,
        device.app_version,
    )


_NONE = (Element(type="text"),)
