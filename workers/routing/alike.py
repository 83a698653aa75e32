"""The usual push: a chat of two without wishes of its sender, to somebody with one device who set nothing. Pure.

The first one of a lane and language is made the general way (stage.py); the others differ from it in the fields that `push_like` replaces.
"""

from __future__ import annotations

import msgspec

from common.contracts import PLAIN, Notification, OfflineRecipients, Push, Target
from common.model import Kind, Vendor
from workers.routing.identity import push_id

#: Lane, language and platform: pushes with the same key differ in ids, times, names and words only.
Pattern = tuple[str, Vendor, str, str | None, str]


def pattern_of(one: OfflineRecipients, now_ms: int) -> Pattern | None:
    """What it shares with others; None: it goes the general way. That nothing is set by person and tenant is the caller's to know."""
    message, recipients = one.message, one.recipients
    push = message.push
    if (push is not PLAIN and push != PLAIN) or message.kind != Kind.MESSAGE or message.conversation.type != "c2c":
        return None
    if len(recipients) != 1 or len(recipients[0].devices) != 1 or message.mentions or message.direct or message.reply_key is not None:
        return None
    elements = message.elements
    if len(elements) != 1 or elements[0].type != "text" or message.expires_at_ms <= now_ms:
        return None
    text = elements[0].text
    if not text or text.isspace():
        return None
    device = recipients[0].devices[0]
    return (message.app, device.vendor, device.business_id, device.lang, device.platform)


def push_like(pattern: Notification, one: OfflineRecipients) -> Push:
    """The push, its notification made from that of another one of the same pattern."""
    message = one.message
    who = one.recipients[0]
    device = who.devices[0]
    text = message.elements[0].text or ""
    nick = message.sender.nick
    name = nick if nick and not nick.isspace() else ""
    prefix = f"{name}:" if name else ""
    note = msgspec.structs.replace(
        pattern,
        event_id=message.event_id,
        message_id=message.message_id,
        conversation_id=message.conversation.id,
        ts_ms=message.ts_ms,
        received_ms=message.received_ms,
        presence_ms=one.presence_ms,
        expires_at_ms=message.expires_at_ms,
        title="" if device.vendor == Vendor.APNS else name or pattern.app_name or text,
        body=prefix + text,
        prefix=prefix,
        sender_name=name or pattern.app_name,
        text=text,
        collapse_id=message.message_id,
        sender_id=message.sender.id,
    )
    identity = push_id(message.app, message.event_id, who.user, device.device_id, message.kind)
    target = Target(
        who.user, device.device_id, device.token, identity, device.platform, device.registered_ms, app_version=device.app_version
    )
    return Push(note=note, targets=(target,))
