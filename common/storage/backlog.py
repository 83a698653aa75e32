"""Which pushes an outage holds back (Redis sorted sets, until decided): per conversation and device, so that they can fold into one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline

from common.storage.keys import Keys
from common.storage.scripts import script

#: As long as the longest push may live, and a day of grace.
KEEP_S = 8 * 86_400
MARKS_S = 86_400
#: So long the others wait for the newest of their group to come back, then they go without it.
PATIENCE_MS = 10_000

#: What makes pushes one group: app, conversation, person, device, class.
Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """One push's group as it stands. member: this push is in it. upto_ms: a newer one spoke for all up to this ts.

    newest, newest_ms: the youngest that nobody spoke for; waiting: how many of those there are; patient: the newest is not
    here and worth waiting for.
    """

    member: bool = False
    upto_ms: int = 0
    newest: str = ""
    newest_ms: int = 0
    waiting: int = 0
    patient: bool = False


class Backlog:
    """One script call to look; joining and leaving happen inside the caller's MULTI."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._look = script(redis, "backlog")

    def look(self, asks: Sequence[tuple[Group, str]], now_ms: int | None = None) -> list[Seen]:
        """One answer per (group, push id), in order. now_ms: for tests only, in place of the server's time."""
        if not asks:
            return []
        names = [name for group, _ in asks for name in self._names(group)]
        args: list[Any] = [len(asks), PATIENCE_MS, "" if now_ms is None else now_ms, *(push_id for _, push_id in asks)]
        return [
            Seen(bool(member), int(upto), newest.decode(), int(newest_ms), int(waiting), bool(patient))
            for member, upto, newest, newest_ms, waiting, patient in self._look(keys=names, args=args)
        ]

    def join(self, pipe: Pipeline, held: Iterable[tuple[Group, str, int]]) -> None:
        """These (group, push id, event ts) wait from now on."""
        for group, push_id, ts_ms in held:
            name = self._names(group)[0]
            pipe.zadd(name, {push_id: ts_ms})
            pipe.expire(name, KEEP_S)

    def leave(self, pipe: Pipeline, decided: Iterable[tuple[Group, str]]) -> None:
        """These (group, push id) wait no more."""
        for group, push_id in decided:
            pipe.zrem(self._names(group)[0], push_id)

    def spoken(self, pipe: Pipeline, for_all: Iterable[tuple[Group, int]]) -> None:
        """The newest of the group, of this event ts, went out for all that are older."""
        for group, ts_ms in for_all:
            marks = self._names(group)[1]
            pipe.hset(marks, "upto", str(ts_ms))
            pipe.hdel(marks, "patience")
            pipe.expire(marks, MARKS_S)

    def _names(self, group: Group) -> tuple[str, str]:
        name = self._keys.backlog(hashlib.blake2b("\0".join(group).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest())
        return name, f"{name}:m"
