"""Tenants (SQL, until removed): the apps this fleet serves, their language and zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from common.storage.tables import apps

#: The characters of a tenant's name (contract §6): our keys join names by colons, which are not
#: among them.
APP = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_app(name: str) -> bool:
    return APP.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Tenant:
    """options: hidden-content mode and the texts of content keys."""

    app: str
    name: str
    lang: str
    tz: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Tenants:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[str, Tenant]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(apps).order_by(apps.c.app))
            return {
                row.app: Tenant(row.app, row.name, row.lang, row.tz, row.options) for row in rows
            }

    def add(self, tenant: Tenant) -> None:
        """Adds the tenant, or changes its name, language, zone and options."""
        values = {
            "app": tenant.app,
            "name": tenant.name,
            "lang": tenant.lang,
            "tz": tenant.tz,
            "options": dict(tenant.options),
        }
        statement = insert(apps).values(values)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["app"], set_=values))
