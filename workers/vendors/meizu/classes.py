"""Meizu's class policy: how a message of a class travels. Source: docs/vendors/meizu.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import private, public
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    lowered = str(over.get("notice_msg_type", "1")) == "0"
    if wanted in PRIVATE_CLASSES and "meizu.private" in credential.rights and not lowered:
        return private(wanted, {"notice_msg_type": "1"})
    return public(wanted, {"notice_msg_type": "0"}, requested=lowered)
