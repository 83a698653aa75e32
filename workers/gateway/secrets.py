"""Gateway keys and callback secrets of a tenant, encrypted among its options. Two of each are
valid: a rotation has no gap.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from common.storage.living import GATEWAY, GATEWAY_XMPP
from common.storage.vault import Vault, VaultError

GATEWAY_KEYS: Final = "gateway_keys"
CALLBACK_SECRETS: Final = "callback_secrets"
XMPP: Final = "xmpp"
KEPT_MAX: Final = 2


def open_doors(options: Iterable[Mapping[str, Any]]) -> list[str]:
    """Processes without which a door that some tenant has opened answers nobody. options: of all
    tenants.
    """
    opened = {name for one in options for name, given in one.items() if given}
    http = [GATEWAY] if opened & {GATEWAY_KEYS, CALLBACK_SECRETS} else []
    return [*http, GATEWAY_XMPP] if XMPP in opened else http


def new_key() -> str:
    return secrets.token_urlsafe(24)


def opened_secrets(options: Mapping[str, Any], name: str, vault: Vault) -> list[str]:
    """The newest first; one that no key of ours opens is left out."""
    found = []
    for sealed in options.get(name) or ():
        try:
            found.append(vault.decrypt(str(sealed).encode()).decode())
        except (VaultError, UnicodeDecodeError):
            continue
    return found


def with_secret(options: Mapping[str, Any], name: str, secret: str, vault: Vault) -> dict[str, Any]:
    """The options with this secret in front; the one before it stays valid, older ones end. Given
    again, it changes nothing.
    """
    old = opened_secrets(options, name, vault)
    kept = [secret, *(one for one in old if one != secret)][:KEPT_MAX]
    return {**options, name: [vault.encrypt(one.encode()).decode() for one in kept]}


def digest_of(key: str) -> str:
    """By which a key is looked up: comparing digests takes the same time whatever the key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
