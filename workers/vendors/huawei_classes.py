"""Huawei's and HarmonyOS' class policy: which category a message travels in. Sources:
docs/vendors/huawei.md, harmony.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.model import PRIVATE_CLASSES, MessageClass, PushType, Vendor
from workers.vendors.placement import C, channel_fields, private, public
from workers.vendors.types import Credential, Placement

#: The category of each class.
CATEGORY: Final[Mapping[MessageClass, str]] = {
    C.CHAT: "IM",
    C.CALL: "VOIP",
    C.ACCOUNT: "ACCOUNT",
    C.ORDER: "EXPRESS",
    C.TODO: "WORK",
    C.DEVICE: "DEVICE_REMINDER",
    C.SUBSCRIPTION: "SUBSCRIPTION",
}
#: Categories that Huawei knows as service and communication; each needs its right
#: `huawei.<category>`.
SERVICE: Final = frozenset(
    [
        "IM",
        "VOIP",
        "MISS_CALL",
        "SUBSCRIPTION",
        "TRAVEL",
        "HEALTH",
        "WORK",
        "ACCOUNT",
        "EXPRESS",
        "FINANCE",
        "DEVICE_REMINDER",
        "MAIL",
        "PLAY_VOICE",
    ]
)
#: The rights of the demo's account, after `huawei.` or `harmony.`.
DEMO_RIGHTS: Final = ("im", "voip", "account", "express", "work", "device_reminder", "subscription")


def place(
    wanted: MessageClass, _push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    prefix = "harmony" if credential.vendor == Vendor.HARMONY else "huawei"
    wish = str(over.get("category") or "").upper()
    fields = channel_fields(credential, wanted, over)
    if prefix == "huawei":
        fields["importance"] = (
            "LOW" if str(over.get("importance") or "").upper() == "LOW" else "NORMAL"
        )
    if wanted in PRIVATE_CLASSES and wish != "MARKETING":
        for category in (wish, CATEGORY[wanted]):
            if category in SERVICE and f"{prefix}.{category.lower()}" in credential.rights:
                return private(wanted, {**fields, "category": category})
    return public(wanted, {**fields, "category": "MARKETING"}, requested=wish == "MARKETING")
