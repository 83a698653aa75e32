"""What upkeep does for all shards of a server: none of them holds up another, and many that have
nothing to do ask no more often than one.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from common.config import Settings
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.lane_entries import NewBatch
from common.storage.leases import JointLease, Lease
from tests.integration.conftest import opened
from workers import shards
from workers.maintenance import recalls
from workers.maintenance.recalls import Recalls, ShardRecalls
from workers.maintenance.reporter import Reporter
from workers.maintenance.timer import LOOKS_S, ShardTimers, Timer
from workers.runtime import Runtime
from workers.shards import lanes_loads

SHARDS = 4


@pytest.fixture
def runtime(keyed: Settings) -> Iterator[Runtime]:
    with opened(replace(keyed, shards=SHARDS)) as made:
        yield made


def test_a_shard_whose_turn_fails_leaves_the_others_theirs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, looked = ShardTimers(runtime), set[int]()
    places = {id(one): place for place, one in enumerate(timers._timers)}
    monkeypatch.setattr(Timer, "_look", lambda one: looked.add(places[id(one)]))

    def broken() -> set[str]:
        raise OSError("its dead letter finds no room")

    monkeypatch.setattr(timers._timers[0].lanes, "release", broken)
    runtime.redis.zadd(runtime.shards[0].keys.delayed, {b"x": 1})
    with pytest.raises(OSError, match="no room"):
        timers.turn()
    assert looked == set(range(SHARDS))
    alone = Timer(runtime.shards[0])
    places[id(alone)] = SHARDS
    monkeypatch.setattr(alone.lanes, "release", broken)
    with pytest.raises(OSError, match="no room"):
        alone.turn()
    assert SHARDS in looked, "on a full server the look is what makes room"


def test_long_looks_share_a_turn_and_take_turns(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, looked = ShardTimers(runtime), list[int]()
    places = {id(one): place for place, one in enumerate(timers._timers)}

    def long(one: Timer) -> None:
        looked.append(places[id(one)])
        time.sleep(LOOKS_S)

    monkeypatch.setattr(Timer, "_look", long)
    turns = []
    for _ in range(2 * SHARDS):
        began = time.monotonic()
        timers.turn()
        turns.append(time.monotonic() - began)
    assert sorted(turns)[SHARDS] < 2 * LOOKS_S, "what is due waits for one look, not for all"
    assert set(looked) == set(range(SHARDS))


def exchanges(runtime: Runtime, do: Callable[[], object]) -> int:
    """How often the server is written to meanwhile."""

    def reads() -> int:
        told: Any = runtime.redis.info("stats")
        return int(told["total_reads_processed"])

    began, before = reads(), reads()
    own = before - began
    do()
    return reads() - before - own


def looks(runtime: Runtime) -> dict[str, Callable[[], object]]:
    """What upkeep and idle workers ask again and again, by what it is about."""
    many = len(runtime.shards) > 1
    timer: Any = ShardTimers(runtime) if many else Timer(runtime)
    reporter, recalled = Reporter(runtime), (ShardRecalls if many else Recalls)(runtime)

    def look() -> None:
        for one in timer._timers if many else [timer]:
            one._next = one.lanes._old_at = 0.0
        timer.turn()

    return {
        "timer": look,
        "recalls": recalled.turn,
        "streams": reporter.show_streams,
        "queue wait": reporter.show_queue_wait,
        "queue bytes": lambda: reporter.show_queue_bytes(()),
        "dead readers": reporter.forget_readers,
        "presence": lambda: shards.any_filled(runtime, keys.STAGE_STREAMS[keys.PRESENCE]),
        "delivery": lambda: shards.due_vendors(runtime),
    }


def test_many_idle_shards_are_asked_as_often_as_one(runtime: Runtime, keyed: Settings) -> None:
    with opened(replace(keyed, shards=1)) as single:
        one, many = looks(single), looks(runtime)
        for each in (one, many):  # groups are made, clocks noted
            for look in each.values():
                look()
        for name in one:  # what other tests have left running can only add to it
            asked = min(exchanges(single, one[name]) for _ in range(3))
            assert 0 < min(exchanges(runtime, many[name]) for _ in range(3)) <= asked, name


def test_what_waits_in_several_shards_is_told_of_all(runtime: Runtime) -> None:
    now_ms = int(time.time() * 1000)
    for number, one in enumerate(runtime.shards):
        batch = NewBatch(f"a:apns:{number % 2}", Urgency.CHAT, b"x" * 10, 2, 2, now_ms + 60_000)
        with runtime.redis.pipeline(transaction=True) as pipe:
            one.lane_queues.put(pipe, [batch] * (number + 1))
            one.streams.add(pipe, [(keys.presence(Urgency.CHAT), b"x")] * number)
            pipe.zadd(one.keys.delayed, {b"x%d" % number: now_ms + 1_000 * number})
            pipe.execute()
    chats = keys.presence(Urgency.CHAT)
    assert shards.backlog(runtime, [chats])[chats].unread == sum(range(SHARDS))
    assert shards.any_filled(runtime, [chats])
    assert shards.untaken_s(runtime, [chats])[chats] >= 0
    assert shards.bytes_of_lanes(runtime) == {"a:apns:0": 40, "a:apns:1": 60}
    assert shards.lanes_backlog(runtime)["send:apns:chat"].unread == 10
    assert shards.lanes_untaken_s(runtime, lanes_loads(runtime)).keys() == {Vendor.APNS}
    assert shards.due_vendors(runtime) == [Vendor.APNS]
    assert shards.delayed_waiting(runtime) == (SHARDS, now_ms)


def test_recalls_of_a_shard_that_fail_leave_the_others_theirs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = list[int]()

    def withdraw(one: Runtime, _fence: object) -> None:
        served.append(one.number)
        if one.number == 1:
            raise OSError("its query is refused")

    monkeypatch.setattr(recalls, "withdraw_due", withdraw)
    for one in runtime.shards[:3]:
        runtime.redis.zadd(one.keys.withdrawals, {b"0x": 1})
    role = ShardRecalls(runtime)
    with pytest.raises(OSError, match="refused"):
        role.turn()
    assert served == [0, 1, 2], "what is due, in each shard"
    monkeypatch.setattr(recalls, "SHARDS_S", 0.0)
    served.clear()
    for _ in range(3):
        with contextlib.suppress(OSError):
            role.turn()
    assert sorted(served) == [0, 1, 2], "one after the other where a turn has no more time"


@pytest.mark.parametrize("old", [False, True], ids=["asked", "taken over"])
def test_recalls_of_a_shard_that_cannot_be_asked_for_leave_the_others_theirs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    served = list[int]()
    monkeypatch.setattr(recalls, "withdraw_due", lambda one, _: served.append(one.number))
    broken = runtime.shards[1].keys
    runtime.redis.set(broken.old_withdrawals if old else broken.withdrawals, "no sorted set")
    for number in (0, 2):
        runtime.redis.zadd(runtime.shards[number].keys.withdrawals, {b"0x": 1})
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ShardRecalls(runtime).turn()
    assert served == [0, 2]


def test_a_role_of_all_shards_leaves_each_to_those_that_serve_it_alone(runtime: Runtime) -> None:
    """During an upgrade from a release whose processes have a lease for each shard."""
    each = [one.keys for one in runtime.shards]
    first, second = (Lease(runtime.redis, own, "recalls") for own in each[:2])
    joint = JointLease(runtime.redis, each, "recalls")
    assert second.hold()
    assert not joint.hold()
    assert first.hold(), "or nobody would serve it"
    assert not joint.hold()
    first.give_back()
    second.give_back()
    assert joint.hold()
    assert not first.hold()


def test_work_of_an_old_release_is_found_in_any_shard(runtime: Runtime) -> None:
    timers = ShardTimers(runtime)
    timers.turn()
    old = runtime.shards[2].keys.stream(keys.send(Vendor.APNS, Urgency.CHAT))
    runtime.redis.xadd(old, {"b": b"x"})
    wake = runtime.keys.wake_up("delivery.apns")
    assert not runtime.redis.exists(wake)
    for one in timers._timers:
        one._next = one.lanes._old_at = 0.0
    timers.turn()
    assert runtime.redis.exists(wake)
