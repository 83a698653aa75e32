"""A fleet of three shards on a cluster: their slots lie on several nodes, and each node may die."""

import dataclasses
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from common.ledger_records import PageRecord, RowRecord, decode_records, unpack_users
from common.storage import keys
from common.storage.shards import RESHARD, shard_of
from tests.chaos import reshard
from tests.cluster import ValkeyCluster
from tests.integration.cluster.load import RECOVERY_S_MAX, Load
from tests.integration.test_core_elsewhere import Core
from tests.waiting import wait_for
from workers.app import PRESENCE, ROUTING
from workers.cli.worker import intake_loop
from workers.pipeline import Stages
from workers.resharding.mover import Mover
from workers.runtime import Runtime
from workers.shards import backlog


@pytest.fixture
def spread(runtime: Runtime) -> Iterator[Runtime]:
    made = Runtime(dataclasses.replace(runtime.settings, shards=3), role="test")
    yield made
    made.close()


def test_each_shard_goes_on_when_its_node_dies_or_its_slot_moves(
    spread: Runtime, cluster: ValkeyCluster
) -> None:
    load = Load(spread)
    try:
        load.goes_on()
        victim = cluster.owner("{s1}")
        victim.kill()
        assert load.goes_on() < RECOVERY_S_MAX
        victim.start()
        wait_for(cluster.healthy, "the cluster is whole")
        cluster.move_slot_whole("{s2}")
        assert load.goes_on() < RECOVERY_S_MAX
    finally:
        load.end()
    load.all_accounted_for()


def test_a_groups_pages_reach_each_member_once(spread: Runtime) -> None:
    core, members = Core(spread), [f"m{number}" for number in range(1_200)]
    spread.core.sadd(f"{core.prefix}members:{{{core.app}:g}}", *members)
    for number in range(3):
        conversation = {"type": "group", "id": "g"}
        data = {"message_id": f"m{number}", "conversation": conversation, "sender": {"id": "boss"}}
        event = {
            "v": 1,
            "id": uuid.uuid4().hex,
            "type": "message.stored",
            "app": core.app,
            "ts": int(time.time() * 1000),
        }
        full = {**data, "elements": [{"type": "text", "text": "hi"}]}
        spread.core.xadd(core.stream, {"e": json.dumps({**event, "data": full})})
    intake, stages = intake_loop(spread), Stages(spread)
    while intake.once(block_ms=10):
        pass
    until = time.monotonic() + 60
    while any(
        one.unread + one.pending for one in backlog(spread, (*keys.STREAMS, *keys.OUT)).values()
    ) or any(one.delayed.waiting_count() for one in spread.shards):
        assert time.monotonic() < until
        for one in spread.shards:
            one.delayed.release_due()
        for stage in (PRESENCE, ROUTING):
            stages.consumer(stage)(lambda: False)
    rows = Counter[tuple[str, str]]()
    for one in spread.shards:
        for _, fields in one.redis.xrange(one.keys.stream(keys.LEDGER)):
            for record in decode_records(fields[b"b"]):
                if isinstance(record, PageRecord):
                    rows.update((record.event_id, user) for user in unpack_users(record.users))
                elif isinstance(record, RowRecord):
                    rows[record.event_id, record.user] += 1
    assert len(rows) == 3 * len(members)
    assert set(rows.values()) == {1}


def test_what_waits_moves_between_nodes(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one shard to three and back: entries, retries and marks, each in its person's slot."""
    monkeypatch.setattr(reshard, "PUSHES", 600)
    monkeypatch.setattr(reshard, "LANES", 3)
    reshard.fill(runtime)
    for number in range(20):
        runtime.badges.report("demo", f"u0-{number}", "d", 1, number)
    before = reshard.waiting(runtime)
    for old, new in ((1, 3), (3, 1)):
        fleets = [
            Runtime(dataclasses.replace(runtime.settings, shards=number), "reshard", RESHARD)
            for number in (old, new)
        ]
        Mover(fleets[0], fleets[1], lambda _counts: None).run()
        assert reshard.waiting(fleets[1]) == before
        for number in range(20):
            place = fleets[1].shards[shard_of(new, "demo", f"u0-{number}")]
            told: Any = place.redis.hgetall(place.keys.badges("demo", f"u0-{number}"))
            assert str(number).encode() in told.values()
        for fleet in fleets:
            fleet.close()
