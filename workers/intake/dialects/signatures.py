"""The clouds' callback signatures, as pure checks for Python cores that verify before XADD.

Comparisons take constant time. None of the three covers more than its docstring states.
Sources: Tencent Chat webhook console (formula as public receivers quote it), ZEGO "Authenticate the
callback", NetEase 第三方回调; the vectors of im-callbacks §1.1, §2.1, §3.1 are recomputed in the
tests.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

TENCENT_SKEW_S: Final = 60


def tencent_sign(token: str, request_time: str) -> str:
    """`Sign` of the URL: lower hex sha256 of Token + RequestTime (Unix s, as text). Does not cover
    the body.
    """
    return hashlib.sha256((token + request_time).encode("utf-8", "surrogatepass")).hexdigest()


def tencent_signed(token: str, request_time: str, sign: str, now_s: float) -> bool:
    """True when Sign matches and RequestTime is at most 60 s off our clock."""
    if not (request_time.isascii() and request_time.isdigit() and len(request_time) <= 12):
        return False
    return (
        _same(tencent_sign(token, request_time), sign)
        and abs(int(request_time) - now_s) <= TENCENT_SKEW_S
    )


def zego_signature(callback_secret: str, timestamp: str, nonce: str) -> str:
    """`signature` of the body: lower hex sha1 of the three texts sorted and joined. Covers no other
    field.
    """
    return _sha1("".join(sorted([callback_secret, timestamp, nonce])))


def zego_signed(callback_secret: str, timestamp: str, nonce: str, signature: str) -> bool:
    return _same(zego_signature(callback_secret, timestamp, nonce), signature)


def nim_md5(raw: bytes) -> str:
    """Header `MD5`: lower hex of the body's bytes as they came."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def nim_checksum(app_secret: str, md5: str, cur_time: str) -> str:
    """Header `CheckSum`: lower hex sha1 of AppSecret + MD5 + CurTime (ms, as text)."""
    return _sha1(app_secret + md5 + cur_time)


def nim_signed(app_secret: str, raw: bytes, md5: str, cur_time: str, checksum: str) -> bool:
    """True when MD5 matches the body, and CheckSum matches MD5 and CurTime."""
    return _same(nim_md5(raw), md5) and _same(nim_checksum(app_secret, md5, cur_time), checksum)


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))
