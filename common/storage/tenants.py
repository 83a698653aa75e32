"""Tenants (SQL, until removed): the apps this fleet serves, their language and zone."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from common.storage.accounts import APP as APP
from common.storage.accounts import Tenant as Tenant
from common.storage.accounts import is_app as is_app
from common.storage.tables import apps


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
