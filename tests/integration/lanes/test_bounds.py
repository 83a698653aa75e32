"""What does not fit: bounds in bytes, what an earlier release left behind, senders that died or
stood still.
"""

import dataclasses
import os
import time
from typing import Any

import pytest

from common.contracts import Push, encode
from common.model import MessageClass, Urgency, Vendor
from common.storage import keys
from common.storage.claims import ClaimRequest
from common.storage.lane_entries import LaneCommit, Taken
from common.storage.lane_queues import LaneQueues
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, chat, each
from tests.queued import packed
from tests.waiting import eventually
from workers.delivery.work import PendingPush
from workers.gate import lane_terms
from workers.handlers import running_rounds
from workers.handlers.lane_rounds import LaneRounds


def of(urgency: Urgency, count: int, first: int) -> list[PendingPush]:
    message_class = MessageClass.MARKETING if urgency == Urgency.BULK else MessageClass.CHAT
    return [
        work(first + number, message_class, user=f"{urgency}{number}", urgency=urgency)
        for number in range(count)
    ]


def bounded(world: World, **settings: Any) -> None:
    world.runtime.settings = dataclasses.replace(world.runtime.settings, **settings)


def pause(world: World) -> None:
    world.runtime.credentials.set_paused("demo", "meizu", world.lane.credential.business_id, True)
    world.runtime.catalog.changed()


def held(world: World) -> int:
    return world.runtime.lane_queues.bytes_of([world.lane.id])[world.lane.id]


def test_over_a_lanes_bound_its_bulk_ends_then_its_groups_chats_and_calls_stay(
    world: World,
) -> None:
    pause(world)
    calls, chats, groups, bulk = (
        of(urgency, 10, rank * 100) for rank, urgency in enumerate(Urgency)
    )
    each(world, [*calls, *chats])
    least = held(world)
    each(world, [*groups, *bulk])
    bounded(world, lane_bytes_max=held(world) - 1)
    world.turn(lambda: world.decisions(bulk).count("throttled") == 1)
    assert world.decisions(bulk)[-1] == "throttled", "the youngest"
    bounded(world, lane_bytes_max=least)
    world.turn(lambda: world.decisions([*groups, *bulk]) == ["throttled"] * 20)
    assert held(world) == least
    assert world.decisions([*calls, *chats]) == [None] * 20
    assert world.waiting() == 20


def test_over_the_fleets_bound_chats_end_too_calls_never(world: World) -> None:
    pause(world)
    calls, chats = of(Urgency.CALL, 5, 0), of(Urgency.CHAT, 10, 100)
    each(world, [*calls, *chats])
    redis = world.runtime.redis
    bounded(world, bytes_max_percent=1)
    used = int(redis.info("memory")["used_memory"])  # type: ignore[index]
    redis.config_set("maxmemory", max(100 * 1024, used * 2))
    try:
        world.timer.lanes._memory_at = 0.0
        world.timer.lanes._fleet_bound()
        world.timer.lanes._memory_max = held(world) // 4 * 100  # as if the server were that small
        world.turn(lambda: "throttled" in world.decisions(chats))
        world.turn(
            lambda: (
                held(world) <= world.timer.lanes._fleet_bound()
                or set(world.decisions(chats)) == {"throttled"}
            )
        )
        assert world.decisions(calls) == [None] * 5
    finally:
        redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("percent", [40, 101])
def test_on_a_full_server_bulk_and_groups_end_chats_and_calls_stay(
    world: World, percent: int
) -> None:
    """The queues are far below their bounds: something else fills the server, and no call comes in.

    percent: of the server's memory that is used.
    """
    pause(world)
    calls, chats, groups, bulk = (
        of(urgency, 10, rank * 100) for rank, urgency in enumerate(Urgency)
    )
    each(world, [*calls, *chats, *groups, *bulk])
    assert world.decisions(bulk) == [None] * 10, "and the ledger has its reader"
    redis = world.runtime.redis
    used = int(redis.info("memory")["used_memory"])  # type: ignore[index]
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", used * 100 // percent)
    try:
        world.timer.lanes._memory_at = 0.0
        if percent > 100:
            world.turn(lambda: world.decisions([*groups, *bulk]) == ["throttled"] * 20)
        else:
            world.timer.lanes.look()
            assert world.decisions([*groups, *bulk]) == [None] * 20
        assert world.decisions([*calls, *chats]) == [None] * 20
        assert world.waiting() == (20 if percent > 100 else 40)
    finally:
        redis.config_set("maxmemory", 0)


def test_what_a_dead_sender_held_is_sent_by_another_and_counted(world: World) -> None:
    world.put([chat(1, urgency=Urgency.CHAT)])
    dead = LaneQueues(world.runtime.redis, world.runtime.keys, lease_ms=200)
    (name,), *_ = dead.pop(Vendor.MEIZU, dict.fromkeys(Urgency, 5), ())
    assert name == (world.lane.id, Urgency.CHAT)
    (taken,) = dead.take([(*name, lane_terms(world.lane), 10)], 15)
    assert len(taken.entries) == 1
    world.turn(lambda: len(world.accepted()) == 1)
    assert dead.commit(taken, LaneCommit(ended=taken.entries, records=[b"x"])) == [
        taken.entries[0].id
    ], "it stood still, and may write nothing"
    assert not world.runtime.lane_queues.any_left()


def test_a_sender_that_died_between_its_two_steps_leaves_the_lane_to_another(world: World) -> None:
    world.put([chat(1, urgency=Urgency.CHAT)])
    dead = LaneQueues(world.runtime.redis, world.runtime.keys, lease_ms=100)
    assert dead.pop(Vendor.MEIZU, dict.fromkeys(Urgency, 5), ())[0]
    world.turn(lambda: len(world.accepted()) == 1)


def test_what_an_earlier_release_left_in_streams_lots_and_the_delayed_set_is_sent(
    world: World,
) -> None:
    redis, names = world.runtime.redis, world.runtime.keys
    works = [chat(number, urgency=Urgency.CHAT) for number in range(3)]
    business_id = world.lane.credential.business_id
    blobs = [
        encode(packed([Push(note=w.note, targets=(w.target,))], business_id, by_entry=False))
        for w in works
    ]
    number = b"%02d" % keys.OLD_STREAMS.index("send:meizu:chat")
    redis.xadd(names.stream("send:meizu:chat"), {"b": blobs[0]})
    redis.zadd(names.delayed, {number + os.urandom(8) + blobs[1]: int(time.time() * 1000) + 500})
    parked = names.parked(world.lane.id, "chat")
    redis.zadd(parked, {number + os.urandom(8) + blobs[2]: int(time.time() * 1000) + 600_000})
    redis.sadd(names.parked_lanes, world.lane.id)
    world.turn(lambda: len(world.accepted()) == 3)
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["accepted"] * 3
    assert not world.runtime.lane_queues.any_left()


@pytest.mark.parametrize("position", range(38))
def test_the_numbers_of_an_earlier_releases_streams_never_change(position: int) -> None:
    vendors = ("apns", "fcm", "huawei", "harmony", "honor", "xiaomi", "oppo", "vivo", "meizu")
    old = [
        "presence",
        "routing",
        *(
            f"send:{vendor}:{urgency}"
            for vendor in vendors
            for urgency in ("call", "chat", "group", "bulk")
        ),
    ]
    assert keys.OLD_STREAMS[position] == old[position]


def test_what_its_sender_renews_is_nobody_elses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_rounds, "RENEW_S", 0.1)
    """Of three tries: a machine that stands still renews nothing either."""
    queues, commits = world.runtime.lane_queues, list[Any]()
    queues.lease_ms, commit = 600, queues.commit

    def counted(taken: Any, told: Any) -> Any:
        commits.append(commit(taken, told))
        return commits[-1]

    monkeypatch.setattr(queues, "commit", counted)
    world.meizu.door("faults", delay_ms=1_900)

    def others_look() -> None:
        queues.wake_at([(world.lane.id, Urgency.CHAT, 0)])
        queues.reap(Vendor.MEIZU)
        time.sleep(0.05)

    with world.running():
        for number in range(3):
            commits.clear()
            before = len(world.accepted())
            world.put([chat(number, urgency=Urgency.CHAT)])
            eventually(lambda: commits, meanwhile=others_look)
            eventually(lambda: not queues.any_left(), meanwhile=others_look)
            if commits == [[]]:
                break
    assert commits == [[]], "nobody has taken it over"
    assert len(world.accepted()) == before + 1


def test_tokens_of_the_rate_that_nobody_needed_come_back(world: World) -> None:
    world.runtime.credentials.set_limits(
        "demo", "meizu", world.lane.credential.business_id, {"rate": 20}
    )
    world.runtime.catalog.changed()
    world.put([chat(1, urgency=Urgency.CHAT)])
    world.turn(lambda: len(world.accepted()) == 1)
    world.turn(lambda: not world.runtime.lane_queues.any_left())
    rate: dict[bytes, bytes] = world.runtime.redis.hgetall(world.runtime.keys.rate(world.lane.id))  # type: ignore[assignment]
    assert float(rate[b"t"]) - float(rate[b"l"]) < 1.5 / 20, (
        "one push's time at 20 a second, not that of two"
    )


def test_who_takes_a_part_of_a_split_entry_at_once_sends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [chat(number, urgency=Urgency.CHAT) for number in range(3)]
    world.put(works)
    queues, rounds = world.runtime.lane_queues, LaneRounds(world.runtime, lambda: False)
    queues.pop(Vendor.MEIZU, dict.fromkeys(Urgency, 5), ())
    (taken,) = queues.take([(world.lane.id, Urgency.CHAT, lane_terms(world.lane), 10)], 15)
    (entry,) = taken.entries
    world.runtime.claims.lease([claim_of(one, entry.owner) for one in works])
    commit = queues.commit

    def others_first(one: Taken, told: LaneCommit) -> list[str]:
        monkeypatch.undo()
        world.drain(lambda: False)  # what can be taken already is
        return commit(one, told)

    monkeypatch.setattr(queues, "commit", others_first)
    assert rounds.unsent.split(taken, entry)
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["accepted"] * 3
    assert len(world.accepted()) == 3
    assert held(world) == 0


def claim_of(one: PendingPush, owner: str) -> ClaimRequest:
    note, target = one.note, one.target
    whose = (note.app, note.message_id, target.user, target.device, target.push_id)
    return ClaimRequest(*whose, note.ts_ms, owner, 1, "s", target.registered_ms)
