"""Redis' clock is set back, or is another server's: what is due by the old one does not wait for
it.
"""

import uuid
from typing import Any

import pytest

from common.model import Urgency, Vendor
from common.storage.replies import Replies
from common.storage.scripts import run_all
from common.storage.server_clock import ServerClock
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

HOUR_MS = 3_600_000
LANE = "clock:fcm:b"


def server_ms(runtime: Runtime) -> int:
    seconds, micros = runtime.redis.time()  # type: ignore[misc]
    return int(seconds) * 1000 + int(micros) // 1000


def set_back(runtime: Runtime, ms: int) -> None:
    """As if the clock had been `ms` ahead until now."""
    assert ServerClock(runtime.redis, runtime.keys).set_back_ms() == 0
    runtime.redis.set(runtime.keys.server_clock, server_ms(runtime) + ms)


def due_in_s(runtime: Runtime, name: str, member: str) -> float:
    score: Any = runtime.redis.zscore(name, member)
    return (float(score) - server_ms(runtime)) / 1000


def test_what_was_due_by_the_old_clock_is_due_by_the_new_one(runtime: Runtime) -> None:
    redis, names, timer = runtime.redis, runtime.keys, LaneTimer(runtime)
    timer.look()
    set_back(runtime, HOUR_MS)
    old = server_ms(runtime) + HOUR_MS
    ready = names.ready(Vendor.FCM, Urgency.CHAT)
    for name in (names.replies_due, ready):
        redis.zadd(name, {"now": old - 1_000, "soon": old + 60_000, "before": 0})
    redis.zadd(names.popped(Vendor.FCM), {LANE: old + 5_000})
    timer.look()
    for name in (names.replies_due, ready):
        assert due_in_s(runtime, name, "now") <= 0
        assert 50 < due_in_s(runtime, name, "soon") < 62
        assert redis.zscore(name, "before") == 0
    found = due_in_s(runtime, names.popped(Vendor.FCM), LANE)
    assert found <= runtime.lane_queues.lease_ms / 1000 + 1
    timer.look()
    assert 50 < due_in_s(runtime, ready, "soon") < 62, "once"


def test_leases_are_cut_and_never_end_before_their_sender_must_be_heard_of(
    runtime: Runtime,
) -> None:
    leases = runtime.keys.lane_leases(LANE)
    now, lease_ms = server_ms(runtime), runtime.lane_queues.lease_ms
    runtime.redis.zadd(leases, {"dead": now + HOUR_MS, "alive": now + lease_ms - 100})
    ServerClock(runtime.redis, runtime.keys).advance([leases], HOUR_MS, lease_ms)
    assert due_in_s(runtime, leases, "dead") <= lease_ms / 1000
    assert due_in_s(runtime, leases, "alive") > lease_ms / 1000 - 3


def test_a_clock_that_goes_on_moves_nothing(runtime: Runtime) -> None:
    clock = ServerClock(runtime.redis, runtime.keys)
    assert [clock.set_back_ms() for _ in range(3)] == [0, 0, 0]
    runtime.redis.set(runtime.keys.server_clock, server_ms(runtime) - HOUR_MS)
    assert clock.set_back_ms() == 0
    runtime.redis.set(runtime.keys.server_clock, server_ms(runtime) + HOUR_MS)
    assert HOUR_MS - 5_000 < clock.set_back_ms() <= HOUR_MS
    assert clock.set_back_ms() == 0


def test_a_look_that_breaks_does_not_forget_that_the_clock_was_set_back(runtime: Runtime) -> None:
    """The server that took over goes away once more before it has answered."""
    clock, now = ServerClock(runtime.redis, runtime.keys), server_ms(runtime)
    for seen_ms, found_ms in ((now + HOUR_MS, 0), (now, HOUR_MS)):
        assert clock.call_at(seen_ms) is not None
        call = clock.call_at(seen_ms + 1)
        assert call is not None, "it is asked again"
        (told,) = run_all(runtime.redis, [call])
        clock.answered()
        assert found_ms - 5_000 < int(told) <= found_ms + 1
    assert clock.call_at(now + 2) is None


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_the_wait_for_a_reply_is_measured_by_the_servers_clock(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """Whoever waits and whoever releases are two hosts whose clocks differ."""
    replies = Replies(runtime.redis, runtime.keys)
    monkeypatch.setattr(
        "common.storage.replies.time.time", lambda: server_ms(runtime) / 1000 + ahead_s
    )
    with runtime.redis.pipeline() as pipe:
        replies.wait(pipe, [("k", "e", "u", server_ms(runtime) + ahead_s * 1000 + 60_000)])
        pipe.execute()
    monkeypatch.undo()
    assert 55 < due_in_s(runtime, runtime.keys.replies_due, "k\0e\0u") < 61
    assert replies.release_due() == 0


def test_of_a_removed_account_nothing_stays_when_its_queue_is_empty(runtime: Runtime) -> None:
    lane = f"gone{uuid.uuid4().hex[:8]}:fcm:b"
    queues, names = runtime.lane_queues, runtime.keys
    runtime.redis.hset(names.lane_load(lane), mapping={"b": 7, "w": 1})
    runtime.redis.sadd(names.loaded_lanes, lane)
    queues.drop(lane)
    assert runtime.redis.exists(names.lane_load(lane)), "something waits there"
    runtime.redis.hset(names.lane_load(lane), mapping={"b": 0, "w": 0})
    LaneTimer(runtime).look()
    assert not runtime.redis.exists(names.lane_load(lane))
