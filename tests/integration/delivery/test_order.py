"""Who leaves first: chats before the campaign, after a stop as before it; and the campaign goes on all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from common.model import MessageClass, Urgency
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, chat
from workers.delivery.work import Work


def campaign(count: int) -> list[Work]:
    return [work(10_000 + i, MessageClass.MARKETING, user=f"b{i}", urgency=Urgency.BULK) for i in range(count)]


def classes(world: World) -> list[str]:
    """Of what the vendor accepted, in its order."""
    return ["bulk" if line["token"] >= "token-10000" and len(line["token"]) == 11 else "chat" for line in world.accepted()]


def test_chats_overtake_a_campaign_of_five_thousand_which_goes_on(world: World) -> None:
    world.put(campaign(5_000))
    world.turn(lambda: len(world.accepted()) >= 60)
    chats = [chat(number, urgency=Urgency.CHAT) for number in range(20)]
    began, before = time.monotonic(), len(world.accepted())
    world.put(chats)
    world.turn(lambda: classes(world).count("chat") == len(chats))
    seconds, between = time.monotonic() - began, classes(world)[before:].count("bulk")
    assert between < 250, "the campaign of 25 seconds did not go first"
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
def test_what_was_parked_leaves_in_order_of_urgency(world: World, expiry: str, shut_and_open: Callable[[Sequence[Work]], None]) -> None:
    soon, late = int(time.time() * 1000) + 600_000, int(time.time() * 1000) + 3_000_000
    of_bulk, of_chat = (soon, late) if expiry == "the campaign expires first" else (late, soon)
    bulk = [work(10_000 + i, MessageClass.MARKETING, user=f"b{i}", urgency=Urgency.BULK, expires_at_ms=of_bulk) for i in range(300)]
    chats = [chat(i, urgency=Urgency.CHAT, expires_at_ms=of_chat) for i in range(40)]
    shut_and_open([*bulk, *chats])
    world.turn(lambda: len(world.accepted()) >= 150)
    order = classes(world)
    assert order.count("chat") == len(chats)
    assert order[: len(chats) + 20].count("chat") >= len(chats) - 10, "the chats were among the first"
    world.turn(lambda: world.all_decided([*bulk, *chats]), 30)
    assert set(world.decisions([*bulk, *chats])) == {"accepted"}


@pytest.fixture
def shut_and_open(world: World) -> Callable[[Sequence[Work]], None]:
    """Puts works on the belts of a paused lane, waits until they are parked, opens it."""

    def play(works: Sequence[Work]) -> None:
        credential = world.lane.credential
        name = (credential.app, credential.vendor, credential.business_id)
        world.runtime.credentials.set_paused(*name, True)
        world.runtime.catalog.changed()
        world.put(works)
        belts = [world.runtime.keys.belt(f"send:meizu:{urgency}") for urgency in Urgency]
        world.turn(lambda: not any(world.runtime.redis.xlen(belt) for belt in belts))
        assert world.runtime.delayed.parked_count(world.lane.id)
        assert not world.accepted()
        world.runtime.credentials.set_paused(*name, False)
        world.runtime.catalog.changed()

    return play
