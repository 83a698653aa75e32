"""What a vendor said of images, on a real Redis: shared, forgotten in time, and counted by the
minute.
"""

import time

import redis

from common.storage.images import SeenImages
from common.storage.keys import Keys

URL, GIVEN = "https://cdn.example.com/图.png", "https://cdn.example.com/图.png?verifyKey=MEUC"


def test_what_one_process_was_told_all_know_until_it_ends(
    redis_client: redis.Redis, space: str
) -> None:
    one, other = (SeenImages(redis_client, Keys(f"push{space}")) for _ in range(2))
    assert one.known("lane", [URL]) == {}
    one.keep("lane", URL, GIVEN, 60_000)
    one.keep("lane", "https://refused", "", 60_000)
    one.keep("lane", "https://short", "x", 30)
    one.keep("lane", "https://over", "x", 0)
    time.sleep(0.05)
    assert other.known(
        "lane", [URL, "https://refused", "https://short", "https://over", "https://never"]
    ) == {URL: GIVEN, "https://refused": ""}
    assert other.known("another lane", [URL]) == {}


def test_a_minute_has_room_for_so_many(redis_client: redis.Redis, space: str) -> None:
    images = SeenImages(redis_client, Keys(f"push{space}"))
    assert [images.room("lane", wanted, 60, 600) for wanted in (10, 45, 10, 1)] == [10, 45, 5, 0]
    assert images.room("another lane", 10, 60, 600) == 10
    assert images.room("lane", 10, 60, 660) == 10
    assert all(
        redis_client.ttl(name) > 0 for name in redis_client.scan_iter(f"push{space}:images-shown:*")
    )
