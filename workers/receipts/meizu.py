"""Meizu's receipts: a form whose `cb` is JSON keyed by `<msgId>-<type>`. Pure. Source: docs/vendors/meizu.md, receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from workers.receipts.base import Receipt

BODY_BYTES_MAX: Final = 1_048_576
RECEIPTS_MAX: Final = 10_000
FIELDS_MAX: Final = 10
STATUS: Final[Mapping[str, str]] = {"1": "delivered", "2": "clicked"}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - one signature for all vendors
    """One receipt a token; nothing of what can't be read. Meizu tells no time: at_ms is 0."""
    if len(body) > BODY_BYTES_MAX:
        return []
    try:
        form = parse_qs(body.decode("utf-8"), max_num_fields=FIELDS_MAX)
        messages = msgspec.json.decode(form.get("cb", ["{}"])[0], type=dict[str, Any])
    except (ValueError, RecursionError):
        return []
    return [one for key, told in messages.items() if isinstance(told, dict) for one in _of_message(key, told)][:RECEIPTS_MAX]


def _of_message(key: str, told: Mapping[str, Any]) -> Iterator[Receipt]:
    message_id, _, kind = key.rpartition("-")
    status = STATUS.get(_text(told.get("type")) or kind, "other")
    targets = told.get("targets")
    for one in targets if isinstance(targets, list) else [targets]:
        if token := _text(one):
            yield Receipt(token, _text(told.get("param")), message_id or None, status, 0, None)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
