"""People's settings (SQL, until cleared): do not disturb, mutes, blocks, hidden details.

The newest value per field wins.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text

from common.storage.tables import settings
from common.storage.text_arrays import text_array

_CHOSEN = (
    " (s.field IN ('dnd', 'blocked', 'show_detail', 'mobile_when_desktop_online') OR s.field "
    "= ANY(:mutes))"
    " AND (c.ts_ms IS NULL OR c.ts_ms <= s.ts_ms)"
)
_CLEARED = (
    ' LEFT JOIN settings c ON s.field = ANY(:mutes) AND c.app = s.app AND c."user" = s."user" '
    "AND c.field = 'mute:'"
)
_BY_USERS = text(
    f'SELECT s."user", s.field, s.value FROM settings s{_CLEARED} WHERE s.app = :app AND '
    f's."user" = ANY(:users) AND{_CHOSEN}'
)
_BY_PEOPLE = text(
    'SELECT s.app, s."user", s.field, s.value FROM unnest(CAST(:apps AS text[]), CAST(:users '
    'AS text[])) AS p (app, "user")'
    f' JOIN settings s ON s.app = p.app AND s."user" = p."user"{_CLEARED} WHERE{_CHOSEN}'
)
_WHOLE = text(
    'SELECT s.app, s."user", s.field, s.value FROM unnest(CAST(:apps AS text[]), CAST(:users '
    'AS text[])) AS p (app, "user")'
    ' JOIN settings s ON s.app = p.app AND s."user" = p."user"'
    " LEFT JOIN settings c ON s.field LIKE 'mute:%' AND c.app = s.app AND c.\"user\" = "
    "s.\"user\" AND c.field = 'mute:'"
    " WHERE s.field NOT LIKE 'content\\_key:%' AND s.field <> 'mute:' AND (c.ts_ms IS NULL "
    "OR c.ts_ms <= s.ts_ms)"
)


class Preferences:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_users(
        self, app: str, users: Sequence[str], conversations: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Fields by user, in one query.

        Of the mutes only those of `conversations` (`<type>:<id>`), under `mute:<conversation>`.
        """
        found: dict[str, dict[str, Any]] = {}
        values = {
            "app": app,
            "users": list(users),
            "mutes": [f"mute:{conversation}" for conversation in conversations],
        }
        with self._engine.connect() as connection:
            for user, field, value in connection.execute(_BY_USERS, values):
                if value is not None:
                    found.setdefault(user, {})[field] = value
        return found

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str]
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """As `of_users`, by (app, user). One query, whatever the number of tenants."""
        apps = {app for app, _ in people}
        if len(apps) == 1:
            (app,) = apps
            by_user = self.of_users(
                app, sorted({user for _, user in people}), conversations
            ).items()
            return {(app, user): one for user, one in by_user}
        chosen = sorted(set(people))
        values = {"apps": [app for app, _ in chosen], "users": [user for _, user in chosen]}
        found: dict[tuple[str, str], dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for app, user, field, value in connection.execute(
                _BY_PEOPLE, values | {"mutes": [f"mute:{name}" for name in conversations]}
            ):
                if value is not None:
                    found.setdefault((app, user), {})[field] = value
        return found

    def whole(self, people: Collection[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """As `of_people`, with the mutes of every conversation."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        values = {
            "apps": text_array([app for app, _ in people]),
            "users": text_array([user for _, user in people]),
        }
        with self._engine.connect() as connection:
            for app, user, field, value in connection.execute(_WHOLE, values):
                if value is not None:
                    found.setdefault((app, user), {})[field] = value
        return found


#: (app, user, field, value, ts_ms) of one setting.
Word = tuple[str, str, str, Any, int]

_APPLY = text(
    'INSERT INTO settings (app, "user", field, value, ts_ms) SELECT app, "user", field, '
    "CAST(value AS jsonb), ts_ms FROM unnest("
    "CAST(:apps AS text[]), CAST(:users AS text[]), CAST(:fields AS text[]), CAST(:values AS "
    "text[]), CAST(:times AS bigint[]))"
    ' AS s (app, "user", field, value, ts_ms)'
    ' ON CONFLICT (app, "user", field) DO UPDATE SET value = excluded.value, ts_ms = '
    "excluded.ts_ms WHERE settings.ts_ms <= excluded.ts_ms"
)


def apply(connection: Connection, words: Sequence[Word]) -> None:
    """Sets each field as of its ts, one statement for all; None clears it.

    The clearing is recorded, so that an older value cannot return.
    """
    newest: dict[tuple[str, str, str], Word] = {}
    for word in words:
        known = newest.get(word[:3])
        if known is None or known[4] <= word[4]:
            newest[word[:3]] = word
    if not newest:
        return
    apps, users, fields, values, times = (
        list(column) for column in zip(*(newest[key] for key in sorted(newest)), strict=True)
    )
    texts = [json.dumps(value) for value in values]
    columns = {"apps": apps, "users": users, "fields": fields, "values": texts, "times": times}
    connection.execute(_APPLY, columns)


def clear_all(connection: Connection, app: str, user: str, kind: str, ts_ms: int) -> None:
    """Clears every field of a kind (`mute`, `content_key`) that was set up to `ts_ms`.

    This covers all conversations or devices. The field `<kind>:` stores the time: readers ignore an
    older value that arrives late.
    """
    connection.execute(
        settings.update()
        .where(
            settings.c.app == app,
            settings.c.user == user,
            settings.c.field.startswith(f"{kind}:"),
            settings.c.ts_ms <= ts_ms,
        )
        .values(value=None, ts_ms=ts_ms)
    )
    apply(connection, [(app, user, f"{kind}:", None, ts_ms)])
