"""What is read elsewhere while its lane stands still is dropped then, not when the lane resumes."""

import time
from collections.abc import Callable, Sequence

import msgspec
import pytest

from common.model import Kind, MessageClass, Urgency
from common.whole_seconds import latest_ms
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, each
from tests.integration.lanes.test_bounds import pause
from workers.delivery.work import PendingPush


def stop(world: World) -> None:
    lane = world.lane
    version = lane.credential.version
    world.runtime.lane_states.tell(lane.id, version, good=0, failed=20, refused=False)
    until = str(time.time() + 500)
    world.runtime.redis.hset(world.runtime.keys.lane(lane.id), "until", until)


def waiting(count: int, urgency: Urgency = Urgency.CHAT) -> list[PendingPush]:
    return [
        work(number, MessageClass.CHAT, user=f"u{number}", urgency=urgency)
        for number in range(1, count + 1)
    ]


def reads(world: World, works: Sequence[PendingPush]) -> None:
    """Their people read these."""
    for one in works:
        note = one.note
        world.runtime.marks.read_up_to(
            note.app,
            one.target.user,
            f"{note.conversation_type}:{note.conversation_id}",
            latest_ms(note.ts_ms, note.received_ms),
        )


@pytest.mark.parametrize("halt", [pause, stop])
@pytest.mark.parametrize("urgency", [Urgency.CHAT, Urgency.GROUP])
def test_it_is_decided_while_the_lane_stands_still(
    world: World, halt: Callable[[World], None], urgency: Urgency
) -> None:
    halt(world)
    works = waiting(3, urgency)
    world.put(works)
    reads(world, works[1:2])
    world.turn(lambda: world.decisions(works)[1] == "read_elsewhere")
    assert world.decisions(works) == [None, "read_elsewhere", None]
    assert (world.waiting(), world.accepted()) == (2, [])


def test_each_part_of_a_long_queue_has_its_turn(world: World) -> None:
    pause(world)
    works = waiting(130)
    each(world, works)
    some = [works[place] for place in (0, 49, 50, 51, 129)]
    reads(world, some)
    world.turn(lambda: world.decisions(some) == ["read_elsewhere"] * 5)
    assert world.waiting() == 125


def test_a_call_and_what_is_newer_than_the_reading_wait_on(world: World) -> None:
    pause(world)
    old, new, call = waiting(3)
    call.note = msgspec.structs.replace(call.note, kind=Kind.CALL_INVITE, urgency=Urgency.CALL)
    new.target = msgspec.structs.replace(new.target, user=old.target.user)
    new.note = msgspec.structs.replace(new.note, ts_ms=new.note.ts_ms + 5_000)
    each(world, [old, new, call])
    reads(world, [call, old])
    world.turn(lambda: world.decisions([old]) == ["read_elsewhere"])
    assert world.decisions([call, new]) == [None, None]
