"""The lanes' queues of several shards as one: which lanes may send, and when they may again."""

from itertools import chain

import pytest
import redis

from common.model import Urgency, Vendor
from common.storage.joint_lanes import JointLanes
from common.storage.keys import Keys
from common.storage.lane_entries import NewBatch, PushRoom
from common.storage.lane_queues import LaneQueues

LANE, FAR_MS = "demo:apns:ios", 9_000_000_000_000


@pytest.fixture(params=[1, 3])
def shards(redis_client: redis.Redis, space: str, request: pytest.FixtureRequest) -> JointLanes:
    """One lane, in which a batch waits in each shard."""
    names = [f"push{space}:{number}" for number in range(request.param)]
    each = [LaneQueues(redis_client, Keys(name)) for name in names]
    for one in each:
        with redis_client.pipeline() as pipe:
            one.put(pipe, [NewBatch(LANE, Urgency.CHAT, b"", 2, 2, FAR_MS)])
            pipe.execute()
    return JointLanes(lambda: each)


def popped(joint: JointLanes, *without: int) -> list[int]:
    """The shards whose lane may send; there is room for the batch of one."""
    most, room = dict.fromkeys(Urgency, 9), PushRoom(pushes=2, others=2, each=2)
    found, _, waiting = joint.pop(Vendor.APNS, most, (), room, without)
    assert [place[:2] for place in found] == [(LANE, Urgency.CHAT)] * len(waiting)
    return [number for *_, number in found]


def test_each_shard_is_served_first_in_its_turn(shards: JointLanes) -> None:
    count = len(shards._each())
    for number in [*range(count)] * 2:  # also where those that were served are due again
        assert popped(shards) == [number]
        assert shards.wake_at([((LANE, Urgency.CHAT, number), 0)])
    if count > 1:
        assert [popped(shards, 0, 1), popped(shards, 0, 1), popped(shards, 0)] == [[2], [], [1]]
    assert [popped(shards), popped(shards)] == [[0], []]


def test_a_lane_that_is_opened_is_due_in_all_shards(shards: JointLanes) -> None:
    count = len(shards._each())
    for _ in range(count):
        popped(shards)
    later = [((LANE, Urgency.CHAT, number), FAR_MS) for number in range(count)]
    assert shards.wake_at(later[-1:])
    assert shards.wake_at(later) == (count > 1), "the last one had a time"
    assert not shards.wake_at([(place, 0) for place, _ in later])
    assert popped(shards) == []
    shards.wake_now(LANE)
    assert sorted(chain(*[popped(shards) for _ in range(count)])) == list(range(count))
