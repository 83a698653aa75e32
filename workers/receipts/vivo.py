"""vivo's receipts: a JSON object keyed by taskId. Pure. Source: docs/vendors/vivo.md, receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from common.model import Verdict
from workers.receipts.base import Receipt

BODY_BYTES_MAX: Final = 1_048_576
RECEIPTS_MAX: Final = 10_000

#: Failure codes, of ackType or subStatus (which of them carries one is unconfirmed), and what they say.
STATUS: Final[Mapping[str, str]] = {
    "0": "delivered",
    "101": "review_failed",
    "103": "replaced",
    "104": "not_shown",
    "2124": "duplicate",
    "2144": "expired",
    "10012": "expired",
    "2158": "bad_deep_link",
    "2161": "activity_not_exported",
    "2162": "activity_not_found",
    "2183": "token_dead",
    "11001": "quota_spent",
    "12000": "device_cap",
    "20001": "token_dead",
    "20002": "token_dead",
    "20006": "offline",
}
VERDICTS: Final[Mapping[str, Verdict]] = {
    "token_dead": Verdict.TOKEN_DEAD,
    "quota_spent": Verdict.QUOTA_SPENT,
    "device_cap": Verdict.DEVICE_CAP,
}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - one signature for all vendors
    """One receipt a token; nothing of what can't be read. The old shape has no ackType: it tells of an arrival."""
    try:
        tasks = msgspec.json.decode(body, type=dict[str, Any]) if len(body) <= BODY_BYTES_MAX else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    receipts = [one for task_id, told in tasks.items() if isinstance(told, dict) for one in _of_task(task_id, told)]
    return receipts[:RECEIPTS_MAX]


def _of_task(task_id: str, told: Mapping[str, Any]) -> Iterator[Receipt]:
    kind, detail = _text(told.get("ackType")) or "0", _text(told.get("subStatus")) or "0"
    code = next((one for one in (kind, detail) if one != "0" and one in STATUS), kind)  # which of them tells is unconfirmed
    status = STATUS.get(code, "other")
    moment = _text(told.get("ackTime"))
    at_ms = int(moment) if moment.isdecimal() and len(moment) <= 15 else 0
    for token in _tokens(told.get("targets")):
        yield Receipt(token, _text(told.get("param")), task_id, status, at_ms, VERDICTS.get(status))


def _tokens(targets: Any) -> list[str]:
    """One regId, several with commas, or a list."""
    many = targets if isinstance(targets, list) else _text(targets).split(",")
    return [token for one in many if (token := _text(one).strip())]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
