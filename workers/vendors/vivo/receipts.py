"""vivo's receipts: a JSON object keyed by taskId. Pure. Source: docs/vendors/vivo.md, receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from common.model import Verdict
from workers.vendors.json_text import scalar_text
from workers.vendors.receipt_bodies import Receipt, ReceiptsSpec, readable, targets, value_of

#: Detail -> our status and its verdict. Source: vivo.md §8 (MASA.MC, 2026-07-20).
DETAILS: Final[Mapping[str, tuple[str, Verdict | None]]] = {
    "1017": ("not_shown_at_night", None),
    "2124": ("duplicate", None),
    "2144": ("expired", None),
    "2158": ("bad_deep_link", Verdict.REJECTED),
    "2161": ("activity_not_exported", Verdict.REJECTED),
    "2162": ("activity_not_found", Verdict.REJECTED),
    "2183": ("token_dead", Verdict.TOKEN_DEAD),
    "2333": ("not_from_store", None),
    "10012": ("expired", None),
    "11001": ("quota_spent", Verdict.QUOTA_SPENT),
    "12000": ("device_cap", Verdict.DEVICE_CAP),
    "14002": ("device_offline", None),
    "20001": ("token_dead", Verdict.TOKEN_DEAD),
    "20002": ("token_dead", Verdict.TOKEN_DEAD),
    "20006": ("inactive", None),
}
#: Kind (`ackType`) -> the same, for a receipt without a detail that we know.
KINDS: Final[Mapping[str, tuple[str, Verdict | None]]] = {
    "0": ("delivered", None),
    "100": ("controlled", None),
    "101": ("review_failed", None),
    "102": ("no_match", None),
    "103": ("replaced", None),
    "104": ("not_shown", None),
}
#: Two names of the detail: sources disagree.
DETAIL_NAMES: Final = ("subStatus", "subAckType")


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:  # noqa: ARG001 - one signature for all vendors
    """One receipt per token. The old shape has no ackType: it reports an arrival.

    Raises ReceiptsError.
    """
    tasks = value_of(body, "data")
    entries = tasks.items() if isinstance(tasks, dict) else ()
    receipts = [
        one
        for task_id, item in entries
        if isinstance(item, dict)
        for one in _of_task(task_id, item)
    ]
    return readable(receipts, tasks)


def _of_task(task_id: str, entry: Mapping[str, Any]) -> Iterator[Receipt]:
    status, verdict = _meaning(entry)
    moment = scalar_text(entry.get("ackTime"))
    at_ms = int(moment) if moment.isascii() and moment.isdecimal() and len(moment) <= 15 else 0
    for token in targets(entry.get("targets")):
        yield Receipt(token, scalar_text(entry.get("param")), task_id, status, at_ms, verdict)


def _meaning(entry: Mapping[str, Any]) -> tuple[str, Verdict | None]:
    """The detail decides; the kind only without a known detail (vivo.md §8)."""
    kind = scalar_text(entry.get("ackType")).strip() or "0"
    details = (scalar_text(entry.get(name)).strip() for name in DETAIL_NAMES)
    for code in (*details, kind):
        if code in DETAILS:
            return DETAILS[code]
    return KINDS.get(kind, ("other", None))


#: Its page asks for no body: this is what a working public receiver answers.
RECEIPTS: Final = ReceiptsSpec(
    read_receipts, b"0", frozenset(word for word, _ in (*DETAILS.values(), *KINDS.values()))
)
