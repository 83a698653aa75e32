"""The lanes' queues over a real server: who may take what, what comes back, what nobody else may write over."""

from __future__ import annotations

import pytest
import redis

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_queues import LaneCommit, LaneQueues, LaneTerms, NewBatch, Taken

LANE = "a:fcm:b"
OPEN = LaneTerms(version=1, rate_per_s=100_000.0, burst=100_000.0)
ALL = dict.fromkeys(Urgency, 50)


@pytest.fixture
def queues(redis_client: redis.Redis, space: str) -> LaneQueues:
    return LaneQueues(redis_client, Keys(f"push{space}"))


def new(blob: bytes, urgency: Urgency = Urgency.CHAT, lane: str = LANE, pushes: int = 1, requests: int = 1) -> NewBatch:
    return NewBatch(lane, urgency, blob, pushes, requests, 1 << 45)


def put(queues: LaneQueues, *batches: NewBatch) -> None:
    with queues.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, batches)
        pipe.execute()


def take(queues: LaneQueues, urgency: Urgency = Urgency.CHAT, terms: LaneTerms = OPEN, pushes: int = 500, lane: str = LANE) -> Taken:
    (taken,) = queues.take([(lane, urgency, terms, pushes)], 15)
    return taken


def blobs(taken: Taken) -> list[bytes]:
    return [entry.blob for entry in taken.entries]


def end(queues: LaneQueues, taken: Taken) -> list[str]:
    return queues.commit(taken, LaneCommit(ended=taken.entries, bytes_more=-sum(map(len, blobs(taken)))))


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


def test_one_entry_has_one_sender(queues: LaneQueues) -> None:
    put(queues, new(b"x"))
    first = take(queues)
    assert take(queues).what == "empty"
    assert blobs(first) == [b"x"]
