"""Accounts with their secrets opened: they stand in no store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from common.storage.accounts import SealedCredential
from common.storage.vault import Vault, VaultError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """One version. templates: class -> [id, sender variable, text variable]; limits: quota,
    device_cap, reserve, rate.
    """

    app: str
    vendor: str
    business_id: str
    version: int
    options: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    rights: frozenset[str]
    channels: Mapping[str, str]
    templates: Mapping[str, Sequence[str]]
    limits: Mapping[str, Any]
    paused: bool
    created_ms: int
    expires_ms: int | None


def opened(sealed: SealedCredential, vault: Vault) -> StoredCredential:
    """VaultError: none of our keys opens it."""
    return _with(sealed, json.loads(vault.decrypt(sealed.secrets)))


def opened_or_paused(sealed: SealedCredential, vault: Vault) -> StoredCredential:
    """A credential that none of our keys opens is paused and without secrets.

    Its pushes wait for the key.
    """
    try:
        return opened(sealed, vault)
    except VaultError as error:
        log.error(
            "a credential can't be opened: its lane waits",
            extra={
                "lane": ":".join((sealed.app, sealed.vendor, sealed.business_id)),
                "reason": str(error),
            },
        )
        return _with(sealed, {}, paused=True)


def unopened(sealed: SealedCredential) -> StoredCredential:
    """Without its secrets, for processes that send nothing."""
    return _with(sealed, {})


def _with(sealed: SealedCredential, secrets: Mapping[str, str], **own: Any) -> StoredCredential:
    given = {one.name: getattr(sealed, one.name) for one in fields(SealedCredential)}
    given |= {"secrets": secrets, "rights": frozenset(sealed.rights), **own}
    return StoredCredential(**given)
