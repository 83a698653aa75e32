"""Doctor on faults that it also mends, or that only words tell; the others are in
test_seeded_faults.py.
"""

from dataclasses import replace

import psycopg
import pytest
import redis

from common.storage.core_streams import core_streams
from common.storage.keys import Keys
from common.storage.living import Heartbeats
from common.storage.redis import connect
from common.storage.streams import GROUP
from tests.conftest import own_database
from tests.integration.web.test_doctor import ALIVE, head, problems
from workers.reports.findings import database_error, redis_error
from workers.reports.servers import redis_findings
from workers.runtime import Runtime


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


# ---------------------------------------------------------------- Redis


def test_celerys_redis_is_away_and_what_that_does(cli, living, monkeypatch, free_port):
    url = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("PUSHFLEET_BROKER_URL", url)
    only(cli("doctor", "--json"), "broker", "pushes leave all the same", "PUSHFLEET_BROKER_URL")
    runtime = Runtime(replace(living.settings, broker_url=url))
    (found,) = [one for one in redis_findings(runtime) if one.check == "broker"]
    assert "推送照常发出" in found.words("zh")


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


def test_two_fleets_on_one_stream_of_the_core(cli, living, space):
    """Each takes a part of the other's events; what was read long ago, or by ours, is none."""
    stream = living.settings.event_streams[0]
    for prefix in (living.settings.prefix, f"other:{space}"):
        reader = core_streams(living.core, [stream], Keys(prefix))
        reader.make(stream)
        reader.read_weighted({stream: 1})
        if prefix == living.settings.prefix:
            assert problems(cli("doctor", "--json")) == {}
    only(cli("doctor", "--json"), "belts", f"another fleet, too: other:{space}", "EVENT_STREAMS")
    living.core.xgroup_delconsumer(stream, GROUP, reader.consumer)
    assert problems(cli("doctor", "--json")) == {}, "it has ended"


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
    changes = (("appendfsync", "no"), ("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru"))
    for name, value in changes:
        client.config_set(name, value)
    for name in ("REDIS", "CORE"):
        monkeypatch.setenv(f"PUSHFLEET_{name}_URL", restartable_valkey.url)
    checks = cli("doctor", "--json").json["checks"]
    found = [one["found"] for one in checks if one["check"] == "redis" and not one["ok"]]
    assert len(found) == 2
    assert "appendfsync no" in found[1]
    cli("doctor", "--fix")
    assert client.config_get("appendfsync")["appendfsync"] == "everysec"
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    checks = cli("doctor", "--json").json["checks"]
    assert not [one for one in checks if one["check"] == "redis" and not one["ok"]]


# ---------------------------------------------------------------- PostgreSQL


def test_a_database_user_that_may_make_no_tables(cli, living, database_url, monkeypatch, space):
    role, (scheme, _, rest) = f"r{space}", database_url.partition("://")
    conninfo = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    url = f"{scheme}://{role}:pw@{rest.rpartition('@')[2]}"
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
        session.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        session.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        monkeypatch.setenv("PUSHFLEET_DATABASE_URL", url)
        try:
            only(cli("doctor", "--json"), "postgresql", "ledger's days", "GRANT CREATE")
        finally:
            session.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


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
