"""Encryption at rest: Fernet, the first key encrypts, all decrypt."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class VaultError(ValueError):
    """The keys do not fit the encrypted data; the message names the remedy."""


class Vault:
    """Encrypts and decrypts bytes; holds the keys and never exposes them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - 8 MiB

        return MultiFernet([Fernet(key) for key in self._keys])

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """A 32-byte key for another purpose from each of ours; sign with the first, accept any."""
        return tuple(hmac.digest(key.encode(), purpose.encode(), "sha256") for key in self._keys)

    def encrypt(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - 8 MiB

        try:
            return self._fernet.decrypt(data)
        except InvalidToken:
            raise VaultError(
                "none of the keys in PUSHFLEET_SECRET_KEYS_FILE opens this secret: add the "
                "key it was encrypted with"
            ) from None
