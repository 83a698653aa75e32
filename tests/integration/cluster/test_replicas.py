"""Replication is asynchronous: what a replica has not got yet is lost with its primary, so the
core's entry stays until it has.
"""

import dataclasses
import signal
import threading
from typing import Any

import pytest

from common.storage import commits, failover
from common.storage.failover import ReplicaStanding, ask_standing, standing
from tests.cluster import ValkeyCluster
from tests.integration.cluster.behind import Behind
from tests.integration.conftest import opened
from tests.waiting import wait_for
from workers.runtime import Runtime


def test_an_entry_stays_with_the_core_while_a_replica_is_behind(
    runtime: Runtime, cluster: ValkeyCluster
) -> None:
    replica = cluster.replica_of(cluster.owner("{s0}"))
    Behind(runtime, replica.send).stays_with_the_core()
    wait_for(cluster.healthy, "the cluster is whole")


def test_a_replica_that_has_long_been_silent_is_not_waited_for(
    runtime: Runtime, cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "REPLICA_SILENT_S", 1)
    monkeypatch.setattr(commits, "ALONE_S", 0.0)
    replica = cluster.replica_of(cluster.owner("{s0}"))
    behind = Behind(runtime, replica.send)
    replica.send(signal.SIGSTOP)
    try:
        behind.core.phone("bob")
        reader = threading.Thread(target=behind.intake.once)
        reader.start()
        reader.join(60)
        assert not reader.is_alive()
        assert not runtime.core.xlen(behind.core.stream)
        waits = waited(cluster)
        behind.core.phone("bob")
        behind.intake.once()
        assert not runtime.core.xlen(behind.core.stream)
        assert waited(cluster) == waits, "each wait is 0.2 s of its shard's"
    finally:
        replica.send(signal.SIGCONT)
    wait_for(cluster.healthy, "the cluster is whole")


def test_a_user_who_may_not_ask_for_replicas_waits_for_one_all_the_same(
    runtime: Runtime, cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait in vain, and all later writes would go without one."""
    monkeypatch.setattr(commits, "ALONE_S", 0.0)
    for node in cluster.nodes:
        node.say("ACL", "SETUSER", "untold", "on", ">p", "~*", "&*", "+@all", "-info")
    settings = dataclasses.replace(runtime.settings, redis_url=cluster.url("untold:p"))
    replica = cluster.replica_of(cluster.owner("{s0}"))
    with opened(settings) as untold:
        behind = Behind(untold, replica.send)
        replica.send(signal.SIGSTOP)
        try:
            behind.core.phone("bob")
            behind.intake.once()
        finally:
            replica.send(signal.SIGCONT)
        wait_for(cluster.healthy, "the cluster is whole")
        waits = waited(cluster)
        behind.core.phone("bob")
        behind.intake.once()
        assert not runtime.core.xlen(behind.core.stream)
        assert waited(cluster) > waits


def test_a_server_that_was_replaced_while_it_stood_still_is_found_out_by_the_others(
    runtime: Runtime, cluster: ValkeyCluster
) -> None:
    """It goes on as before until it hears of it; by then it has taken writes that nobody has."""
    victim, client = cluster.owner("{s0}"), runtime.redis
    _, rows = ask_standing(client, client)
    nowhere = [[first, last, *((host, 1, b"x") for host, *_ in of)] for first, last, *of in rows]
    assert standing(client, [{}, rows]) is ReplicaStanding.ALONE
    assert standing(client, [{}, nowhere]) is ReplicaStanding.REPLACED, "nobody else answers"
    victim.send(signal.SIGSTOP)
    try:
        wait_for(lambda: cluster.owner("{s0}") is not victim, "its replica has taken over")
        assert standing(client, [{}, rows]) is ReplicaStanding.REPLACED
    finally:
        victim.send(signal.SIGCONT)
    wait_for(cluster.healthy, "the cluster is whole")


def waited(cluster: ValkeyCluster) -> int:
    """How often the server was asked to wait for a replica."""
    told: Any = cluster.owner("{s0}").client.info("commandstats")
    return int(told.get("cmdstat_wait", {"calls": 0})["calls"])


TOLD = {
    "it follows": ({"slave0": {"state": "online", "lag": 1}}, True),
    "silent": ({"slave0": {"state": "online", "lag": 11}}, False),
    "silent, beside one that follows": (
        {"slave0": {"state": "online", "lag": 60}, "slave1": {"state": "online", "lag": 0}},
        True,
    ),
    "it still gets the whole": ({"slave0": {"state": "send_bulk", "lag": 0}}, False),
    "none": ({"role": "master", "connected_slaves": 0}, False),
    "a user who may not ask": (PermissionError("NOPERM"), False),
}


@pytest.mark.parametrize(("told", "follows"), TOLD.values(), ids=TOLD)
def test_who_follows(told: object, follows: bool) -> None:
    assert failover.has_replica(told) is follows
