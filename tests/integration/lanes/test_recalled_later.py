"""What is recalled while it waits for a time (a retry, the vendor's hours, its next day) is dropped
then, not when the time has come; what waits with it waits on.
"""

import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from common.contracts import Push, decode_batch, encode
from common.model import Decision, MessageClass, Urgency
from common.storage.delayed import Delayed, as_new, parts_of, retry_member
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World
from tests.queued import packed
from workers.delivery.work import PendingPush
from workers.lane_timer import LaneTimer

LATER_MS = 3_000_000


def chats(count: int) -> list[PendingPush]:
    """Each to a person of its own, held by an outage before."""
    made = [
        work(number, MessageClass.CHAT, user=f"u{number}", urgency=Urgency.CHAT, badge_increment=1)
        for number in range(1, count + 1)
    ]
    for one in made:
        one.target = msgspec.structs.replace(one.target, held_by=Decision.UNAVAILABLE)
    return made


def wait_later(world: World, works: Sequence[PendingPush]) -> int:
    """One entry of them in the delayed set; when it is due."""
    pushes = [Push(note=one.note, targets=(one.target,)) for one in works]
    batch = packed(pushes, world.lane.credential.business_id)
    due_ms = int(time.time() * 1000) + LATER_MS
    member = retry_member(as_new(batch, Urgency.CHAT, encode(batch)), counted=False)
    world.runtime.redis.zadd(world.runtime.keys.delayed, {member: due_ms})
    return due_ms


def recall(world: World, one: PendingPush, conversation: str = "") -> None:
    note = one.note
    where = conversation or f"{note.conversation_type}:{note.conversation_id}"
    world.runtime.marks.recall("demo", where, note.message_id)
    LaneTimer(world.runtime).recalled({"demo": [note.message_id]}, time.monotonic() + 5)


def later(world: World) -> list[tuple[bytes, float]]:
    key = world.runtime.keys.delayed
    return cast(Any, world.runtime.redis.zrange(key, 0, -1, withscores=True))


def later_ids(world: World) -> list[str]:
    """Of the pushes in the delayed set."""
    batches = [decode_batch(parts_of(member)[1]) for member, _ in later(world)]
    return [one.push_id for batch in batches for push in batch.pushes for one in push.targets]


def time_comes(world: World) -> None:
    due = {member: 0 for member, _ in later(world)}
    world.runtime.redis.zadd(world.runtime.keys.delayed, due)


def test_it_is_decided_at_once_and_the_others_of_its_entry_wait_on(world: World) -> None:
    works = chats(2)
    due_ms = wait_later(world, works)
    recall(world, works[0])
    assert world.decisions(works) == ["recalled", None]
    assert later_ids(world) == [works[1].target.push_id]
    assert later(world)[0][1] == pytest.approx(due_ms, abs=1_000)
    assert (world.waiting(), world.accepted()) == (0, [])


def test_one_of_another_conversation_waits_on(world: World) -> None:
    works = chats(1)
    due_ms = wait_later(world, works)
    recall(world, works[0], "c2c:somebody-else")
    assert later(world)[0][1] == pytest.approx(due_ms, abs=1_000)
    time_comes(world)
    world.turn(lambda: world.decisions(works) == ["accepted"])


def test_nothing_of_it_is_left_in_its_lane(world: World) -> None:
    works = chats(2)
    wait_later(world, works)
    recall(world, works[0])
    time_comes(world)
    world.turn(lambda: world.decisions(works) == ["recalled", "accepted"])
    lane, redis = world.lane.id, world.runtime.redis
    load = world.runtime.lane_queues.loads([lane])[lane]
    assert (load.bytes, world.runtime.lane_queues.any_left()) == (0, False)
    assert not redis.exists(world.runtime.keys.lane_blobs(lane))


def test_what_a_dead_process_held_comes_back(world: World) -> None:
    """It died between the two steps of a recall, as upkeep does when it is killed."""
    works, redis, keys = chats(2), world.runtime.redis, world.runtime.keys
    wait_later(world, works)
    dead = Delayed(redis, keys)
    dead._queues.lease_ms = 200
    taken, _ = dead.pick(world.lane.id, Urgency.CHAT, [member for member, _ in later(world)])
    assert len(taken.entries) == 1
    world.turn(lambda: world.decisions(works) == ["accepted", "accepted"], 20)
    assert not world.runtime.lane_queues.any_left()
