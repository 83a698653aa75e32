"""Encryption at rest: Fernet keys from a file, the first encrypts, all decrypt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class VaultError(ValueError):
    """The keys can't be used, or do not fit what was encrypted; the text names the cure."""


class Vault:
    """encrypt and decrypt bytes; holds the keys and shows them to nobody."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise VaultError("PUSHFLEET_SECRET_KEYS_FILE takes Fernet keys, one a line (44 characters of url-safe base64)") from None

    def encrypt(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        try:
            return self._fernet.decrypt(data)
        except InvalidToken:
            raise VaultError(
                "none of the keys in PUSHFLEET_SECRET_KEYS_FILE opens this secret: add the key it was encrypted with"
            ) from None


def read_keys(path: Path, *, make: bool) -> list[str]:
    """The keys of a file; with `make`, a missing file is created with one new key (0600), safely for many starters."""
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
        try:
            os.link(own, path)  # fails where another starter was first: then its key counts
        except FileExistsError:
            pass
        own.unlink()
    try:
        keys = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"PUSHFLEET_SECRET_KEYS_FILE: can't read {path.name}: {type(error).__name__}") from None
    if not keys:
        raise VaultError(f"PUSHFLEET_SECRET_KEYS_FILE: {path.name} holds no key")
    return keys
