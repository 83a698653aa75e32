"""Doctor on 49 seeded faults, in one run on real servers: `make doctor-49`.

A fleet whose processes all say that they live, an account with each simulated vendor; one fault
after the other is put in, doctor is asked, the fault is taken out. Prints, and writes into
var/reports/doctor.json: fault, what doctor named, its cure, the verdict. right: named with a cure
that mends it. vague: named without it. wrong: a cure for something else. missed: not named.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import redis
from cryptography.fernet import Fernet

from common.clock import now_ms
from common.config import environ_of
from common.model import Bucket, Vendor
from common.storage.migrations import migrate
from common.storage.redis import connect
from tests.commands import command
from tests.conftest import data_settings, embedded, open_folder, own_database
from tests.integration.cluster.tls_door import tls_doors
from tests.tables import table
from tests.waiting import wait_for
from workers.cli.up import free_ports
from workers.delivery.ports import RoundReport
from workers.embedded import find_home, valkey_binary
from workers.runtime import Runtime

ROOT = Path(__file__).parents[1]
APP = "1400000001"
VENDORS = ("meizu", "huawei", "xiaomi", "vivo", "honor")
ALIVE = {name: name for name in ("intake", "presence", "routing", "upkeep", "receipts")} | {
    f"delivery-{v}": f"delivery-{v}" for v in VENDORS
}

Env = dict[str, str]
#: What a fault changes in the environment of doctor; what it changes in servers it takes back at
#: the end.
Seed = Callable[["Place"], AbstractContextManager[Env]]


@dataclass
class Place:
    runtime: Runtime
    folder: Path
    env: Env
    keys_file: Path

    @property
    def redis(self) -> Any:
        return self.runtime.redis

    def sql(self, *statements: str) -> None:
        conninfo = self.env["PUSHFLEET_DATABASE_URL"].replace(
            "postgresql+psycopg://", "postgresql://", 1
        )
        with psycopg.connect(conninfo, autocommit=True) as session:
            for one in statements:
                session.execute(one)

    def url_of(self, setting: str, user: str, password: str) -> str:
        scheme, _, rest = self.env[setting].partition("://")
        return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"

    def say_alive(self, server: Any = None) -> None:
        living = self.runtime.living
        for name, role in ALIVE.items():
            living.beat(f"{name}.1", role, None)
            self.redis.expire(self.runtime.keys.alive(f"{name}.1"), 600)
            if server is not None:
                key = self.runtime.keys.alive(f"{name}.1")
                server.set(key, role)
                server.sadd(self.runtime.keys.process_names, f"{name}.1")


@dataclass(frozen=True)
class Fault:
    """named: doctor's problem (workers/reports/problems.py), "exit 2" for a line before anything
    starts. also: problems that follow from the fault by themselves.
    """

    words: str
    seed: Seed
    named: str
    cure: str
    also: tuple[str, ...] = ()


# ---------------------------------------------------------------- how faults are put in


def env(**changes: str) -> Seed:
    @contextmanager
    def seed(_: Place) -> Iterator[Env]:
        yield {f"PUSHFLEET_{name}": value for name, value in changes.items()}

    return seed


def closed_port(*names: str, url: str) -> Seed:
    @contextmanager
    def seed(_: Place) -> Iterator[Env]:
        yield {f"PUSHFLEET_{name}": url.format(port=free_ports(1)) for name in names}

    return seed


def config(**wanted: str) -> Seed:
    @contextmanager
    def seed(place: Place) -> Iterator[Env]:
        names = [name.replace("_", "-") for name in wanted]
        before = {name: place.redis.config_get(name)[name] for name in names}
        used = place.redis.info("memory")["used_memory"]
        for name, value in zip(names, wanted.values(), strict=True):
            place.redis.config_set(name, int(used / 0.96) if value == "nearly" else value)
        try:
            yield {}
        finally:
            for name, value in before.items():
                place.redis.config_set(name, value)

    return seed


def acted(do: Callable[[Place], object], undo: Callable[[Place], object]) -> Seed:
    @contextmanager
    def seed(place: Place) -> Iterator[Env]:
        do(place)
        place.runtime.catalog.changed()
        try:
            yield {}
        finally:
            undo(place)
            place.runtime.catalog.changed()

    return seed


def acl(*rules: str, password: str = "pw") -> Seed:
    @contextmanager
    def seed(place: Place) -> Iterator[Env]:
        place.redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *rules)
        url = place.url_of("PUSHFLEET_REDIS_URL", "limited", password)
        try:
            yield {"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_CORE_URL": url}
        finally:
            place.redis.execute_command("ACL", "DELUSER", "limited")

    return seed


def role(*grants: str, password: str = "pw", options: str = "") -> Seed:
    @contextmanager
    def seed(place: Place) -> Iterator[Env]:
        place.sql(f"CREATE ROLE limited LOGIN PASSWORD 'pw' {options}", *grants)
        try:
            limited = place.url_of("PUSHFLEET_DATABASE_URL", "limited", password)
            yield {"PUSHFLEET_DATABASE_URL": limited}
        finally:
            place.sql("DROP OWNED BY limited", "DROP ROLE limited")

    return seed


def keys_file(text: str, mode: int = 0o600) -> Seed:
    @contextmanager
    def seed(place: Place) -> Iterator[Env]:
        path = place.folder / "other-keys"
        path.write_text(text or place.keys_file.read_text())
        path.chmod(mode)
        yield {"PUSHFLEET_SECRET_KEYS_FILE": str(path)}
        path.unlink()

    return seed


@contextmanager
def spare(place: Place, *options: str, file_bytes: int | None = None) -> Iterator[str]:
    """A Valkey of its own where the fleet's processes seem to live; its URL. file_bytes: no file of
    it may grow beyond.
    """

    def limited() -> None:
        import resource

        if file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    folder = place.folder / f"spare{time.time_ns()}"
    port = free_ports(1)
    home = place.folder / "home"
    folder.mkdir()
    home.mkdir(exist_ok=True)
    valkey = str(valkey_binary(find_home(home)))
    argv = [valkey, "--port", str(port), "--dir", str(folder), "--save", "", *options]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, preexec_fn=limited)  # noqa: PLW1509
    try:
        client = redis.Redis(port=port)
        away_at_first(client.ping)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def away_at_first(ping: Callable[[], Any]) -> None:
    def answers() -> Any:
        with contextlib.suppress(redis.RedisError):
            return ping()

    wait_for(answers, "the server answers")


@contextmanager
def clustered(place: Place) -> Iterator[Env]:
    with spare(place, "--cluster-enabled", "yes") as url:
        yield {"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_CORE_URL": url}


@contextmanager
def clustered_broker(place: Place) -> Iterator[Env]:
    with spare(place, "--cluster-enabled", "yes") as url:
        yield {"PUSHFLEET_BROKER_URL": url}


@contextmanager
def full_disk(place: Place) -> Iterator[Env]:
    with spare(place, "--appendonly", "yes", file_bytes=64 * 1024) as url:
        client: Any = connect(url)
        place.say_alive(client)
        with contextlib.suppress(redis.RedisError):
            for _ in range(20):
                client.set("filler", b"x" * 16_384)
        wait_for(
            lambda: client.info("persistence")["aof_last_write_status"] == "err", "the full disk"
        )
        yield {"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_CORE_URL": url}


@contextmanager
def private_ca(place: Place) -> Iterator[Env]:
    with tls_doors(1) as (door,):
        parts = place.env["PUSHFLEET_REDIS_URL"]
        door.behind = int(re.search(r":(\d+)/?\d*$", parts)[1])  # type: ignore[index]
        password = parts.partition("://")[2].rpartition("@")[0]
        url = f"rediss://{password}@127.0.0.1:{door.port}/0"
        yield {"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_CORE_URL": url, "PUSHFLEET_BROKER_URL": parts}


@contextmanager
def empty_database(place: Place) -> Iterator[Env]:
    with own_database(place.env["PUSHFLEET_DATABASE_URL"]) as url:
        yield {"PUSHFLEET_DATABASE_URL": url}


@contextmanager
def no_replica(place: Place) -> Iterator[Env]:
    with own_database(place.env["PUSHFLEET_DATABASE_URL"]) as url:
        yield {"PUSHFLEET_DATABASE_REPORTS_URL": url}


@contextmanager
def no_database(place: Place) -> Iterator[Env]:
    base, _, options = place.env["PUSHFLEET_DATABASE_URL"].partition("?")
    nowhere = base.rpartition("/")[0] + "/nowhere" + (f"?{options}" if options else "")
    yield {"PUSHFLEET_DATABASE_URL": nowhere}


@contextmanager
def slow_clock(_: Place) -> Iterator[Env]:
    with mock.patch(
        "workers.reports.fleet.time",
        mock.Mock(time=lambda: time.time() - 600, localtime=time.localtime, strftime=time.strftime),
    ):
        yield {}


@contextmanager
def no_pem(place: Place) -> Iterator[Env]:
    path = place.folder / "not.pem"
    path.write_text("not a certificate")
    yield {"PUSHFLEET_CA_FILE": str(path)}


@contextmanager
def replica(place: Place) -> Iterator[Env]:
    place.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield {}
    finally:
        place.redis.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def vendor_down(place: Place) -> Iterator[Env]:
    lane = place.runtime.catalog.lane(APP, Vendor.MEIZU, "meizu-1")
    assert lane is not None
    breaker = place.runtime.delivery(Vendor.MEIZU).breaker
    breaker.report(lane, RoundReport(failed=200, retry_after_s=60, cause="connect"))
    try:
        yield {}
    finally:
        for key in place.redis.scan_iter(match="*meizu-1*"):
            place.redis.delete(key)


@contextmanager
def own_receipts(place: Place) -> Iterator[Env]:
    no_endpoints = dict.fromkeys((name for name in place.env if "_ENDPOINT_" in name), "")
    yield {**no_endpoints, "PUSHFLEET_RECEIPTS_URL": "http://receipts.invalid"}


@contextmanager
def oppo_without_channel(place: Place) -> Iterator[Env]:
    secret = str(place.folder / "secret")
    account = ("--app-key", "k1", "--app-secret-file", secret, "--right", "oppo.private")
    told("credential", "add", "oppo", "--app", APP, "--business-id", "oppo-1", *account)
    place.runtime.living.beat("oppo.1", "delivery:oppo", None)
    # something that takes connections
    yield {"PUSHFLEET_ENDPOINT_OPPO": place.env["PUSHFLEET_ENDPOINT_MEIZU"]}
    place.sql("DELETE FROM credentials WHERE vendor = 'oppo'")
    place.runtime.living.leave(["oppo.1"])
    place.runtime.catalog.changed()


def expires(days: float) -> Seed:
    ms = int((time.time() + days * 86_400) * 1000)
    mend = "UPDATE credentials SET expires_ms = NULL"
    return acted(
        lambda p: p.sql(f"UPDATE credentials SET expires_ms = {ms} WHERE vendor = 'huawei'"),
        lambda p: p.sql(mend),
    )


def paused(on: bool) -> Callable[[Place], object]:
    return lambda p: p.runtime.credentials.set_paused(APP, "vivo", "vivo-1", on)


def spent(place: Place) -> None:
    told("quota", "set", APP, "vivo", "vivo-1", "public=1")
    lane = place.runtime.catalog.fresh().lanes[APP, Vendor.VIVO, "vivo-1"]
    place.runtime.gate().report_quota_spent(lane, Bucket.PUBLIC)


def guarded(place: Place) -> None:
    lane = place.runtime.catalog.lane(APP, Vendor.XIAOMI, "xiaomi-1")
    assert lane is not None
    place.runtime.guard.count(lane.id, 100, 90, 0)


def without_guard(place: Place) -> None:
    for key in place.redis.scan_iter(match="*guard*"):
        place.redis.delete(key)


def stranger(place: Place) -> None:
    place.redis.xgroup_create("im:events", "analytics", mkstream=True)


def foreign_tokens(place: Place) -> None:
    now = now_ms()
    columns = 'day, app, event_id, "user", device, rank, vendor, decision, decided_ms'
    rows = [("token_foreign", n) for n in range(30)] + [("accepted", n) for n in range(100, 300)]
    shown = ", ".join(
        f"(CURRENT_DATE, '{APP}', 'e{n}', 'u{n}', '', 0, 'meizu', '{name}', {now})"
        for name, n in rows
    )
    place.sql(f"INSERT INTO ledger ({columns}) VALUES {shown}")


DEVICE = (
    'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, token, '
    "registered_ms, state, state_ms)"
    f" VALUES ('{APP}', 'bob', 'd', 'android', 'meizu', 'meizu-9', 't', 1, 'active', 1)"
)
ALL = (
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO limited",
    "GRANT USAGE, CREATE ON SCHEMA public TO limited",
)
EVERY = ("~*", "&*", "+@all")
GONE = ("routing.1", "delivery-vivo.1")
OTHER_KEY = "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3Q=\n"


#: Fault | what doctor names it, and the words of its cure; what else follows from it
CURES = table(rf"""
    Redis is down | server_away | is it running
    PostgreSQL is down | server_away | is it running
    allkeys-lru with maxmemory | redis_evicts | noeviction
    no append-only file | redis_no_aof | appendonly yes
    96 % of maxmemory | redis_memory | more memory
    the append-only file's disk is full | redis_disk | disk
    cluster mode behind a plain URL | redis_form | redis\+cluster://
    Celery's Redis is down | server_away | is it running
    Celery's Redis is in cluster mode | redis_form | PUSHFLEET_BROKER_URL: it takes a plain Redis
    a clock 10 minutes off | clock | NTP
    the database is not migrated | tables_other | pushfleet migrate
    the reports' database is down | reports_away | PUSHFLEET_DATABASE_REPORTS_URL
    the reports' database is no replica | reports_tables
      | PUSHFLEET_DATABASE_REPORTS_URL | ["not_looked"]
    appendfsync no | redis_fsync | appendfsync everysec
    no keys file | exit 2 | PUSHFLEET_SECRET_KEYS_FILE
    an empty keys file | exit 2 | PUSHFLEET_SECRET_KEYS_FILE
    a CA file that is no PEM | exit 2 | PUSHFLEET_CA_FILE
    a misspelt endpoint | exit 2 | PUSHFLEET_ENDPOINT_MEIZU
    a wrong scheme | exit 2 | PUSHFLEET_REDIS_URL takes
    a misspelt setting | exit 2 | PUSHFLEET_REDIS_URL
    an expired certificate | credential_expired | credential rotate {APP} huawei huawei-1
    a certificate that expires soon | credential_expires | credential rotate {APP} huawei huawei-1
    a paused lane | lane_paused | credential resume {APP} vivo vivo-1
    a vendor is down | lane_stopped | credential check {APP} meizu meizu-1
    two processes are missing | processes_missing
      | pushfleet worker routing; pushfleet worker delivery --vendors vivo
    another reader's group | belt_reader | XGROUP DESTROY
    the token guard has stepped in | lane_guard | environment and key
    devices of an id without an account | device_account | meizu-1
    a spent quota | quota_spent | quota set
    a debug build beside good traffic | build_foreign | debug build
    OPPO: a private right and no channel | right_channel | --channel chat=ID
    a wrong CA, before traffic | vendor_away | PUSHFLEET_CA_FILE
    an unreachable endpoint, before traffic | vendor_away | PUSHFLEET_ENDPOINT_VIVO
    receipts' URL: http, and not there | receipts_http | https:// | ["receipts_away", "vendor_away"]
    Redis: wrong password | redis_login | user and password of PUSHFLEET_REDIS_URL
    Redis is a replica | redis_replica | the primary
    Redis user: read only | redis_rights | ACL SETUSER
    Redis user: other keys | redis_rights | ACL SETUSER
    Redis user: no INFO | redis_info | \+info
    Redis user: no EVAL | redis_rights | ACL SETUSER
    rediss:// with a private CA | server_away | \?ssl_ca_certs=
    PostgreSQL: wrong password | server_away | password of PUSHFLEET_DATABASE_URL
    PostgreSQL: no such database | server_away | CREATE DATABASE
    PostgreSQL: no connections left | server_away | max_connections
    database user without rights | database_refuses | GRANT
    database user: SELECT only | database_refuses|server_away | GRANT
    default_transaction_read_only | database_refuses | default_transaction_read_only
    a database newer than the program | tables_newer | upgrade this program
    the stream's key is of another type | stream_kind
      | PUSHFLEET_EVENT_STREAMS | ["belt_reader", "redis_refuses"]
    a keys file that others can read | keys_open | chmod o=
    keys of another fleet | keys_lost | put that key back
    wrong PUSHFLEET_PREFIX | processes_none | PUSHFLEET_PREFIX=push
    wrong PUSHFLEET_EVENT_STREAMS | stream_unread | PUSHFLEET_EVENT_STREAMS=chat:events
    wrong PUSHFLEET_KEY_PREFIX | key_prefix | PUSHFLEET_KEY_PREFIX=chat:
""")


def faults() -> list[Fault]:
    seeds = {**_servers(), **_settings(), **_fleet(), **_users(), **_names_and_rights()}
    assert seeds.keys() == CURES.keys()
    return [
        Fault(words, seed, *CURES[words][:2], *map(tuple, CURES[words][2:]))
        for words, seed in seeds.items()
    ]


def _servers() -> dict[str, Seed]:
    down = closed_port("REDIS_URL", "CORE_URL", url="redis://127.0.0.1:{port}")
    return {
        "Redis is down": down,
        "PostgreSQL is down": closed_port(
            "DATABASE_URL", url="postgresql+psycopg://u:p@127.0.0.1:{port}/x"
        ),
        "allkeys-lru with maxmemory": config(maxmemory="1gb", maxmemory_policy="allkeys-lru"),
        "no append-only file": config(appendonly="no"),
        "96 % of maxmemory": config(maxmemory="nearly"),
        "the append-only file's disk is full": full_disk,
        "cluster mode behind a plain URL": clustered,
        "Celery's Redis is down": closed_port("BROKER_URL", url="redis://127.0.0.1:{port}"),
        "Celery's Redis is in cluster mode": clustered_broker,
        "a clock 10 minutes off": slow_clock,
        "the database is not migrated": empty_database,
        "the reports' database is down": closed_port(
            "DATABASE_REPORTS_URL", url="postgresql+psycopg://u:p@127.0.0.1:{port}/x"
        ),
        "the reports' database is no replica": no_replica,
        "appendfsync no": config(appendfsync="no"),
    }


def _settings() -> dict[str, Seed]:
    return {
        "no keys file": env(SECRET_KEYS_FILE="/nowhere/keys"),
        "an empty keys file": keys_file("\n"),
        "a CA file that is no PEM": no_pem,
        "a misspelt endpoint": env(ENDPOINT_MEIZ="https://h:1"),
        "a wrong scheme": env(REDIS_URL="http://127.0.0.1"),
        "a misspelt setting": env(REDISURL="redis://h"),
    }


def _fleet() -> dict[str, Seed]:
    unguarded = acted(guarded, without_guard)
    grouped = acted(stranger, lambda p: p.redis.xgroup_destroy("im:events", "analytics"))
    return {
        "an expired certificate": expires(-1),
        "a certificate that expires soon": expires(10),
        "a paused lane": acted(paused(True), paused(False)),
        "a vendor is down": vendor_down,
        "two processes are missing": acted(
            lambda p: p.runtime.living.leave(GONE), lambda p: p.say_alive()
        ),
        "another reader's group": grouped,
        "the token guard has stepped in": unguarded,
        "devices of an id without an account": acted(
            lambda p: p.sql(DEVICE), lambda p: p.sql("DELETE FROM devices")
        ),
        "a spent quota": acted(
            spent, lambda p: told("quota", "set", APP, "vivo", "vivo-1", "public=100000")
        ),
        "a debug build beside good traffic": acted(
            foreign_tokens, lambda p: p.sql("DELETE FROM ledger")
        ),
        "OPPO: a private right and no channel": oppo_without_channel,
        "a wrong CA, before traffic": env(CA_FILE="/etc/ssl/certs/ca-certificates.crt"),
        "an unreachable endpoint, before traffic": closed_port(
            "ENDPOINT_VIVO", url="https://127.0.0.1:{port}"
        ),
        "receipts' URL: http, and not there": own_receipts,
    }


def _users() -> dict[str, Seed]:
    return {
        "Redis: wrong password": acl(*EVERY, password="wrong"),
        "Redis is a replica": replica,
        "Redis user: read only": acl("~*", "&*", "+@read", "+ping", "+info", "+@connection"),
        "Redis user: other keys": acl("~other:*", "&*", "+@all"),
        "Redis user: no INFO": acl(*EVERY, "-info"),
        "Redis user: no EVAL": acl(*EVERY, "-@scripting"),
        "rediss:// with a private CA": private_ca,
        "PostgreSQL: wrong password": role(password="wrong"),
        "PostgreSQL: no such database": no_database,
        "PostgreSQL: no connections left": role(options="CONNECTION LIMIT 0"),
        "database user without rights": role(),
        "database user: SELECT only": role(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited"
        ),
        "default_transaction_read_only": role(
            *ALL, "ALTER ROLE limited SET default_transaction_read_only = on"
        ),
    }


def _emptied(place: Any) -> None:
    place.redis.delete("im:events")
    written(place)


def _names_and_rights() -> dict[str, Seed]:
    version = "UPDATE alembic_version SET version_num = "
    newer = acted(
        lambda p: p.sql(version + "'9999'"), lambda p: p.sql(version + f"'{p.env['HEAD']}'")
    )
    stringy = acted(
        lambda p: (p.redis.delete("im:events"), p.redis.set("im:events", "x")), _emptied
    )
    other_stream = acted(
        lambda p: p.redis.xadd("chat:events", {"e": "{}"}), lambda p: p.redis.delete("chat:events")
    )
    other_prefix = acted(
        lambda p: p.redis.hset("chat:presence:{a:b}", "d", "foreground|ios|1"),
        lambda p: p.redis.delete("chat:presence:{a:b}"),
    )

    @contextmanager
    def wrong_stream(place: Place) -> Iterator[Env]:
        with other_stream(place):
            yield {"PUSHFLEET_EVENT_STREAMS": "im:other"}

    return {
        "a database newer than the program": newer,
        "the stream's key is of another type": stringy,
        "a keys file that others can read": keys_file("", 0o644),
        "keys of another fleet": keys_file(OTHER_KEY),
        "wrong PUSHFLEET_PREFIX": env(PREFIX="other"),
        "wrong PUSHFLEET_EVENT_STREAMS": wrong_stream,
        "wrong PUSHFLEET_KEY_PREFIX": other_prefix,
    }


# ---------------------------------------------------------------- asking doctor


def told(*arguments: str) -> tuple[int, str, str]:
    own = {name: value for name, value in os.environ.items() if name.startswith("PUSHFLEET_")}
    return command(own, *arguments)


def asked(place: Place, changes: Env) -> tuple[dict[str, tuple[str, str]], str]:
    """({problem: (words, cure)}, the line of a command that did not begin)."""
    with mock.patch.dict(os.environ, {**place.env, **changes}):
        for name, value in changes.items():
            if not value:
                del os.environ[name]
        code, out, err = told("doctor", "--json")
    if code == 2:
        return {}, err.strip()
    checks = json.loads(out)["checks"]
    return {one["problem"]: (one["found"], one["cure"]) for one in checks if not one["ok"]}, ""


def judged(fault: Fault, problems: dict[str, tuple[str, str]], line: str) -> tuple[str, str, str]:
    """(verdict, words, cure)."""
    if fault.named == "exit 2":
        good = bool(line) and "\n" not in line and re.search(fault.cure, line)
        return ("right" if good else "vague" if line else "missed"), line, ""
    if line:
        return "missed", line, ""
    names = fault.named.split("|")
    found = next((problems[name] for name in names if name in problems), None)
    others = sorted(set(problems) - set(names) - set(fault.also))
    if found is None:
        return (
            ("wrong" if others else "missed"),
            " · ".join(words for words, _ in problems.values()),
            " · ".join(c for _, c in problems.values()),
        )
    if others:
        return "wrong", f"{found[0]} (and: {', '.join(others)})", found[1]
    return ("right" if re.search(fault.cure, found[1]) else "vague"), *found


def tried(place: Place, fault: Fault) -> dict[str, str]:
    with fault.seed(place) as changes:
        verdict, words, cure = judged(fault, *asked(place, changes))
    print(f"{verdict:<7} {fault.words:<42} {words[:110]}  ->  {cure[:90]}", flush=True)
    return {"fault": fault.words, "verdict": verdict, "named": words, "cure": cure}


# ---------------------------------------------------------------- the fleet


@contextmanager
def a_fleet() -> Iterator[Place]:
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        running = stack.enter_context(embedded(valkey=True, postgres=True))
        endpoints, ca_file = stack.enter_context(simulated(folder / "sim"))
        keys = folder / "keys"
        keys.write_text(Fernet.generate_key().decode() + "\n")
        keys.chmod(0o600)
        first = free_ports(2)
        given = {
            "REDIS_URL": running.redis_url or "",
            "DATABASE_URL": running.database_url or "",
            "CA_FILE": ca_file,
            "SECRET_KEYS_FILE": str(keys),
            "RECEIPTS_ADDR": f"127.0.0.1:{first}",
            "RECEIPTS_URL": f"http://127.0.0.1:{first}",
        }
        settings = data_settings(
            folder / "var", **given, **{f"ENDPOINT_{name}": url for name, url in endpoints.items()}
        )
        runtime = Runtime(settings, "doctored")
        stack.callback(runtime.close)
        migrate(runtime.engine)
        place = Place(runtime, folder, environ_of(settings), keys)
        with runtime.engine.begin() as connection:
            head = connection.exec_driver_sql(
                "SELECT version_num FROM alembic_version"
            ).scalar_one()
        place.env["HEAD"] = str(head)
        runtime.ledger.ready_for(time_day())
        stack.enter_context(
            mock.patch.dict(os.environ, {n: v for n, v in place.env.items() if n != "HEAD"})
        )
        accounts(place)
        place.say_alive()
        written(place)
        yield place


def time_day() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC).date()


def written(place: Place) -> None:
    """The core has written once."""
    place.redis.xtrim("im:events", maxlen=0) if place.redis.xadd("im:events", {"e": "{}"}) else None


@contextmanager
def simulated(folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    folder.mkdir()
    argv = [sys.executable, "-m", "simulators", *VENDORS, "--dir", str(folder)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        said = [json.loads(process.stdout.readline()) for _ in VENDORS]
        endpoints = {name: url for one in said for name, url in one["endpoints"].items()}
        yield (endpoints, said[0]["ca_file"])
    finally:
        process.kill()
        process.wait()


def accounts(place: Place) -> None:
    secret = place.folder / "secret"
    secret.write_text(secrets.token_hex(12) + "\n")
    file = ("--app-secret-file", str(secret))
    told("app", "add", APP)
    options = {
        "meizu": ("--app-id", "110001"),
        "huawei": ("--app-id", "100001"),
        "honor": ("--app-id", "104000001", "--app-key", "104000001"),
        "xiaomi": ("--package", "com.example.im"),
        "vivo": ("--app-id", "10001", "--app-key", "a1b2c3d4-0000-0000-0000-000000000000"),
    }
    for vendor, own in options.items():
        named = ("--app", APP, "--business-id", f"{vendor}-1")
        code, _, err = told("credential", "add", vendor, *named, *own, *file)
        assert code == 0, err


def main() -> int:
    wanted = sys.argv[1:]
    with a_fleet() as place:
        healthy = asked(place, {})
        print("a healthy fleet:", healthy[0] or healthy[1] or "nothing is wrong", flush=True)
        report = [
            tried(place, one)
            for one in faults()
            if not wanted or any(word in one.words for word in wanted)
        ]
        after = asked(place, {})
    verdicts = ("right", "vague", "wrong", "missed")
    counts = {verdict: sum(one["verdict"] == verdict for one in report) for verdict in verdicts}
    false = sorted({**healthy[0], **after[0]})
    print(
        f"{len(report)} faults: {counts}; on the healthy fleet, before and after: {false or 'none'}"
    )
    (ROOT / "var/reports").mkdir(parents=True, exist_ok=True)
    (ROOT / "var/reports/doctor.json").write_text(
        json.dumps({"faults": report, **counts, "false": false}, indent=1, ensure_ascii=False)
    )
    good = (
        counts["right"] >= 0.9 * len(report)
        and not counts["wrong"]
        and not false
        and not healthy[1]
        and not after[1]
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
