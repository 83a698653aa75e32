"""The lanes' queues over a real server: who may take what, what comes back, what nobody else may
write over.
"""

import time

from common.model import Urgency, Vendor
from common.storage.lane_entries import LaneCommit, LaneTerms, NewBatch, Taken
from common.storage.lane_loads import LOADS_EACH, OVER_EACH
from common.storage.lane_queues import LaneQueues

LANE = "a:fcm:b"
OPEN = LaneTerms(version=1, rate_per_s=100_000.0, burst=100_000.0)
ALL = dict.fromkeys(Urgency, 50)


def new(
    blob: bytes,
    urgency: Urgency = Urgency.CHAT,
    lane: str = LANE,
    pushes: int = 1,
    requests: int = 1,
) -> NewBatch:
    return NewBatch(lane, urgency, blob, pushes, requests, 1 << 45)


def put(queues: LaneQueues, *batches: NewBatch) -> None:
    with queues.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, batches)
        pipe.execute()


def take(
    queues: LaneQueues,
    urgency: Urgency = Urgency.CHAT,
    terms: LaneTerms = OPEN,
    pushes: int = 500,
    lane: str = LANE,
) -> Taken:
    (taken,) = queues.take([(lane, urgency, terms, pushes)], 15)
    return taken


def blobs(taken: Taken) -> list[bytes]:
    return [entry.blob for entry in taken.entries]


def end(queues: LaneQueues, taken: Taken) -> list[str]:
    return queues.commit(
        taken, LaneCommit(ended=taken.entries, bytes_more=-sum(map(len, blobs(taken))))
    )


def test_what_is_put_is_taken_in_its_order_and_leaves_nothing_behind(queues: LaneQueues) -> None:
    put(queues, *(new(b"%d" % number) for number in range(5)))
    assert queues.waiting(LANE) == 5
    taken = take(queues)
    assert (taken.what, blobs(taken), taken.left) == ("go", [b"0", b"1", b"2", b"3", b"4"], 0)
    assert queues.waiting(LANE) == 0
    assert queues.bytes_of([LANE]) == {LANE: 5}
    assert end(queues, taken) == []
    assert queues.bytes_of([LANE]) == {LANE: 0}
    left = {key.decode() for key in queues.redis.scan_iter("*{" + LANE + "}*")}
    assert left <= {queues.keys.lane_load(LANE)}
    assert take(queues).what == "empty"


def test_what_many_lanes_hold_is_told_of_each(queues: LaneQueues) -> None:
    lanes = [f"a{number}:fcm:b" for number in range(LOADS_EACH + 3)]
    put(queues, *(new(b"x" * number, lane=lane, pushes=2) for number, lane in enumerate(lanes, 1)))
    put(queues, new(b"bulk", Urgency.BULK, lanes[-1]), new(b"more", Urgency.BULK, lanes[-1]))
    loads = queues.loads(lanes)
    assert [loads[lane].bytes for lane in lanes] == [*range(1, len(lanes)), len(lanes) + 8]
    assert (loads[lanes[0]].waiting, loads[lanes[-1]].waiting) == (2, 4)
    seen = loads[lanes[-1]].entries
    assert seen == {Urgency.CALL: 0, Urgency.CHAT: 1, Urgency.GROUP: 0, Urgency.BULK: 2}
    now_ms = time.time() * 1000
    firsts = loads[lanes[-1]].oldest_ms
    shown = [urgency for urgency, first in firsts.items() if first and abs(first - now_ms) < 5_000]
    assert shown == [Urgency.CHAT, Urgency.BULK]
    assert queues.loaded() == sorted(lanes)
    found, *_ = queues.pop(Vendor.FCM, dict.fromkeys(Urgency, 1_000), ())
    assert len(found) == len(lanes) + 1, "each is ready, the last one for both"


def test_lanes_are_forgotten_only_where_nothing_came_meanwhile(queues: LaneQueues) -> None:
    put(queues, new(b"x", lane="b:fcm:b"))
    queues.redis.sadd(queues.keys.loaded_lanes, "a:fcm:b")
    queues.forget(["a:fcm:b", "b:fcm:b"])
    assert queues.loaded() == ["b:fcm:b"]


def test_what_ran_out_of_time_is_found_at_the_head_and_from_a_place_on(queues: LaneQueues) -> None:
    lanes = [f"a{number}:fcm:b" for number in range(OVER_EACH + 1)]
    for lane in lanes:
        put(
            queues,
            *(NewBatch(lane, Urgency.CHAT, b"%d" % number, 1, 1, 1_000) for number in range(9)),
        )
    told = queues.over([(lane, Urgency.CHAT, 6) for lane in lanes], 1_000, 2)
    assert [len(set(found)) for found in told] == [4] * len(lanes)
    assert not any(queues.over([(lane, Urgency.CHAT, 6) for lane in lanes], 999, 2))
    put(
        queues,
        *(
            NewBatch(LANE, Urgency.CHAT, b"%d" % number, 1, 1, 1_000 + number % 3)
            for number in range(9)
        ),
    )
    (found,) = queues.over([(LANE, Urgency.CHAT, 0)], 1_000, 9)
    assert sorted(blobs(queues.pick(LANE, Urgency.CHAT, found))) == [b"0", b"3", b"6"]


def test_entries_of_one_millisecond_keep_their_order(queues: LaneQueues) -> None:
    put(queues, *(new(b"%d" % number) for number in range(2_500)))
    (ids,) = queues.windows([(LANE, Urgency.CHAT, 0)], 2_500)
    assert [int(blob or b"-1") for blob in queues.blobs(LANE, ids)] == list(range(2_500))


def test_one_entry_has_one_sender(queues: LaneQueues) -> None:
    put(queues, new(b"x"))
    first = take(queues)
    assert take(queues).what == "empty"
    assert blobs(first) == [b"x"]


def test_of_one_lane_that_waits_only_its_own_set_is_read(queues: LaneQueues) -> None:
    """Bulk at its rate is popped all the time: sets of calls, chats and groups are not there."""
    cost = 0
    for number in range(2):  # the second time it knows where the last one stood
        put(queues, new(b"ad%d" % number, Urgency.BULK, "a:fcm:b"))
        queues.wake_at([("a:fcm:b", Urgency.BULK, 0)])
        before = queues.redis.info("stats")["total_commands_processed"]  # type: ignore[index]
        found, *_ = queues.pop(Vendor.FCM, dict.fromkeys(Urgency, 5), ())
        cost = queues.redis.info("stats")["total_commands_processed"] - before - 1  # type: ignore[index]
        assert found == [("a:fcm:b", Urgency.BULK)]
    assert cost <= 7
