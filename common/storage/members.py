"""Group members and friends, kept by the core (the core's Redis): read in pages, never whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redis import Redis

PAGE = 500


class Members:
    def __init__(self, redis: Redis, key_prefix: str) -> None:
        self._redis = redis
        self._prefix = key_prefix

    def page(self, app: str, group: str, cursor: int, count: int = PAGE) -> tuple[list[str], int]:
        """About `count` members from `cursor` (0 at first) and the next cursor, 0 at the end. A member may be named twice."""
        key = f"{self._prefix}members:{{{app}:{group}}}"
        following, names = cast(Any, self._redis.sscan(key, cursor, count=count))
        return [name.decode("utf-8", "replace") for name in names], int(following)

    def friends(self, app: str, users: Sequence[str], sender: str) -> set[str]:
        """Those of `users` who have `sender` among their friends."""
        with self._redis.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.sismember(f"{self._prefix}friends:{{{app}:{user}}}", sender)
            return {user for user, is_friend in zip(users, pipe.execute(), strict=True) if is_friend}
