"""The autoscaling signal: how long work that could be done now has waited for a worker, whatever
else waits.
"""

import time

import pytest
import redis

from common.model import Urgency, Vendor
from common.storage.keys import PRESENCE, Keys, presence
from common.storage.lane_entries import LaneTerms, NewBatch
from common.storage.lane_queues import LaneQueues
from common.storage.streams import GROUP, StreamStore

STREAM = presence(Urgency.CHAT)


@pytest.fixture
def keys(space: str) -> Keys:
    return Keys(f"push{space}")


def put(queues: LaneQueues, *lanes: str) -> None:
    with queues.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, [NewBatch(lane, Urgency.CHAT, b"blob", 1, 1, 0) for lane in lanes])
        pipe.execute()


def test_a_stream_waits_from_its_first_unread_entry_on(
    redis_client: redis.Redis, keys: Keys
) -> None:
    """Readers overlap: entries are deleted out of order, and what the slowest has at work is
    nobody's backlog.
    """
    one, other = StreamStore(redis_client, keys), StreamStore(redis_client, keys)
    one.make(STREAM)
    assert one.untaken_s([STREAM, PRESENCE]) == {STREAM: 0.0, PRESENCE: 0.0}
    for _ in range(4):
        redis_client.xadd(keys.stream(STREAM), {"b": b""})
    slow = one.read([STREAM], 1)
    quick = other.read([STREAM], 2)
    other.hand_on(quick[1:])
    time.sleep(0.05)
    assert one.untaken_s([STREAM])[STREAM] >= 0.05, "the fourth is nobody's"
    other.hand_on(other.read([STREAM], 5))
    assert one.untaken_s([STREAM])[STREAM] == 0.0, "two are at work, nothing waits"
    groups = redis_client.xinfo_groups(keys.stream(STREAM))
    assert next(group for group in groups if group["name"] == GROUP.encode())["lag"] != 0 or slow, (
        "XINFO says otherwise, or nothing"
    )


def test_a_lane_waits_from_when_it_may_send(redis_client: redis.Redis, keys: Keys) -> None:
    queues = LaneQueues(redis_client, keys)
    assert queues.untaken_s() == {}
    put(queues, "a:apns:x", "a:fcm:x")
    time.sleep(0.05)
    waits = queues.untaken_s()
    assert waits.keys() == {Vendor.APNS, Vendor.FCM}
    assert min(waits.values()) >= 0.05
    [(lane, urgency)] = queues.pop(Vendor.APNS, dict.fromkeys(Urgency, 5), [])[0]
    assert queues.untaken_s()[Vendor.APNS] == 0.0, "somebody has it"
    queues.take([(lane, urgency, LaneTerms(1, 100.0, 10.0), 500)], 15.0)
    put(queues, lane)
    assert queues.untaken_s()[Vendor.APNS] >= 0.0


def test_a_lane_that_may_not_send_yet_asks_for_nobody(
    redis_client: redis.Redis, keys: Keys
) -> None:
    """At its rate, stopped or paused: more senders would not help it."""
    queues, lane = LaneQueues(redis_client, keys), "a:apns:x"
    put(queues, lane)
    queues.pop(Vendor.APNS, dict.fromkeys(Urgency, 5), [])
    now_ms = int(time.time() * 1000)
    queues.wake_at([(lane, Urgency.CHAT, now_ms + 60_000)])
    assert queues.untaken_s() == {Vendor.APNS: 0.0}
    redis_client.zadd(keys.ready(Vendor.APNS, Urgency.CHAT), {lane: now_ms - 2_000})
    assert 1.9 < queues.untaken_s()[Vendor.APNS] < 30, "it has been due for two seconds"
