"""The small Redis-facing files on fakeredis with Lua: no process, no port. What only a real server
shows stays in tests/integration.
"""

from collections.abc import Iterator

import fakeredis
import pytest
import redis
from redis._parsers import _RESP2Parser


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    """An empty server of this test's own, in this process."""
    client = fakeredis.FakeRedis(server_type="valkey", version=(8,))
    # hiredis would read from a socket, which there is none of
    client.connection_pool.connection_kwargs["parser_class"] = _RESP2Parser
    yield client
    client.close()
