"""A lane at its rate reaches it, is never over it, and costs Redis little a push."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from common.model import MessageClass, Urgency, Vendor
from tests.e2e.conftest import wait_for
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World
from tests.integration.simulators.running import Running
from workers.delivery.lane import Lane
from workers.runtime import Runtime

RATE = 100
SECONDS = 5


@pytest.fixture
def world(runtime: Runtime, meizu: Running, lane: Callable[..., Lane]) -> World:
    return World(
        runtime,
        meizu,
        lane(Vendor.MEIZU, {"rate": float(RATE), "device_cap": {"public": 0}}, "meizu.private"),
    )


def commands(world: World) -> int:
    told: Any = world.runtime.redis.info("stats")
    return int(told["total_commands_processed"])


def test_a_campaign_goes_at_its_lanes_rate(world: World) -> None:
    works = [
        work(number, MessageClass.CHAT, user=f"u{number}", urgency=Urgency.BULK, badge_mode="keep")
        for number in range(RATE * SECONDS * 2)
    ]
    world.put(works)
    with world.running():
        wait_for(lambda: len(world.accepted()) >= RATE, "it flows", 30)
        before, first = commands(world), len(world.accepted())
        wait_for(lambda: len(world.accepted()) >= RATE * SECONDS, "it goes on", 60)
        cost = (commands(world) - before) / (len(world.accepted()) - first)
    times = sorted(line["at_ms"] for line in world.accepted())[RATE : RATE * SECONDS]
    rate = (len(times) - 1) / (times[-1] - times[0]) * 1000
    print(f"rate {rate:.1f}/s, {cost:.1f} commands a push")
    assert rate >= 0.75 * RATE, (
        "a busy machine loses tokens; tests/integration/lanes/test_leases.py has the exact figure"
    )
    assert rate <= RATE
    assert cost <= 25
