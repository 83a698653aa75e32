"""Group members and friends, kept by the core (the core's Redis): read in pages, never whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError

PAGE = 500


class NoSetError(Exception):
    """A key that should be a set is something else."""


class Members:
    def __init__(self, redis: Redis, key_prefix: str) -> None:
        self._redis = redis
        self._prefix = key_prefix

    def page(self, app: str, group: str, cursor: int, count: int = PAGE) -> tuple[list[str], int]:
        """About `count` members from `cursor` (0 at first) and the next cursor, 0 at the end. A member may be named twice.

        NoSetError where the core keeps something else there: waiting would not help, and all others would wait with it.
        """
        key = f"{self._prefix}members:{{{app}:{group}}}"
        try:
            following, names = cast(Any, self._redis.sscan(key, cursor, count=count))
        except ResponseError as error:
            if _no_set(error):
                raise NoSetError("the key of a group's members is no set") from error
            raise
        return [name.decode("utf-8", "replace") for name in names], int(following)

    def friends(self, app: str, users: Sequence[str], sender: str) -> set[str]:
        """Those of `users` who have `sender` among their friends. A key that is no set holds nobody."""
        with self._redis.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.sismember(f"{self._prefix}friends:{{{app}:{user}}}", sender)
            answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not _no_set(answer):
                raise answer
        return {user for user, is_friend in zip(users, answers, strict=True) if is_friend == 1}


def _no_set(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
