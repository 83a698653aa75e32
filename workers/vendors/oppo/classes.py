"""OPPO's class policy: how a message of a class travels. Source: docs/vendors/oppo.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import (
    CATEGORIES,
    PRIVATE_CATEGORIES,
    C,
    channel_fields,
    private,
    public,
)
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    wish = str(over.get("category") or "").upper()
    lowered = bool(wish) and wish not in PRIVATE_CATEGORIES and wish in CATEGORIES.values()
    if wanted in PRIVATE_CLASSES and "oppo.private" in credential.rights and not lowered:
        strong = "oppo.strong" in credential.rights and wanted in (C.CHAT, C.CALL)
        level = str(over.get("notify_level") or ("16" if strong else "2"))
        if level not in ("1", "2") and not (level == "16" and strong):
            level = "2"
        category = wish if wish in PRIVATE_CATEGORIES else CATEGORIES[wanted]
        own = {"category": category, "notify_level": level}
        fields = channel_fields(credential, wanted, over) | own
        template = credential.templates.get(wanted)
        if template is not None:
            fields |= {
                "template_id": template.id,
                "template_sender": template.sender,
                "template_text": template.text,
            }
        return private(wanted, fields)
    sent = C.MARKETING if wanted in PRIVATE_CLASSES else wanted
    fields = channel_fields(credential, sent, {}) | {
        "category": wish if lowered else CATEGORIES[sent],
        "notify_level": "1",
    }
    return public(wanted, fields, requested=lowered)
