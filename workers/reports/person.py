"""The fleet's data on one person: devices, presence, settings in force, last pushes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from workers.runtime import Runtime

#: Devices and pushes shown, and the bounds of the search in the ledger.
DEVICES_MAX, PUSHES_MAX = 50, 50
LOOK_MS: Final = 2_500
DAYS: Final = 2

_PUSHES = text(
    "SELECT l.event_id, e.message_id, e.type, l.device, l.vendor, l.business_id, l.decision, "
    "l.class, l.decided_ms FROM ledger_all AS l"
    " JOIN events AS e USING (day, app, event_id) WHERE l.day >= :since AND l.app = :app AND "
    'l."user" = :user'
    " ORDER BY l.decided_ms DESC LIMIT :most"
)


def person(runtime: Runtime, app: str, user: str) -> dict[str, Any]:
    """{devices, presence, settings, pushes}, without tokens.

    pushes None where the look took too long, presence None without the core.
    """
    devices = [
        {
            name: row[name]
            for name in (
                "device_id",
                "platform",
                "vendor",
                "business_id",
                "state",
                "reason",
                "registered_ms",
                "app_version",
            )
        }
        for row in runtime.devices.listed(app, user, DEVICES_MAX)
    ]
    own = runtime.preferences.of_users(app, [user], []).get(user, {})
    settings = {name: value for name, value in own.items() if not name.startswith("content_key")}
    return {
        "app": app,
        "user": user,
        "devices": devices,
        "presence": _presence(runtime, app, user),
        "settings": settings,
    } | {"pushes": _pushes(runtime, app, user)}


def _presence(runtime: Runtime, app: str, user: str) -> list[dict[str, Any]] | None:
    try:
        found, _ = runtime.presence.sessions([(app, user)])
    except (RedisError, OSError):
        return None
    if found[0] is None:
        return None
    return [
        {
            "device": one.device_id,
            "state": "foreground" if one.foreground else "background",
            "platform": one.platform,
        }
        for one in found[0]
    ]


def _pushes(runtime: Runtime, app: str, user: str) -> list[dict[str, Any]] | None:
    since = datetime.now(UTC).date() - timedelta(days=DAYS)
    values = {"since": since, "app": app, "user": user, "most": PUSHES_MAX}
    try:
        with runtime.engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = {LOOK_MS}"))
            return [dict(row) for row in connection.execute(_PUSHES, values).mappings()]
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != "57014":
            raise
        return None
