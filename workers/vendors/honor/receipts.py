"""Honor's receipts: reading and acknowledgement. Pure. Honor documents no signature:
docs/vendors/honor.md, receipts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.model import Verdict
from workers.vendors.receipt_bodies import (
    Receipt,
    ReceiptsSpec,
    milliseconds,
    read_statuses,
    readable,
    text,
    word_of,
)

ACK: Final = b'{"code":"0","message":"success"}'
#: Source: honor.md §8 (MASA.MC, 2026-07-20; 40000002 also doopush). Every other code is `code <n>`,
#: and never retires a token.
CODES: Final[Mapping[str, tuple[str, Verdict | None]]] = {
    "40000001": ("delivered", None),
    "40000002": ("delivered", None),
    "40000003": ("not_installed", Verdict.TOKEN_DEAD),
    "40000004": ("token_dead", Verdict.TOKEN_DEAD),
    "40000005": ("notifications_off", None),
    "40000006": ("app_disabled", None),
    "40000007": ("clicked", None),
    "40000009": ("quota_spent", Verdict.QUOTA_SPENT),
    "40000011": ("no_target_page", Verdict.REJECTED),
    "40000013": ("deferred", None),
    "40000014": ("user_mismatch", None),
    "40000015": ("not_shown", None),
    "50000003": ("cached", None),
}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:
    """All receipts of one callback that name a token. Raises ReceiptsError.

    Nothing proves that they come from Honor: take one only if (request_id, token, tag) match a
    stored send.
    """
    del headers
    receipts, statuses = [], read_statuses(body)
    for status in statuses:
        token, code = status.get("token"), text(status.get("status"))
        if isinstance(token, str) and 0 < len(token) <= 1024:
            word, verdict = word_of(code, CODES)
            request_id = text(status.get("requestId")) or None
            at_ms = milliseconds(status.get("timestamp"))
            receipts.append(
                Receipt(token, text(status.get("biTag")), request_id, word, at_ms, verdict)
            )
    return readable(receipts, statuses)


RECEIPTS: Final = ReceiptsSpec(
    read_receipts, ACK, frozenset(word for word, _ in CODES.values()), strict=True
)
