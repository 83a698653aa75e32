"""Receipts and their bodies: a vendor's later report on one token of one push.

Pure; any bytes. A body is JSON, or a form with JSON in it, whichever the vendor's page documents.
Huawei, HarmonyOS and Honor share a list `statuses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from common.model import Verdict

BODY_BYTES_MAX: Final = 1 << 20
FIELDS_MAX: Final = 16
STATUSES_MAX: Final = 1000  # Huawei's page says 100, an archived one 1000


@dataclass(frozen=True, slots=True)
class Receipt:
    """One vendor's later report on one token. token: the device token.

    tag: our echoed tag (a push id or a batch's tag), "" for none. request_id: the vendor's message
    id. status: delivered, clicked, … at_ms: the vendor's time, 0 for none. verdict: the meaning for
    the token, None for none. replacement: the token to store instead of this one.
    """

    token: str = field(repr=False)
    tag: str
    request_id: str | None
    status: str
    at_ms: int
    verdict: Verdict | None
    replacement: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ReceiptsSpec:
    """The reading of a vendor's callback, and its answer. read: (body, headers) -> receipts.

    read raises ReceiptsError, and nothing else. ack: body of the 200. statuses: every status of a
    receipt. signed: the callback may carry Huawei's signature. strict: the sender is unproven, so
    the vendor's message id and the device's token must match, too (docs/vendors/honor.md,
    receipts). callback_option: the account's option that must be `on` before a push names our
    address: this vendor refuses an address that its console does not know.
    """

    read: Callable[[bytes, Mapping[str, str]], list[Receipt]]
    ack: bytes
    statuses: frozenset[str]
    signed: bool = False
    strict: bool = False
    callback_option: str | None = None


class ReceiptsError(ValueError):
    """An invalid receipts body; the message gives the reason and repeats nothing of it."""


def value_of(body: bytes, field: str) -> Any:
    """The object or list of a callback: the body's JSON, or `field` of it or of a form.

    Without that field a form's first JSON value counts. Raises ReceiptsError.
    """
    if len(body) > BODY_BYTES_MAX:
        raise ReceiptsError(f"receipts body over {BODY_BYTES_MAX} bytes")
    text = body.decode("utf-8-sig", "replace")
    value = _loads(text)
    if value is None:
        value = _of_form(text, field)
    if isinstance(value, dict) and field in value:
        inner = value[field]
        value = _loads(inner) if isinstance(inner, str) else inner
    if not isinstance(value, dict | list):
        raise ReceiptsError("receipts body is neither JSON nor a form with JSON in it")
    return value


def targets(value: Any) -> list[str]:
    """The tokens of a receipt: one, several with commas and blanks between, or a list."""
    many = value if isinstance(value, list) else [value]
    texts = (str(one) for one in many if isinstance(one, str | int) and not isinstance(one, bool))
    return [token for one in texts for part in one.split(",") if (token := part.strip())]


def readable(receipts: Sequence[Receipt], value: Any) -> list[Receipt]:
    """`receipts`; ReceiptsError where a body that holds something gave none."""
    if value and not receipts:
        raise ReceiptsError("receipts body names no token")
    return list(receipts)


def _of_form(text: str, field: str) -> Any:
    try:
        pairs = parse_qsl(text, max_num_fields=FIELDS_MAX)
    except ValueError:
        return None
    for _, value in sorted(pairs, key=lambda pair: pair[0] != field):
        if (found := _loads(value)) is not None or (found := _loads(unquote(value))) is not None:
            return found
    return None


def _loads(text: str) -> dict[str, Any] | list[Any] | None:
    """An object or a list, also as JSON text inside a JSON text."""
    for _ in range(2):
        try:
            value = msgspec.json.decode(text.encode("utf-8", "replace"))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        if not isinstance(value, str):
            return value if isinstance(value, dict | list) else None
        text = value
    return None


def read_statuses(body: bytes) -> list[dict[str, object]]:
    """The objects in `statuses`, in order; what is no object among them is left out. Raises
    ReceiptsError.
    """
    statuses = value_of(body, "statuses")
    if not isinstance(statuses, list):
        raise ReceiptsError("receipts body has no list `statuses`")
    if len(statuses) > STATUSES_MAX:
        raise ReceiptsError(f"over {STATUSES_MAX} receipts in one body")
    items = [status for status in statuses if isinstance(status, dict)]
    if statuses and not items:
        raise ReceiptsError("receipts body has no object in `statuses`")
    return items


def word_of(
    code: str, words: Mapping[str, tuple[str, Verdict | None]]
) -> tuple[str, Verdict | None]:
    """The status of a vendor's code and its verdict; `code <n>` and None if undocumented."""
    shown = "".join(char for char in code[:16] if char.isprintable())
    return words.get(code, (f"code {shown}", None))


def text(value: object) -> str:
    """A number or text as text of at most 256 characters, "" for anything else."""
    return (
        str(value).strip()[:256]
        if isinstance(value, int | str) and not isinstance(value, bool)
        else ""
    )


def milliseconds(value: object) -> int:
    """Unix milliseconds; seconds (10 digits) are multiplied; 0 for what is no time."""
    digits = text(value)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 13:
        return 0
    return int(digits) * (1000 if len(digits) <= 10 else 1)


def whole(value: object) -> int:
    """A whole number of at most 64 bits, also as text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value < 1 << 63 else 0
