"""The body that Huawei, HarmonyOS and Honor share for receipts: a list `statuses`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from common.model import Verdict
from workers.receipts.bodies import ReceiptsError, value_of

STATUSES_MAX = 1000  # Huawei's page says 100, an archived one 1000


def read_statuses(body: bytes) -> list[dict[str, object]]:
    """The objects in `statuses`, in order; what is no object among them is left out. Raises ReceiptsError."""
    statuses = value_of(body, "statuses")
    if not isinstance(statuses, list):
        raise ReceiptsError("receipts body has no list `statuses`")
    if len(statuses) > STATUSES_MAX:
        raise ReceiptsError(f"over {STATUSES_MAX} receipts in one body")
    items = [status for status in statuses if isinstance(status, dict)]
    if statuses and not items:
        raise ReceiptsError("receipts body has no object in `statuses`")
    return items


def word_of(code: str, words: Mapping[str, tuple[str, Verdict | None]]) -> tuple[str, Verdict | None]:
    """Our word for a vendor's code and what it changes; `code <n>` and nothing where nobody documents it."""
    shown = "".join(char for char in code[:16] if char.isprintable())
    return words.get(code, (f"code {shown}", None))


def text(value: object) -> str:
    """A number or text as text of at most 256 characters, "" for anything else."""
    return str(value).strip()[:256] if isinstance(value, int | str) and not isinstance(value, bool) else ""


def milliseconds(value: object) -> int:
    """Unix milliseconds; seconds (10 digits) are multiplied; 0 for what is no time."""
    digits = text(value)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 13:
        return 0
    return int(digits) * (1000 if len(digits) <= 10 else 1)
