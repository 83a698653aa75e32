"""A fleet's backup in one file, and its restore: tables, Redis' work in progress, secret keys.

The file is a tar (0600): manifest.json, secret.keys, tables/<name>.copy (COPY, binary), redis.dump
(DUMP of each key, msgpack). Its holder can send as the fleet.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from redis import Redis
from sqlalchemy import Engine, text

from common.secret_keys import secret_keys
from common.storage.keys import renamed
from common.storage.migrations import migrate
from common.storage.redis import scanned
from common.storage.tables import PARTITIONED
from workers.runtime import Runtime

FORMAT: Final = 1
KEYS_NAME, MANIFEST, REDIS_NAME = "secret.keys", "manifest.json", "redis.dump"
SCAN_COUNT: Final = 1000
#: Keys of running processes, which must not be restored elsewhere.
LEFT_OUT: Final = (
    *(
        "alive:",
        "at-work:",
        "metrics-at:",
        "process-names",
        "database-of:",
        "lease",
        "upkeep-lock",
        "inflight:",
        "rate:",
        "celery:",
        "bell:",
    ),
    *(
        "access:",
        "logins:",
        "paused-by-restore",
        "accounts",
        "doctor:",
        "{s0}:lease",
        "{s0}:person",
        "{s0}:people-bytes:",
    ),
)


class BackupError(Exception):
    """One line: the obstacle, and the remedy."""


@dataclass(frozen=True, slots=True)
class BackupCounts:
    """rows: table -> number."""

    rows: dict[str, int]
    keys: int


def save(runtime: Runtime, path: Path) -> BackupCounts:
    """Writes the file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with (
        os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        rows = {}
        raw = io.BytesIO("".join(f"{key}\n" for key in secret_keys(runtime.settings)).encode())
        _add(tar, KEYS_NAME, raw)
        with (
            tempfile.TemporaryFile() as spool
            # Pending work before its results: a surplus row is detected, a missing one is not.
        ):
            keys = _dump(runtime, spool)
            _add(tar, REDIS_NAME, spool)
        version = ""
        for name, count, copied in _tables(runtime.engine):
            rows[name] = count
            _add(tar, f"tables/{name}.copy", copied)
        with runtime.engine.connect() as connection:
            version = str(
                connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            )
        settings = runtime.settings
        at_ms = int(time.time() * 1000)
        manifest = {"format": FORMAT, "at_ms": at_ms, "tables": version, "rows": rows, "keys": keys}
        manifest |= {"root": settings.key_root, "shards": settings.shards}
        manifest |= {
            "prefix": settings.prefix,
            "event_streams": list(settings.event_streams),
            "days": _days(runtime.engine),
        }
        _add(tar, MANIFEST, io.BytesIO(json.dumps(manifest, indent=1).encode()))
    part.replace(path)
    return BackupCounts(rows, keys)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    info.mode, info.mtime = 0o600, int(time.time())
    file.seek(0)
    tar.addfile(info, file)


def _tables(engine: Engine) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(name, rows, their COPY) of each table, all as of one moment."""
    raw = engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL statement_timeout = 0")
        for name in _names(cursor):
            with tempfile.TemporaryFile() as spool:
                statement = f'COPY (SELECT * FROM "{name}") TO STDOUT (FORMAT binary)'  # noqa: S608 - the catalog's own name
                with cursor.copy(statement) as copy:
                    for data in copy:
                        spool.write(data)
                yield name, max(cursor.rowcount, 0), spool
        raw.rollback()
    finally:
        raw.close()


def _names(cursor: Any) -> list[str]:
    """Tables that hold rows of their own: partitions are reached by their parents."""
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
        "AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname <> 'alembic_version' ORDER BY 1"
    )
    return [name for (name,) in cursor.fetchall()]


def _days(engine: Engine) -> list[str]:
    found = set[str]()
    with engine.connect() as connection:
        for table in PARTITIONED:
            days = text(f"SELECT DISTINCT day FROM {table.name}")  # noqa: S608
            found |= {str(day) for (day,) in connection.execute(days)}
    return sorted(found)


def _dump(runtime: Runtime, spool: IO[bytes]) -> int:
    """Every key of the fleet with its time to live, the core's streams of events too."""
    count = 0
    shards = [(one.redis, own_names(one)) for one in runtime.shards]
    for redis, found in (
        *shards,
        (runtime.core, (name.encode() for name in runtime.settings.event_streams)),
    ):
        for batch in _batches(found):
            for name, (data, ttl_ms) in zip(batch, _dumped(redis, batch), strict=True):
                if data is not None:
                    ends_ms = int(time.time() * 1000) + ttl_ms if ttl_ms > 0 else 0
                    blob = msgspec.msgpack.encode(
                        (name, ends_ms, data, redis is runtime.core and redis is not runtime.redis)
                    )
                    spool.write(len(blob).to_bytes(8, "big") + blob)
                    count += 1
    return count


def own_names(runtime: Runtime) -> Iterator[bytes]:
    """Keys of one shard that a backup keeps. On one server the root of shard 0 begins those of the
    others.
    """
    root = runtime.keys.prefix
    out, others = tuple(f"{root}:{name}".encode() for name in LEFT_OUT), _OF_OTHERS.match
    for name in scanned(runtime.redis, "SCAN", match=f"{root}:*", count=SCAN_COUNT):
        if not name.startswith(out) and (runtime.number or not others(name[len(root) + 1 :])):
            yield name


_OF_OTHERS: Final = re.compile(rb"\{s[1-9][0-9]*\}:")


def _batches(names: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for name in names:
        batch.append(name)
        if len(batch) == SCAN_COUNT:
            yield batch
            batch = []
    if batch:
        yield batch


def _dumped(redis: Redis, names: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.dump(name)
            pipe.pttl(name)
        found = pipe.execute()
    return list(zip(found[::2], found[1::2], strict=True))


# ---------------------------------------------------------------- back


def load(runtime: Runtime, path: Path, *, hold: bool) -> BackupCounts:
    """Into empty servers. hold: every lane is paused, until `release`. BackupError before anything
    is written.
    """
    with tarfile.open(path) as tar:
        manifest = json.loads(_read(tar, MANIFEST))
        keys = _read(tar, KEYS_NAME).decode().split()
        _check(runtime, manifest, keys)
        migrate(runtime.engine)
        _check_version(runtime, manifest)
        runtime.redis.delete(runtime.keys.accounts)
        rows = _copy_back(runtime, tar, manifest, hold=hold)
        count = _restore(runtime, tar, manifest.get("root", manifest["prefix"]))
    for one in held_by_restore(runtime) if hold else ():
        runtime.lane_states.hold(":".join(one), True)
    runtime.catalog.changed()
    return BackupCounts(rows, count)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise BackupError(f"this is no backup of a fleet: {name} is not in it")
    return file.read()


def _check(runtime: Runtime, manifest: dict[str, Any], keys: Sequence[str]) -> None:
    settings = runtime.settings
    if manifest.get("format") != FORMAT:
        raise BackupError(
            f"the backup has the form {manifest.get('format')}, this program knows {FORMAT}"
        )
    for name, mine in (
        ("prefix", settings.prefix),
        ("event_streams", list(settings.event_streams)),
        ("shards", settings.shards),
    ):
        if (has := manifest.get(name, 1)) != mine:
            value = ",".join(has) if isinstance(has, list) else has
            raise BackupError(f"the backup is of PUSHFLEET_{name.upper()}={value}: set it so")
    if not set(keys) & set(secret_keys(settings)):
        raise BackupError(
            "none of its keys is among ours, nobody could read its credentials: add them "
            f"(tar -xOf FILE {KEYS_NAME})"
        )
    with runtime.engine.connect() as connection:
        if (
            connection.execute(text("SELECT to_regclass('apps') IS NOT NULL")).scalar_one()
            and connection.execute(text("SELECT EXISTS (SELECT 1 FROM apps)")).scalar_one()
        ):
            raise BackupError("the database has tenants already: a backup goes into an empty one")
    if any(
        name != runtime.keys.shards.encode() for one in runtime.shards for name in own_names(one)
    ):
        raise BackupError(
            f"Redis has keys of {settings.prefix}: already: a backup goes into an empty one"
        )


def _check_version(runtime: Runtime, manifest: dict[str, Any]) -> None:
    with runtime.engine.connect() as connection:
        mine = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    if manifest["tables"] != mine:
        raise BackupError(
            f"the backup's tables are version {manifest['tables']}, these {mine}: restore "
            "with its own version, then upgrade"
        )


def _copy_back(
    runtime: Runtime, tar: tarfile.TarFile, manifest: dict[str, Any], *, hold: bool
) -> dict[str, int]:
    for day in manifest["days"]:
        runtime.ledger.ready_for(date.fromisoformat(day))
    rows = {}
    raw = runtime.engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        cursor.execute("SET LOCAL statement_timeout = 0")
        for member in tar.getmembers():
            if not member.name.startswith("tables/"):
                continue
            name = member.name.removeprefix("tables/").removesuffix(".copy")
            if name not in manifest["rows"]:
                raise BackupError(f"this is no backup of a fleet: {member.name}")
            with cursor.copy(f'COPY "{name}" FROM STDIN (FORMAT binary)') as copy:
                file = cast(IO[bytes], tar.extractfile(member))
                while data := file.read(1 << 20):
                    copy.write(data)
            rows[name] = max(cursor.rowcount, 0)
            _number_on(cursor, name)
        if hold:
            _hold(runtime, cursor)
        raw.commit()
    finally:
        raw.close()
    return rows


def _number_on(cursor: Any, table: str) -> None:
    """COPY brings rows with their numbers and leaves the counter at 1."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = %s AND is_identity = 'YES'",
        (table,),
    )
    for (column,) in cursor.fetchall():
        cursor.execute(
            f'SELECT setval(pg_get_serial_sequence(%s, %s), max("{column}")) '  # noqa: S608 - the catalog's own names
            f'FROM "{table}" HAVING max("{column}") IS NOT NULL',
            (f'"{table}"', column),
        )


def _hold(runtime: Runtime, cursor: Any) -> None:
    """In the transaction that brings the accounts: no process ever sees one that flows."""
    cursor.execute(
        "UPDATE credentials SET paused = true WHERE NOT paused RETURNING app, vendor, business_id"
    )
    held = {json.dumps(row) for row in cursor.fetchall()}
    runtime.redis.delete(runtime.keys.paused_by_restore)
    if held:
        runtime.redis.sadd(runtime.keys.paused_by_restore, *held)


def _restore(runtime: Runtime, tar: tarfile.TarFile, root: str) -> int:
    """root: the prefix of the backup's keys; a fleet that moves to a cluster has another one."""
    file = cast(IO[bytes], tar.extractfile(REDIS_NAME))
    count, now_ms = 0, int(time.time() * 1000)
    while head := file.read(8):
        name, ends_ms, data, of_core = msgspec.msgpack.decode(
            file.read(int.from_bytes(head, "big")), type=tuple[bytes, int, bytes, bool]
        )
        if ends_ms and ends_ms <= now_ms:
            continue
        redis, new = place(runtime, name, root)
        if new == runtime.keys.accounts.encode():
            continue  # of a release that kept it: its signature holds, and its lanes flow
        redis = (
            runtime.core
            if of_core or name.decode("utf-8", "replace") in runtime.settings.event_streams
            else redis
        )
        redis.restore(new, ends_ms, data, replace=True, absttl=bool(ends_ms))
        count += 1
    return count


def place(runtime: Runtime, name: bytes, root: str) -> tuple[Redis, bytes]:
    """The store and the name of a backup's key.

    Further shards' names do not differ on a cluster.
    """
    for one in runtime.shards[1:]:
        if name.startswith(f"{one.keys.prefix}:".encode()):
            return one.redis, name
    return runtime.redis, renamed(name, root, runtime.settings.key_root)


def release(runtime: Runtime) -> list[tuple[str, str, str]]:
    """Lets the lanes flow that a restore has held; those that were paused before stay so. (app,
    vendor, business id) each.
    """
    found = held_by_restore(runtime)
    for app, vendor, business_id in found:
        runtime.credentials.set_paused(app, vendor, business_id, False)
        runtime.lane_states.hold(f"{app}:{vendor}:{business_id}", False)
    runtime.redis.delete(runtime.keys.paused_by_restore)
    runtime.catalog.changed()
    return found


def held_by_restore(runtime: Runtime) -> list[tuple[str, str, str]]:
    """(app, vendor, business id) each."""
    found = cast(Any, runtime.redis.smembers(runtime.keys.paused_by_restore))
    return sorted(tuple(json.loads(one)) for one in found)
