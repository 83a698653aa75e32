"""FCM's class policy: how a message of a class travels. Source: docs/vendors/fcm.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import channel_fields, private, public
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    is_private = wanted in PRIVATE_CLASSES
    lowered = str(over.get("priority") or "").lower() == "normal"
    fields = channel_fields(credential, wanted, over)
    fields["priority"] = (
        "HIGH" if is_private and push_type != PushType.SILENT and not lowered else "NORMAL"
    )
    return private(wanted, fields) if is_private else public(wanted, fields)
