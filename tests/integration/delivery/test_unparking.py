"""How a lane's parking lots are emptied: one entry to try it, then the most urgent first, the others when those have gone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from common.contracts import Batch, Push, decode_batch, encode
from common.model import MessageClass, Urgency, Vendor
from common.storage import keys
from common.storage.delayed import Later
from tests.integration.delivery.conftest import World, work
from workers import unparking
from workers.delivery.work import Work


def pushes(urgency: Urgency, count: int, first: int) -> list[Work]:
    message_class = MessageClass.MARKETING if urgency == Urgency.BULK else MessageClass.CHAT
    return [work(first + i, message_class, user=f"{urgency}{i}", urgency=urgency) for i in range(count)]


def park(world: World, works: Sequence[Work]) -> None:
    """Each in an entry of its own, the later ones with more time left."""
    credential, until_ms = world.lane.credential, int(time.time() * 1000) + 600_000
    with world.runtime.redis.pipeline(transaction=True) as pipe:
        for index, one in enumerate(works):
            push = Push(note=one.note, targets=(one.target,))
            blob = encode(Batch(app=credential.app, vendor=Vendor.MEIZU, business_id=credential.business_id, pushes=(push,)))
            belt = keys.send(Vendor.MEIZU, one.note.urgency)
            world.runtime.delayed.put(pipe, [Later(belt, blob, until_ms + index * 1000, world.lane.id)])
        pipe.execute()


def on_belts(world: World) -> list[str]:
    """Tokens of what lies on the belts, urgent ones first."""
    belts = [world.runtime.keys.belt(keys.send(Vendor.MEIZU, urgency)) for urgency in Urgency]
    blobs = [fields[b"b"] for belt in belts for _, fields in world.runtime.redis.xrange(belt)]
    return [target.token for blob in blobs for push in decode_batch(blob).pushes for target in push.targets]


@pytest.fixture
def parked(world: World) -> list[Work]:
    """Three of each urgency behind the lane, the least urgent parked first."""
    works = [one for rank, urgency in enumerate(reversed(Urgency)) for one in pushes(urgency, 3, rank * 100)]
    park(world, works)
    return works


def tokens(works: Sequence[Work], urgency: Urgency) -> list[str]:
    return [one.target.token for one in works if one.note.urgency == urgency]


def test_they_leave_call_before_chat_before_group_before_bulk(world: World, parked: list[Work]) -> None:
    world.turn(lambda: len(world.accepted()) == len(parked))
    rank_of = {one.target.token: list(Urgency).index(one.note.urgency) for one in parked}
    order = [rank_of[line["token"]] for line in world.accepted()]
    assert order == sorted(order)
    assert not world.runtime.delayed.parked_lanes()


def test_the_less_urgent_stay_until_the_more_urgent_are_done_with(world: World, parked: list[Work]) -> None:
    for _ in range(3):
        world.timer.unparking.look()
        world.timer.unparking.go_on()
        assert on_belts(world) == tokens(parked, Urgency.CALL)
    world.drain(lambda: False)
    world.timer.unparking.go_on()
    assert on_belts(world) == tokens(parked, Urgency.CHAT)


def test_a_belt_on_which_nothing_moves_holds_the_others_up_for_a_while_only(
    world: World, parked: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unparking, "ORDER_WAIT_S", 0.2)
    end = time.monotonic() + 10
    while world.runtime.delayed.parked_lanes() and time.monotonic() < end:
        world.timer.unparking.look()
        time.sleep(0.05)
    assert len(on_belts(world)) == len(parked)


def test_one_entry_tries_a_stopped_lane_the_most_urgent_that_may_stay_longest(world: World, parked: list[Work]) -> None:
    stop(world)
    world.timer.unparking.look()
    assert not on_belts(world), "its pause is not over"
    over(world)
    assert world.runtime.delayed.release_probe(world.lane.id, 1.0) == {keys.send(Vendor.MEIZU, Urgency.CALL)}
    assert on_belts(world) == [tokens(parked, Urgency.CALL)[-1]]
    world.timer.unparking.go_on()
    assert world.runtime.delayed.parked_count(world.lane.id) == len(parked) - 1, "the others stay until it has flowed"
    world.drain(lambda: False)
    world.turn(lambda: len(world.accepted()) == len(parked))


@pytest.mark.parametrize(("chance", "urgency"), [(0.0, Urgency.CALL), (0.1, Urgency.CHAT), (0.13, Urgency.GROUP), (0.24, Urgency.BULK)])
def test_now_and_then_any_entry_tries_it(world: World, parked: list[Work], chance: float, urgency: Urgency) -> None:
    assert world.runtime.delayed.release_probe(world.lane.id, chance) == {keys.send(Vendor.MEIZU, urgency)}
    assert on_belts(world)[0] in tokens(parked, urgency)
    assert world.runtime.delayed.parked_count(world.lane.id) == len(parked) - 1


def test_those_that_came_with_the_probe_go_back_and_leave_in_their_order(world: World) -> None:
    works = [*pushes(Urgency.GROUP, 5, 0), *pushes(Urgency.BULK, 3, 100)]  # chats have rounds of their own
    stop(world)
    over(world)
    world.put(works)
    world.drain(lambda: len(world.accepted()) > 0)
    world.turn(lambda: len(world.accepted()) == len(works))
    bulk = {one.target.token for one in works[5:]}
    assert [line["token"] in bulk for line in world.accepted()] == [False] * 5 + [True] * 3


def stop(world: World) -> None:
    world.runtime.lane_states.tell(world.lane.id, world.lane.credential.version, good=0, failed=20, refused=False)
    assert world.runtime.lane_states.peek(world.lane.id).state == "stopped"


def over(world: World) -> None:
    """The lane's pause ends."""
    world.runtime.redis.hset(world.runtime.keys.lane(world.lane.id), "until", "0")
