"""Another number of shards: nothing that waits is lost or doubled, whatever ends the move and
however often.
"""

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from redis.connection import Connection

from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import DeadRecord
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.claims import ClaimRequest
from common.storage.delayed import Later
from common.storage.lane_entries import NewBatch
from common.storage.shards import RESHARD, shard_of
from tests.badge_counts import badge_of
from tests.conftest import OwnValkey
from tests.integration.shards.conftest import ShardedFleet
from tests.restarting import RestartConnection, restarting
from workers.gate import lane_terms
from workers.replay import NotReplayableError, replay
from workers.resharding.mover import AT_ONCE, Mover, NotEmptyError, flush
from workers.resharding.steps import Resharding, ReshardingError
from workers.runtime import Runtime

PEOPLE = [f"u{number}" for number in range(30)]
LANES = ["m1", "m2", "m3"]


class CutError(BaseException):
    """The process was ended."""


class CutConnection(Connection):
    """Ends the process, so to say, after so many commands."""

    left = 1 << 60

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        CutConnection.left -= 1
        if CutConnection.left < 0:
            raise CutError
        super().send_packed_command(*args, **options)


def cut(runtime: Runtime, shards: int) -> Runtime:
    made = Runtime(dataclasses.replace(runtime.settings, shards=shards), "reshard", RESHARD)
    options = runtime.redis.connection_pool.connection_kwargs
    pool = redis.ConnectionPool(connection_class=CutConnection, **options)
    made.__dict__["redis"] = redis.Redis.from_pool(pool)
    made.__dict__["engine"] = runtime.engine
    return made


@pytest.fixture
def endless() -> Iterator[None]:
    yield
    CutConnection.left = 1 << 60


def move(fleet: ShardedFleet, old: int, new: int) -> int:
    """Ended after 1, 2, 4, … commands, each time begun anew; how often."""
    ends, after = 0, 1
    while True:
        CutConnection.left = after
        try:
            Mover(cut(fleet.runtime, old), cut(fleet.runtime, new), lambda _counts: None).run()
        except CutError:
            ends, after = ends + 1, after * 2
            continue
        return ends


def orders(fleet: ShardedFleet, lane: str) -> dict[str, list[str]]:
    """Message ids that wait for each person, as they will be sent: by urgency,
    then in their order.
    """
    found: dict[str, list[str]] = {}
    for one in fleet.runtime.shards:
        for urgency in ("call", "chat", "group", "bulk"):
            queue = one.lane_queues
            for entry, blob in zip(*_entries(queue, lane, urgency), strict=True):
                assert entry
                for user, message_id in _pushes(blob):
                    found.setdefault(user, []).append(message_id)
    return found


def _entries(queue: Any, lane: str, urgency: str) -> tuple[list[str], list[bytes]]:
    (names,) = queue.windows([(lane, urgency, 0)], 1_000)
    return names, queue.blobs(lane, names)


def _pushes(blob: bytes) -> list[tuple[str, str]]:
    from common.contracts import decode_batch

    batch = decode_batch(blob)
    return [(target.user, push.note.message_id) for push in batch.pushes for target in push.targets]


def fill(fleet: ShardedFleet) -> None:
    """In each of three paused lanes an advert, a group's message and a chat of everybody, and one
    that is recalled.
    """
    for lane in LANES[1:]:
        fleet.lane(lane)
    for lane in LANES:
        fleet.pause(lane, True)
    fleet.take_in(*(fleet.phone(user, LANES[number % 3]) for number, user in enumerate(PEOPLE)))
    fleet.members("g", PEOPLE)
    fleet.publish(
        *(fleet.chat(user, f"advert-{user}", push={"class": "marketing"}) for user in PEOPLE)
    )
    fleet.take_in(
        fleet.group("g", "g1"),
        fleet.group("g", "g2"),
        *(fleet.chat(user, f"chat-{user}") for user in PEOPLE),
    )
    conversation = {"type": "group", "id": "g"}
    fleet.publish(
        fleet.event("message.recalled", {"message_id": "g2", "conversation": conversation})
    )
    fleet.through(
        *(
            fleet.event("app.background", {"user": user, "device_id": f"d-{user}", "badge": 7})
            for user in PEOPLE
        )
    )
    fleet.write()


def count(fleet: ShardedFleet) -> None:
    """A count of everybody's tablet, of which no word is known, each another number."""
    for number, user in enumerate(PEOPLE, 1):
        place = fleet.runtime.shards[shard_of(len(fleet.runtime.shards), fleet.app, user)]
        ask = ClaimRequest(
            fleet.app, f"m{number}", user, "tablet", f"{number:032x}", 1, "e", number
        )
        assert place.claims.lease([ask])[0].badge == number


def counts(fleet: ShardedFleet) -> None:
    """Those counts are in their people's shards, and there alone."""
    found = {
        (one.number, user): int(told[b"tablet:n"])
        for one in fleet.runtime.shards
        for user in PEOPLE
        if b"tablet:n" in (told := badge_of(one.redis, one.keys, fleet.app, user))
    }
    shards = len(fleet.runtime.shards)
    homes = [shard_of(shards, fleet.app, user) for user in PEOPLE]
    assert found == {one: number for number, one in enumerate(zip(homes, PEOPLE, strict=True), 1)}


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_one_to_four_to_two_ended_again_and_again(sharded: ShardedFleet, endless: None) -> None:
    fleet = sharded
    fill(fleet)
    lanes = [f"{fleet.app}:meizu:{name}" for name in LANES]
    before = {lane: orders(fleet, lane) for lane in lanes}
    count(fleet)
    for name in list(fleet.runtime.redis.scan_iter(match="*:counts:*")):
        fleet.runtime.redis.persist(name)  # as a process that stood still may leave it
    found = sum(len(told) for people in before.values() for told in people.values())
    assert found == 4 * len(PEOPLE)
    for old, new in ((1, 4), (4, 2)):
        assert move(fleet, old, new) >= 8
        fleet.reopened(new)
        counts(fleet)
        assert {lane: orders(fleet, lane) for lane in lanes} == before
        assert all(
            sum(one.lane_queues.waiting(lane) for one in fleet.runtime.shards)
            == 4 * len(PEOPLE) // 3
            for lane in lanes
        )
    leftover = list(
        fleet.runtime.redis.scan_iter(match=f"{fleet.runtime.settings.prefix}:{{s[23]}}:*")
    )
    assert not leftover
    chat = {"message_id": f"chat-{PEOPLE[0]}", "conversation": {"type": "c2c", "id": "boss"}}
    fleet.take_in(fleet.event("message.recalled", chat))
    for lane in LANES:
        fleet.pause(lane, False)
    fleet.all_sent()
    seen = {user: fleet.rows(f"advert-{user}")[user] for user in PEOPLE}
    assert seen == {user: ["accepted"] for user in PEOPLE}
    shown = {user: fleet.rows("g1")[user] for user in PEOPLE}
    assert shown == {user: ["accepted"] for user in PEOPLE}
    assert {user: fleet.rows("g2")[user] for user in PEOPLE} == {
        user: ["recalled"] for user in PEOPLE
    }
    assert fleet.rows(f"chat-{PEOPLE[0]}")[PEOPLE[0]] == ["recalled"]
    assert max(fleet.shown().values()) == 3


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_a_sender_that_died_counts_once_however_often_it_is_ended(
    sharded: ShardedFleet, endless: None
) -> None:
    fleet = sharded
    fleet.take_in(*map(fleet.phone, PEOPLE))
    for user in PEOPLE:  # an entry of the queue each
        fleet.through(fleet.chat(user, f"h-{user}"))
    lane = f"{fleet.app}:meizu:m1"
    terms = lane_terms(fleet.runtime.catalog.fresh().lanes[fleet.app, Vendor.MEIZU, "m1"])
    # and its sender dies
    (taken,) = fleet.runtime.lane_queues.take([(lane, Urgency.CHAT, terms, 100)], 15.0)
    assert len(taken.entries) == len(PEOPLE)
    assert move(fleet, 1, 4) >= 6
    fleet.reopened(4)
    tries = [one.redis.hvals(one.keys.lane_tries(lane)) for one in fleet.runtime.shards]
    assert tries[0], "some stay where they were"
    assert {value for told in tries for value in told} == {b"1"}


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_the_command(sharded: ShardedFleet) -> None:
    """What was between the stages is finished first; the number is fixed, and told to whoever has
    another one.
    """
    fleet = sharded
    fleet.take_in(*map(fleet.phone, PEOPLE))
    fleet.pause("m1", True)
    fleet.members("g", PEOPLE)
    fleet.publish(fleet.group("g", "g1"), *(fleet.chat(user, f"c-{user}") for user in PEOPLE))
    fleet.take_in()  # and the group waits for presence
    said: list[str] = []
    settings = fleet.runtime.settings
    Resharding(settings, 3, said.append).run(0.0, 5.0)
    assert "3 shards" in said[-1]
    with pytest.raises(Exception, match="pushfleet reshard 2"):
        _ = Runtime(dataclasses.replace(settings, shards=2)).redis
    fleet.reopened(3)
    assert not fleet.runtime.redis.exists(fleet.runtime.keys.resharding)
    fleet.pause("m1", False)
    fleet.all_sent()
    found = {user: fleet.rows("g1")[user] for user in PEOPLE}
    assert found == {user: ["accepted"] for user in PEOPLE}
    seen = {user: fleet.rows(f"c-{user}")[user] for user in PEOPLE}
    assert seen == {user: ["accepted"] for user in PEOPLE}
    Resharding(settings, 3, said.append).run(0.0, 5.0)
    assert "already" in said[-1]
    Resharding(settings, 1, said.append, "zh").run(0.0, 5.0)
    assert "PUSHFLEET_SHARDS=1 启动" in said[-1]


def _letter(fleet: ShardedFleet, user: str) -> str:
    """Of a push to this person that waits in a lane's queue, a dead letter of delivery; the push is
    no more in the queue.
    """
    lane = f"{fleet.app}:meizu:m1"
    own = fleet.runtime.shards[shard_of(len(fleet.runtime.shards), fleet.app, user)]
    entries = _entries(own.lane_queues, lane, "chat")[1]
    blobs = [blob for blob in entries if (user, f"c-{user}") in _pushes(blob)]
    assert len(blobs) == 1
    raw = fleet.runtime.vault.encrypt(blobs[0])
    told: dict[str, Any] = {
        "stage": "delivery",
        "reason": "poison",
        "app": fleet.app,
        "at_ms": now_ms(),
        "fields": {"belt": "send:meizu:chat"},
    }
    letter = DeadRecord(id=uuid.uuid4().hex, entry_id="1-1", raw=raw, **told)
    fleet.runtime.streams.redis.xadd(
        fleet.runtime.keys.stream(keys.LEDGER), {"b": encode([letter])}
    )
    fleet.write()
    own.redis.delete(*own.redis.keys(f"{own.keys.prefix}:{{{lane}}}:*"))
    return letter.id


def test_a_replayed_letter_of_a_shard_that_goes_is_not_lost(sharded: ShardedFleet) -> None:
    """Of four shards; and nothing is replayed while keys move."""
    fleet = sharded
    user = next(name for name in PEOPLE if shard_of(4, fleet.app, name) == 3)
    fleet.take_in(fleet.phone(user))
    fleet.pause("m1", True)
    fleet.through(fleet.chat(user, f"c-{user}"))
    letter, settings = _letter(fleet, user), fleet.runtime.settings
    fleet.runtime.redis.hset(
        fleet.runtime.keys.resharding, mapping={"from": 4, "to": 2, "phase": "drain"}
    )
    with pytest.raises(NotReplayableError, match="reshard"):
        replay(fleet.runtime, letter)
    fleet.runtime.redis.delete(fleet.runtime.keys.resharding)
    assert replay(fleet.runtime, letter) is not None
    Resharding(settings, 2, lambda _words: None).run(0.0, 5.0)
    fleet.reopened(2)
    fleet.pause("m1", False)
    fleet.all_sent()
    assert fleet.rows(f"c-{user}") == {user: ["accepted"]}


def test_what_comes_to_a_stream_after_the_flush_stays(sharded: ShardedFleet) -> None:
    fleet = sharded
    late = fleet.runtime.shards[3]
    late.streams.redis.xadd(late.keys.stream("send:meizu:chat"), {"b": b"late"})
    old, new = (
        Runtime(dataclasses.replace(fleet.runtime.settings, shards=count), "reshard", RESHARD)
        for count in (4, 2)
    )
    with pytest.raises(NotEmptyError, match="1 entries of send:meizu:chat"):
        Mover(old, new, lambda _counts: None).run()
    assert late.redis.xlen(late.keys.stream("send:meizu:chat")) == 1


def test_a_retry_that_nobody_can_read_and_is_not_due_becomes_a_dead_letter(
    sharded: ShardedFleet,
) -> None:
    fleet = sharded
    place = fleet.runtime.shards[1]
    place.redis.zadd(place.keys.delayed, {b"\x93nonsense": now_ms() + 3_600_000})
    Resharding(fleet.runtime.settings, 2, lambda _words: None).run(0.0, 5.0)
    fleet.reopened(2)
    assert [one.raw for one in fleet.runtime.dead_letters.listed("delivery")] == [b"\x93nonsense"]


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_a_process_that_does_not_stop_is_named(sharded: ShardedFleet) -> None:
    fleet = sharded
    fleet.runtime.living.beat("delivery.1@h", "delivery:meizu", None)
    with pytest.raises(ReshardingError, match=r"delivery\.1@h"):
        Resharding(fleet.runtime.settings, 2, lambda _words: None).run(0.0, 0.3)
    fleet.runtime.living.leave(["delivery.1@h"])
    fleet.runtime.living.rest("delivery.1@h")
    with pytest.raises(ReshardingError, match="pushfleet reshard 2"):
        Resharding(fleet.runtime.settings, 4, lambda _words: None).run(0.0, 0.3)
    Resharding(fleet.runtime.settings, 2, lambda _words: None).run(0.0, 0.3)
    flush(fleet.runtime, 1.0)


@pytest.mark.parametrize("sharded", [2], indirect=True)
def test_what_many_events_share_moves_in_parts_the_server_answers_others_between(
    sharded: ShardedFleet,
) -> None:
    """A million events of half a day held the core's server up for more than a second."""
    fleet, client = sharded, sharded.runtime.redis
    old, new = (
        Runtime(dataclasses.replace(fleet.runtime.settings, shards=count), "reshard", RESHARD)
        for count in (2, 3)
    )
    many, here, there = 5 * AT_ONCE, old.shards[1].keys, old.shards[0].keys
    client.hset(here.seen_events(1), mapping={f"e{n}": n for n in range(many)})
    client.hset(there.seen_events(1), mapping={"e1": 9, "e2": 1, "other": 7})
    client.sadd(here.passed(1), *[f"e{n}" for n in range(many)])
    client.zadd(f"{here.prefix}:screen:z", {f"e{n}": n for n in range(many)})
    for name in (here.seen_events(1), here.passed(1), f"{here.prefix}:screen:z"):
        client.expire(name, 1_000)
    client.config_resetstat()
    Mover(old, new, lambda _counts: None).run()
    stats: Any = client.info("commandstats")
    whole = {"cmdstat_hgetall", "cmdstat_smembers", "cmdstat_zrange"}
    assert not whole & stats.keys(), "nothing is read whole"
    assert stats["cmdstat_exec"]["calls"] >= 3 * 2 * many / AT_ONCE, "nor written whole"
    for one in new.shards:
        events: Any = client.hgetall(one.keys.seen_events(1))
        assert len(events) == many + 1
        assert [events[b"e1"], events[b"e2"], events[b"other"]] == [b"9", b"2", b"7"]
        assert client.scard(one.keys.passed(1)) == many
        assert client.zcard(f"{one.keys.prefix}:screen:z") == many
        names = one.keys.seen_events(1), one.keys.passed(1), f"{one.keys.prefix}:screen:z"
        assert all(900 < client.ttl(name) <= 1_000 for name in names)


def on_server(runtime: Runtime, client: redis.Redis, shards: int) -> Runtime:
    """A runtime of the fleet whose Redis is that of the client."""
    made = Runtime(dataclasses.replace(runtime.settings, shards=shards), "reshard", RESHARD)
    made.__dict__["redis"], made.__dict__["engine"] = client, runtime.engine
    return made


@pytest.mark.parametrize("sharded", [2], indirect=True)
@pytest.mark.parametrize(
    ("scan", "restarts"), [("HSCAN", 2), ("SSCAN", 2), ("ZSCAN", 4), ("SCAN", 9)]
)
def test_what_moves_in_parts_moves_whole_though_the_server_is_restarted_between_two(
    sharded: ShardedFleet, restartable_valkey: OwnValkey, scan: str, restarts: int
) -> None:
    """It hashes in another order then: a scan that goes on would pass over some."""
    client = restarting(restartable_valkey, scan, restarts)
    old, new = (on_server(sharded.runtime, client, count) for count in (2, 1))
    many, here, there = 6 * AT_ONCE, old.shards[1].keys, new.shards[0].keys
    values = {f"e{n}": n for n in range(many)}
    client.hset(here.seen_events(1), mapping=cast(Any, values))
    client.sadd(here.passed(1), *values)
    client.zadd(f"{here.prefix}:screen:z", cast(Any, values))
    with client.pipeline(transaction=True) as pipe:
        later = [Later(keys.presence(Urgency.CHAT), name.encode(), 2**50) for name in values]
        old.shards[1].delayed.put(pipe, later)
        pipe.execute()
    people = list(values)[: many if scan == "SCAN" else 1]
    client.mset({f"{here.prefix}:badge:{{a:{name}}}": values[name] for name in people})
    Mover(old, new, lambda _counts: None).run()
    assert not RestartConnection.restarts_left
    assert client.hlen(there.seen_events(1)) == many
    assert client.scard(there.passed(1)) == many
    assert client.zcard(f"{there.prefix}:screen:z") == many
    assert client.zcard(there.delayed) == many
    assert client.exists(*[f"{there.prefix}:badge:{{a:{name}}}" for name in people]) == len(people)
    assert not list(client.scan_iter(match=f"{here.prefix}:*", count=1_000))


@pytest.mark.parametrize("sharded", [2], indirect=True)
def test_a_lane_is_counted_whole_though_the_server_is_restarted_meanwhile(
    sharded: ShardedFleet, restartable_valkey: OwnValkey
) -> None:
    """What is passed over is missing in its load, and its urgency may not be taken."""
    client = restarting(restartable_valkey, "HSCAN", 0)
    old, new = (on_server(sharded.runtime, client, count) for count in (2, 1))
    many, home = 6 * AT_ONCE, old.shards[0]
    with client.pipeline(transaction=True) as pipe:
        waiting = [NewBatch("a:apns:b", Urgency.CHAT, b"blob", 1, 1, 0)] * many
        home.lane_queues.put(pipe, waiting)
        pipe.execute()
    client.delete(home.keys.ready(Vendor.APNS, Urgency.CHAT))

    def moved(_counts: dict[str, int]) -> None:  # of a shard: they are counted after the last one
        RestartConnection.scans, RestartConnection.restarts_left = 0, 1

    Mover(old, new, moved).run()
    assert not RestartConnection.restarts_left
    load = client.hgetall(home.keys.lane_load("a:apns:b"))
    assert int(load[b"w"]) == many
    assert client.zscore(home.keys.ready(Vendor.APNS, Urgency.CHAT), "a:apns:b") == 0
