"""`doctor`: quiet when all is well; each thing that is wrong is named with its cure."""

import time

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from common.model import Urgency, Vendor
from common.storage import keys, migrations
from common.storage.lane_entries import NewBatch, entry_id
from common.storage.living import missing
from tests.integration.web.conftest import ACCOUNTS, APP
from tests.tables import spaced
from workers.reports.servers import server_findings

ALIVE = [
    "intake.1",
    "presence.1",
    "routing.2",
    "upkeep.1",
    "receipts.1",
    *(f"delivery-{vendor}.1" for vendor in ACCOUNTS),
]


@pytest.fixture
def living(redis_client, runtime, tenant):
    """Every process of this fleet says that it lives."""
    for name in ALIVE:
        runtime.living.beat(name, name.rpartition(".")[0], None)
        runtime.redis.expire(runtime.keys.alive(name), 600)
    yield runtime
    runtime.living.leave(ALIVE)


def problems(said) -> dict[str, tuple[str, str]]:
    """check -> (found, cure) of what is wrong."""
    return {
        one["check"]: (one["found"], one["cure"]) for one in said.json["checks"] if not one["ok"]
    }


def test_all_is_well(cli, living):
    said = cli("doctor", "--json")
    assert (problems(said), said.code) == ({}, 0)
    assert said.json["ok"] is True
    checks = {one["check"] for one in said.json["checks"]}
    assert checks >= set(
        spaced("redis postgresql tables keys processes belts lanes credentials clocks endpoints")
    )
    words = cli("doctor")
    assert words.out.splitlines()[-1] == "all is well"
    assert "PROBLEM" not in words.out
    assert "MEIZU -> https://" in words.out


def an_old_entry(stream):
    def change(runtime, fleet_settings):
        runtime.streams.make(stream)
        runtime.redis.xadd(
            runtime.keys.stream(stream), {"b": b"x"}, id=f"{int(time.time() * 1000) - 120_000}-0"
        )

    return change


def an_old_batch(runtime, fleet_settings):
    lane, made = f"{APP}:meizu:meizu-1", int(time.time() * 1000) - 120_000
    batch = NewBatch(lane, Urgency.CHAT, b"x", pushes=1, requests=1, expires_ms=made + 86_400_000)
    queues = runtime.lane_queues
    with runtime.redis.pipeline() as pipe:
        queues.put(pipe, [batch])
        pipe.delete(
            queue := queues.keys.lane_queue(lane, Urgency.CHAT),
            blobs := queues.keys.lane_blobs(lane),
        )
        entry = entry_id(batch, order=made * 1000)
        pipe.hset(blobs, entry, batch.blob)
        pipe.zadd(queue, {entry: made * 1000})
        pipe.execute()


def an_old_event(runtime, fleet_settings):
    runtime.core.xadd(
        runtime.settings.event_streams[0], {"e": b"x"}, id=f"{int(time.time() * 1000) - 120_000}-0"
    )


def no_process(runtime, fleet_settings):
    runtime.redis.delete(*(runtime.keys.alive(name) for name in ALIVE))


def no_tables(runtime, fleet_settings):
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")


def head():
    """The newest version of the tables."""
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    return ScriptDirectory.from_config(config).get_current_head()


WRONG = {
    "a lane that stands still": (an_old_batch, "belts", "the oldest 12", "replicas"),
    "a ledger that stands still": (an_old_entry(keys.LEDGER), "belts", "the oldest 12", "replicas"),
    "a stream that stands still": (an_old_event, "belts", "the oldest 12", "replicas"),
    "no process": (no_process, "processes", "none is alive", "pushfleet up"),
    "old tables": (no_tables, "tables", "version 0000, not 0", "pushfleet migrate"),
}


@pytest.mark.parametrize(("change", "check", "found", "cure"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_cure(
    cli, living, fleet_settings, change, check, found, cure
):
    change(living, fleet_settings)
    try:
        said = cli("doctor", "--json")
        assert said.code == 1
        assert found in problems(said)[check][0]
        assert cure in problems(said)[check][1]
        assert set(problems(said)) <= {check, "lanes"}, problems(said)
    finally:
        living.core.delete(*fleet_settings.event_streams)
        with living.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head()}'")


def test_servers_that_are_away_are_said_and_the_rest_is_left_out(
    cli, living, monkeypatch, free_port
):
    monkeypatch.setenv(
        "PUSHFLEET_DATABASE_URL", f"postgresql+psycopg://u:hidden-word@127.0.0.1:{free_port()}/x"
    )
    said = cli("doctor", "--json")
    assert said.code == 3
    assert "can't be reached" in problems(said)["postgresql"][0]
    assert "lanes" not in {one["check"] for one in said.json["checks"]}
    monkeypatch.setenv("PUSHFLEET_REDIS_URL", f"redis://:hidden-word@127.0.0.1:{free_port()}")
    monkeypatch.delenv("PUSHFLEET_CORE_URL")
    said = cli("doctor")
    assert said.code == 3
    assert "PROBLEM  redis" in said.out
    assert "hidden-word" not in said.out + said.err


GOOD = {
    "redis_version": "7.2.4",
    "maxmemory": 0,
    "used_memory": 1 << 20,
    "aof_enabled": 1,
    "maxmemory_policy": "noeviction",
}
SERVERS = {
    "as it should be": ({}, []),
    "too old": ({"redis_version": "6.0.16"}, ["Redis 6.0.16"]),
    "evicting": (
        {"maxmemory": 1 << 30, "maxmemory_policy": "allkeys-lru"},
        ["maxmemory-policy allkeys-lru"],
    ),
    "a policy without a bound evicts nothing": ({"maxmemory_policy": "allkeys-lru"}, []),
    "nearly full": ({"maxmemory": 100, "used_memory": 90}, ["90% of maxmemory"]),
    "without its file": ({"aof_enabled": 0}, ["no append-only file"]),
    "its disk is full": ({"aof_last_write_status": "err"}, ["can't be written"]),
    "Valkey is known by its own version": ({"valkey_version": "9.0.1"}, []),
}


@pytest.mark.parametrize(("changes", "expected"), SERVERS.values(), ids=SERVERS)
def test_what_info_says_is_judged(changes, expected):
    wrong = [one for one in server_findings("redis", {**GOOD, **changes}) if not one.ok]
    assert len(wrong) == len(expected)
    assert all(words in one.found and one.cure for one, words in zip(wrong, expected, strict=True))


@pytest.mark.parametrize(
    ("roles", "gone"),
    [
        ({"intake", "presence", "routing", "upkeep", "delivery"}, []),
        ({"intake", "presence", "routing", "upkeep", "delivery-fcm"}, ["delivery-apns"]),
        ({"intake", "presence", "routing", "upkeep", "delivery:fcm,apns,vivo"}, []),
        ({"intake", "presence", "routing", "upkeep", "delivery:fcm,vivo"}, ["delivery-apns"]),
        ({"delivery"}, ["intake", "presence", "routing", "upkeep"]),
    ],
)
def test_what_nobody_serves_is_missing(roles, gone):
    assert missing(roles, {Vendor.APNS, Vendor.FCM}, receipts=False) == gone


def test_processes_are_known_by_what_they_do_whatever_they_are_called(cli, runtime, tenant):
    """Pods and units of systemd have names of their own."""
    pods = {
        "intake-6f7c-x2": "intake",
        "presence@host.lan": "presence",
        "routing-1": "routing",
        "upkeep-0": "upkeep",
        "r": "receipts",
    }
    for name, role in {**pods, "delivery-all-9d": f"delivery:{','.join(ACCOUNTS)}"}.items():
        runtime.living.beat(name, role, None)
        runtime.redis.expire(runtime.keys.alive(name), 600)
    said = next(
        one for one in cli("doctor", "--json").json["checks"] if one["check"] == "processes"
    )
    assert said["ok"], said
    runtime.living.leave(["delivery-all-9d"])
    said = next(
        one for one in cli("doctor", "--json").json["checks"] if one["check"] == "processes"
    )
    assert "delivery-meizu" in said["found"]
