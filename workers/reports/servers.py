"""Checks of the servers by use: scripts, streams, rows that are rolled back; nothing remains."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis import ConnectionPool, Redis
from redis.exceptions import NoPermissionError, RedisError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from common.config import SettingError, Settings
from common.secret_keys import SECRET_KEYS_NAME, secret_keys
from common.storage import migrations, sql
from common.storage.cluster import client_for
from common.storage.migrations import migrate
from common.storage.presence import until_ms
from common.storage.redis import BROKER_FORM, BROKER_SETTING, CLUSTER_FORM
from common.storage.streams import GROUP
from common.values import BothWords
from workers.reports.findings import (
    Finding,
    away,
    bad,
    database_error,
    good,
    redis_error,
    words_of,
)
from workers.runtime import Runtime

#: The oldest usable server is the first with XAUTOCLAIM.
REDIS_MIN, POSTGRES_MIN = (6, 2), 13
MEMORY_SHARE_MAX: Final = 0.8
#: Most key names read in one look: its cost must not grow with the number of events.
NAMES_MAX, SCAN_COUNT = 50_000, 1000


def key_findings(settings: Settings) -> Iterator[Finding]:
    try:
        found = secret_keys(settings)
    except SettingError as error:
        yield bad("keys", "keys_unusable", said=error)
        return
    path = settings.secret_keys_file or settings.data_dir / SECRET_KEYS_NAME
    if path.is_file() and path.stat().st_mode & 0o007:
        yield bad("keys", "keys_open", fix=lambda: _close(path), path=path)
    yield good("keys", f"{len(found)} secret key{'s' * (len(found) != 1)}, the first encrypts")


def _close(path: Path) -> None:
    path.chmod(path.stat().st_mode & 0o770)


# ---------------------------------------------------------------- Redis


def redis_findings(runtime: Runtime) -> Iterator[Finding]:
    servers: dict[str, tuple[str, Callable[[], Redis]]] = {
        "redis": ("PUSHFLEET_REDIS_URL", lambda: runtime.redis)
    }
    if runtime.settings.core_url != runtime.settings.redis_url:
        servers["core's redis"] = (
            "PUSHFLEET_CORE_URL",
            lambda: client_for(runtime.core, runtime.settings.event_streams[0]),
        )
    for name, (setting, server) in servers.items():
        try:
            redis = server()
            redis.ping()
        except SettingError as error:
            yield away(name, "redis_form", said=error, setting=setting, form=CLUSTER_FORM)
            continue
        except (RedisError, OSError) as error:
            yield redis_error(name, error, setting)
            continue
        yield from _described(name, redis)
        yield from _tried(name, setting, redis, runtime)
    if runtime.settings.broker_url not in (None, runtime.settings.redis_url):
        yield _broker_finding(runtime)


def _broker_finding(runtime: Runtime) -> Finding:
    """Of the wake-ups' own server: nothing has to last there, so it is only asked to answer."""
    try:
        runtime.broker.ping()
    except SettingError as error:
        return away("broker", "redis_form", said=error, setting=BROKER_SETTING, form=BROKER_FORM)
    except (RedisError, OSError) as error:
        found = redis_error("broker", error, BROKER_SETTING)
        meaning = found.values.get("meaning")
        if not isinstance(meaning, BothWords):
            return found
        return away(found.check, found.problem, **{**found.values, "meaning": _and_yet(meaning)})
    return good("broker", "Celery's Redis answers")


def _and_yet(meaning: BothWords) -> BothWords:
    """With what its absence does to pushes (workers/queues/own_looks.py)."""
    return BothWords(
        f"{meaning.en}; pushes leave all the same, seconds later",
        f"{meaning.zh}；推送照常发出，只是晚几秒",
    )


def _described(name: str, redis: Redis) -> Iterator[Finding]:
    """The findings of INFO, which managed servers may lack."""
    try:
        sections = [
            cast(Any, redis.info(section))
            for section in ("server", "memory", "persistence", "cluster", "replication")
        ]
    except NoPermissionError:
        yield bad(name, "redis_info")
        return
    info = {key: value for section in sections for key, value in section.items()}
    try:
        info["appendfsync"] = cast(Any, redis.config_get("appendfsync")).get(
            "appendfsync", "everysec"
        )
    except (RedisError, AttributeError):
        info["appendfsync"] = "everysec"
    yield from server_findings(name, info, redis)


def server_findings(
    name: str, info: Mapping[str, Any], redis: Redis | None = None
) -> Iterator[Finding]:
    """The findings of a server's INFO: version, memory, persistence. redis: for the fixes."""

    def setting(key: str, value: str) -> Callable[[], object] | None:
        return None if redis is None else lambda: redis.config_set(key, value)

    kind, version = (
        ("Valkey", info["valkey_version"])
        if "valkey_version" in info
        else ("Redis", str(info.get("redis_version", "0")))
    )
    known = tuple(
        int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit()
    )
    if known < REDIS_MIN:
        yield bad(name, "redis_version", version=f"{kind} {version}")
    else:
        yield good(name, f"{kind} {version}")
    policy, most, used = (
        str(info.get("maxmemory_policy", "noeviction")),
        int(info.get("maxmemory", 0)),
        int(info.get("used_memory", 0)),
    )
    if most and policy != "noeviction":
        yield bad(
            name, "redis_evicts", fix=setting("maxmemory-policy", "noeviction"), policy=policy
        )
    elif most and used > MEMORY_SHARE_MAX * most:
        yield bad(name, "redis_memory", share=used * 100 // most)
    else:
        yield good(
            name,
            f"nothing is evicted, {used >> 20} MiB used" + (f" of {most >> 20}" if most else ""),
        )
    if not int(info.get("aof_enabled", 0)):
        yield bad(name, "redis_no_aof", fix=setting("appendonly", "yes"))
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield bad(name, "redis_disk")
    elif str(info.get("appendfsync", "everysec")) == "no":
        yield bad(name, "redis_fsync", fix=setting("appendfsync", "everysec"))
    else:
        yield good(name, "append-only file is on")


def _tried(name: str, setting: str, redis: Redis, runtime: Runtime) -> Iterator[Finding]:
    """A script, a stream of our own, and the kinds of the core's keys."""
    settings, key = runtime.settings, f"{runtime.settings.key_root}:doctor:{uuid.uuid4().hex}"
    if name != "redis":
        key = settings.event_streams[0]
    try:
        if name == "redis":
            with redis.pipeline(transaction=True) as pipe:
                pipe.xadd(key, {"b": b"x"})
                pipe.xgroup_create(key, "doctor", "0")
                pipe.xreadgroup("doctor", "doctor", {key: ">"}, count=1)
                pipe.delete(key)
                pipe.execute()
            redis.eval("return redis.call('SET', KEYS[1], 'x', 'PX', 1)", 1, key)
            sha = cast(Any, redis.script_load("return 1"))
            redis.evalsha(sha, 0)
            redis.set(key, b"x", px=1)
            yield good(name, "scripts and streams work")
    except (RedisError, OSError) as error:
        yield redis_error(name, error, setting)
        return
    if name != "redis" or settings.core_url == settings.redis_url:
        yield from _core_keys(name, runtime.core, settings)


def _core_keys(name: str, core: Redis, settings: Settings) -> Iterator[Finding]:
    for stream in settings.event_streams:
        try:
            kind = cast(Any, core.type(stream)).decode()
            if kind not in ("stream", "none"):
                yield bad(name, "stream_kind", stream=stream, kind=kind)
                continue
            for kind_of_key in CORE_KINDS:
                core.exists(f"{settings.key_prefix}{kind_of_key}:{{doctor}}")
            if kind == "stream" and (lost := _unread_removed(core, stream)):
                yield bad(name, "stream_trimmed", stream=stream, lost=lost)
        except (RedisError, OSError) as error:
            yield redis_error(name, error, "PUSHFLEET_CORE_URL")


def _unread_removed(core: Redis, stream: str) -> int:
    """At least so many entries were removed from the stream unread; 0 where nothing counts them, as
    before Redis 7.
    """
    for group in cast(Any, core.xinfo_groups(stream)):
        if group["name"] == GROUP.encode() and group.get("entries-read") is not None:
            info = cast(Any, core.xinfo_stream(stream))
            lost = info["entries-added"] - group["entries-read"] - info["length"]
            return max(int(lost), 0)
    return 0


def name_findings(runtime: Runtime) -> Iterator[Finding]:
    """Names in use that are not ours: unread streams, presence under another prefix."""
    settings = runtime.settings
    streams, presences, _, samples = _names(runtime.core, settings)
    yield from _sampled(runtime.core, settings, samples)
    never = [stream for stream in settings.event_streams if not _written(runtime.core, stream)]
    others = sorted(streams - set(settings.event_streams))
    for stream in others if never else []:
        yield bad("names", "stream_unread", stream=stream, never=", ".join(never))
    for stream in never if not others else []:
        there = _other_database(runtime.core, stream)
        if there is None:
            yield good("names", f"no event was written to {stream} yet")
            continue
        setting = f"PUSHFLEET_{'REDIS' if settings.core_url == settings.redis_url else 'CORE'}_URL"
        own = runtime.core.get_connection_kwargs().get("db", 0)
        yield bad("names", "core_database", stream=stream, there=there, own=own, setting=setting)
    foreign = presences - {settings.key_prefix}
    if foreign and settings.key_prefix not in presences:
        yield bad(
            "names",
            "key_prefix",
            foreign=", ".join(sorted(foreign)),
            own=settings.key_prefix,
            first=min(foreign),
        )


def _sampled(core: Redis, settings: Settings, samples: Mapping[str, bytes]) -> Iterator[Finding]:
    """Presence and members as the core writes them, by one key of each."""
    for what, name in samples.items():
        kind, wanted = cast(Any, core.type(name)).decode(), CORE_KINDS[what]
        key = f"{settings.key_prefix}{what}:"
        if kind not in (wanted, "none"):
            yield bad("names", "core_kind", key=key, kind=kind, wanted=wanted)
        elif what == "presence" and (pairs := cast(Any, core.hscan(name, count=1))[1]):
            until = until_ms(next(iter(pairs.values())))
            if until is None or until < SECONDS_MAX:
                yield bad("names", "presence_value", key=key)


def _other_database(core: Redis, stream: str) -> int | None:
    """The number of another database of this server that has the stream."""
    try:
        numbers = [int(name[2:]) for name in cast(Any, core.info("keyspace"))]
        own = core.get_connection_kwargs() if isinstance(core, Redis) else {}
        for number in numbers if own else []:
            if number == own.get("db", 0):
                continue
            kwargs = {**own, "db": number}
            pool = ConnectionPool(core.connection_pool.connection_class, 1, **kwargs)
            try:
                if Redis(connection_pool=pool).exists(stream):
                    return number
            finally:
                pool.disconnect()
    except (RedisError, OSError):
        return None  # this user may not look there
    return None


def other_fleets(runtime: Runtime) -> list[str]:
    """Prefixes under which processes live, but ours."""
    return sorted(_names(runtime.redis, runtime.settings)[2] - {runtime.settings.prefix})


def _written(core: Redis, stream: str) -> bool:
    try:
        info = cast(Any, core.xinfo_stream(stream))
    except RedisError:
        return False
    return bool(info.get("last-generated-id") not in (b"0-0", "0-0"))


#: A time below it is in seconds, not milliseconds.
SECONDS_MAX: Final = 100_000_000_000
#: Kinds of the core's keys that the fleet reads.
CORE_KINDS: Final = {"presence": "hash", "members": "set"}
_PRESENCE: Final = re.compile(rb"(.*?)(presence|members):\{")
_ALIVE: Final = re.compile(rb"(.*?):alive:")


def _names(
    core: Redis, settings: Settings
) -> tuple[set[str], set[str], set[str], dict[str, bytes]]:
    """Foreign event streams, presence prefixes and live fleets' prefixes among the first keys; and
    one of the core's keys of each kind.
    """
    presences, prefixes, unknown = set[str](), set[str](), list[bytes]()
    samples = dict[str, bytes]()
    own = f"{settings.prefix}:".encode()
    for name in itertools.islice(cast(Any, core.scan_iter(count=SCAN_COUNT)), NAMES_MAX):
        if match := _ALIVE.match(name):
            prefixes.add(match[1].decode("utf-8", "replace").removesuffix(":{s0}"))
        elif match := _PRESENCE.match(name):
            presences.add(match[1].decode("utf-8", "replace"))
            if match[1] == settings.key_prefix.encode():
                samples.setdefault(match[2].decode(), name)
        elif not name.startswith(own) and len(unknown) < SCAN_COUNT:
            unknown.append(name)
    return _event_streams(core, unknown, prefixes), presences, prefixes, samples


def _event_streams(core: Redis, names: list[bytes], prefixes: set[str]) -> set[str]:
    """Streams whose first entry has the field `e` or `b`, and that no fleet reads or owns. A key of
    others, which this user may not touch, is none.
    """
    with core.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        kinds = pipe.execute(raise_on_error=False)
    streams = [name for name, kind in zip(names, kinds, strict=True) if kind == b"stream"]
    mine = tuple(f"{prefix}:".encode() for prefix in prefixes)
    found = set()
    for name in streams:
        first = cast(Any, core.xrange(name, count=1))
        read = any(group["name"] == GROUP.encode() for group in cast(Any, core.xinfo_groups(name)))
        if (
            first
            and {b"e", b"b"} & set(first[0][1])
            and not read
            and not (mine and name.startswith(mine))
        ):
            found.add(name.decode("utf-8", "replace"))
    return found


# ---------------------------------------------------------------- PostgreSQL


#: Where the tables are that this user does not see: (schema, its own).
_ELSEWHERE: Final = """SELECT n.nspname, coalesce(current_schema(), '-') FROM pg_class AS c
 JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relname = 'alembic_version' LIMIT 1"""


def database_findings(runtime: Runtime) -> Iterator[Finding]:
    try:
        with runtime.engine.connect() as connection:
            version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
            read_only = connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
            encoding = str(connection.execute(text("SHOW server_encoding")).scalar_one())
            current = set(MigrationContext.configure(connection).get_current_heads())
            elsewhere = None if current else connection.execute(text(_ELSEWHERE)).one_or_none()
    except (SQLAlchemyError, OSError) as error:
        yield database_error(error)
        return
    words = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version < POSTGRES_MIN * 10_000:
        yield bad("postgresql", "database_version", version=words, least=POSTGRES_MIN)
    elif read_only:
        yield bad("postgresql", "database_standby", version=words)
    elif encoding != "UTF8":
        yield bad("postgresql", "database_encoding", encoding=encoding)
    else:
        yield good("postgresql", words)
    if elsewhere:
        yield bad("tables", "tables_schema", there=elsewhere[0], own=elsewhere[1])
    else:
        yield from _tables(runtime, current)


def _tables(runtime: Runtime, current: set[str]) -> Iterator[Finding]:
    script = _script()
    newest = set(script.get_heads())
    if current == newest:
        yield good("tables", f"version {', '.join(sorted(current))}")
        yield from _written_rows(runtime)
        return
    known = {revision.revision for revision in script.walk_revisions()}
    versions: dict[str, Any] = {
        "current": ", ".join(sorted(current)) or "none",
        "newest": ", ".join(sorted(newest)),
    }
    if current - known and all(
        number.isdigit() and int(number) > max(map(int, newest)) for number in current - known
    ):
        yield bad("tables", "tables_newer", **versions)
    else:
        yield bad("tables", "tables_other", fix=lambda: migrate(runtime.engine), **versions)


def reports_findings(runtime: Runtime) -> Iterator[Finding]:
    """Of the read replica, where there is one: it answers and has the tables of this version."""
    url = runtime.settings.database_reports_url
    if url is None:
        return
    engine = sql.engine(url)
    try:
        with engine.connect() as connection:
            current = set(MigrationContext.configure(connection).get_current_heads())
    except (SQLAlchemyError, OSError) as error:
        yield bad("reports", "reports_away", said=words_of(error))
        return
    finally:
        engine.dispose()
    newest = set(_script().get_heads())
    if current == newest:
        yield good("reports", "the replica has the tables of this version")
        return
    versions = [", ".join(sorted(found)) or "none" for found in (current, newest)]
    yield bad("reports", "reports_tables", current=versions[0], newest=versions[1])


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    return ScriptDirectory.from_config(config)


def _written_rows(runtime: Runtime) -> Iterator[Finding]:
    """A row of each kind of right, in a transaction that is rolled back."""
    try:
        with runtime.engine.connect() as connection:
            transaction = connection.begin()
            try:
                _write(connection)
            finally:
                transaction.rollback()
            schema = connection.execute(
                text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
            ).scalar_one()
    except (SQLAlchemyError, OSError) as error:
        yield database_error(error)
        return
    if not schema:
        yield bad("postgresql", "database_no_days")
    else:
        yield good("postgresql", "rows can be written, changed and deleted")


def _write(connection: Connection) -> None:
    name = f"doctor-{uuid.uuid4().hex[:16]}"
    connection.execute(text("INSERT INTO apps (app) VALUES (:app)"), {"app": name})
    connection.execute(text("UPDATE apps SET name = 'x' WHERE app = :app"), {"app": name})
    connection.execute(text("DELETE FROM apps WHERE app = :app"), {"app": name})
    for table in ("devices", "credentials", "events", "ledger", "dead_letters", "notes"):
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            may = connection.execute(
                text("SELECT has_table_privilege(:name, :right)"), {"name": table, "right": right}
            )
            if not may.scalar_one():
                raise PermissionError(f"permission denied for table {table}")
