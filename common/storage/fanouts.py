"""People named by the pages of a large group's event (Redis sets, until its last page; with several
shards for an hour after the last one); repeats are skipped.

SSCAN may name a member on two pages, and after a restart of its server all pages come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from redis import Redis
from redis.client import Pipeline

from common.ports import FanOut
from common.storage.keys import Keys

#: Longer than the pages of one event take, one of whose readers ends it with the last one; and
#: where no shard knows which page is the last: longer than between two of them.
KEEP_S: Final = 86_400
KEEP_SPREAD_S: Final = 3_600


class Fanouts:
    """The pages of one event are sequential: a page's names are written before the next is read.

    They are part of its commit.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def unnamed(self, people: Mapping[FanOut, Sequence[str]]) -> dict[FanOut, dict[str, bytes]]:
        """The people whom no earlier page of their event has named, each with its mark."""
        marks = {event: {user: _digest(user) for user in users} for event, users in people.items()}
        asked = [(event, those) for event, those in marks.items() if those]
        with self._redis.pipeline(transaction=False) as pipe:
            for event, those in asked:
                pipe.smismember(self._key(event), list(those.values()))
            reply: Any = pipe.execute()
        for (event, those), known in zip(asked, reply, strict=True):
            if any(known):
                each = zip(those.items(), known, strict=True)
                marks[event] = {user: mark for (user, mark), is_named in each if not is_named}
        return marks

    def note(
        self,
        pipe: Pipeline,
        named: Mapping[FanOut, Iterable[bytes]],
        ended: Iterable[FanOut] = (),
        keep_s: int = KEEP_S,
    ) -> None:
        """Inside the commit of the pages that name them. named: marks of people. ended: events
        whose last page it is, of which nobody asks any more.
        """
        over = set(ended)
        for event, marks in named.items():
            if event not in over:
                key = self._key(event)
                pipe.sadd(key, *marks)
                pipe.expire(key, keep_s)
        if over:
            pipe.unlink(*map(self._key, over))

    def _key(self, event: FanOut) -> str:
        return self._keys.fanout(
            blake2b("\0".join(event).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        )


def _digest(user: str) -> bytes:
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=10).digest()
