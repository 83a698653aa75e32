"""The address for a vendor's receipts: /<vendor>/<app>/<business id>/<secret>. Pure.

The secret proves that the address is ours.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from common.model import Vendor

#: The vault's purpose: each fleet key derives one for this use (common/storage/vault.py: derived).
PURPOSE = "receipts-address"
#: 128 bits: few vendors sign, and several take no address over 128 bytes.
SECRET_BYTES = 16


@dataclass(frozen=True, slots=True)
class Address:
    vendor: Vendor
    app: str
    business_id: str
    secret: str = field(repr=False)


def path_of(vendor: Vendor, app: str, business_id: str, key: bytes) -> str:
    """The path under PUSHFLEET_RECEIPTS_URL. It stays the same as long as the key does."""
    parts = (vendor, app, business_id, _secret(vendor, app, business_id, key))
    return "/" + "/".join(quote(part, safe="") for part in parts)


def read_path(raw_path: bytes) -> Address | None:
    """The last four parts of a path; a proxy may add others before. None for no address."""
    parts = [unquote_to_bytes(part).decode("utf-8", "replace") for part in raw_path.split(b"/")[1:]]
    if len(parts) < 4 or parts[-4] not in set(Vendor):
        return None
    return Address(Vendor(parts[-4]), *parts[-3:])


def proven(address: Address, keys: Sequence[bytes]) -> bool:
    """True when one of our keys made the secret.

    All are tried, so that the time reveals nothing.
    """
    given = address.secret.encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(
            _secret(address.vendor, address.app, address.business_id, key).encode(), given
        )
        for key in keys
    ]
    return any(matches)


def _secret(vendor: Vendor, app: str, business_id: str, key: bytes) -> str:
    account = "\0".join((vendor, app, business_id)).encode()
    digest = base64.urlsafe_b64encode(hmac.digest(key, account, "sha256")[:SECRET_BYTES])
    return digest.rstrip(b"=").decode()
