"""vivo's class policy: how a message of a class travels. Source: docs/vendors/vivo.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import CATEGORIES, PRIVATE_CATEGORIES, C, private, public
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    wish = str(over.get("category") or "").upper()
    lowered = str(over.get("classification", "1")) == "0"
    if wanted in PRIVATE_CLASSES and "vivo.system" in credential.rights and not lowered:
        category = wish if wish in PRIVATE_CATEGORIES else CATEGORIES[wanted]
        return private(wanted, {"classification": "1", "category": category})
    sent = C.MARKETING if wanted in PRIVATE_CLASSES else wanted
    known = wish in CATEGORIES.values() and wish not in PRIVATE_CATEGORIES
    category = wish if known else CATEGORIES[sent]
    return public(wanted, {"classification": "0", "category": category}, requested=lowered)
