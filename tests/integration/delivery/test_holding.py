"""What waits behind a shut lane: where it stands, who tries the lane, in which order all leave when
it opens.
"""

import functools
import time
from typing import Any

import msgspec
import pytest

from common.model import MessageClass, Urgency
from tests.integration.delivery.conftest import World, each, work
from workers.delivery.work import PendingPush


def pushes(urgency: Urgency, count: int, first: int, **note: Any) -> list[PendingPush]:
    message_class = MessageClass.MARKETING if urgency == Urgency.BULK else MessageClass.CHAT
    return [
        work(first + i, message_class, user=f"{urgency}{i}", urgency=urgency, **note)
        for i in range(count)
    ]


@pytest.fixture
def held(world: World) -> list[PendingPush]:
    """Three of each urgency behind the stopped lane, the least urgent first."""
    ranks = enumerate(reversed(Urgency))
    works = [one for rank, urgency in ranks for one in pushes(urgency, 3, rank * 100)]
    stop(world)
    each(world, works)
    return works


def _over(until: float) -> bool:
    return time.monotonic() > until


def test_they_are_told_where_they_stand_and_leave_call_before_chat_before_group_before_bulk(
    world: World, held: list[PendingPush]
) -> None:
    world.turn(lambda: world.all_noted(held))
    assert not world.accepted()
    assert world.waiting() == len(held)
    over(world)
    world.turn(lambda: len(world.accepted()) == len(held))
    rank_of = {one.target.token: list(Urgency).index(one.note.urgency) for one in held}
    order = [rank_of[line["token"]] for line in world.accepted()]
    assert order[0] == 0, "a call tries the lane"
    assert order == sorted(order)
    world.turn(lambda: world.all_decided(held))
    assert not world.runtime.lane_queues.any_left()


def test_one_push_tries_a_stopped_lane_the_others_stay_until_it_has_flowed(
    world: World, held: list[PendingPush]
) -> None:
    world.meizu.door("faults", status=503, status_share=1.0)
    over(world)
    world.drain(lambda: world.waiting() < len(held))
    assert world.waiting() == len(held) - 1, "one probe while the lane stays shut"
    assert world.runtime.lane_states.peek(world.lane.id).state == "stopped"
    world.meizu.door("faults", status=0, status_share=0.0)
    over(world)
    world.turn(lambda: len(world.accepted()) == len(held))


def test_of_an_entry_of_many_one_tries_the_lane(world: World) -> None:
    works = [*pushes(Urgency.GROUP, 5, 0), *pushes(Urgency.BULK, 3, 100)]
    stop(world)
    over(world)
    world.put(works)
    world.turn(lambda: len(world.accepted()) == len(works))
    bulk = {one.target.token for one in works[5:]}
    assert [line["token"] in bulk for line in world.accepted()] == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("why", "decision"),
    [("paused", "lane_paused"), ("stopped", "unavailable"), ("nobody sends", "expired")],
)
def test_what_runs_out_of_time_is_told_what_held_it(world: World, why: str, decision: str) -> None:
    """Also in the middle of a queue, behind what may stay longer."""
    credential = world.lane.credential
    if why == "paused":
        world.runtime.credentials.set_paused(
            credential.app, credential.vendor, credential.business_id, True
        )
        world.runtime.catalog.changed()
    elif why == "stopped":
        stop(world)
    soon = int(time.time() * 1000) + 1_500
    plain = pushes(Urgency.CHAT, 2, 0)
    works = [*plain, *pushes(Urgency.CHAT, 2, 10, expires_at_ms=soon), *pushes(Urgency.CHAT, 1, 20)]
    each(world, works)
    end = time.monotonic() + 15
    while world.decisions(works)[2:4] != [decision] * 2 and time.monotonic() < end:
        world.timer.turn()
        if why != "nobody sends":
            until = time.monotonic() + 0.2
            world.drain(functools.partial(_over, until))
    assert world.decisions(works) == [None, None, decision, decision, None]
    assert world.waiting() == 3
    assert not world.accepted()


def stop(world: World) -> None:
    world.runtime.lane_states.tell(
        world.lane.id, world.lane.credential.version, good=0, failed=20, refused=False
    )
    assert world.runtime.lane_states.peek(world.lane.id).state == "stopped"
    # until the test says so: on a busy machine its own pause may end before all are put
    world.runtime.redis.hset(
        world.runtime.keys.lane(world.lane.id), "until", str(time.time() + 500)
    )


def over(world: World) -> None:
    """The lane's pause ends."""
    world.runtime.redis.hset(world.runtime.keys.lane(world.lane.id), "until", "0")
    world.runtime.lane_queues.wake_now(world.lane.id)


def test_a_lane_opens_though_the_newest_of_each_conversation_lies_further_back(
    world: World,
) -> None:
    """The one that tries the lane does not wait for a newer one: that one comes back when the lane
    works only.
    """
    rounds = [[_waiting(turn, number) for number in range(40)] for turn in range(3)]
    everyone = [one for works in rounds for one in works]
    stop(world)
    for works in rounds:
        world.put(works)
    world.turn(lambda: world.all_noted(everyone))
    assert not world.accepted()
    over(world)
    world.turn(lambda: world.runtime.lane_states.peek(world.lane.id).state == "flowing")
    world.turn(lambda: world.all_decided(everyone))
    assert set(world.decisions(rounds[-1])) == {"accepted"}
    assert set(world.decisions(everyone)) == {"accepted", "folded"}


def _waiting(turn: int, number: int) -> PendingPush:
    """The message of one turn to one of many people; an outage holds it for 20 s."""
    one = work(
        100 * turn + number, MessageClass.CHAT, user=f"u{number}", token=f"token-{number:04d}"
    )
    long_ago = one.note.ts_ms - 20_000
    one.note = msgspec.structs.replace(one.note, ts_ms=long_ago + turn, received_ms=long_ago)
    return one
