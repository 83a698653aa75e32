"""Erases a person from every store of ours (SQL, Redis).

Devices, settings, the ledger's rows, marks, and dead letters that name the person.
"""

from __future__ import annotations

from typing import cast

from redis import Redis
from sqlalchemy import Connection, Engine, delete, select, text, update

from common.ledger_records import pack_users, unpack_users
from common.raw_texts import names
from common.storage import counting
from common.storage.bindings import LEFT, Bindings
from common.storage.dead_letters import DeadLetters
from common.storage.keys import Keys, literal
from common.storage.ledger_own import FORGET
from common.storage.people import PeopleCache
from common.storage.redis import scanned
from common.storage.tables import pages

#: Tables with the person in a column; tables of a newer version are found by their columns in
#: `_tables`.
_BY_USER = (
    "SELECT DISTINCT table_name FROM information_schema.columns AS c WHERE table_schema = "
    "current_schema() AND column_name = 'user'"
)
_WITH_APP = (
    " AND EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = c.table_schema "
    "AND table_name = c.table_name"
)
_WITH_APP += (
    " AND column_name = 'app') AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relname = c.table_name"
)
_WITH_APP += " AND (relispartition OR relkind = 'v'))"

#: Pages of people that are read at once.
PAGES_READ = 100


def erase(
    engine: Engine, redis: Redis, keys: Keys, letters: DeadLetters, app: str, user: str
) -> dict[str, int]:
    """Erases a person; returns the deleted counts by store.

    `sealed`: dead letters that may name the person, but that none of our keys opens: they stay.
    Pushes that wait for the person's devices end as no_device.
    """
    found: dict[str, int] = {}
    known = PeopleCache(redis, keys)
    with engine.begin() as connection:
        left = _bindings_left(connection, redis, keys, app, user)
        for (table,) in connection.execute(text(_BY_USER + _WITH_APP + " ORDER BY 1")).all():
            statement = text(f'DELETE FROM "{table}" WHERE app = :app AND "user" = :user')  # noqa: S608 - the catalog's own name
            done = connection.execute(statement, {"app": app, "user": user})
            found[table] = int(done.rowcount)
        found["ledger"] += int(
            connection.execute(text(FORGET), {"app": app, "user": user}).rowcount
        )
        found["pages"] = _taken_off_pages(connection, app, user)
        known.changing([(app, user)])
    known.changed([(app, user)])
    found["redis"] = int(redis.delete(keys.badges(app, user), keys.read(app, user))) + left
    found["redis"] += counting.forget(redis, keys, app, user)
    pattern = literal(keys.silent(app, user, "")) + "*"
    silent: set[bytes] = set(scanned(redis, "SCAN", match=pattern, count=1000))
    found["redis"] += int(redis.delete(*silent)) if silent else 0
    found["dead_letters"], found["sealed"] = _letters(letters, app, user)
    return found


def _taken_off_pages(connection: Connection, app: str, user: str) -> int:
    """Removes the person from pages; returns the number of pages.

    A page keeps its key: writing it again restores nobody.
    """
    key = (pages.c.day, pages.c.app, pages.c.event_id, pages.c.page)
    found = []
    wanted = select(*key, pages.c.users).where(pages.c.app == app)
    for row in connection.execute(wanted, execution_options={"yield_per": PAGES_READ}):
        people = unpack_users(row.users)
        if user in people:
            left = [one for one in people if one != user]
            found.append((row[: len(key)], len(left), pack_users(left)))
    for values, count, users in found:
        same = [column == value for column, value in zip(key, values, strict=True)]
        changed = update(pages).where(*same).values(users=users, count=count)
        connection.execute(changed if count else delete(pages).where(*same))
    return len(found)


def _bindings_left(connection: Connection, redis: Redis, keys: Keys, app: str, user: str) -> int:
    """Unbinds the person's devices before their rows are deleted; returns the number of devices.

    Waiting pushes then find at their send that the device has no token.
    """
    rows = connection.execute(
        text('SELECT device_id FROM devices WHERE app = :app AND "user" = :user'),
        {"app": app, "user": user},
    )
    known = cast(list[bytes], redis.hkeys(keys.bindings(app, user)))
    devices = {str(row[0]) for row in rows} | {one.decode() for one in known}
    Bindings(redis, keys).put([(app, user, device, LEFT) for device in devices])
    return len(known)


def _letters(letters: DeadLetters, app: str, user: str) -> tuple[int, int]:
    """(deleted, sealed) dead letters of this tenant or none: by the person, and unreadable."""
    named, sealed = [], 0
    for letter in letters.each(limit=None):
        if letter.app not in (None, app):
            continue
        sealed += letter.sealed
        if names(letter.raw, user) or user in letter.fields.values():
            named.append(letter.id)
    return (letters.drop(named) if named else 0), sealed
