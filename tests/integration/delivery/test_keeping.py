"""What a delivery process holds while it works: kept from others, written though Redis goes away,
given back when the process is to end.
"""

import itertools
import time
from collections.abc import Callable

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.keys import Keys
from common.storage.lane_entries import LaneCommit, LaneTerms, Taken
from common.storage.lane_queues import LaneQueues
from common.storage.streams import TAKEOVER_IDLE_MS, StreamStore
from tests.integration.delivery.conftest import World, chat
from workers.app import DELIVERY
from workers.delivery.deliver import IN_FLIGHT_MAX
from workers.handlers import round_writes
from workers.pipeline import Stages
from workers.queues.lease_renewer import RENEW_S, LeaseRenewer

STREAM = keys.send(Vendor.MEIZU, Urgency.GROUP)
IDLE_MS = 200


def test_what_is_worked_on_for_long_is_nobody_elses_until_its_reader_is_done(
    redis_client: redis.Redis, space: str
) -> None:
    for turn in "abc":  # a machine that stands still renews nothing
        names = Keys(f"push{space}{turn}")
        reader, other = (StreamStore(redis_client, names, IDLE_MS) for _ in range(2))
        for number in range(3):
            redis_client.xadd(names.stream(STREAM), {"b": b"%d" % number})
        entries, taken = reader.read([STREAM], 3), False
        keeper = LeaseRenewer(reader, renew_s=0.05)
        end = time.monotonic() + 3 * IDLE_MS / 1000
        with keeper.holding(entries):
            while not taken and time.monotonic() < end:
                taken = bool(other.take_over(STREAM, 10))
                time.sleep(0.02)
        if not taken:
            break
    assert not taken
    time.sleep(1.5 * IDLE_MS / 1000)
    assert [entry.blob for entry in other.take_over(STREAM, 10)] == [b"0", b"1", b"2"]
    with keeper.holding(entries):  # a second time, and of what is another's by now
        time.sleep(0.2)
    assert other.renew(entries) == entries, "it was not taken back"


def test_it_is_kept_in_time() -> None:
    assert 3 * RENEW_S * 1000 < TAKEOVER_IDLE_MS


@pytest.mark.parametrize(("failures", "written"), [(2, True), (1_000, False)])
def test_what_a_vendor_has_answered_is_written_once_redis_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, failures: int, written: bool
) -> None:
    monkeypatch.setattr(round_writes, "WRITE_PATIENCE_S", 2.0)
    tries, queues = itertools.count(1), world.runtime.lane_queues
    commit = queues.commit

    def away(taken: Taken, told: LaneCommit) -> list[str]:
        if next(tries) <= failures:
            raise RedisConnectionError("away")
        return commit(taken, told)

    monkeypatch.setattr(queues, "commit", away)
    one = chat(1, urgency=Urgency.CHAT)
    world.put([one])
    world.drain(lambda: False)
    assert len(world.accepted()) == 1
    assert world.decisions([one]) == ["accepted" if written else None]
    assert queues.any_left() != written


def group(world: World, first: int, count: int) -> None:
    world.put([chat(first + number, urgency=Urgency.GROUP) for number in range(count)])


def test_a_process_that_is_to_end_gives_back_what_no_round_has_begun_with(world: World) -> None:
    for number in range(3):
        group(world, number * 200, 200)

    def stopping() -> bool:
        return bool(world.accepted())

    Stages(world.runtime, stopping=stopping).consumer(DELIVERY, Vendor.MEIZU)(stopping)
    (taken,) = LaneQueues(world.runtime.redis, world.runtime.keys).take(
        [(world.lane.id, Urgency.GROUP, LaneTerms(gone=True), 600)], 15
    )
    left = sum(entry.pushes for entry in taken.entries)
    assert left + len(world.accepted()) == 600
    assert left > 300
    assert {entry.deliveries for entry in taken.entries} == {1}, "they are not to blame"


def accepted_in(world: World, drain: Callable[[Callable[[], bool]], None]) -> list[str]:
    drain(lambda: False)
    return [line["token"] for line in world.accepted()]


def test_vendors_that_share_a_process_share_what_it_may_have_on_the_wire(world: World) -> None:
    stages = Stages(world.runtime, vendors=9)
    assert stages.in_flight_max * 9 <= IN_FLIGHT_MAX
    group(world, 0, 15)
    stages.in_flight_max = 4
    tokens = accepted_in(world, stages.consumer(DELIVERY, Vendor.MEIZU))
    assert len(tokens) == len(set(tokens)) == 15
    assert not world.runtime.lane_queues.any_left()


def test_a_vendor_that_takes_its_time_is_not_taken_for_one_that_is_down(world: World) -> None:
    """Over HTTP/1.1 a connection has one request at a time: what waits for one in vain would be
    told `unavailable`.
    """
    works = [chat(number, urgency=Urgency.CHAT) for number in range(100)]
    world.runtime.credentials.set_limits(
        "demo", "meizu", world.lane.credential.business_id, {"rate": 10_000}
    )
    world.runtime.catalog.changed()
    # eight connections would do 64 within the deadline of 2 s
    world.meizu.door("faults", delay_ms=250)
    world.put(works)
    world.drain(lambda: False)
    world.meizu.door("faults", delay_ms=0)
    assert len(world.accepted()) == len(works)


def test_an_account_that_only_routing_knows_yet_is_not_one_that_was_removed(world: World) -> None:
    """Each process looks for changes once a second, and not in the same moment."""
    one = chat(1, urgency=Urgency.CHAT)
    credential = world.lane.credential
    assert world.runtime.catalog.now.lanes
    (stored,) = [
        row for row in world.runtime.credentials.all() if row.business_id == credential.business_id
    ]
    world.runtime.credentials.remove("demo", "meizu", credential.business_id)
    world.runtime.catalog.changed()
    assert world.runtime.catalog.lane("demo", Vendor.MEIZU, credential.business_id) is None
    world.runtime.credentials.add(stored)
    world.runtime.redis.incr(world.runtime.keys.config_version)  # another process has added it
    world.put([one])
    world.drain(lambda: False)
    assert len(world.accepted()) == 1


def test_pushes_of_an_account_that_was_removed_name_it_in_their_rows(world: World) -> None:
    one = chat(1, urgency=Urgency.CHAT)
    world.put([one])
    world.runtime.credentials.remove("demo", "meizu", world.lane.credential.business_id)
    world.runtime.catalog.changed()
    world.drain(lambda: False)
    assert world.decisions([one]) == ["no_credential"]
