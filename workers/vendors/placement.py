"""The class policies' common part: a class is placed as private or public. Pure.

Sources: docs/vendors/<vendor>.md. A lane sends a private class as private only with the right for
it; without the right it is placed in the public bucket and its row has `downgraded`. The reverse
never happens: no sender's override makes a public class private.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.model import PRIVATE_CLASSES, Bucket, MessageClass
from workers.vendors.json_text import scalar_text
from workers.vendors.types import Credential, Placement

C = MessageClass

#: The category of each class, the same for OPPO and vivo.
CATEGORIES: Final[Mapping[MessageClass, str]] = {
    C.CHAT: "IM",
    C.CALL: "IM",
    C.ACCOUNT: "ACCOUNT",
    C.ORDER: "ORDER",
    C.TODO: "TODO",
    C.DEVICE: "DEVICE_REMINDER",
    C.SUBSCRIPTION: "SUBSCRIPTION",
    C.NEWS: "NEWS",
    C.CONTENT: "CONTENT",
    C.MARKETING: "MARKETING",
    C.SOCIAL: "SOCIAL",
}
PRIVATE_CATEGORIES: Final = frozenset(CATEGORIES[one] for one in PRIVATE_CLASSES)


def private(wanted: MessageClass, fields: Mapping[str, str]) -> Placement:
    return Placement(Bucket.PRIVATE, wanted, downgraded=False, fields=fields)


def public(
    wanted: MessageClass, fields: Mapping[str, str], *, requested: bool = False
) -> Placement:
    """requested: the sender himself wished it public; that is no downgrade of ours."""
    down = wanted in PRIVATE_CLASSES
    sent = C.MARKETING if down else wanted
    return Placement(Bucket.PUBLIC, sent, downgraded=down and not requested, fields=fields)


def channel_fields(
    credential: Credential, wanted: MessageClass, over: Mapping[str, Any]
) -> dict[str, str]:
    channel = wish_text(over.get("channel_id")) or credential.channels.get(wanted)
    return {"channel_id": channel} if channel else {}


def wish_text(value: Any) -> str:
    """A wish as text: a text or a whole number; "" for what is none."""
    return scalar_text(value).strip()
