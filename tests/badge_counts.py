"""What is counted of a person's devices: beside their words, and where no word is known."""

from typing import Any, cast

import redis

from common.storage import counting
from common.storage.keys import Keys


def badge_of(client: redis.Redis, keys: Keys, app: str, user: str) -> dict[bytes, bytes]:
    """The person's own hash, with the counts that are kept among others' under the same fields."""
    found: dict[bytes, bytes] = {}
    head = counting.field_of(app, user, "").encode()
    for name in reversed(counting.hashes_of(keys, counting.bucket_of(app, user))[: counting.KEPT]):
        for field, count in cast(dict[bytes, bytes], client.hgetall(name)).items():
            if field.startswith(head):
                found[field[len(head) :] + b":n"] = count
    return found | cast(Any, client.hgetall(keys.badges(app, user)))


def unspoken(client: redis.Redis, prefix: str) -> dict[bytes, bytes]:
    """The counts of devices of which no word is known, by their fields."""
    found: dict[bytes, bytes] = {}
    for name in client.scan_iter(match=f"{prefix}:{{s0}}:counts:*"):
        found |= cast(Any, client.hgetall(name))
    return found
