"""The small Redis-facing files on fakeredis with Lua: no process, no port. What only a real server
shows stays in tests/integration.
"""

from collections.abc import Iterator

import fakeredis
import pytest
import redis


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    """An empty server of this test's own, in this process."""
    client = fakeredis.FakeRedis(server_type="valkey", version=(8,))
    yield client
    client.close()
