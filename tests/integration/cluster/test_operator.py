"""What an operator uses knows a cluster: doctor, the console's queues, gauges, and a backup that
moves a fleet from one server to it.
"""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import RedisError

from common import metrics
from common.config import Settings, environ_of
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.lane_entries import NewBatch
from common.storage.migrations import migrate
from common.storage.redis import connect
from tests.cluster import ValkeyCluster
from tests.conftest import OwnValkey, own_database
from tests.integration.conftest import opened
from tests.integration.test_core_elsewhere import Core
from workers.cli import worker
from workers.console.look import Dashboard
from workers.maintenance.backup import load, save
from workers.maintenance.reporter import Reporter
from workers.reports import fleet as fleet_reports
from workers.reports import servers
from workers.runtime import Runtime


def test_doctor_has_nothing_to_say_of_the_cluster_itself(runtime: Runtime) -> None:
    runtime.name, runtime.role = "intake.1", "intake"
    runtime.alive()
    runtime.core.xadd(runtime.settings.event_streams[0], {"e": b"{}"})
    found = [*servers.redis_findings(runtime), *fleet_reports.clock_findings(runtime)]
    assert [one for one in found if not one.ok] == []
    assert any("Valkey" in one.found for one in found)
    assert runtime.settings.prefix not in servers.other_fleets(runtime)
    list(servers.name_findings(runtime))
    list(fleet_reports.stream_findings(runtime))
    list(fleet_reports.process_findings(runtime))


def test_gauges_and_the_consoles_queues(runtime: Runtime) -> None:
    stream = runtime.settings.event_streams[0]
    runtime.core.xadd(stream, {"e": b"{}"})
    Reporter(runtime).show_streams()
    metric = metrics.QUEUE_WAIT_SECONDS.collect()[0]
    shown = {sample.labels["stage"]: sample.value for sample in metric.samples}
    assert shown.keys() >= {"intake", "presence", "routing", "ledger"}
    rows = Dashboard(runtime, cast(Any, None)).queues(int(time.time() * 1000))
    queues = {one.name: one.entries for one in rows}
    assert queues[stream] == 1


@pytest.mark.parametrize("stage", ["intake", "presence", "upkeep"])
def test_wake_ups_on_a_cluster_are_refused_by_name(
    runtime: Runtime, cluster: ValkeyCluster, stage: str
) -> None:
    """Celery's worker ended with a stack of MOVED behind such an address, exit code 1."""
    migrate(runtime.engine)
    one = cluster.url().replace("redis+cluster", "redis").partition(",")[0]
    told = subprocess.run(
        [sys.executable, "-m", "workers", "worker", stage],
        env={**os.environ, **environ_of(runtime.settings), "PUSHFLEET_BROKER_URL": one},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    *_, line = (told.stdout + told.stderr).splitlines()
    assert (told.returncode, "PUSHFLEET_BROKER_URL names a server in cluster mode" in line) == (
        2,
        True,
    )


def test_a_process_without_the_server_of_its_wake_ups_is_not_ready(
    keyed: Settings, restartable_valkey: OwnValkey
) -> None:
    with opened(dataclasses.replace(keyed, broker_url=restartable_valkey.url)) as runtime:
        ready = {}
        for role in ("intake", "presence", "routing", "delivery:apns", "upkeep", "receipts"):
            runtime.role = role
            ready[role] = partial(_ready, runtime, role)
            assert ready[role]()
        restartable_valkey.kill()
        hears = {role for role, is_ready in ready.items() if not is_ready()}
        assert hears == ready.keys() - {"receipts"}
        restartable_valkey.restart()
        assert all(is_ready() for is_ready in ready.values())


def _ready(runtime: Runtime, role: str) -> bool:
    """As `/readyz` of a process of this role says it."""
    runtime.role = role
    try:
        return worker._ready(runtime)
    except RedisError:
        return False


@pytest.fixture
def fleets(
    settings: Settings, runtime: Runtime, database_url: str
) -> Iterator[tuple[Runtime, Runtime]]:
    """Of the same names, each with a database of its own: on one server, and on the cluster."""
    with own_database(database_url) as one, own_database(database_url) as other:
        server = {
            "redis_url": settings.redis_url,
            "core_url": settings.core_url,
            "broker_url": None,
            "database_url": one,
        }
        elsewhere = Runtime(dataclasses.replace(runtime.settings, **server))
        found = (elsewhere, Runtime(dataclasses.replace(runtime.settings, database_url=other)))
        yield found
        for each in found:
            each.close()


def test_a_backup_moves_a_fleet_to_the_cluster(
    fleets: tuple[Runtime, Runtime], tmp_path: Path
) -> None:
    plain, runtime = fleets
    migrate(plain.engine)
    core = Core(plain)
    core.phone("carol")
    core.take_in()
    core.group_message()
    core.take_in()
    core.group_message()  # still unread
    with plain.redis.pipeline(transaction=True) as pipe:
        plain.lane_queues.put(pipe, [NewBatch("a:apns:b", Urgency.CHAT, b"blob", 2, 1, 0)])
        pipe.execute()
    save(plain, tmp_path / "fleet.backup")
    load(runtime, tmp_path / "fleet.backup", hold=False)
    moved = Core.__new__(Core)
    moved.runtime, moved.app, moved.prefix, moved.stream = (
        runtime,
        core.app,
        core.prefix,
        core.stream,
    )
    assert runtime.core.xlen(core.stream) == 1
    assert runtime.redis.xlen(runtime.keys.stream(keys.presence(Urgency.GROUP))) == 1
    assert runtime.lane_queues.waiting("a:apns:b") == 2
    assert runtime.lane_queues.pop(Vendor.APNS, dict.fromkeys(Urgency, 5), [])[0] == [
        ("a:apns:b", Urgency.CHAT)
    ]
    moved.take_in()
    runtime.core.sadd(f"{core.prefix}members:{{{core.app}:g}}", "alice", "carol")
    assert moved.decisions()["carol"] == ["no_credential"] * 2


def test_the_core_on_a_cluster_and_the_fleet_on_one_server(
    settings: Settings, runtime: Runtime
) -> None:
    apart = Runtime(
        dataclasses.replace(runtime.settings, redis_url=settings.redis_url, broker_url=None)
    )
    core = Core(apart)
    core.phone("carol")
    core.group_message()
    core.take_in()
    assert core.decisions() == {"alice": ["sender"], "bob": ["online"], "carol": ["no_credential"]}
    assert connect(settings.redis_url).exists(apart.keys.stream(keys.LEDGER))
    apart.close()


def test_the_core_on_one_server_and_the_fleet_on_a_cluster(
    settings: Settings, runtime: Runtime, cluster: ValkeyCluster
) -> None:
    apart = Runtime(dataclasses.replace(runtime.settings, core_url=settings.redis_url))
    core = Core(apart)
    core.phone("carol")
    core.group_message()
    core.take_in()
    assert core.decisions() == {"alice": ["sender"], "bob": ["online"], "carol": ["no_credential"]}
    assert apart.redis.connection_pool.connection_kwargs["slot"] >= 0, cluster.url()
    apart.close()
