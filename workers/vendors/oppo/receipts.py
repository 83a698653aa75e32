"""OPPO's receipts: a JSON array. Pure; any bytes whatever. Source: docs/vendors/oppo.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.model import Verdict
from workers.vendors.json_text import scalar_text
from workers.vendors.receipt_bodies import Receipt, ReceiptsSpec, readable, targets, value_of, whole

#: eventType -> our status and what it means for the registration id.
EVENTS: Final[Mapping[str, tuple[str, Verdict | None]]] = {
    "push_arrive": ("delivered", None),
    "regid_invalid": ("invalid", Verdict.TOKEN_DEAD),
    "user_daily_limit": ("device_cap", Verdict.DEVICE_CAP),
    "message_night_control": ("held_at_night", None),
}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - no signature is documented
    """One receipt per element and registration id. Raises ReceiptsError."""
    value = value_of(body, "data")
    elements = value if isinstance(value, list) else [value]
    receipts = [
        receipt
        for element in elements
        if isinstance(element, dict)
        for receipt in _receipts(element)
    ]
    return readable(receipts, value)


def _receipts(element: Mapping[str, Any]) -> list[Receipt]:
    status, verdict = EVENTS.get(scalar_text(element.get("eventType")), ("other", None))
    tag = scalar_text(element.get("param"))
    request_id = scalar_text(element.get("messageId")) or None
    at_ms = whole(element.get("eventTime"))
    names = targets(element.get("registrationIds"))
    return [Receipt(name, tag, request_id, status, at_ms, verdict) for name in names]


#: Its page asks for no body: this is what a working public receiver answers.
RECEIPTS: Final = ReceiptsSpec(read_receipts, b"{}", frozenset(word for word, _ in EVENTS.values()))
