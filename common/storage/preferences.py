"""What people set for themselves (SQL, until cleared): do not disturb, mutes, blocks, hidden details. Newest word per field wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import insert

from common.storage.tables import settings

_BY_USERS = text(
    'SELECT s."user", s.field, s.value FROM settings s'
    ' LEFT JOIN settings c ON s.field = ANY(:mutes) AND c.app = s.app AND c."user" = s."user" AND c.field = \'mute:\''
    ' WHERE s.app = :app AND s."user" = ANY(:users)'
    " AND (s.field IN ('dnd', 'blocked', 'show_detail', 'mobile_when_desktop_online') OR s.field = ANY(:mutes))"
    " AND (c.ts_ms IS NULL OR c.ts_ms <= s.ts_ms)"
)


class Preferences:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_users(self, app: str, users: Sequence[str], conversations: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Fields by user; of the mutes only those of `conversations` (`<type>:<id>`), under `mute:<conversation>`. One query."""
        found: dict[str, dict[str, Any]] = {}
        values = {"app": app, "users": list(users), "mutes": [f"mute:{conversation}" for conversation in conversations]}
        with self._engine.connect() as connection:
            for user, field, value in connection.execute(_BY_USERS, values):
                if value is not None:
                    found.setdefault(user, {})[field] = value
        return found


def apply(connection: Connection, app: str, user: str, fields: Mapping[str, Any], ts_ms: int) -> None:
    """Sets each named field as of `ts_ms`; None clears (and is remembered, so that an older value can't come back)."""
    for field, value in fields.items():
        statement = insert(settings).values(app=app, user=user, field=field, value=value, ts_ms=ts_ms)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["app", "user", "field"],
                set_={"value": statement.excluded.value, "ts_ms": ts_ms},
                where=settings.c.ts_ms <= ts_ms,
            )
        )


def clear_all(connection: Connection, app: str, user: str, kind: str, ts_ms: int) -> None:
    """Clears every field of a kind (`mute`: of all conversations; `content_key`: of all devices) that was set up to `ts_ms`.

    The field `<kind>:` remembers when: readers pass over a word that is older and came late.
    """
    connection.execute(
        settings.update()
        .where(settings.c.app == app, settings.c.user == user, settings.c.field.startswith(f"{kind}:"), settings.c.ts_ms <= ts_ms)
        .values(value=None, ts_ms=ts_ms)
    )
    apply(connection, app, user, {f"{kind}:": None}, ts_ms)
