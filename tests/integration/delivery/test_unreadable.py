"""One waiting entry that can't be read stops nothing behind it: it becomes a dead letter, and the
rest goes on.
"""

import time
from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.contracts import Batch, Push, encode
from common.model import Urgency
from common.storage.delayed import as_new, retry_member
from common.storage.keys import OLD_STREAMS
from common.storage.lane_entries import NewBatch
from tests.integration.delivery.conftest import World, chat
from tests.integration.lanes.test_bounds import pause
from tests.queued import packed
from workers.delivery.work import PendingPush
from workers.lane_timer import LaneTimer

_SEND = b"%02d" % OLD_STREAMS.index("send:meizu:chat")


def member(name: str, urgency: str, blob: bytes = b"x") -> bytes:
    """A member of the delayed set with a header of these names."""
    header = msgspec.msgpack.encode([name, urgency, 1, 1, 0])
    return b"\x01" + len(header).to_bytes(2) + header + b"8 octets" + blob


BAD = {
    "noise": b"\xff\xfe\x00",
    "nothing": b"",
    "a header that ends too soon": b"\x01\x00\x09\x95\xa1",
    "a header of another shape": b"\x01\x00\x01\xc3",
    "an unknown vendor": member("demo:nokia:b", "chat"),
    "a lane without a vendor": member("demo", "chat"),
    "an unknown urgency": member("demo:meizu:b", "later"),
    "a stream without a reader": member("nobody", ""),
    "an earlier release's stream without a name": b"99" + bytes(8) + b"x",
    "an earlier release's push that is none": _SEND + bytes(8) + b"\x93",
}


def batch(world: World, one: PendingPush) -> bytes:
    credential = world.lane.credential
    push = Push(note=one.note, targets=(one.target,))
    return encode(packed([push], credential.business_id, by_entry=False))


def letters(world: World, belt: str = "delayed") -> list[str]:
    while world.writer.flush():
        pass
    with world.runtime.engine.connect() as connection:
        query = text("SELECT reason FROM dead_letters WHERE fields::json->>'belt' = :belt")
        return [row[0] for row in connection.execute(query, {"belt": belt})]


def unreadable(world: World, one: PendingPush, expires_ms: int = 1 << 45) -> NewBatch:
    """Its entry, with a first byte that no batch has."""
    blob = batch(world, one)
    good = as_new(msgspec.msgpack.decode(blob, type=Batch), Urgency.CHAT, blob)
    return replace(good, blob=b"\xc1" + blob, expires_ms=expires_ms)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_retry_that_cannot_be_read_does_not_hold_back_the_others(
    world: World, bad: bytes
) -> None:
    before, one = len(letters(world)), chat(1)
    blob = batch(world, one)
    good = retry_member(as_new(msgspec.msgpack.decode(blob, type=Batch), Urgency.CHAT, blob))
    world.runtime.redis.zadd(world.runtime.keys.delayed, {bad: 0, good: 1})
    world.turn(lambda: world.all_decided([one]))
    assert world.decisions([one]) == ["accepted"]
    assert [reason.partition(":")[0] for reason in letters(world)[before:]] == ["unreadable"]
    assert not world.runtime.delayed.waiting_count()


def test_a_parked_push_that_cannot_be_read_does_not_hold_back_the_others(world: World) -> None:
    before = len(letters(world))
    works = [chat(number) for number in range(3)]
    keys = world.runtime.keys
    lot = keys.parked(world.lane.id, Urgency.CHAT)
    world.runtime.redis.sadd(keys.parked_lanes, world.lane.id)
    world.runtime.redis.zadd(
        lot, {_SEND + b"%08d" % n + batch(world, one): n for n, one in enumerate(works)}
    )
    world.runtime.redis.zadd(lot, {_SEND + bytes(8) + b"\xc1": 1.5, b"": -1})
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["accepted"] * 3
    assert len(letters(world)) == before + 2
    assert not world.runtime.redis.exists(lot, keys.parked_lanes)


def test_a_recall_of_what_cannot_be_read_leaves_the_others_their_time(world: World) -> None:
    before = len(letters(world, "send:meizu:chat"))
    bad, one = chat(1), chat(2)
    note, blob = one.note, batch(world, one)
    good = retry_member(as_new(msgspec.msgpack.decode(blob, type=Batch), Urgency.CHAT, blob))
    keys, due_ms = world.runtime.keys, (int(time.time()) + 3_000) * 1000
    world.runtime.redis.zadd(
        keys.delayed, {retry_member(unreadable(world, bad)): due_ms, good: due_ms}
    )
    words = {"demo": [bad.note.message_id, note.message_id]}
    LaneTimer(world.runtime).recalled(words, time.monotonic() + 5)
    assert letters(world, "send:meizu:chat")[before:] == ["broke_stage: DecodeError"]
    (left,) = world.runtime.redis.zrange(keys.delayed, 0, -1, withscores=True)  # type: ignore[misc, union-attr]
    assert left[1] == pytest.approx(due_ms, abs=1_000)
    assert not world.runtime.redis.exists(keys.lane_leases(world.lane.id))


def test_what_cannot_be_read_behind_a_stop_ends_with_its_time_as_do_the_others(
    world: World,
) -> None:
    before = len(letters(world, "send:meizu:chat"))
    pause(world)
    bad, over = chat(1), chat(2, expires_at_ms=now_ms() + 300)
    with world.runtime.redis.pipeline() as pipe:
        world.runtime.lane_queues.put(pipe, [unreadable(world, bad, expires_ms=now_ms() + 300)])
        pipe.execute()
    world.put([over])
    world.turn(lambda: world.all_decided([over]))
    assert world.decisions([over]) == ["lane_paused"]
    assert letters(world, "send:meizu:chat")[before:] == ["broke_stage: DecodeError"]
