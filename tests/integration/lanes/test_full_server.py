"""A server without free memory: what can be sent is sent, what ran out of time ends, and nothing of
it needs new memory.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from common.model import Urgency
from tests.integration.delivery.conftest import World, chat
from workers.runtime import Runtime


@pytest.fixture
def full(runtime: Runtime) -> Iterator[Callable[[], None]]:
    """Fills the server up to its maxmemory."""
    redis = runtime.redis

    def fill() -> None:
        told: Any = redis.info("memory")
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", int(told["used_memory"]) - 100_000)
        with pytest.raises(Exception, match="maxmemory"):
            redis.set("one-more", "x" * 1000)

    yield fill
    redis.config_set("maxmemory", 0)


def test_lanes_go_on_and_what_expires_ends_while_the_server_is_full(
    world: World, full: Callable[[], None]
) -> None:
    soon = int(time.time() * 1000) + 1_500
    going = [chat(number, urgency=Urgency.CHAT) for number in range(30)]
    stale = [chat(100 + number, urgency=Urgency.GROUP, expires_at_ms=soon) for number in range(50)]
    world.put(stale)
    world.runtime.credentials.set_paused("demo", "meizu", world.lane.credential.business_id, True)
    world.runtime.catalog.changed()
    world.turn(lambda: world.all_noted(stale))
    full()
    time.sleep(1.5)
    world.turn(lambda: world.all_decided(stale))
    assert set(world.decisions(stale)) == {"lane_paused"}
    world.runtime.redis.config_set("maxmemory", 0)
    world.put(going)
    world.runtime.credentials.set_paused("demo", "meizu", world.lane.credential.business_id, False)
    world.runtime.catalog.changed()
    full()
    world.turn(lambda: world.all_decided(going))
    assert set(world.decisions(going)) == {"accepted"}
    assert len(world.accepted()) == len(going)
    assert not world.runtime.lane_queues.any_left()
