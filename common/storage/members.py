"""Group members and friends, kept by the core (the core's Redis): read in pages, never whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from common.ports import MemberPage
from common.storage.cluster import at_node_of, away_node, each


class NoSetError(Exception):
    """A key that should be a set is something else."""


class Members:
    def __init__(self, redis: Redis, key_prefix: str) -> None:
        self._redis = redis
        self._prefix = key_prefix

    def page(self, app: str, group: str, cursor: int, server: str | None, count: int) -> MemberPage:
        """About `count` members from `cursor` (0 at first); a member may be named twice.

        server: the cursor's. A restarted server, or a promoted replica, hashes in another order and
        would skip members: there the scan starts again. None: unknown, as in entries of an older
        version. Raises NoSetError when the key is no set: waiting would not help, and all others
        would wait with it.
        """
        key = f"{self._prefix}members:{{{app}:{group}}}"
        own, following, names = self._scan(key, cursor, count)
        if cursor and server is not None and own != server:
            own, following, names = self._scan(key, 0, count)
        # No event can name a member with a NUL, and PostgreSQL, asked for their devices, would
        # answer for none of the page.
        return MemberPage(
            [name.decode("utf-8", "replace") for name in names if b"\0" not in name], following, own
        )

    def away_of(self, app: str, group: str) -> str | None:
        """The node that would have to be asked for this group, where it is known as away."""
        return away_node(self._redis, f"{self._prefix}members:{{{app}:{group}}}")

    def _scan(self, key: str, cursor: int, count: int) -> tuple[str, int, list[bytes]]:
        """The server's run id and the scan, over one connection and so of one process."""

        def ask(pipe: Any) -> None:
            pipe.info("server")
            pipe.sscan(key, cursor, count=count)

        about, answer = at_node_of(self._redis, key, ask)
        for part in (about, answer):
            if isinstance(part, ResponseError) and _no_set(part):
                raise NoSetError("the key of a group's members is no set") from part
            if isinstance(part, Exception):
                raise part
        return str(about["run_id"]), int(answer[0]), answer[1]

    def friends(self, app: str, users: Sequence[str], sender: str) -> set[str]:
        """The `users` who have `sender` among their friends.

        A key that is no set counts as empty.
        """

        def ask(pipe: Any) -> None:
            for user in users:
                pipe.sismember(f"{self._prefix}friends:{{{app}:{user}}}", sender)

        answers = each(self._redis, ask)
        for answer in answers:
            if isinstance(answer, Exception) and not _no_set(answer):
                raise answer
        return {user for user, is_friend in zip(users, answers, strict=True) if is_friend == 1}


def _no_set(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
