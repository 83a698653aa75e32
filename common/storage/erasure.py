"""Takes a person out of every store of ours (SQL, Redis): devices, settings, the ledger's rows, marks, dead letters that name them."""

from __future__ import annotations

from typing import Any, cast

from redis import Redis
from sqlalchemy import Connection, Engine, text

from common.storage.bindings import LEFT, Bindings
from common.storage.dead_letters import DeadLetters
from common.storage.keys import Keys
from common.storage.ledger_own import FORGET
from common.storage.people import PeopleCache

#: Tables that have the person in a column of their own; what a newer version adds stands in `_tables`, found by its columns.
_BY_USER = "SELECT DISTINCT table_name FROM information_schema.columns AS c WHERE table_schema = current_schema() AND column_name = 'user'"
_WITH_APP = " AND EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = c.table_schema AND table_name = c.table_name"
_WITH_APP += " AND column_name = 'app') AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relname = c.table_name"
_WITH_APP += " AND (relispartition OR relkind = 'v'))"


def erase(engine: Engine, redis: Redis, keys: Keys, letters: DeadLetters, app: str, user: str) -> dict[str, int]:
    """What was deleted, by store. What waits for a device of theirs ends as no_device: the device is gone."""
    found: dict[str, int] = {}
    known = PeopleCache(redis, keys)
    with engine.begin() as connection:
        left = _bindings_left(connection, redis, keys, app, user)
        for (table,) in connection.execute(text(_BY_USER + _WITH_APP + " ORDER BY 1")).all():
            statement = text(f'DELETE FROM "{table}" WHERE app = :app AND "user" = :user')  # noqa: S608 - the catalog's own name
            done = connection.execute(statement, {"app": app, "user": user})
            found[table] = int(done.rowcount)
        found["ledger"] += int(connection.execute(text(FORGET), {"app": app, "user": user}).rowcount)
        known.changing([(app, user)])
    known.changed([(app, user)])
    found["redis"] = int(redis.delete(keys.badges(app, user), keys.read(app, user))) + left
    silent: Any = list(redis.scan_iter(match=_literal(keys.silent(app, user, "")) + "*", count=1000))
    found["redis"] += int(redis.delete(*silent)) if silent else 0
    found["dead_letters"] = _letters(letters, app, user)
    return found


def _bindings_left(connection: Connection, redis: Redis, keys: Keys, app: str, user: str) -> int:
    """What waits for any device of theirs finds at its send that the device has no token; before their rows go. The number of devices."""
    rows = connection.execute(text('SELECT device_id FROM devices WHERE app = :app AND "user" = :user'), {"app": app, "user": user})
    known = cast(list[bytes], redis.hkeys(keys.bindings(app, user)))
    devices = {str(row[0]) for row in rows} | {one.decode() for one in known}
    Bindings(redis, keys).put([(app, user, device, LEFT) for device in devices])
    return len(known)


def _letters(letters: DeadLetters, app: str, user: str) -> int:
    """Dead letters of this tenant, or of none, that name the person as a whole text."""
    needle = f'"{user}"'.encode()
    named = [letter.id for letter in letters.each() if letter.app in (None, app) and needle in letter.raw]
    return letters.drop(named) if named else 0


def _literal(text_: str) -> str:
    """A key as a pattern that matches nothing else."""
    return "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in text_)
