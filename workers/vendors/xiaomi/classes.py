"""Xiaomi's class policy: how a message of a class travels. Source: docs/vendors/xiaomi.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import C, private, public, wish_text
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    channel, template = credential.channels.get(wanted), credential.templates.get(wanted)
    if wanted in PRIVATE_CLASSES and "xiaomi.private" in credential.rights and channel and template:
        fields = {
            "channel_id": wish_text(over.get("channel_id")) or channel,
            "template_id": wish_text(over.get("template_id")) or template.id,
        }
        return private(
            wanted, {**fields, "template_sender": template.sender, "template_text": template.text}
        )
    spare = credential.channels.get(
        wanted if wanted not in PRIVATE_CLASSES else C.MARKETING
    ) or credential.channels.get(C.MARKETING)
    return public(wanted, {"channel_id": spare} if spare else {})
