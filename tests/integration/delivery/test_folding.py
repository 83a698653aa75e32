"""After an outage one push speaks for its conversation, however its fellows came to the queue: late
and below what had been looked at, back from a sender, or after the last look.
"""

import random
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from redis.client import Pipeline

from common.contracts import Push, encode
from common.model import MessageClass, Urgency
from common.storage.delayed import as_new
from common.storage.lane_entries import LaneCommit, NewBatch, Taken
from tests.integration.delivery.conftest import World, work
from tests.integration.delivery.test_holding import over, pushes, stop
from tests.queued import packed
from workers.delivery.coalescing import group_of
from workers.delivery.work import PendingPush
from workers.gate import lane_terms
from workers.handlers.lane_rounds import LaneRounds

#: Pushes of one conversation to one device.
OLDER, NEWER, LAST = 0, 1, 2


def said(number: int, user: str = "ann") -> PendingPush:
    """One of a conversation's messages, 20 s ago and in their order."""
    one = work(number, MessageClass.CHAT, user=user, token=f"token-{user}")
    long_ago = one.note.ts_ms - 20_000
    one.note = msgspec.structs.replace(one.note, ts_ms=long_ago + number, received_ms=long_ago)
    return one


def called(number: int) -> PendingPush:
    (one,) = pushes(Urgency.CALL, 1, number)
    return one


def looked_at(world: World, works: Sequence[PendingPush]) -> None:
    world.turn(lambda: world.all_noted(works))


def opens(world: World, works: Sequence[PendingPush]) -> list[str | None]:
    """The lane opens, by a call; the decisions on these works."""
    world.put([called(900)])
    over(world)
    world.turn(lambda: world.all_decided(works))
    return world.decisions(works)


def no_trace(world: World) -> bool:
    keys = world.runtime.keys
    return not list(world.runtime.redis.scan_iter(f"{keys.backlog('')}*[^m]"))


def taken_by_another(world: World, most: int = 500) -> Taken:
    """Another process takes what is first."""
    (taken,) = world.runtime.lane_queues.take(
        [(world.lane.id, Urgency.CHAT, lane_terms(world.lane), most)], 15
    )
    return taken


def test_who_was_named_early_and_came_late_folds(world: World) -> None:
    """Its producer stands still between the order that it gives and its commit."""
    older, newer = said(OLDER), said(NEWER)
    stop(world)
    queues = world.runtime.lane_queues
    with world.runtime.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, [batch_of(world, [older])])
        world.put([newer])
        looked_at(world, [newer])
        pipe.execute()
    assert opens(world, [older, newer]) == ["folded", "accepted"]
    assert no_trace(world)


def test_what_comes_back_from_a_sender_folds(world: World) -> None:
    """Taken before the lane stopped, and given back when others had been looked at."""
    older, newer = said(OLDER), said(NEWER)
    world.put([older])
    taken = taken_by_another(world)
    stop(world)
    world.put([newer])
    looked_at(world, [newer])
    world.runtime.lane_queues.commit(taken, LaneCommit(back=taken.entries))
    assert opens(world, [older, newer]) == ["folded", "accepted"]
    assert no_trace(world)


def test_what_a_dead_sender_held_folds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = said(OLDER), said(NEWER)
    world.put([older])
    monkeypatch.setattr(world.runtime.lane_queues, "lease_ms", 300)
    taken_by_another(world)
    stop(world)
    world.put([newer])
    looked_at(world, [newer])
    world.turn(lambda: world.waiting() == 2)
    assert opens(world, [older, newer]) == ["folded", "accepted"]
    assert no_trace(world)


@pytest.mark.parametrize("last", [False, True])
def test_who_came_after_the_last_look_folds_or_speaks(world: World, last: bool) -> None:
    """last: others wait beside, so that a round has less than all of them."""
    works = [said(OLDER), said(NEWER)]
    stop(world)
    world.put(works[:1])
    looked_at(world, works[:1])
    world.put([called(900)])
    over(world)
    world.put([said(100 + n, f"u{n}") for n in range(40)] if last else [])
    world.put(works[1:])
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["folded", "accepted"]


def test_of_an_entry_of_many_of_which_one_tried_the_lane_the_rest_folds(world: World) -> None:
    """The rest of it goes back among those that have been looked at."""
    beside, older, newer = said(OLDER, "eve"), said(OLDER + 50), said(NEWER + 50)
    stop(world)
    world.put([beside, older])
    over(world)
    taken = tries(world)
    world.put([newer])
    looked_at(world, [newer])
    world.runtime.lane_queues.commit(taken, LaneCommit(back=taken.entries))
    stop(world)
    assert opens(world, [beside, older, newer]) == ["accepted", "folded", "accepted"]
    assert no_trace(world)


def tries(world: World) -> Taken:
    """Another process tries the lane, once it has noted what waits there."""
    notes = LaneRounds(world.runtime, lambda: False).unsent
    while not (taken := taken_by_another(world)).entries:
        assert taken.what == "shut"
        assert taken.due_ms <= taken.now_ms + 1
        notes.note_outage(world.lane, taken, "unavailable", 50)
    assert taken.what == "probe"
    return taken


def test_a_look_at_large_entries_is_of_few_of_them(world: World) -> None:
    """What notes thousands of pushes at once holds up all other lanes."""
    for number in range(5):
        world.put(pushes(Urgency.CHAT, 500, 500 * number))
    stop(world)
    taken = taken_by_another(world)
    unsent = LaneRounds(world.runtime, lambda: False).unsent
    queue = world.runtime.keys.lane_queue(world.lane.id, Urgency.CHAT)
    left, more = [world.runtime.redis.zcount(queue, 0, "+inf")], True
    while more:
        more = unsent.note_outage(world.lane, taken, "unavailable", 50)
        left.append(world.runtime.redis.zcount(queue, 0, "+inf"))
    assert left == [25, 15, 5, 0], "entries of a hundred"


def test_a_push_that_lost_its_group_joins_it_when_it_is_sent(world: World) -> None:
    """Held in its entry, as an earlier release left it, and in no group."""
    older, newer = said(OLDER), said(NEWER)
    older.target = msgspec.structs.replace(older.target, held_by="unavailable")
    stop(world)
    world.put([older])
    world.put([newer])
    looked_at(world, [newer])
    assert opens(world, [older, newer]) == ["folded", "accepted"]
    assert no_trace(world)


def test_a_dead_letter_is_waited_for_by_nobody(world: World) -> None:
    older, newer = said(OLDER), said(NEWER)
    stop(world)
    world.put([older])
    world.put([newer])
    looked_at(world, [older, newer])
    world.runtime.redis.delete(world.runtime.keys.lane(world.lane.id))
    taken = taken_by_another(world)
    unsent = LaneRounds(world.runtime, lambda: False).unsent
    unsent.dead_letter(taken, taken.entries[1], "poison")
    world.runtime.lane_queues.commit(taken, LaneCommit(back=taken.entries[:1]))
    (seen,) = world.runtime.backlog.look([(group_of(older), older.target.push_id, 0, None)])
    assert (seen.newest, seen.waiting) == (older.target.push_id, 1)
    assert opens(world, [older]) == ["accepted"]
    assert no_trace(world)


@pytest.mark.parametrize("seed", range(3))
def test_of_each_conversation_the_newest_goes_whatever_the_order_and_the_looks(
    world: World, seed: int
) -> None:
    """Producers that stand still, looks, senders that give back what they took: in any order."""
    chance, queues = random.Random(seed), world.runtime.lane_queues
    talks = [[said(10 * n + turn, f"u{n}") for turn in range(3)] for n in range(12)]
    works = [one for talk in talks for one in talk]
    slow, held = list[Pipeline](), list[Taken]()
    for batch in chunks(chance, works):
        pipe = world.runtime.redis.pipeline(transaction=True)
        queues.put(pipe, [batch_of(world, batch)])
        slow.append(pipe)
    chance.shuffle(slow)
    first = len(slow) // 4
    for pipe in slow[:first]:
        pipe.execute()
    held += [taken_by_another(world, chance.randint(1, 6)) for _ in range(2)]
    stop(world)
    for pipe in slow[first:]:
        pipe.execute()
        if chance.random() < 0.3:
            looks(world)
        if held and chance.random() < 0.2:
            taken = held.pop()
            queues.commit(taken, LaneCommit(back=taken.entries))
    for taken in held:
        queues.commit(taken, LaneCommit(back=taken.entries))
    assert opens(world, works) == ["folded", "folded", "accepted"] * len(talks)
    tokens = [line["token"] for line in world.accepted()]
    assert sorted(tokens)[1:] == sorted(talk[0].target.token for talk in talks), "each once"
    assert no_trace(world)


def chunks(chance: random.Random, works: Sequence[PendingPush]) -> Iterator[list[PendingPush]]:
    """All of them in their order, some to an entry."""
    left = list(works)
    chance.shuffle(left)
    while left:
        count = chance.randint(1, 4)
        yield left[:count]
        left = left[count:]


def batch_of(world: World, works: Sequence[PendingPush]) -> NewBatch:
    pushes = [Push(note=one.note, targets=(one.target,)) for one in works]
    batch = packed(pushes, world.lane.credential.business_id)
    return as_new(batch, Urgency.CHAT, encode(batch))


def looks(world: World) -> None:
    """What waits is noted, as far as one look comes."""
    taken = taken_by_another(world)
    assert taken.what == "shut"
    LaneRounds(world.runtime, lambda: False).unsent.note_outage(world.lane, taken, "unavailable", 3)
