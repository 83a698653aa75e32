"""Who leaves first: chats before the campaign, after a stop as before it; and the campaign goes on
all the same.
"""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from common.model import MessageClass, Urgency, Vendor
from common.storage.lane_entries import LaneCommit, LaneEntry, Taken
from common.storage.lanes import PROBE_S
from tests.e2e.conftest import wait_for
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, chat
from tests.integration.simulators.running import Running
from tests.waiting import eventually
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.delivery.lane import Lane
from workers.delivery.results import Delivered
from workers.delivery.work import PendingPush
from workers.gate import lane_terms
from workers.handlers.delivery import GATHER_S, LaneSender
from workers.handlers.joint_parts import Wanted
from workers.handlers.lane_turns import TURN_MS
from workers.handlers.running_rounds import LANES_AT_ONCE
from workers.pipeline import Stages
from workers.queues.consumer import StreamConsumer
from workers.runtime import Runtime


def campaign(count: int) -> list[PendingPush]:
    return [
        work(10_000 + i, MessageClass.MARKETING, user=f"b{i}", urgency=Urgency.BULK)
        for i in range(count)
    ]


def classes(world: World) -> list[str]:
    """Of what the vendor accepted, in its order."""
    return [
        "bulk" if line["token"] >= "token-10000" and len(line["token"]) == 11 else "chat"
        for line in world.accepted()
    ]


def _chats(world: World, at_least: int) -> bool:
    return classes(world).count("chat") >= at_least


def test_chats_overtake_a_campaign_of_five_thousand_which_goes_on(world: World) -> None:
    world.put(campaign(5_000))
    world.turn(lambda: len(world.accepted()) >= 60)
    chats = [chat(number, urgency=Urgency.CHAT) for number in range(20)]
    began, before = time.monotonic(), len(world.accepted())
    world.put(chats)
    world.turn(lambda: classes(world).count("chat") == len(chats))
    seconds, between = time.monotonic() - began, classes(world)[before:].count("bulk")
    assert between < 600, (
        "chats meet the campaign at the rate, three seconds of 25 at most; they don't stand "
        "in its queue"
    )
    assert seconds < 20, "in a moment, though 5,000 wait at 200 a second"
    so_far = classes(world).count("bulk")
    world.turn(lambda: classes(world).count("bulk") > so_far + 100)


def test_a_steady_stream_of_chats_does_not_starve_the_campaign(world: World) -> None:
    world.put(campaign(400))
    chats = 0
    end = time.monotonic() + 60
    while chats <= 50 or (classes(world).count("bulk") <= 50 and time.monotonic() < end):
        world.put([chat(chats + number, urgency=Urgency.CHAT) for number in range(5)])
        chats += 5
        world.turn(functools.partial(_chats, world, chats - 5))
    assert classes(world).count("bulk") > 50


@pytest.mark.parametrize("expiry", ["the campaign expires first", "the chats expire first"])
def test_what_was_parked_leaves_in_order_of_urgency(
    world: World, expiry: str, shut_and_open: Callable[[Sequence[PendingPush]], None]
) -> None:
    soon, late = int(time.time() * 1000) + 600_000, int(time.time() * 1000) + 3_000_000
    of_bulk, of_chat = (soon, late) if expiry == "the campaign expires first" else (late, soon)
    bulk = [
        work(
            10_000 + i,
            MessageClass.MARKETING,
            user=f"b{i}",
            urgency=Urgency.BULK,
            expires_at_ms=of_bulk,
        )
        for i in range(300)
    ]
    chats = [chat(i, urgency=Urgency.CHAT, expires_at_ms=of_chat) for i in range(40)]
    shut_and_open([*bulk, *chats])
    world.turn(lambda: len(world.accepted()) >= 150)
    order = classes(world)
    assert order.count("chat") == len(chats)
    # side by side it would be 2 of 20: a chat that waits for the rate longer than TURN_S may be
    # passed, which a busy machine makes of some
    assert order[:20].count("chat") >= 12, "no advert before the chats, as far as the rate goes"
    found = order[: len(chats) + 60].count("chat")
    assert found == len(chats), "and of what waits for the rate they are the first"
    world.turn(lambda: world.all_decided([*bulk, *chats]))
    assert set(world.decisions([*bulk, *chats])) == {"accepted"}


@pytest.fixture
def shut_and_open(world: World) -> Callable[[Sequence[PendingPush]], None]:
    """Puts works on the streams of a paused lane, waits until they are parked, opens it."""

    def play(works: Sequence[PendingPush]) -> None:
        credential = world.lane.credential
        name = (credential.app, credential.vendor, credential.business_id)
        world.runtime.credentials.set_paused(*name, True)
        world.runtime.catalog.changed()
        world.put(works)
        world.turn(lambda: world.all_noted(works))
        assert world.waiting() == len(works)
        assert not world.accepted()
        world.runtime.credentials.set_paused(*name, False)
        world.runtime.catalog.changed()

    return play


def test_chats_at_the_lanes_limit_get_its_slots_before_the_campaign_does(world: World) -> None:
    """60 chats are a third of a second of the rate. When the campaign took every slot meanwhile,
    the last of them waited for ten.
    """
    bursts, chats = 2, 60
    world.put(campaign(3_000))
    put: dict[str, float] = {}
    with world.running():
        wait_for(lambda: len(world.accepted()) >= 60, "the campaign runs")
        for burst in range(bursts):
            works = [chat(burst * chats + index, urgency=Urgency.CHAT) for index in range(chats)]
            put |= {one.target.token: time.time() for one in works}
            world.put(works)
            time.sleep(1.5)
        wait_for(lambda: classes(world).count("chat") == bursts * chats, "the chats have left")
        so_far = classes(world).count("bulk")
        wait_for(lambda: classes(world).count("bulk") > so_far + 100, "the campaign goes on")
    lines = world.accepted()
    took = sorted(
        line["at_ms"] / 1000 - put[line["token"]] for line in lines if line["token"] in put
    )
    assert took[len(took) * 9 // 10] < 7, took[-10:]
    assert so_far > 60 + bursts * chats, "and it had its share all the while"


@pytest.mark.parametrize("lanes", [1, 4, 19])
def test_campaigns_leave_room_on_the_wire_for_who_comes_with_a_call(
    world: World, lanes: int
) -> None:
    assert isinstance(world.drain, LaneSender)
    places = [(f"demo:meizu:{number}", Urgency.BULK, 0) for number in range(lanes)]
    rooms = world.drain.running.pushes_room(places, [1_000] * lanes)
    assert sum(rooms) <= 0.75 * world.drain.in_flight_max


def test_a_campaign_leaves_where_the_wire_is_for_one_push(world: World) -> None:
    """As in a process for all vendors, of dozens of shards on several servers."""
    drain = world.drain
    assert isinstance(drain, LaneSender)
    drain.in_flight_max = drain.running.in_flight_max = 1
    world.put(campaign(2))
    world.turn(lambda: len(world.accepted()) == 2, seconds=20)


@pytest.mark.parametrize("stage", [PRESENCE, ROUTING])
def test_the_stages_before_read_the_most_urgent_first(world: World, stage: str) -> None:
    consumer = Stages(world.runtime).consumer(stage)
    assert isinstance(consumer, StreamConsumer)
    assert list(consumer.policy.counts)[:-1] == [f"{stage}:{urgency}" for urgency in Urgency]


def test_the_less_urgent_of_a_lane_wait_their_turn_each_time_it_is_at_work(world: World) -> None:
    """Else who was passed over once, before an outage say, goes first when the lane opens."""
    world.meizu.door("faults", delay_ms=3_000)
    world.put([chat(1, urgency=Urgency.CALL)])
    slice_ = threading.Thread(target=world.drain, args=(lambda: False,))
    slice_.start()
    at_work, bulk = cast(LaneSender, world.drain).running._running, (world.lane.id, Urgency.BULK, 0)
    wait_for(lambda: bool(at_work), "the call is on its way")
    # one whose turns nobody else takes
    looks = cast(LaneSender, Stages(world.runtime).consumer(DELIVERY, Vendor.MEIZU))
    looks.running._running.update(at_work)
    assert looks._in_turn([bulk], looks.running.ranks()) == []
    wait_for(lambda: looks._in_turn([bulk], looks.running.ranks()), "it has waited its turn")
    assert looks._in_turn([bulk], looks.running.ranks()) == [], (
        "and the lane was shut: it waits anew"
    )
    slice_.join(60)


def test_what_a_round_leaves_behind_goes_before_the_less_urgent(world: World) -> None:
    """Also where the round ends while the sender asks who may go: what it left is not among those
    it is told then, as the round was at work when it asked.
    """
    looks = cast(LaneSender, world.drain)
    lane, queues = world.lane, world.runtime.lane_queues
    world.put([chat(1, urgency=Urgency.GROUP), *campaign(1)])
    wanted = (lane.id, Urgency.GROUP, lane_terms(lane), 1)
    (taken,) = queues.take([wanted], PROBE_S)
    world.put([chat(2, urgency=Urgency.GROUP)])
    assert looks.running.begin(taken, 1) is not None
    took: list[tuple[str, Urgency]] = []

    class EndsMeanwhile:
        """The queues; a round ends while it is asked who may go."""

        def __getattr__(self, name: str) -> Any:
            return getattr(queues, name)

        def pop(self, *args: Any) -> Any:
            found = queues.pop(*args)
            looks.running.forget([taken.word])
            queues.give_back(taken, taken.entries, 0)
            return found

    looks.runtime.lane_queues = cast(Any, EndsMeanwhile())
    try:
        looks.start()
        took = [(one.taken.lane, one.taken.urgency) for one in looks.running.own()]
    finally:
        looks.runtime.lane_queues = queues
    assert took == []
    world.turn(lambda: len(world.accepted()) == 3)


def test_what_rounds_of_many_lanes_leave_behind_is_ready_before_their_end(world: World) -> None:
    """Else who looks in between sends the less urgent first, or sleeps over what is left."""
    looks, lane, queues = cast(LaneSender, world.drain), world.lane, world.runtime.lane_queues
    world.put([chat(1, urgency=Urgency.GROUP), *campaign(1)])
    (taken,) = queues.take([(lane.id, Urgency.GROUP, lane_terms(lane), 1)], PROBE_S)
    world.runtime.redis.zrem(world.runtime.keys.ready(Vendor.MEIZU, Urgency.GROUP), lane.id)
    assert looks.running.begin(taken, 1) is not None
    queues.commit(taken, LaneCommit(back=list(taken.entries)))
    took: list[tuple[str, Urgency]] = []

    class LooksMeanwhile:
        """The queues; the sender looks right before what is left is ready."""

        asked = False

        def __getattr__(self, name: str) -> Any:
            return getattr(queues, name)

        def wake_at(self, *args: Any) -> None:
            if not self.asked:
                self.asked = True
                looks.start()
                took.extend((one.taken.lane, one.taken.urgency) for one in looks.running.own())
            queues.wake_at(*args)

    looks.runtime.lane_queues = cast(Any, LooksMeanwhile())
    try:
        wanted = Wanted(taken, taken.entries, lane, 1, ())
        looks._threads._over([(wanted, Delivered(stays=True))])
    finally:
        looks.runtime.lane_queues = queues
    assert took == [(lane.id, Urgency.GROUP)], "it is still at work"
    assert not looks.running.of(taken.word)
    world.turn(lambda: len(world.accepted()) == 2)


def test_who_waits_his_turn_is_looked_at_soon_though_another_has_no_room(world: World) -> None:
    looks = LaneSender(world.runtime, Vendor.MEIZU, 10, lambda: False)
    lane, queues = world.lane, world.runtime.lane_queues
    world.put([*campaign(6), chat(1, urgency=Urgency.CALL)])
    for urgency, most in ((Urgency.BULK, 6), (Urgency.CALL, 1)):
        (taken,) = queues.take([(lane.id, urgency, lane_terms(lane), most)], PROBE_S)
        assert looks.running.begin(taken, most) is not None
    world.put([chat(2, urgency=Urgency.CHAT), chat(3, urgency=Urgency.GROUP)])
    assert looks.running.room(looks._threads.joins)[Urgency.GROUP] == 0
    began, next_s = looks.start()
    assert not began, "the call is at work"
    assert next_s is not None
    assert 0 < next_s <= TURN_MS / 1000


def test_a_wire_that_stays_full_is_waited_for_once(world: World) -> None:
    """Rounds that hang must not hold up whoever finds a little room beside them."""
    looks = LaneSender(world.runtime, Vendor.MEIZU, 3 * LANES_AT_ONCE, lambda: False)
    for number in range(LANES_AT_ONCE):
        entries = [LaneEntry(f"0;1;{number};3;", b"")]
        taken = Taken(f"demo:meizu:{number}", Urgency.CHAT, f"w{number}", "go", 0, entries=entries)
        running = looks.running.begin(taken, 3 if number else 2)
        assert running is not None
        running.together = True
    room = looks.running.push_room()
    assert 0 < room.pushes < room.each
    assert looks._gathers_s(room) > 0
    eventually(lambda: looks._gathers_s(room) <= 0)
    looks._took_at = time.monotonic()
    assert looks._gathers_s(room) <= GATHER_S, "as after any take"
    looks.running.forget(["w1"])
    assert looks._gathers_s(looks.running.push_room()) <= GATHER_S
    taken = Taken("demo:meizu:1", Urgency.CHAT, "w1", "go", 0, entries=entries)
    running = looks.running.begin(taken, 3)
    assert running is not None
    running.together = True
    assert looks._gathers_s(room) > GATHER_S, "it had room meanwhile"


def test_a_group_without_room_behind_slow_lanes_is_not_looked_at_all_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of slow lanes, which nobody waits for, have the share of groups and bulk."""
    looks = LaneSender(world.runtime, Vendor.MEIZU, 3, lambda: False)
    for number in range(2):
        lane = f"demo:meizu:slow{number}"
        looks.running.silent.add(lane)
        entries = [LaneEntry(f"0;3;{number};1;", b"")]
        taken = Taken(lane, Urgency.BULK, f"w{number}", "go", 0, entries=entries)
        assert looks.running.begin(taken, 1) is not None
    world.put([chat(1, urgency=Urgency.GROUP)])
    queues, count = world.runtime.lane_queues, itertools.count()
    pop = queues.pop
    monkeypatch.setattr(queues, "pop", lambda *asked: (next(count), pop(*asked))[1])
    end = time.monotonic() + 1
    looks(lambda: time.monotonic() >= end)
    assert 3 <= next(count) <= 150


def test_a_lane_that_has_more_than_fits_on_the_wire_goes_on_without_upkeep(
    runtime: Runtime, meizu: Running, lane: Callable[..., Lane]
) -> None:
    """The sender says itself when the next may go."""
    world = World(runtime, meizu, lane(Vendor.MEIZU, {"rate": 20_000.0}, "meizu.private"))
    chats = [chat(number) for number in range(2_000)]
    world.put(chats)
    eventually(lambda: len(world.accepted()) == len(chats), 60, lambda: world.drain(lambda: False))
