"""What a vendor posts, as a value: JSON, or a form with JSON in it, whichever of the two its page names. Pure; any bytes whatever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from workers.receipts.base import Receipt

BODY_BYTES_MAX: Final = 1 << 20
FIELDS_MAX: Final = 16


class ReceiptsError(ValueError):
    """A callback body that is no receipts body; the text says why and repeats nothing of it."""


def value_of(body: bytes, field: str) -> Any:
    """The object or list that a callback carries: the body's own JSON, or what stands in `field` of it or of a form.

    Without that field a form's first value that is JSON counts. Raises ReceiptsError.
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
