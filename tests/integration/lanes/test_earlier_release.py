"""Bytes as release 0.1 wrote them, packed here by hand: what was under way when the fleet was
upgraded is finished by the new one.
"""

import os
import time
import uuid
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.contracts import Batch, decode_batch, decode_messages
from common.storage.claims import ClaimRequest, Claims, day_of
from common.storage.streams import GROUP, Entry
from tests.integration.delivery.conftest import World
from workers.app import PRESENCE, ROUTING
from workers.pipeline import Stages, presence_of, routing_of

pack = msgspec.msgpack.encode
STREAM = "send:meizu:chat"
#: Its number among the streams of that release.
NUMBER = b"35"


def batch(world: World, number: int) -> bytes:
    now = now_ms()
    note: dict[str, Any] = {
        "app": "demo",
        "event_id": uuid.uuid4().hex,
        "message_id": f"m{number}",
        "conversation_type": "c2c",
        "conversation_id": "ann",
    }
    note |= dict.fromkeys(("ts_ms", "received_ms", "presence_ms", "routed_ms"), now)
    note |= {"expires_at_ms": now + 600_000}
    note |= {"title": "Ann", "body": "hello", "collapse_id": f"m{number}", "placement": {}}
    phone = [f"u{number}", "d", f"token-{number:04d}", push_id(number), "android"]
    target: list[Any] = [*phone, 1, [], None, None, 0]
    business_id = world.lane.credential.business_id
    pushes = [{"note": note, "targets": [target]}]
    return pack({"app": "demo", "vendor": "meizu", "business_id": business_id, "pushes": pushes})


def push_id(number: int) -> str:
    return f"{number:032x}"


def set_claim(world: World, number: int, value: str) -> None:
    world.runtime.redis.hset(
        world.runtime.keys.claims(day_of(now_ms()), push_id(number)), push_id(number), value
    )


def add(world: World, number: int) -> str:
    told: Any = world.runtime.redis.xadd(
        world.runtime.keys.stream(STREAM), {"b": batch(world, number)}
    )
    return str(told.decode())


def decisions(world: World, *numbers: int) -> list[str | None]:
    rows = world._rows()
    return [rows.get(push_id(number)) for number in numbers]


def test_what_a_reader_of_the_earlier_release_held_when_it_died_is_sent(world: World) -> None:
    redis, stream = world.runtime.redis, world.runtime.keys.stream(STREAM)
    entry = add(world, 1)
    redis.xgroup_create(stream, GROUP, id="0")
    redis.xreadgroup(GROUP, "old", {stream: ">"})
    redis.xclaim(stream, GROUP, "old", 0, [entry], idle=20_000)
    set_claim(world, 1, f"L{STREAM}/{entry}|3")
    world.turn(lambda: decisions(world, 1) == ["accepted"])
    assert len(world.accepted()) == 1
    assert not redis.xlen(stream)


def test_what_the_earlier_release_had_sent_is_not_sent_again(world: World) -> None:
    for number in range(3):
        add(world, number)
    set_claim(world, 1, "D")
    set_claim(world, 2, "R3")
    world.turn(lambda: decisions(world, 0, 2) == ["accepted"] * 2)
    world.turn(lambda: not world.runtime.lane_queues.any_left())
    assert len(world.accepted()) == 2


@pytest.mark.parametrize("count", [120])
def test_lots_and_retries_are_emptied_in_their_order_and_counted_once(
    world: World, count: int
) -> None:
    redis, names = world.runtime.redis, world.runtime.keys
    due = int(time.time() * 1000)
    for number in range(count):
        member = NUMBER + os.urandom(8) + batch(world, number)
        entry = {member: due + number}
        redis.zadd(names.delayed if number % 2 else names.parked(world.lane.id, "chat"), entry)
    redis.sadd(names.parked_lanes, world.lane.id)
    world.turn(lambda: len(world.accepted()) >= count, 40)
    world.turn(lambda: decisions(world, *range(count)) == ["accepted"] * count)
    assert len(world.accepted()) == count
    assert world.runtime.lane_queues.bytes_of([world.lane.id]) == {world.lane.id: 0}
    assert not redis.exists(names.delayed, names.parked(world.lane.id, "chat"), names.parked_lanes)


def message(number: int, user: str) -> dict[str, Any]:
    now = now_ms()
    made: dict[str, Any] = {
        "app": "demo",
        "event_id": f"e{number}-{user}",
        "type": "message.stored",
        "message_id": f"m{number}",
        "ts_ms": now,
        "received_ms": now,
        "expires_at_ms": now + 600_000,
        "conversation": {"type": "c2c", "id": "ann"},
    }
    elements = [{"type": "text", "text": "hello"}]
    return made | {"sender": {"id": "ann"}, "recipients": [user], "elements": elements}


def away_of(world: World, message: dict[str, Any]) -> dict[str, Any]:
    """Carl is away; he has one phone."""
    phone = ["d", "android", "meizu", world.lane.credential.business_id, "token-0007"]
    device = [*phone, None, "en", None, None, 1, None, None]
    people = [["carl", [device], False]]
    return {"message": message, "recipients": people, "presence_ms": now_ms()}


def test_the_streams_of_presence_and_routing_are_drained(world: World) -> None:
    redis, names, stages = world.runtime.redis, world.runtime.keys, Stages(world.runtime)
    redis.xadd(names.stream("presence"), {"b": pack([message(1, "nobody")])})
    away = away_of(world, message(2, "carl"))
    redis.xadd(names.stream("routing"), {"b": pack([away])})

    def drained() -> bool:
        for stage in (PRESENCE, ROUTING):
            stages.consumer(stage)(lambda: False)
        accepted = len(world.accepted())
        return (
            accepted == 1 and decided("nobody") == ["no_device"] and decided("carl") == ["accepted"]
        )

    def decided(user: str) -> list[str]:
        while world.writer.flush():
            pass
        with world.runtime.engine.connect() as connection:
            query = text('SELECT decision FROM ledger_all WHERE "user" = :u')
            return list(connection.execute(query, {"u": user}).scalars())

    world.turn(drained)


def routed(world: World, single: bool, deliveries: int) -> Batch:
    """What routing makes of one person's entry."""
    away = away_of(world, message(1, "carl") | {"single": single})
    commit = routing_of(world.runtime).handle(
        [Entry("routing:chat", b"1-1", pack([away]), deliveries)]
    )
    with world.runtime.redis.pipeline(transaction=True) as pipe:
        for more in commit.extra:
            more(pipe)
        pipe.execute()
    blobs: Any = world.runtime.redis.hvals(world.runtime.keys.lane_blobs(world.lane.id))
    (blob,) = blobs
    return decode_batch(blob)


@pytest.mark.parametrize(
    ("single", "deliveries", "by_entry"), [(True, 1, True), (True, 2, False), (False, 1, False)]
)
def test_what_a_reader_of_the_earlier_release_may_do_as_well_is_claimed_by_its_id(
    world: World, single: bool, deliveries: int, by_entry: bool
) -> None:
    """One that stood still goes on with an entry that was taken over from it, and knows no count of
    takeovers.
    """
    assert routed(world, single, deliveries).by_entry is by_entry


@pytest.mark.parametrize(("deliveries", "single"), [(1, True), (2, False)])
def test_presence_hands_the_mark_on_of_what_it_is_the_first_to_read(
    world: World, deliveries: int, single: bool
) -> None:
    # without a device: looked at once more in a moment
    stranger = message(1, "nobody") | {"single": True}
    commit = presence_of(world.runtime).handle(
        [Entry("presence:group", b"1-1", pack([stranger]), deliveries)]
    )
    again = [one for later in commit.deferred for one in decode_messages(later.blob)]
    assert [one.single for one in again] == [single]


def test_records_of_the_ledger_are_written(world: World) -> None:
    now, business_id = now_ms(), world.lane.credential.business_id
    attempt = [now, "200", "200", "", "v1", "accepted"]
    row: list[Any] = [
        "r",
        "demo",
        "old-event",
        now,
        "u1",
        "d",
        "meizu",
        business_id,
        "accepted",
        False,
        "chat",
        "chat",
        push_id(1),
        [attempt],
    ]
    event = ["e", "demo", "old-event", "m1", "message.stored", "ann", now, now, None, "", "", 0]
    world.runtime.redis.xadd(
        world.runtime.keys.stream("ledger"), {"b": pack([event, [*row, now, now, now, ""]])}
    )
    assert decisions(world, 1) == ["accepted"]


def test_a_number_that_the_earlier_release_counted_is_not_counted_again(world: World) -> None:
    redis, names, now = world.runtime.redis, world.runtime.keys, now_ms()
    redis.hset(names.badges("demo", "u1"), mapping={"d:b": 4, "d:n": 3})
    for state in (f"L{STREAM}/1-0|7", "R7"):
        set_claim(world, 1, state)
        ask = ClaimRequest("demo", "m1", "u1", "d", push_id(1), now, f"{STREAM}/1-0", 1, "ann", 1)
        (told,) = Claims(redis, names).lease([ask])
        assert told.badge == 7
