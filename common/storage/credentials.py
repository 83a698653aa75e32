"""Credentials (SQL, until removed; secrets encrypted): all versions of all vendor accounts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from common.storage.accounts import SealedCredential
from common.storage.opened import StoredCredential as StoredCredential
from common.storage.opened import opened
from common.storage.tables import credentials
from common.storage.vault import Vault

#: Two versions live side by side while `rotate` takes effect; older ones are removed.
VERSIONS_KEPT = 2


class Credentials:
    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def all(self) -> list[StoredCredential]:
        """The newest version of each, secrets opened."""
        return [opened(one, self._vault) for one in self.sealed()]

    def sealed(self) -> list[SealedCredential]:
        """The newest version of each, in a fixed order."""
        return [SealedCredential(**row) for row in self._newest()]

    def listed(self, app: str | None = None) -> list[Mapping[str, Any]]:
        """The newest version of each without its secrets, for people."""
        rows = [row for row in self._newest() if app is None or row["app"] == app]
        return [{name: value for name, value in row.items() if name != "secrets"} for row in rows]

    def add(self, new: StoredCredential) -> int:
        """Stores a version above the newest one; the version's number."""
        with self._engine.begin() as connection:
            key = (
                credentials.c.app == new.app,
                credentials.c.vendor == new.vendor,
                credentials.c.business_id == new.business_id,
            )
            newest = connection.execute(
                select(func.max(credentials.c.version)).where(*key)
            ).scalar()
            version = (newest or 0) + 1
            connection.execute(
                insert(credentials).values(
                    app=new.app,
                    vendor=new.vendor,
                    business_id=new.business_id,
                    version=version,
                    options=dict(new.options),
                    secrets=self._vault.encrypt(json.dumps(dict(new.secrets)).encode()),
                    rights=sorted(new.rights),
                    channels=dict(new.channels),
                    templates={name: list(template) for name, template in new.templates.items()},
                    limits=dict(new.limits),
                    paused=new.paused,
                    created_ms=new.created_ms,
                    expires_ms=new.expires_ms,
                )
            )
            connection.execute(
                delete(credentials).where(*key, credentials.c.version <= version - VERSIONS_KEPT)
            )
        return version

    def set_paused(self, app: str, vendor: str, business_id: str, paused: bool) -> bool:
        return self._change(app, vendor, business_id, paused=paused)

    def set_limits(
        self, app: str, vendor: str, business_id: str, limits: Mapping[str, Any]
    ) -> bool:
        return self._change(app, vendor, business_id, limits=dict(limits))

    def remove(self, app: str, vendor: str, business_id: str) -> bool:
        with self._engine.begin() as connection:
            return bool(
                connection.execute(
                    delete(credentials).where(*_key(app, vendor, business_id))
                ).rowcount
            )

    def _change(self, app: str, vendor: str, business_id: str, **values: Any) -> bool:
        with self._engine.begin() as connection:
            return bool(
                connection.execute(
                    update(credentials).where(*_key(app, vendor, business_id)).values(values)
                ).rowcount
            )

    def _newest(self) -> list[dict[str, Any]]:
        statement = (
            select(credentials)
            .ext(distinct_on(credentials.c.app, credentials.c.vendor, credentials.c.business_id))
            .order_by(
                credentials.c.app,
                credentials.c.vendor,
                credentials.c.business_id,
                credentials.c.version.desc(),
            )
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]


def _key(app: str, vendor: str, business_id: str) -> tuple[Any, ...]:
    return (
        credentials.c.app == app,
        credentials.c.vendor == vendor,
        credentials.c.business_id == business_id,
    )
