"""Meizu's receipts: `cb`, in a form or in JSON, keyed by `<msgId>-<type>`. Pure. Source:
docs/vendors/meizu.md, receipts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from workers.vendors.json_text import scalar_text
from workers.vendors.receipt_bodies import Receipt, ReceiptsSpec, readable, targets, value_of

STATUS: Final[Mapping[str, str]] = {"1": "delivered", "2": "clicked"}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - one signature for all vendors
    """One receipt per token, of a form (Meizu's page) or of JSON (what it sends).

    Meizu gives no time: at_ms is 0. Raises ReceiptsError.
    """
    messages = value_of(body, "cb")
    entries = messages.items() if isinstance(messages, dict) else ()
    receipts = [
        one for key, item in entries if isinstance(item, dict) for one in _of_message(key, item)
    ]
    return readable(receipts, messages)


def _of_message(key: str, entry: Mapping[str, Any]) -> Iterator[Receipt]:
    message_id, _, kind = key.rpartition("-")
    status = STATUS.get(scalar_text(entry.get("type")) or kind, "other")
    for token in targets(entry.get("targets")):
        yield Receipt(token, scalar_text(entry.get("param")), message_id or None, status, 0, None)


#: Its page asks for no body: this is what a working public receiver answers.
RECEIPTS: Final = ReceiptsSpec(
    read_receipts, b"{}", frozenset(STATUS.values()), callback_option="callback"
)
