"""Sessions of hundreds of people read at once: each person's own, whatever stands beside them."""

from __future__ import annotations

import time

import pytest
import redis

from common.storage.presence import LOOK_MAX, Presence


@pytest.mark.parametrize("protocol", [2, 3])
def test_one_persons_broken_key_costs_nobody_else_an_answer(
    redis_client: redis.Redis, redis_url: str, space: str, protocol: int
) -> None:
    assert redis_client.ping()
    client = redis.Redis.from_url(redis_url, protocol=protocol)
    prefix, until = f"im{space}:", int(time.time() * 1000) + 60_000
    people = [("app", f"ü{number}") for number in range(LOOK_MAX + 5)]
    for number in (0, 3, LOOK_MAX + 1):
        client.hset(
            f"{prefix}presence:{{app:ü{number}}}",
            mapping={"d": f"foreground|web|{until}", "old": "background|ios|1", "x": "what"},
        )
    client.set(f"{prefix}presence:{{app:ü1}}", "no hash")
    sessions, malformed = Presence(client, prefix).sessions(people)
    assert [number for number, own in enumerate(sessions) if own] == [0, 3, LOOK_MAX + 1]
    assert {(one.device_id, one.foreground, one.platform) for one in sessions[3]} == {
        ("d", True, "web")
    }
    assert malformed == 4, "a field that is none, three times, and a key that is no hash"
    client.close()
