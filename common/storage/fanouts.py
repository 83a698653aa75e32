"""People named by the pages of a large group's event (Redis sets, a day); repeats are skipped.

SSCAN may name a member on two pages, and after a restart of its server all pages come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from redis import Redis
from redis.client import Pipeline

from common.storage.keys import Keys

#: Longer than the pages of one event take.
KEEP_S: Final = 86_400

#: (app, event id)
Event = tuple[str, str]


class Fanouts:
    """The pages of one event are sequential: a page's names are written before the next is read.

    They are part of its commit.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def named(self, people: Mapping[Event, list[str]]) -> dict[Event, set[str]]:
        """The people of each event whom earlier pages have named."""
        if not people:
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for event, users in people.items():
                pipe.smismember(self._key(event), [_digest(user) for user in users])
            reply: Any = pipe.execute()
        known = {}
        for (event, users), marks in zip(people.items(), reply, strict=True):
            known[event] = {user for user, is_named in zip(users, marks, strict=True) if is_named}
        return known

    def note(self, pipe: Pipeline, people: Mapping[Event, Iterable[str]]) -> None:
        """Inside the commit of the pages that name them."""
        for event, users in people.items():
            key = self._key(event)
            pipe.sadd(key, *map(_digest, users))
            pipe.expire(key, KEEP_S)

    def _key(self, event: Event) -> str:
        return self._keys.fanout(
            blake2b("\0".join(event).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        )


def _digest(user: str) -> bytes:
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=10).digest()
