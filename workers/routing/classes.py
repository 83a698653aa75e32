"""Message class -> placement on a lane, by the vendor's policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.model import Bucket, MessageClass, PushType, Vendor
from workers.vendors import VENDORS
from workers.vendors.placement import wish_text
from workers.vendors.types import Credential, Placement

_NO_WISH: Final[Mapping[str, Any]] = {}


def place(
    wanted: MessageClass, push_type: PushType, credential: Credential, over: Mapping[str, Any]
) -> Placement:
    """The placement of this class on this lane.

    over: the sender's overrides for this vendor (they can only lower).
    """
    policy = VENDORS[credential.vendor].place
    placed = policy(wanted, push_type, credential, over)
    if over and placed.bucket is Bucket.PRIVATE:
        plain = policy(wanted, push_type, credential, _NO_WISH)
        return placed if plain.bucket is Bucket.PRIVATE else plain
    return placed


def with_raw(vendor: Vendor, over: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides, with class and channel of the verbatim fields laid over them.

    The wire, the quota and the row thus use one value (im-dialects §1, precedence).
    """
    part, names = VENDORS[vendor].raw_wishes
    inner = raw.get(part)
    fields = inner if isinstance(inner, Mapping) else raw
    return {**over, **{name: fields[name] for name in names if wish_text(fields.get(name))}}
