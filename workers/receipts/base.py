"""Receipt: a vendor's later word about one push, as every receipts reader gives it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from common.model import Verdict

BODY_BYTES_MAX = 1 << 20
STATUSES_MAX = 1000  # Huawei's page says 100, an archived one 1000


class ReceiptsError(ValueError):
    """A callback body that is no receipts body; the text says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """tag: what we sent to be echoed (bi_tag, biTag). request_id: joins to the outcome's vendor_message_id.

    status: one word of a closed set, fit for a metric's label; `other` for a code that nobody documents. code: the
    vendor's own. at_ms: the vendor's time. verdict: what it changes for the token or push, None where nothing.
    """

    token: str = field(repr=False)
    tag: str
    request_id: str | None
    status: str
    at_ms: int
    verdict: Verdict | None
    code: str = ""


def read_statuses(body: bytes) -> list[dict[str, object]]:
    """The objects in `statuses`, in order; what is no object among them is left out. Raises ReceiptsError."""
    if len(body) > BODY_BYTES_MAX:
        raise ReceiptsError(f"receipts body over {BODY_BYTES_MAX} bytes")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ReceiptsError("receipts body is not JSON") from None
    statuses = value.get("statuses") if isinstance(value, dict) else None
    if not isinstance(statuses, list):
        raise ReceiptsError("receipts body has no list `statuses`")
    if len(statuses) > STATUSES_MAX:
        raise ReceiptsError(f"over {STATUSES_MAX} receipts in one body")
    return [status for status in statuses if isinstance(status, dict)]


def text(value: object) -> str:
    """A number or text as text of at most 256 characters, "" for anything else."""
    return str(value).strip()[:256] if isinstance(value, int | str) and not isinstance(value, bool) else ""


def milliseconds(value: object) -> int:
    """Unix milliseconds; seconds (10 digits) are multiplied; 0 for what is no time."""
    digits = text(value)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 13:
        return 0
    return int(digits) * (1000 if len(digits) <= 10 else 1)
