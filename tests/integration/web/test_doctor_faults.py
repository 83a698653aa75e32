"""Doctor on seeded faults: each is named with what cures it, nothing else is blamed, and a healthy
fleet is left in peace.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import psycopg
import pytest
import redis

from common.model import Vendor
from common.storage.living import Heartbeats
from common.storage.redis import connect
from tests.conftest import own_database
from tests.integration.web.conftest import ACCOUNTS, APP, event
from tests.integration.web.test_doctor import ALIVE, head, problems
from workers.reports.findings import database_error, redis_error

CHECKS = {
    "keys",
    "redis",
    "core's redis",
    "postgresql",
    "tables",
    "names",
    "processes",
    "belts",
    "lanes",
    "quota",
    "devices",
    "rights",
}


@pytest.fixture
def living(runtime, tenant):
    """Every process of this fleet says that it lives, and the core has written an event once."""
    for name in ALIVE:
        runtime.living.beat(name, name.rpartition(".")[0], None)
        runtime.redis.expire(runtime.keys.alive(name), 60)
    for stream in runtime.settings.event_streams:  # else what other tests left reads as the core's
        runtime.core.xdel(stream, runtime.core.xadd(stream, {"e": "{}"}))
    yield runtime
    runtime.core.delete(*runtime.settings.event_streams)
    runtime.living.leave(ALIVE)


def only(said, check: str, found: str, cure: str) -> None:
    """This one problem, with its cure, and no other."""
    assert said.code in (1, 3), said.out
    told = problems(said)
    assert set(told) == {check}, told
    assert found in told[check][0], told
    assert cure in told[check][1], told


# ---------------------------------------------------------------- Redis: users, kinds, memory


@pytest.fixture
def as_user(living, fleet_settings, monkeypatch, space):
    """Makes a Redis user with these rules and lets doctor be it."""
    made = []

    def use(*rules: str, password: str | None = None) -> None:
        name = f"u{space}"
        made.append(name)
        living.redis.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *rules)
        parts = fleet_settings.redis_url.partition("://")
        address = parts[2].rpartition("@")[2]
        url = f"redis://{name}:{password or 'pw'}@{address}"
        monkeypatch.setenv("PUSHFLEET_REDIS_URL", url)
        monkeypatch.setenv("PUSHFLEET_CORE_URL", url)

    yield use
    for name in made:
        living.redis.execute_command("ACL", "DELUSER", name)


ACL = {
    "no scripts": (["~*", "&*", "+@all", "-@scripting"], "this user may not", "ACL SETUSER"),
    "read only": (
        ["~*", "&*", "+@read", "+ping", "+info", "+@connection"],
        "this user may not",
        "ACL SETUSER",
    ),
    "other keys": (["~other:*", "&*", "+@all"], "this user may not", "ACL SETUSER"),
    "no INFO": (["~*", "&*", "+@all", "-info"], "INFO is not allowed", "+info"),
}


@pytest.mark.parametrize(("rules", "found", "cure"), ACL.values(), ids=ACL)
def test_a_redis_user_without_a_right(cli, as_user, rules, found, cure):
    as_user(*rules)
    only(cli("doctor", "--json"), "redis", found, cure)


def test_two_fleets_under_one_prefix(cli, living):
    """Each takes a part of the other's events, and neither is told."""
    for name, identity, address in (
        ("upkeep.1", "7/a", "db:5432/a"),
        ("upkeep.2", "7/a", "db/a"),  # the same by another address
        ("upkeep.3", "8/a", "db/a"),  # and after it was moved to a new server
    ):
        one = Heartbeats(living.redis, living.keys)
        one.works_with(identity, address)
        one.beat(name, "upkeep", None)
    assert problems(cli("doctor", "--json")) == {}
    other = Heartbeats(living.redis, living.keys)
    other.works_with("9/b", "db-b:5432/b")
    other.beat("intake.1@b", "intake", None)
    cure = "PUSHFLEET_PREFIX and PUSHFLEET_EVENT_STREAMS of its own"
    only(cli("doctor", "--json"), "processes", "db-b:5432/b", cure)
    living.redis.delete(living.keys.database_of("intake.1@b"))
    assert problems(cli("doctor", "--json")) == {}, "it has ended"


def test_a_wrong_redis_password(cli, as_user):
    as_user("~*", "&*", "+@all", password="wrong")
    said = cli("doctor", "--json")
    only(said, "redis", "user or password is refused", "PUSHFLEET_REDIS_URL")
    assert said.code == 3


def test_a_replica(cli, living, restartable_valkey, monkeypatch, fleet_settings):
    client = connect(restartable_valkey.url)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    for name in ("REDIS", "CORE"):
        monkeypatch.setenv(f"PUSHFLEET_{name}_URL", restartable_valkey.url)
    told = problems(cli("doctor", "--json"))["redis"]
    assert "replica" in told[0]
    assert "the primary" in told[1]


def test_a_full_server(cli, living, restartable_valkey, monkeypatch):
    client = connect(restartable_valkey.url)
    client.config_set("maxmemory", 1)
    for name in ("REDIS", "CORE"):
        monkeypatch.setenv(f"PUSHFLEET_{name}_URL", restartable_valkey.url)
    said = [one for one in cli("doctor", "--json").json["checks"] if not one["ok"]]
    assert {one["check"] for one in said} == {"redis"}, "nobody is told that no process is alive"
    assert any("full" in one["found"] for one in said)


def test_appendfsync_no_is_named_and_fixed(cli, living, restartable_valkey, monkeypatch):
    client = connect(restartable_valkey.url)
    for name, value in (
        ("appendfsync", "no"),
        ("maxmemory", "100mb"),
        ("maxmemory-policy", "allkeys-lru"),
    ):
        client.config_set(name, value)
    for name in ("REDIS", "CORE"):
        monkeypatch.setenv(f"PUSHFLEET_{name}_URL", restartable_valkey.url)
    found = [
        one["found"]
        for one in cli("doctor", "--json").json["checks"]
        if one["check"] == "redis" and not one["ok"]
    ]
    assert len(found) == 2
    assert "appendfsync no" in found[1]
    cli("doctor", "--fix")
    assert client.config_get("appendfsync")["appendfsync"] == "everysec"
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert not [
        one
        for one in cli("doctor", "--json").json["checks"]
        if one["check"] == "redis" and not one["ok"]
    ]


def test_a_stream_of_another_kind(cli, living, fleet_settings):
    living.core.set(fleet_settings.event_streams[0], "x")
    told = problems(cli("doctor", "--json"))
    assert "is a string, no stream" in told["redis"][0]
    assert "PUSHFLEET_EVENT_STREAMS" in told["redis"][1]


def test_a_wrong_stream_name(cli, living, space):
    living.core.delete(*living.settings.event_streams)
    living.core.xadd(f"chat{space}:events", {"e": "{}"})
    only(
        cli("doctor", "--json"),
        "names",
        f"chat{space}:events is written and nobody reads it",
        f"PUSHFLEET_EVENT_STREAMS=chat{space}:events",
    )
    living.core.delete(f"chat{space}:events")


def test_a_wrong_key_prefix(cli, living, space):
    living.core.hset(f"chat{space}:presence:{{a:b}}", "d", "foreground|ios|1")
    only(cli("doctor", "--json"), "names", f"under chat{space}:", "PUSHFLEET_KEY_PREFIX=")
    living.core.delete(f"chat{space}:presence:{{a:b}}")


def test_a_wrong_prefix(cli, living, monkeypatch, space):
    monkeypatch.setenv("PUSHFLEET_PREFIX", f"other{space}")
    own = living.settings.prefix
    said = cli("doctor", "--json")
    only(said, "processes", f"under the prefix other{space}; alive: ", "PUSHFLEET_PREFIX=")
    # another test's fleet may have lived seconds ago
    assert own in problems(said)["processes"][0]


# ---------------------------------------------------------------- PostgreSQL: users, rights, versio


@pytest.fixture
def as_role(living, database_url, monkeypatch, space):
    """Makes a database user, grants it this, and lets doctor be it."""
    conninfo = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    role = f"r{space}"

    def use(*grants: str, password: str = "pw") -> None:
        with psycopg.connect(conninfo, autocommit=True) as session:
            session.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
            for grant in grants:
                session.execute(grant.replace("<user>", role))
        scheme, _, rest = database_url.partition("://")
        monkeypatch.setenv(
            "PUSHFLEET_DATABASE_URL", f"{scheme}://{role}:{password}@{rest.rpartition('@')[2]}"
        )

    yield use
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


ALL = (
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO <user>",
    "GRANT USAGE, CREATE ON SCHEMA public TO <user>",
)
GRANTS = {
    "no right at all": ((), "may not do that", "GRANT"),
    "SELECT only": (
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO <user>",),
        "may not do that",
        "GRANT",
    ),
    "read only by default": (
        (*ALL, "ALTER ROLE <user> SET default_transaction_read_only = on"),
        "takes no writes",
        "default_transaction_read_only",
    ),
    "no new tables": (
        (ALL[0], "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        "ledger's days",
        "GRANT CREATE",
    ),
}


@pytest.mark.parametrize(("grants", "found", "cure"), GRANTS.values(), ids=GRANTS)
def test_a_database_user_without_a_right(cli, as_role, grants, found, cure):
    as_role(*grants)
    only(cli("doctor", "--json"), "postgresql", found, cure)


def test_a_database_that_there_is_not(cli, living, database_url, monkeypatch):
    base, _, options = database_url.partition("?")
    monkeypatch.setenv(
        "PUSHFLEET_DATABASE_URL",
        base.rpartition("/")[0] + "/nowhere" + (f"?{options}" if options else ""),
    )
    said = cli("doctor", "--json")
    only(said, "postgresql", "no such database", "CREATE DATABASE")
    assert said.code == 3


def test_a_newer_database_is_not_told_to_be_migrated(cli, living):
    with living.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        only(
            cli("doctor", "--json"), "tables", "newer version of Pushfleet", "upgrade this program"
        )
        said = cli("migrate")
        assert (said.code, len(said.err.strip().splitlines())) == (2, 1)
    finally:
        with living.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head()}'")


def test_an_empty_database_makes_no_noise_and_is_fixed(cli, living, monkeypatch, database_url):
    with own_database(database_url) as url:
        monkeypatch.setenv("PUSHFLEET_DATABASE_URL", url)
        only(cli("doctor", "--json"), "tables", "version none", "pushfleet migrate")
        cli("doctor", "--fix")
        assert "tables" not in problems(cli("doctor", "--json"))


PG = {
    'connection to server failed: FATAL:  password authentication failed for user "u"': (
        "user or password",
        "PUSHFLEET_DATABASE_URL",
    ),
    "FATAL:  sorry, too many clients already": ("no connections left", "max_connections"),
    "FATAL:  remaining connection slots are reserved": ("no connections left", "max_connections"),
    'FATAL:  no pg_hba.conf entry for host "10.0.0.9"': ("pg_hba.conf", "pg_hba.conf"),
    "[Errno -2] Name or service not known": ("host name", "spelt"),
    "connection failed: Connection refused": ("nothing answers", "running"),
}


@pytest.mark.parametrize("said", PG)
def test_what_postgresql_says_has_its_meaning(said):
    found = database_error(psycopg.OperationalError(said))
    seen = (PG[said][0] in found.found, PG[said][1] in found.cure, found.unreachable)
    assert seen == (True, True, True)


REDIS = {
    "Error 1 connecting to h:6379. [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer": (
        "not trusted",
        "ssl_ca_certs=",
    ),
    "[SSL: WRONG_VERSION_NUMBER] wrong version number": ("does not speak TLS", "redis://"),
    "Connection closed by server.": ("closes the connection", "rediss://"),
    "Error -2 connecting to nowhere:6379. Name or service not known.": ("host name", "spelt"),
    "Error 111 connecting to 127.0.0.1:1. Connection refused.": ("nothing listens", "running"),
}


@pytest.mark.parametrize("said", REDIS)
def test_what_redis_clients_say_has_its_meaning(said):
    found = redis_error("redis", redis.ConnectionError(said))
    seen = (REDIS[said][0] in found.found, REDIS[said][1] in found.cure, found.unreachable)
    assert seen == (True, True, True)


# ---------------------------------------------------------------- the fleet


def test_devices_of_an_account_that_there_is_not(cli, living):
    with living.engine.begin() as connection:
        connection.exec_driver_sql(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, state_ms)"
            f" VALUES ('{APP}', 'bob', 'd', 'android', 'meizu', 'meizu-9', 't', 1, 'active', 1)"
        )
    only(cli("doctor", "--json"), "devices", "devices (1) of meizu meizu-9", "meizu-1")


def test_a_clock_that_is_ten_minutes_off(cli, living, monkeypatch):
    late = SimpleNamespace(
        time=lambda: time.time() - 600, localtime=time.localtime, strftime=time.strftime
    )
    monkeypatch.setattr("workers.reports.fleet.time", late)
    only(cli("doctor", "--json"), "clocks", "s ahead of this host", "NTP")


def test_a_spent_quota(cli, living):
    assert cli("quota", "set", APP, "vivo", "vivo-1", "public=1").code == 0
    lane = living.catalog.fresh().lanes[(APP, Vendor.VIVO, "vivo-1")]
    from common.model import Bucket

    living.gate().report_quota_spent(lane, Bucket.PUBLIC)
    only(
        cli("doctor", "--json"),
        "quota",
        "public quota of today (1) is spent",
        "pushfleet quota set 1400000001 vivo vivo-1 public=N",
    )


def test_a_private_right_of_oppo_without_a_channel(cli, living, tmp_path):
    secret = tmp_path / "s"
    secret.write_text("secret-1")
    options = ("--app-key", "k1", "--app-secret-file", str(secret), "--right", "oppo.private")
    found = cli("credential", "add", "oppo", "--app", APP, "--business-id", "oppo-1", *options).code
    assert found == 0
    living.living.beat("oppo.1", "delivery:oppo", None)
    told = problems(cli("doctor", "--json"))
    assert "no channel" in told["rights"][0]
    assert "--channel chat=ID" in told["rights"][1]


def test_a_vendor_that_cannot_be_reached_before_any_traffic(cli, living, monkeypatch, free_port):
    monkeypatch.setenv("PUSHFLEET_ENDPOINT_VIVO", f"https://127.0.0.1:{free_port()}")
    only(cli("doctor", "--json"), "vendors", "vivo: 127.0.0.1", "PUSHFLEET_ENDPOINT_VIVO")


def test_a_wrong_ca_is_ones_own_trouble(cli, living, monkeypatch):
    monkeypatch.setenv("PUSHFLEET_CA_FILE", "/etc/ssl/certs/ca-certificates.crt")
    told = problems(cli("doctor", "--json"))
    assert set(told) == {"vendors"}
    assert "look at your own network" in told["vendors"][0]
    assert "PUSHFLEET_CA_FILE" in told["vendors"][1]


def test_keys_that_everybody_can_read_are_named_and_fixed(cli, living, fleet_settings):
    fleet_settings.secret_keys_file.chmod(0o644)
    only(cli("doctor", "--json"), "keys", "every user of this host", "chmod o=")
    cli("doctor", "--fix")
    assert fleet_settings.secret_keys_file.stat().st_mode & 0o777 == 0o640
    assert "keys" not in problems(cli("doctor", "--json"))


def test_receipts_that_nobody_can_send(cli, living, monkeypatch, free_port):
    from workers.reports.network import receipt_findings

    def told(url):
        settings = replace(living.settings, receipts_url=url, endpoints={})
        return " ".join(one.found for one in receipt_findings(settings) if not one.ok)

    assert "this machine's own" in told(f"https://127.0.0.1:{free_port()}")
    assert "can't be reached" in told("https://receipts.invalid")
    assert "http://" in told("http://receipts.invalid")
    assert told(None) == ""


def test_tokens_of_another_build_beside_good_traffic(cli, living):
    from common.clock import now_ms
    from workers.reports.fleet import build_findings

    living.ledger.ready_for(datetime.now(UTC).date())
    now = now_ms()
    rows = [("token_foreign", number) for number in range(30)] + [
        ("accepted", number) for number in range(100, 300)
    ]
    _ledger_rows(living, now, rows)
    (finding,) = [one for one in build_findings(living) if not one.ok]
    assert "meizu: 30 of 230 tokens" in finding.found
    assert "debug build" in finding.cure


def _ledger_rows(runtime, now, rows):
    columns = 'day, app, event_id, "user", device, rank, vendor, decision, decided_ms'
    with runtime.engine.begin() as connection:
        for decision, number in rows:
            values = (
                f"CURRENT_DATE, '{APP}', 'e{number}', 'u{number}', '', 0, 'meizu', '{decision}', "
                f"{now}"
            )
            connection.exec_driver_sql(f"INSERT INTO ledger ({columns}) VALUES ({values})")


def test_a_healthy_fleet_with_all_its_accounts_is_left_in_peace(cli, living, fleet_settings):
    living.core.xadd(
        fleet_settings.event_streams[0],
        {"e": json.dumps(event("app.foreground", {"user": "u", "device_id": "d"}))},
    )
    living.core.delete(fleet_settings.event_streams[0])
    said = cli("doctor", "--json")
    assert (problems(said), said.code) == ({}, 0)
    assert len(ACCOUNTS) == 5
    found = {one["check"] for one in said.json["checks"]}
    assert found >= CHECKS - {"core's redis", "names", "quota", "devices", "rights"}
