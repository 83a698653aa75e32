"""Who leaves first: chats before the campaign, after a stop as before it; and the campaign goes on
all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from common.model import MessageClass, Urgency, Vendor
from tests.e2e.conftest import wait_for
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, chat
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.delivery.work import PendingPush
from workers.handlers.delivery import TURN_S, LaneSender
from workers.pipeline import Stages
from workers.queues.consumer import StreamConsumer


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
    assert seconds < 8, "in a moment, though 5,000 wait at 200 a second"
    so_far = classes(world).count("bulk")
    world.turn(lambda: classes(world).count("bulk") > so_far + 100)


def test_a_steady_stream_of_chats_does_not_starve_the_campaign(world: World) -> None:
    world.put(campaign(400))
    chats = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        world.put([chat(chats + number, urgency=Urgency.CHAT) for number in range(5)])
        chats += 5
        due = chats - 5
        world.turn(lambda due=due: classes(world).count("chat") >= due)
    assert classes(world).count("bulk") > 50
    assert classes(world).count("chat") > 50


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
    assert order[:20].count("chat") == 20, "no advert before the chats, as far as the rate goes"
    assert order[: len(chats) + 40].count("chat") == len(chats), (
        "and of what waits for the rate they are the first"
    )
    world.turn(lambda: world.all_decided([*bulk, *chats]), 30)
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
    bursts, chats = 3, 60
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
        wait_for(lambda: classes(world).count("bulk") > so_far + 100, "the campaign goes on", 10)
    took = sorted(
        line["at_ms"] / 1000 - put[line["token"]]
        for line in world.accepted()
        if line["token"] in put
    )
    assert took[len(took) * 9 // 10] < 2.5, took[-10:]
    assert so_far > 60 + bursts * chats, "and it had its share all the while"


@pytest.mark.parametrize("lanes", [1, 4, 19])
def test_campaigns_leave_room_on_the_wire_for_who_comes_with_a_call(
    world: World, lanes: int
) -> None:
    assert isinstance(world.drain, LaneSender)
    rooms = world.drain._pushes_room([Urgency.BULK] * lanes)
    assert sum(rooms) <= 0.75 * world.drain.in_flight_max


@pytest.mark.parametrize("stage", [PRESENCE, ROUTING])
def test_the_stages_before_read_the_most_urgent_first(world: World, stage: str) -> None:
    consumer = Stages(world.runtime).drain(stage)
    assert isinstance(consumer, StreamConsumer)
    assert list(consumer.policy.counts)[:-1] == [f"{stage}:{urgency}" for urgency in Urgency]


def test_the_less_urgent_of_a_lane_wait_their_turn_each_time_it_is_at_work(world: World) -> None:
    """Else who was passed over once, before an outage say, goes first when the lane opens."""
    world.meizu.door("faults", delay_ms=3_000)
    world.put([chat(1, urgency=Urgency.CALL)])
    slice_ = threading.Thread(target=world.drain, args=(lambda: False,))
    slice_.start()
    at_work, bulk = cast(LaneSender, world.drain)._running, (world.lane.id, Urgency.BULK)
    wait_for(lambda: bool(at_work), "the call is on its way")
    looks = cast(
        LaneSender, Stages(world.runtime).drain(DELIVERY, Vendor.MEIZU)
    )  # one whose turns nobody else takes
    looks._running.update(at_work)
    assert looks._in_turn([bulk]) == []
    time.sleep(TURN_S + 0.05)
    assert looks._in_turn([bulk]) == [bulk], "it has waited its turn"
    assert looks._in_turn([bulk]) == [], "and the lane was shut: it waits anew"
    slice_.join(20)
