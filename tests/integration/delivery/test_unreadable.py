"""One waiting entry that can't be read stops nothing behind it: it becomes a dead letter, and the
rest goes on.
"""

import msgspec
import pytest
from sqlalchemy import text

from common.contracts import Batch, Push, encode
from common.model import Urgency
from common.storage.delayed import as_new, retry_member
from common.storage.keys import OLD_STREAMS
from tests.integration.delivery.conftest import World, chat
from tests.queued import packed
from workers.delivery.work import PendingPush

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


def letters(world: World) -> list[str]:
    while world.writer.flush():
        pass
    with world.runtime.engine.connect() as connection:
        query = text("SELECT reason FROM dead_letters WHERE fields::json->>'belt' = 'delayed'")
        return [row[0] for row in connection.execute(query)]


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
