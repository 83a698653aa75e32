"""Huawei's and HarmonyOS' receipts, V1 and V2: reading, signature, acknowledgement. Pure. Source:
docs/vendors/huawei.md, receipts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
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

SIGNATURE_HEADER: Final = "x-huawei-callback-id"
#: Either side of our clock; the nonces of that time are the caller's to remember (`nonce`). Policy.
WINDOW_MS: Final = 300_000
#: HTTP 200 with this. The console saves a configuration only after it got it.
ACK: Final = b'{"code":"0","message":"success"}'

#: Code -> our status and its verdict. Source: 消息回执, V1 and V2, copies of 2025-08 to 2026-05.
CODES: Final[Mapping[str, tuple[str, Verdict | None]]] = {
    "0": ("delivered", None),
    "2": ("not_installed", Verdict.TOKEN_DEAD),
    "5": ("token_mismatch", Verdict.TOKEN_DEAD),
    "6": ("notifications_off", Verdict.SILENCED),
    "10": ("inactive_device", Verdict.SILENCED),
    "14": ("vendor_fault", None),
    "15": ("superseded", None),
    "22": ("user_mismatch", Verdict.SILENCED),
    "27": ("cached", None),
    "31": ("no_target_page", Verdict.REJECTED),
    "51": ("deferred", None),
    "102": ("device_cap", Verdict.DEVICE_CAP),
    "144": ("no_profile", Verdict.REJECTED),
    **{str(code): ("not_shown", None) for code in (151, 155, 156, 158, 188, 191)},
    "201": ("send_control", Verdict.SILENCED),
    # The scene's limit of this device (marketing: 2 a day), so no reason to stop the lane for the
    # others.
    "256": ("scenario_limit", Verdict.DEVICE_CAP),
    "259": ("content_refused", Verdict.REJECTED),
    **{str(code): ("refused", Verdict.REJECTED) for code in (261, 262, 264, 265, 268, 269)},
}


def read_receipts(body: bytes, headers: Mapping[str, str]) -> list[Receipt]:
    """All receipts of one callback that name a token. Raises ReceiptsError."""
    del headers  # the version shows in the body
    statuses = read_statuses(body)
    return readable(
        [receipt for status in statuses if (receipt := _receipt(status)).token], statuses
    )


def _receipt(status: Mapping[str, object]) -> Receipt:
    detail: Mapping[str, object] = status
    for name in ("deliveryStatus", "formStatus"):  # V2
        inner = status.get(name)
        if isinstance(inner, dict):
            detail = {"status": inner.get("result"), "timestamp": inner.get("timestamp")}
    code = text(detail.get("status"))
    word, verdict = word_of(code, CODES)
    request_id = text(status.get("requestId")) or None
    at_ms = milliseconds(detail.get("timestamp"))
    return Receipt(
        _token(status.get("token")), text(status.get("biTag")), request_id, word, at_ms, verdict
    )


def _token(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 1024 else ""


def signature_valid(headers: Mapping[str, str], key: str, user: str, now_ms: int) -> bool:
    """True when the callback was signed with `key` for `user` within WINDOW_MS.

    False without the header. `value = Base64(HMAC-SHA256(key, timestamp + nonce + user))`; the
    key's bytes are its base64 decoding (newer console) or its own UTF-8 text (older), either is
    accepted.
    """
    parts = _parts(headers)
    stamp = parts.get("timestamp", "")
    nonce_text = parts.get("nonce", "")
    value = parts.get("value", "")
    at_ms = milliseconds(stamp)
    if (
        not key
        or not nonce_text
        or not value
        or len(stamp) not in (10, 13)
        or not at_ms
        or abs(now_ms - at_ms) > WINDOW_MS
    ):
        return False
    message = (stamp + nonce_text + user).encode("utf-8", "replace")
    given = value.encode("utf-8", "replace")
    # Both are always computed, so that the time reveals nothing.
    matches = [hmac.compare_digest(_signature(form, message), given) for form in _key_forms(key)]
    return any(matches)


def nonce(headers: Mapping[str, str]) -> str | None:
    """The callback's nonce, for the caller's cache: one that was seen within
    WINDOW_MS is a replay.
    """
    return _parts(headers).get("nonce") or None


def _parts(headers: Mapping[str, str]) -> dict[str, str]:
    """Fields of the signature header; each is split at its first `=`, for the base64 value ends in
    one.
    """
    header = next(
        (value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER), ""
    )
    pairs = (field.strip().partition("=") for field in header[:1024].split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _key_forms(key: str) -> list[bytes]:
    forms = [key.encode("utf-8", "replace")]
    try:
        forms.append(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        pass
    return forms


def _signature(key: bytes, message: bytes) -> bytes:
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest())


HUAWEI_RECEIPTS: Final = ReceiptsSpec(
    read_receipts, ACK, frozenset(word for word, _ in CODES.values()), signed=True
)
