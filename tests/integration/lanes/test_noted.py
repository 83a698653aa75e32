"""Entries of which an outage was noted: they keep their places, and nothing leaves before what
waited with it is noted, for a moment at most.
"""

import time
from typing import Any, cast

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_entries import LaneCommit, Taken
from common.storage.lane_loads import Joining
from common.storage.lane_queues import LaneQueues
from common.storage.lanes import LaneStates
from common.storage.shard_lanes import ShardLaneQueues
from tests.integration.lanes.test_lane_queues import LANE, blobs, new, put, take


def stop(queues: LaneQueues) -> None:
    until = {"state": "stopped", "why": "unavailable", "until": str(time.time() + 500)}
    queues.redis.hset(queues.keys.lane(LANE), mapping=cast(Any, until))


def opens(queues: LaneQueues) -> None:
    queues.redis.delete(queues.keys.lane(LANE))


def note(queues: LaneQueues, count: int = 50) -> int:
    """How many were not noted."""
    found = queues.unnoted(LANE, Urgency.CHAT, count)
    held: dict[str, list[Joining]] = {entry: [] for entry, _ in found}
    with queues.redis.pipeline(transaction=True) as pipe:
        queues.note(pipe, LANE, Urgency.CHAT, "unavailable", held, 60)
        pipe.execute()
    return len(found)


def noted(queues: LaneQueues, count: int) -> None:
    """So many entries have waited behind the lane, which is open again."""
    put(queues, *(new(b"%d" % number) for number in range(count)))
    stop(queues)
    assert take(queues).what == "shut"
    assert note(queues) == count
    opens(queues)


def all_of(taken: Taken, count: int) -> bool:
    return blobs(taken) == [b"%d" % number for number in range(count)]


def test_what_is_given_back_or_picked_keeps_its_place(queues: LaneQueues) -> None:
    noted(queues, 4)
    first = take(queues, pushes=2)
    assert (blobs(first), first.noted_why) == ([b"0", b"1"], "unavailable")
    queues.commit(first, LaneCommit(back=first.entries))
    names = queues.windows([(LANE, Urgency.CHAT, 0)], 9)[0]
    picked = queues.pick(LANE, Urgency.CHAT, names[1:2])
    changed = [(entry, new(entry.blob)) for entry in picked.entries]
    queues.commit(picked, LaneCommit(changed=changed))
    assert not queues.unnoted(LANE, Urgency.CHAT, 9), "what is noted stays so"
    assert all_of(take(queues), 4)


def test_what_a_dead_sender_held_keeps_its_place(queues: LaneQueues) -> None:
    noted(queues, 3)
    queues.lease_ms = 50
    assert take(queues, pushes=1).entries
    queues.redis.zadd(queues.keys.lane_leases(LANE), dict.fromkeys(_leased(queues), 1))
    queues.redis.zadd(queues.keys.popped(_vendor()), {LANE: 1})
    assert queues.reap(_vendor()) == 1
    assert all_of(take(queues), 3)


def test_what_is_oldest_is_told_by_its_age(queues: LaneQueues) -> None:
    before_ms = int(time.time() * 1000)
    noted(queues, 2)
    oldest = queues.loads([LANE])[LANE].oldest_ms[Urgency.CHAT]
    assert oldest is not None
    assert before_ms <= oldest <= int(time.time() * 1000)


def test_what_is_oldest_need_not_be_noted(queues: LaneQueues) -> None:
    """A sender that took it before the lane stopped gives it back when others have been noted."""
    put(queues, new(b"0"))
    taken = take(queues)
    (oldest,) = taken.entries
    while time.time() * 1000 < oldest.order // 1000 + 2:
        pass  # they differ by more than what is told of them
    noted(queues, 1)
    queues.commit(taken, LaneCommit(back=taken.entries))
    assert queues.loads([LANE])[LANE].oldest_ms[Urgency.CHAT] == oldest.order // 1000


def test_nothing_leaves_before_what_waited_with_it_is_noted(queues: LaneQueues) -> None:
    noted(queues, 2)
    stop(queues)
    assert take(queues).what == "shut"
    put(queues, new(b"2"))
    opens(queues)
    put(queues, new(b"3"))
    asked = take(queues)
    assert (asked.what, asked.why) == ("shut", "unavailable")
    assert asked.due_ms <= asked.now_ms + 1, "it is to be noted now"
    assert note(queues, 1) == 1
    assert take(queues).what == "shut", "there is more"
    assert note(queues) == 1
    put(queues, new(b"4"))
    taken = take(queues)
    assert all_of(taken, 5), "who comes later is waited for no more"
    assert [one.noted for one in taken.entries] == [True] * 4 + [False]


def test_a_lane_waits_a_moment_for_its_notes_and_its_calls_do_not(queues: LaneQueues) -> None:
    stop(queues)
    put(queues, new(b"0"), new(b"call", Urgency.CALL))
    assert {take(queues, urgency).what for urgency in (Urgency.CHAT, Urgency.CALL)} == {"shut"}
    opens(queues)
    began = time.monotonic()
    assert take(queues, Urgency.CALL).what == "go"
    while not (taken := take(queues)).entries:
        assert time.monotonic() - began < 30
    assert time.monotonic() - began >= 0.9
    assert blobs(taken) == [b"0"]


def test_a_sender_takes_what_was_to_be_noted(queues: LaneQueues) -> None:
    """It is in no group then: nobody would take it out again."""
    put(queues, new(b"0"))
    (found,) = queues.unnoted(LANE, Urgency.CHAT, 9)
    taken = take(queues)
    with queues.redis.pipeline(transaction=True) as pipe:
        names = (f"{queues.keys.prefix}:backlog:g", f"{queues.keys.prefix}:backlog:g:m")
        held: dict[str, list[Joining]] = {found[0]: [(names, "p", 1, 1)]}
        queues.note(pipe, LANE, Urgency.CHAT, "unavailable", held, 60)
        pipe.execute()
    assert not queues.redis.exists(*names)
    assert take(queues).what == "empty"
    assert not queues.commit(taken, LaneCommit(back=taken.entries))
    assert len(queues.unnoted(LANE, Urgency.CHAT, 9)) == 1


def ends(queues: LaneQueues) -> None:
    """All that waits ends where it stands: its time ran out, say."""
    names = queues.windows([(LANE, Urgency.CHAT, 0)], 9)[0]
    picked = queues.pick(LANE, Urgency.CHAT, names)
    queues.commit(picked, LaneCommit(ended=picked.entries))


def comes_later(queues: LaneQueues) -> None:
    """The lane is open, nothing waits: who comes now has met no outage."""
    opens(queues)
    put(queues, new(b"later"))
    taken = take(queues)
    assert (taken.what, blobs(taken)) == ("go", [b"later"])
    assert [one.noted for one in taken.entries] == [False]
    assert taken.entries[0].order > taken.noted


def test_who_comes_after_a_probe_that_was_alone_is_not_held_by_its_outage(
    queues: LaneQueues,
) -> None:
    noted(queues, 1)
    stop(queues)
    assert take(queues).what == "shut"
    queues.redis.hset(queues.keys.lane(LANE), "until", "1")
    taken = take(queues)
    assert taken.what == "probe"
    queues.commit(taken, LaneCommit(ended=taken.entries))
    comes_later(queues)


def test_who_comes_when_all_that_waited_has_ended_is_not_held_by_its_outage(
    queues: LaneQueues,
) -> None:
    noted(queues, 1)
    stop(queues)
    assert take(queues).what == "shut"
    ends(queues)
    assert take(queues).what == "empty", "a stopped lane is looked at until it is"
    comes_later(queues)


def test_who_comes_when_all_that_waited_in_a_pause_has_ended_is_not_held_by_it(
    queues: LaneQueues,
) -> None:
    put(queues, new(b"0"))
    assert queues.paused(LANE, Urgency.CHAT, "lane_paused", 1000).what == "shut"
    ends(queues)
    assert queues.paused(LANE, Urgency.CHAT, "lane_paused", 1000).what == "empty"
    comes_later(queues)


def test_what_a_shard_gives_back_as_another_tries_the_lane_waits_behind_it(
    queues: LaneQueues,
) -> None:
    """The other one began after this shard had read that the lane may be tried."""
    redis, since = queues.redis, Keys(f"{queues.keys.prefix}t")
    shard = Keys(f"{queues.keys.prefix}s")
    apart = ShardLaneQueues(redis, shard, queues, LaneStates(redis, since))
    for keys, until in ((queues.keys, 1.0), (since, time.time() + 500)):
        state = {"state": "stopped", "why": "unavailable", "until": str(until)}
        redis.hset(keys.lane(LANE), mapping=cast(Any, state))
    put(apart, new(b"0"))
    assert take(apart).what == "shut"
    opens(queues)
    asked = take(apart)
    assert (asked.what, asked.why) == ("shut", "unavailable"), "it is noted first"
    assert note(apart) == 1
    (only,) = take(apart).entries
    assert only.noted


def _leased(queues: LaneQueues) -> list[bytes]:
    return cast(list[bytes], queues.redis.zrange(queues.keys.lane_leases(LANE), 0, -1))


def _vendor() -> Any:
    return LANE.split(":")[1]
