"""JSON of a request: compact, without lone surrogates, with a sender's fields laid on top; JWTs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode  # kept: msgspec.json.encode makes an encoder a call


def compact(value: Any) -> bytes:
    """JSON without spaces, UTF-8 without escapes (a CJK character is 3 bytes, not 6). A lone
    surrogate becomes U+FFFD.
    """
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_whole(value))


def jwt_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """The part of a JWT that its signature covers."""
    return f"{base64url(compact(header))}.{base64url(compact(claims))}"


def base64url(raw: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _whole(value: Any) -> Any:
    """`value` with every lone surrogate in its texts replaced."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, Mapping):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def whole(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, so that it has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def scalar_text(value: Any) -> str:
    """A text or a whole number as text; "" for anything else."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def merged(base: dict[str, Any], over: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """`base` with the white-listed keys of `over` laid on top, nested objects merged. Neither
    argument is changed.
    """
    white = frozenset(allowed)
    result = dict(base)
    for key, value in over.items():
        if key not in white:
            continue
        old = result.get(key)
        result[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result
