"""Pushes held by an outage (Redis sorted sets, until decided), by conversation and device.

They can be coalesced into one push.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: The longest life of a push, and a day of grace.
KEEP_S = 8 * 86_400
MARKS_S = 86_400
#: Longest wait of the others for the newest of their group to return; then they go without it.
PATIENCE_MS = 10_000
#: A backlog is coalesced when its first push was received longer ago. Shorter waits are no outage:
#: the first access token of an account, a retry or two, a breaker's first pause (2 s); a person
#: would rather see those messages one by one, a moment late.
COALESCE_AFTER_MS = 10_000

#: The key of a group: app, conversation, person, device, class.
Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BacklogSeen:
    """One push's group at this moment. member: this push is in it.

    upto_ms: a newer push replaced all up to this ts. newest, newest_ms: the youngest one not
    replaced; waiting: the number of those; waits_for_newest: the newest is elsewhere and worth
    waiting for. due: the group has waited long enough to be coalesced.
    """

    member: bool = False
    upto_ms: int = 0
    newest: str = ""
    newest_ms: int = 0
    waiting: int = 0
    waits_for_newest: bool = False
    due: bool = False


class HeldPushes:
    """One script call to look. lane_note.lua joins groups, lane_commit.lua joins and leaves them,
    by `names`.
    """

    keep_s = KEEP_S
    marks_s = MARKS_S

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._look = script(redis, "backlog", "join")

    def look(
        self, asks: Sequence[tuple[Group, str, int, int | None]], now_ms: int | None = None
    ) -> list[BacklogSeen]:
        """One answer per (group, push id, received ms, event ts), in order. A push with a ts joins
        its group where it is in none. now_ms: for tests only, in place of the server's time.
        """
        if not asks:
            return []
        names = [name for group, *_ in asks for name in self.names(group)]
        args: list[Any] = [
            len(asks),
            PATIENCE_MS,
            COALESCE_AFTER_MS,
            KEEP_S,
            "" if now_ms is None else now_ms,
        ]
        for _, push_id, received_ms, ts_ms in asks:
            args += (push_id, received_ms, "" if ts_ms is None else ts_ms)
        return [
            BacklogSeen(
                bool(member),
                int(upto),
                newest.decode(),
                int(newest_ms),
                int(waiting),
                bool(waits_for_newest),
                bool(due),
            )
            for member, upto, newest, newest_ms, waiting, waits_for_newest, due in self._look(
                keys=names, args=args
            )
        ]

    def names(self, group: Group) -> tuple[str, str]:
        name = self._keys.backlog(
            hashlib.blake2b(
                "\0".join(group).encode("utf-8", "surrogatepass"), digest_size=12
            ).hexdigest()
        )
        return name, f"{name}:m"
