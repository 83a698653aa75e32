"""Many lanes in one step: as many as what they hold fits on the wire, taken, leased and ended each
as it would be alone.
"""

from itertools import chain
from typing import Any, cast

import pytest
import redis

from common.ledger_records import RowRecord, decode_records
from common.model import Urgency, Vendor
from common.storage import lane_queues
from common.storage.keys import LEDGER, Keys
from common.storage.lane_entries import LaneCommit, LaneTerms, PushRoom, Taken
from common.storage.lane_queues import LANES_A_CALL, LaneQueues
from tests.integration.lanes.test_lane_queues import ALL, OPEN, blobs, new, put
from tests.records import accepted_row, event_record
from tests.waiting import eventually

LANES = [f"a{number}:fcm:b" for number in range(LANES_A_CALL + 3)]
HUNDREDS = dict.fromkeys(Urgency, 500)


def take_all(queues: LaneQueues, terms: LaneTerms = OPEN) -> list[Taken]:
    return queues.take([(lane, Urgency.CHAT, terms, 5) for lane in LANES], 15)


def ending(taken: Taken, event: str) -> LaneCommit:
    return LaneCommit(
        ended=taken.entries,
        bytes_more=-sum(map(len, blobs(taken))),
        records=[accepted_row(event_record(app="a", ts_ms=1, received_ms=2, event_id=event))],
    )


def events(queues: LaneQueues) -> list[list[str]]:
    """By entry of the ledger's stream, the events of its records."""
    found = cast(Any, queues.redis.xrange(queues.keys.stream(LEDGER)))
    records = [decode_records(fields[b"b"]) for _, fields in found]
    return [[one.event_id for one in some if isinstance(one, RowRecord)] for some in records]


@pytest.mark.parametrize(
    ("room", "lanes"),
    [
        (PushRoom(30, 30, 15), 5),  # six pushes each
        (PushRoom(31, 31, 15), 6),
        (PushRoom(1, 1, 15), 1),  # one at least
        (PushRoom(30, 30, 3), 10),  # no lane counts for more
        (PushRoom(6_000, 6_000, 15), 20),
    ],
)
def test_no_more_lanes_are_found_than_what_they_hold_fits(
    queues: LaneQueues, room: PushRoom, lanes: int
) -> None:
    for number in range(20):
        put(queues, *(new(b"x", lane=f"a{number:02}:fcm:b", pushes=2) for _ in range(3)))
    found, next_s, waiting = queues.pop(Vendor.FCM, HUNDREDS, (), room)
    assert [lane for lane, _ in found] == [f"a{number:02}:fcm:b" for number in range(lanes)]
    assert waiting == [6] * lanes
    assert next_s == (None if lanes == 20 else 0), "the others are due"
    more, *_ = queues.pop(Vendor.FCM, HUNDREDS, ())
    assert len(found) + len(more) == 20


def test_groups_and_bulk_have_a_room_of_their_own(queues: LaneQueues) -> None:
    for number in range(8):
        put(queues, new(b"x", Urgency.GROUP, f"g{number}:fcm:b", pushes=10))
        put(queues, new(b"x", Urgency.CHAT, f"c{number}:fcm:b"))
    found, *_ = queues.pop(Vendor.FCM, HUNDREDS, (), PushRoom(100, 30, 15))
    assert [urgency for _, urgency in found] == [Urgency.CHAT] * 8 + [Urgency.GROUP] * 3


def test_each_lane_is_taken_as_alone(queues: LaneQueues) -> None:
    for number, lane in enumerate(LANES[1:], 1):
        put(queues, *(new(b"%d" % number, lane=lane) for _ in range(number % 7)))
    taken = take_all(queues)
    assert [one.lane for one in taken] == LANES
    assert [len(one.entries) for one in taken] == [min(n % 7, 5) for n in range(len(LANES))]
    assert [one.left for one in taken] == [max(n % 7 - 5, 0) for n in range(len(LANES))]
    assert {one.what for one in taken if not one.entries} == {"empty"}
    assert all(set(blobs(one)) <= {b"%d" % number} for number, one in enumerate(taken))


def test_each_lane_leases_of_its_own_rate(queues: LaneQueues) -> None:
    put(queues, *(new(b"x", lane=lane, pushes=5) for lane in LANES))
    slow = LaneTerms(version=1, rate_per_s=2.0, burst=2.0)
    taken = [
        queues.take([(lane, Urgency.CHAT, slow if number % 2 else OPEN, 5)], 15)[0]
        for number, lane in enumerate(LANES)
    ]
    leases = queues.lease_all([(one, 5, 5) for one in taken], 15)
    assert [one.tokens for one in leases] == [4 if n % 2 else 5 for n in range(len(LANES))]
    queues.commit_all([(one, ending(one, "e")) for one in taken])
    assert not any(queues.redis.exists(queues.keys.inflight(lane)) for lane in LANES)


def test_what_ends_together_leaves_nothing_behind_and_one_record_a_step(
    queues: LaneQueues,
) -> None:
    put(queues, *(new(b"x", lane=lane) for lane in LANES))
    taken = take_all(queues)
    noted = [queues.keys.taken(one.entries[0].id) for one in taken]
    for name in noted:
        queues.redis.set(name, b"1")
    commits = [(one, ending(one, one.lane)) for one in taken]
    for (_, commit), name in zip(commits, noted, strict=True):
        commit.taken.append(name)
    assert queues.commit_all(commits) == [[]] * len(LANES)
    assert events(queues) == [LANES[:LANES_A_CALL], LANES[LANES_A_CALL:]]
    assert not queues.redis.exists(*noted)
    assert queues.bytes_of(LANES) == dict.fromkeys(LANES, 0)
    left = {key.decode() for key in queues.redis.scan_iter("*{a*:fcm:b}*")}
    assert left <= {queues.keys.lane_load(lane) for lane in LANES}


def test_a_lane_that_another_has_taken_over_keeps_none_of_the_others(queues: LaneQueues) -> None:
    put(queues, *(new(b"x", lane=lane) for lane in LANES))
    taken = take_all(queues)
    entry, holders = taken[2].entries[0].id, queues.keys.lane_holders(LANES[2])
    queues.redis.hset(holders, entry, "another")
    lost = queues.commit_all([(one, ending(one, one.lane)) for one in taken])
    assert lost == [[entry] if lane == LANES[2] else [] for lane in LANES]
    assert sorted(chain(*events(queues))) == sorted(set(LANES) - {LANES[2]})
    assert queues.redis.hget(holders, entry) == b"another"


def test_what_comes_back_is_written_beside_what_ends(queues: LaneQueues) -> None:
    put(queues, *(new(b"x", lane=lane) for lane in LANES))
    taken = take_all(queues)
    commits = [
        (one, LaneCommit(back=one.entries) if not number % 2 else ending(one, one.lane))
        for number, one in enumerate(taken)
    ]
    assert queues.commit_all(commits) == [[]] * len(LANES)
    assert [queues.waiting(lane) for lane in LANES] == [int(not n % 2) for n in range(len(LANES))]
    assert list(chain(*events(queues))) == LANES[1::2]


def test_a_full_server_ends_many(queues: LaneQueues, redis_client: redis.Redis) -> None:
    put(queues, *(new(b"x", lane=lane) for lane in LANES))
    redis_client.config_set("maxmemory", 1)
    try:
        assert queues.pop(Vendor.FCM, ALL, ())[0]
        taken = take_all(queues)
        leases = queues.lease_all([(one, 1, 1) for one in taken], 15)
        lost = queues.commit_all([(one, ending(one, one.lane)) for one in taken])
    finally:
        redis_client.config_set("maxmemory", 0)
    assert [one.tokens for one in leases] == [1] * len(LANES)
    assert not any(lost)
    assert queues.waiting(LANES[0]) == 0


def test_what_many_dead_held_comes_back_in_several_looks(
    redis_client: redis.Redis, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queues, "REAPED_MAX", 50)
    queues = LaneQueues(redis_client, Keys(f"push{space}"), lease_ms=100)
    put(queues, *(new(b"x", lane=lane) for lane in LANES for _ in range(2)))
    found, *_ = queues.pop(Vendor.FCM, HUNDREDS, ())
    assert len(found) == len(LANES)
    assert sum(len(one.entries) for one in take_all(queues)) == 2 * len(LANES)
    came = list[int]()

    def all_came() -> bool:
        came.append(queues.reap(Vendor.FCM))
        return sum(came) == 2 * len(LANES)

    eventually(all_came)
    assert max(came) == 50 + 6, "of one call of many lanes, and of that of the others"
    assert [queues.waiting(lane) for lane in LANES] == [2] * len(LANES)
    again = take_all(queues)
    assert {entry.deliveries for one in again for entry in one.entries} == {2}
