"""What the fleet tells of itself while a shard's node is away."""

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import RedisError

from common.storage import keys
from tests.cluster import Node, ValkeyCluster
from tests.integration.cluster.test_shards_away import SHARDS, Fleet, alone, fleet, town, victim
from tests.waiting import wait_for
from workers.lane_report import console_rows
from workers.maintenance.reporter import Reporter
from workers.reports.fleet import stream_findings

__all__ = ["alone", "fleet", "town", "victim"]


def shown(gauge: str) -> dict[str, float]:
    """By its first label."""
    return {
        next(iter(sample.labels.values())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == gauge
    }


def turned(reporter: Reporter) -> bool:
    try:
        reporter.show_streams()
    except (RedisError, OSError):
        return False
    return True


@pytest.fixture
def filled(town: Fleet) -> Fleet:
    """One entry for presence in each shard."""
    stream = keys.STAGE_STREAMS["presence"][0]
    for one in town.runtime.shards:
        with one.redis.pipeline(transaction=True) as pipe:
            one.streams.add(pipe, [(stream, b"x")])
            pipe.execute()
    return town


def test_figures_of_the_shards_that_are_well_go_on(
    filled: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    runtime, ill = filled.runtime, filled.ill
    reporter = Reporter(runtime)
    assert turned(reporter)
    assert shown("pushfleet_backlog")["presence"] == SHARDS
    assert set(shown("pushfleet_shard_away").values()) == {0}
    victim.kill()
    wait_for(lambda: turned(reporter) and any(shown("pushfleet_shard_away").values()), "it goes on")
    assert shown("pushfleet_backlog")["presence"] == SHARDS - len(ill)
    assert shown("pushfleet_shard_away") == {str(one): int(one in ill) for one in range(SHARDS)}
    reporter.show_lanes()
    reporter.forget_readers()
    found = next(one for one in stream_findings(runtime) if one.problem == "shard_away")
    for lang in ("en", "zh"):
        assert ", ".join(map(str, sorted(ill))) in found.words(lang)
    assert {row["queue_bytes"] for row in console_rows(runtime)} <= {0}
    alone.revive()
    wait_for(lambda: turned(reporter) and not any(shown("pushfleet_shard_away").values()), "back")
    assert shown("pushfleet_backlog")["presence"] == SHARDS
