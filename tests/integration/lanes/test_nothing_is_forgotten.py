"""Processes that die between two steps, servers that are full: every entry is still taken by
somebody.
"""

import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from common.model import Urgency, Vendor
from common.storage.delayed import Delayed, retry_member
from common.storage.keys import Keys
from common.storage.lane_queues import LaneQueues
from common.storage.scripts import Call
from tests.integration.lanes.test_lane_queues import LANE, blobs, end, new, put, take

LEASE_MS = 300
ALL = dict.fromkeys(Urgency, 10)


@pytest.fixture
def queues(redis_client: redis.Redis, space: str) -> LaneQueues:
    return LaneQueues(redis_client, Keys(f"push{space}"), LEASE_MS)


def test_what_a_dead_sender_held_comes_back_though_others_go_on_with_its_lane(
    queues: LaneQueues,
) -> None:
    put(queues, new(b"held"))
    queues.pop(Vendor.FCM, ALL, ())
    take(queues)  # and dies
    came, until = 0, time.monotonic() + 60
    while not came and time.monotonic() < until:
        put(queues, new(b"another"))
        queues.pop(Vendor.FCM, ALL, ())
        other = take(queues)
        assert blobs(other) == [b"another"]
        end(queues, other)
        came = queues.reap(Vendor.FCM)
        time.sleep(0.02)
    assert came == 1


def test_a_full_server_makes_lanes_ready(queues: LaneQueues, full: redis.Redis) -> None:
    put(queues, new(b"x"))
    assert queues.pop(Vendor.FCM, ALL, ())[0] == [(LANE, Urgency.CHAT)]
    full.config_set("maxmemory", 1)
    queues.wake_at([(LANE, Urgency.CHAT, 0)])
    assert queues.pop(Vendor.FCM, ALL, ())[0] == [(LANE, Urgency.CHAT)]


def test_a_full_server_gives_back_what_the_dead_held(queues: LaneQueues, full: redis.Redis) -> None:
    put(queues, new(b"x"))
    queues.pop(Vendor.FCM, ALL, ())
    take(queues)
    full.config_set("maxmemory", 1)
    time.sleep(LEASE_MS / 1000 + 1.1)
    assert queues.reap(Vendor.FCM) == 1
    assert queues.pop(Vendor.FCM, ALL, ())[0] == [(LANE, Urgency.CHAT)]


def test_who_takes_a_lane_while_it_is_looked_after_is_looked_after_too(
    queues: LaneQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queues, new(b"x"))
    queues.pop(Vendor.FCM, ALL, ())  # and dies before it took anything
    time.sleep(LEASE_MS / 1000 + 1.1)
    run = queues._run

    def between(calls: Sequence[Call]) -> list[Any]:
        told = run(calls)
        if calls and calls[0][0] is queues._reap:
            monkeypatch.undo()
            queues.wake_at([(LANE, Urgency.CHAT, 0)])
            assert queues.pop(Vendor.FCM, ALL, ())[0]
            take(queues)  # and dies as well
        return told

    monkeypatch.setattr(queues, "_run", between)
    queues.reap(Vendor.FCM)
    time.sleep(LEASE_MS / 1000 + 1.1)
    assert queues.reap(Vendor.FCM) == 1


@pytest.mark.parametrize("memory", [0, 1])
def test_a_due_retry_makes_its_lane_ready_in_the_same_step(
    queues: LaneQueues, full: redis.Redis, memory: int
) -> None:
    batch = new(b"again")
    full.zadd(queues.keys.delayed, {retry_member(batch): 0})
    full.config_set("maxmemory", memory)
    assert Delayed(full, queues.keys).release_due() == {"send:fcm:chat"}
    assert queues.pop(Vendor.FCM, ALL, ())[0] == [(LANE, Urgency.CHAT)]
    assert blobs(take(queues)) == [b"again"]
    assert queues.loaded() == [LANE]


def test_who_came_first_is_taken_first_whoever_gets_new_work_meanwhile(queues: LaneQueues) -> None:
    one = {**dict.fromkeys(Urgency, 0), Urgency.CHAT: 1}
    put(queues, new(b"x", lane="a:fcm:b"), new(b"x", lane="z:fcm:b"))
    taken = []
    for _ in range(4):
        ((lane, _),), *_ = queues.pop(Vendor.FCM, one, ())
        taken.append(lane)
        end(queues, take(queues, lane=lane))
        time.sleep(0.003)
        put(queues, new(b"x", lane=lane))
    assert taken == ["a:fcm:b", "z:fcm:b"] * 2


def test_the_most_urgent_lanes_are_taken_first(queues: LaneQueues) -> None:
    for number, urgency in enumerate(reversed(Urgency)):
        put(queues, new(b"x", urgency, f"a:fcm:{number}"))
    found, *_ = queues.pop(Vendor.FCM, ALL, ())
    assert [urgency for _, urgency in found] == list(Urgency)
