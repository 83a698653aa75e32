"""Named presets of vendor overrides (SQL, until removed): ZEGO's resourcesID, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.postgresql import insert

from common.storage.tables import strategies


class Strategies:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        with self._engine.connect() as connection:
            return {(row.app, row.id): row.preset for row in connection.execute(select(strategies))}

    def add(self, app: str, strategy_id: str, preset: Mapping[str, Any]) -> None:
        """preset: {"<vendor>": {overrides by canonical name}, "sound": {"ios", "android"}}."""
        statement = insert(strategies).values(app=app, id=strategy_id, preset=dict(preset))
        with self._engine.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["app", "id"], set_={"preset": dict(preset)}
                )
            )

    def remove(self, app: str, strategy_id: str) -> bool:
        with self._engine.begin() as connection:
            return bool(
                connection.execute(
                    delete(strategies).where(
                        strategies.c.app == app, strategies.c.id == strategy_id
                    )
                ).rowcount
            )
