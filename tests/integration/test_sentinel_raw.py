"""What goes as one raw write behind Sentinel leaves a master that became a replica."""

import contextlib
from typing import Any, cast

import redis
from redis.sentinel import SentinelConnectionPool

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_queues import LaneQueues
from common.storage.redis import _options
from tests.conftest import embedded


class Sentinels:
    """What redis-py's pool asks of the sentinels."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def discover_master(self, _name: str) -> tuple[str, int]:
        return self.address


def address_of(client: redis.Redis) -> tuple[str, int]:
    given = client.connection_pool.connection_kwargs
    return given["host"], given["port"]


def test_a_connection_that_outlived_its_master_is_given_up() -> None:
    with embedded(valkey=True) as one, embedded(valkey=True) as two:
        first = redis.Redis.from_url(one.redis_url or "")
        second = redis.Redis.from_url(two.redis_url or "")
        given: dict[str, Any] = first.connection_pool.connection_kwargs
        login = {name: given[name] for name in ("password", "username", "db") if name in given}
        if login.get("password"):
            second.config_set("requirepass", login["password"])
        known: Any = Sentinels(address_of(first))
        options: dict[str, Any] = dict(_options(one.redis_url or ""))
        options.update(cast(Any, login))
        client = redis.Redis(connection_pool=SentinelConnectionPool("main", known, **options))
        queues, lane = LaneQueues(client, Keys("push")), "demo:apns:ios"
        queues.wake_at([(lane, Urgency.CHAT, 5)])
        host, port = address_of(second)
        first.execute_command("REPLICAOF", host, port)
        known.address = host, port
        for _ in range(4):
            with contextlib.suppress(redis.RedisError):
                queues.wake_at([(lane, Urgency.CHAT, 9)])
        queues.wake_at([(lane, Urgency.CHAT, 9)])
