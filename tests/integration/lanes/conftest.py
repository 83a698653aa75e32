"""Lanes in this process; what they are sent with is as in tests/integration/delivery."""

import pytest
import redis

from common.storage.keys import Keys
from common.storage.lane_queues import LaneQueues
from tests.integration.delivery.conftest import brief_slices, lane, meizu, runtime, world

__all__ = ["brief_slices", "lane", "meizu", "runtime", "world"]


@pytest.fixture
def queues(redis_client: redis.Redis, space: str) -> LaneQueues:
    return LaneQueues(redis_client, Keys(f"push{space}"))
