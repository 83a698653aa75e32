"""Redis without free memory: what waits is sent all the same, so that memory gets free."""

from typing import Any

import pytest
import redis

from common.model import Urgency
from common.storage import keys
from common.storage.lane_entries import NewBatch
from common.storage.streams import StreamStore
from tests.integration.delivery.conftest import World, chat


def test_what_waits_is_sent_though_redis_is_full(world: World, full: redis.Redis) -> None:
    works = [chat(number) for number in range(20)]
    world.put(works)
    full.config_set("maxmemory", 1)
    world.turn(lambda: len(world.accepted()) >= len(works))
    full.config_set("maxmemory", 0)
    world.turn(lambda: world.all_decided(works))
    assert set(world.decisions(works)) == {"accepted"}
    assert len(world.accepted()) == len(works)


def test_who_reads_a_stream_for_the_first_time_makes_room_though_redis_is_full(
    world: World, full: redis.Redis
) -> None:
    streams, stream = world.runtime.streams, world.runtime.keys.stream(keys.LEDGER)
    full.xadd(stream, {"b": b"a record"})
    full.config_set("maxmemory", 1)
    for _ in range(2):  # and again by another process
        found = StreamStore(full, world.runtime.keys).read([keys.LEDGER], 10)
        assert [entry.stream for entry in found] in ([keys.LEDGER], [])
    with full.pipeline(transaction=True) as pipe:
        streams.acknowledge(pipe, streams.take_over(keys.LEDGER, 10) or found)
    assert full.xinfo_groups(stream)[0]["entries-read"] == 1


@pytest.mark.parametrize("memory", [0, 1])
def test_a_shut_lane_keeps_its_place_whatever_stands_in_it(
    world: World, full: redis.Redis, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, lane = world.runtime, world.lane
    runtime.lane_states.tell(lane.id, lane.credential.version, good=0, failed=0, refused=True)
    world.put([chat(1)])
    with full.pipeline(transaction=True) as pipe:
        runtime.lane_queues.put(
            pipe, [NewBatch(lane.id, Urgency.CHAT, b"\xc1 cannot be read", 1, 1, 1 << 45)]
        )
        pipe.execute()
    full.config_set("maxmemory", memory)
    ready, looks = runtime.keys.ready(lane.vendor, Urgency.CHAT), list[Any]()
    take = runtime.lane_queues.take

    def counted(*asked: Any) -> Any:
        looks.append(take(*asked))
        return looks[-1]

    monkeypatch.setattr(runtime.lane_queues, "take", counted)
    world.turn(lambda: len(looks) >= 2)
    assert full.zscore(ready, lane.id) is not None
