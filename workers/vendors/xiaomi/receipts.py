"""Xiaomi's receipts: a form with one field, `data`, JSON by message id. Pure; any bytes whatever.
Source: docs/vendors/xiaomi.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from common.model import Verdict
from workers.vendors.receipt_bodies import Receipt, ReceiptsSpec, readable, targets, value_of, whole

DELIVERED, CLICKED, INVALID, DISABLED, FILTERED, OVER_QUOTA, EXPIRED = 1, 2, 16, 32, 64, 128, 1024
STATUS: Final = {
    DELIVERED: "delivered",
    CLICKED: "clicked",
    INVALID: "invalid",
    DISABLED: "disabled",
    FILTERED: "filtered",
    OVER_QUOTA: "over_quota",
    EXPIRED: "expired",
}
REGID = 1  # errorCode of type 16: a regid; 2 and 3 are an alias's and an account's


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - no signature is documented
    """One receipt per message and target, of the field `data`. Raises ReceiptsError.

    A peer saw its JSON percent-encoded once more.
    """
    value = value_of(body, "data")
    items = value.items() if isinstance(value, dict) else ()
    receipts = [
        receipt
        for message_id, item in items
        if isinstance(item, dict)
        for receipt in _receipts(message_id, item)
    ]
    return readable(receipts, value)


def _loads(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _receipts(message_id: str, item: Mapping[str, Any]) -> list[Receipt]:
    kind, at_ms = whole(item.get("type")), whole(item.get("timestamp", item.get("timeStamp")))
    moved, regions = _mapping(item.get("replaceTarget")), _mapping(item.get("targetRegion"))
    tag = param if isinstance(param := item.get("param"), str) else ""
    made = []
    for name in targets(item.get("targets")):
        replacement = (
            new if isinstance(new := moved.get(name), str) and new and new != name else None
        )
        verdict = None if replacement else _verdict(kind, item, name in regions)
        made.append(
            Receipt(name, tag, message_id, STATUS.get(kind, "other"), at_ms, verdict, replacement)
        )
    return made


def _verdict(kind: int, item: Mapping[str, Any], elsewhere: bool) -> Verdict | None:
    """elsewhere: the vendor reports another region: the target is alive, but out of reach."""
    if kind == INVALID:
        if whole(item.get("errorCode", REGID)) != REGID:
            return None
        return Verdict.TOKEN_FOREIGN if elsewhere else Verdict.TOKEN_DEAD
    if kind == DISABLED:
        return Verdict.SILENCED
    if kind == OVER_QUOTA:
        day = _mapping(item.get("extra"))
        spent, total = whole(day.get("ack")), whole(day.get("quota"))
        return Verdict.QUOTA_SPENT if total and spent >= total else Verdict.DEVICE_CAP
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    """An object, also as JSON text."""
    if isinstance(value, str):
        value = _loads(value)
    return value if isinstance(value, dict) else {}


#: Its page asks for no body: this is what a working public receiver answers.
RECEIPTS: Final = ReceiptsSpec(
    read_receipts, b'{"errno":0,"errmsg":"success"}', frozenset(STATUS.values())
)
