"""A vendor's answers about images (Redis, while valid), and the number submitted this minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis

from common.storage.keys import Keys

MINUTE_S = 60


class SeenImages:
    """lane: its id."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def known(self, lane: str, images: Sequence[str]) -> Mapping[str, str]:
        """Image -> the vendor's address for it, "" where refused, none if not submitted."""
        reply: list[Any] = list(
            self._redis.mget([self._keys.image(lane, image) for image in images])
        )
        pairs = zip(images, reply, strict=True)
        return {image: given.decode() for image, given in pairs if given is not None}

    def keep(self, lane: str, image: str, given: str, life_ms: int) -> None:
        if life_ms > 0:
            self._redis.set(self._keys.image(lane, image), given, px=life_ms)

    def room(self, lane: str, wanted: int, per_minute: int, now_s: int) -> int:
        """The number of `wanted` images that may be submitted now.

        A fixed window, as on the vendor's page.
        """
        name = self._keys.images_shown(lane, now_s // MINUTE_S)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.incrby(name, wanted)
            pipe.expire(name, 2 * MINUTE_S)
            after, _ = pipe.execute()
        return max(0, min(wanted, per_minute - (int(after) - wanted)))
