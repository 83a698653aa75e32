"""One spelling per device token, so that a phone is never two devices of two people; the name of a
token without a person. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

_HEX: Final = re.compile(r"[0-9a-fA-F]+")
#: Vendors that take a token in capitals and in small letters alike. Source: docs/vendors/apns.md
#: (the path is the token's bytes in hex). The tokens of all others are opaque: Huawei's, Honor's,
#: FCM's and Xiaomi's are base64, where the case carries a meaning.
_HEXADECIMAL: Final = frozenset({"apns"})
#: The reason of a retirement by an operator.
BY_OPERATOR: Final = "by an operator"
#: The same, with the console's word of earlier versions.
OPERATORS_REASONS: Final = (BY_OPERATOR, "operator")


def declared_dead(state: str, reason: str) -> bool:
    """True for a token that its vendor gave up: only of such a one its sender is told that it is
    gone, for the sender then forgets it. An operator's retirement can be taken back.
    """
    return state == "retired" and reason not in OPERATORS_REASONS


def canonical(vendor: str, token: str) -> str:
    """The token in the registry's form: hexadecimal ones in lower case, all others unchanged."""
    if vendor not in _HEXADECIMAL or token.islower():
        return token
    return token.lower() if _HEX.fullmatch(token) else token


def all_canonical(vendor: str, tokens: Sequence[str]) -> bool:
    """True when each token is in the registry's form."""
    whole = "".join(tokens)  # lower() costs a tenth of islower(), which looks each character up
    if vendor not in _HEXADECIMAL or whole.lower() == whole:
        return True
    return all(canonical(vendor, token) == token for token in tokens)


def token_user(vendor: str, business_id: str, token: str) -> str:
    """The token's name in rows and registry: `token:` and 12 hex digits of SHA-256.

    The parts are separated by NUL.
    """
    return (
        "token:"
        + hashlib.sha256(
            "\0".join((vendor, business_id, token)).encode("utf-8", "replace")
        ).hexdigest()[:12]
    )
