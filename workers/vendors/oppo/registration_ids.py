"""OPPO's registration ids: which host serves one, and which of a batch travel."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.vendors.types import PushItem, RequestBatch

_REGID = re.compile(r"((([0-9A-Za-z]{2,10})_)?([A-Z]{2}|EUEX)_)?[0-9a-fA-F]{32}|[0-9a-fA-F]{24}")


def token_valid(token: str) -> bool:
    """The SDK's own two expressions (2.3.1, 1.0.4; the 24 hex digits are old ids).

    OPPO answers other ids with 10000.
    """
    return bool(_REGID.fullmatch(token))


def endpoint_of(token: str) -> str:
    """OPPO for a domestic registration id, OPPO_INTL for any other: the part before the hex digits
    names the region.
    """
    parts = token.split("_")
    return "OPPO" if len(parts) == 1 or (len(parts) <= 3 and parts[-2] == "CN") else "OPPO_INTL"


def group(item: PushItem) -> str:
    """A request has one host."""
    return endpoint_of(item.target.token)


def sent(batch: RequestBatch) -> Sequence[PushItem]:
    """The items of the request: the first one's host, each registration id once.

    Answers are joined by it.
    """
    return tuple(batch.items[index] for index in travelling_indexes(batch))


def travelling_indexes(batch: RequestBatch) -> Sequence[int]:
    home = group(batch.items[0])
    first: dict[str, int] = {}
    for index, item in enumerate(batch.items):
        if group(item) == home:
            first.setdefault(item.target.token, index)
    return tuple(first.values())
