"""After an outage one push speaks for its conversation, however its fellows came to the queue: late
and below what had been looked at, back from a sender, or after the last look.
"""

from collections.abc import Sequence

import msgspec
import pytest

from common.contracts import Push, encode
from common.model import MessageClass, Urgency
from common.storage.delayed import as_new
from common.storage.lane_entries import LaneCommit, Taken
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


def taken_by_another(world: World) -> Taken:
    """Another process takes what is first."""
    (taken,) = world.runtime.lane_queues.take(
        [(world.lane.id, Urgency.CHAT, lane_terms(world.lane), 500)], 15
    )
    return taken


def test_who_was_named_early_and_came_late_folds(world: World) -> None:
    """Its producer stands still between the order that it gives and its commit."""
    older, newer = said(OLDER), said(NEWER)
    stop(world)
    queues = world.runtime.lane_queues
    push = Push(note=older.note, targets=(older.target,))
    batch = packed([push], world.lane.credential.business_id)
    with world.runtime.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, [as_new(batch, Urgency.CHAT, encode(batch))])
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
