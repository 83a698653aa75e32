"""Sessions of hundreds of people read at once: each person's own, whatever stands beside them."""

import time

import pytest
import redis

from common.storage.presence import LOOK_MAX, Presence
from common.storage.sparse import TOGETHER


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
    found = {(one.device_id, one.foreground, one.platform) for one in sessions[3] or ()}
    assert found == {("d", True, "web")}
    assert malformed == 4, "a field that is none, three times, and a key that is no hash"
    client.close()


def test_few_with_a_session_are_found_without_asking_for_each_person(
    redis_client: redis.Redis, space: str
) -> None:
    prefix, until = f"im{space}:", int(time.time() * 1000) + 60_000
    people = [("app", f"u{number}") for number in range(500)]
    presence = Presence(redis_client, prefix)

    def online(numbers: list[int]) -> tuple[list[int], int]:
        """Who is found with a session, and how many hashes were asked for."""
        for number in numbers:
            key = f"{prefix}presence:{{app:u{number}}}"
            redis_client.hset(key, "d", f"foreground|web|{until}")
        before = redis_client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
        sessions, _ = presence.sessions(people)
        after = redis_client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
        return [place for place, own in enumerate(sessions) if own], after - before

    assert online([]) == ([], 0)
    assert online([137]) == ([137], TOGETHER)
    assert online([0, 499]) == ([0, 137, 499], 3 * TOGETHER)
    assert online(list(range(60)))[0] == [*range(60), 137, 499]
    assert online([]) == ([*range(60), 137, 499], 500), "with many there, each is asked for at once"
