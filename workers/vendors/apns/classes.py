"""APNs's class policy: how a message of a class travels. Source: docs/vendors/apns.md, message
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model import PRIVATE_CLASSES, MessageClass, PushType
from workers.vendors.placement import C, private, public, wish_text
from workers.vendors.types import Credential, Placement


def place(
    wanted: MessageClass, push_type: PushType, _credential: Credential, over: Mapping[str, Any]
) -> Placement:
    if push_type == PushType.SILENT:
        fields = {"priority": "5"}
    elif wanted == C.CALL:
        fields = {"priority": "10", "interruption_level": "time-sensitive"}
    elif wanted in PRIVATE_CLASSES:
        fields = {"priority": "10", "interruption_level": "active"}
    else:
        fields = {"priority": "5", "interruption_level": "passive"}
    if wish_text(over.get("priority")) == "5" and wanted != C.CALL:  # a sender may lower it
        fields["priority"] = "5"
    return private(wanted, fields) if wanted in PRIVATE_CLASSES else public(wanted, fields)
