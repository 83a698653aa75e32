"""Reads of the core's stream without a list of their entries (Redis): XREADGROUP NOACK.

The server's list of what a reader holds costs it, entry by entry, as much as all else that it does
with an event. One reader at a time does without: what the group has read, nobody holds and is there
still is that reader's. It has a lease on that, renewed by each read. Once the lease is over,
whoever looks for entries of silent readers lists these first (`sweep`); from then on they are as
any others. Entries that are to be renewed, released or counted are listed, too (`enlist`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError

from common.storage.keys import Keys
from common.storage.raw_pipe import command, raw_pipe
from common.storage.scripts import script

#: Seconds until one that may not read so asks again.
AGAIN_S: Final = 5.0


class OpenReads:
    """of: the stream that was read so last; held: its entries that are not listed."""

    def __init__(self, redis: Redis, keys: Keys, group: str, consumer: str, lease_ms: int) -> None:
        self._redis, self._keys = redis, keys
        self._group, self._consumer = group, consumer
        self._lease_ms = lease_ms
        self._open, self._sweep, self._enlist = (
            script(redis, name) for name in ("reads_open", "reads_sweep", "reads_list")
        )
        self._is_clean = True  # no answer was lost: none of its reads left anything behind
        self._ask_at = 0.0
        self._has_looked = False
        self.of = ""
        self.held: frozenset[bytes] = frozenset()

    def read(self, stream: str, count: int) -> Any:
        """The answer to XREADGROUP; None: another way, nothing was read. All that was held is
        finished by now, or listed.
        """
        if time.monotonic() < self._ask_at:
            return None
        lease, me = self._keys.open_read, self._consumer
        reads = ("XREADGROUP", "GROUP", self._group, me, "COUNT", str(count), "NOACK")
        asked = command("MULTI") + command("PEXPIRE", lease, str(self._lease_ms))
        asked += command(*reads, "STREAMS", stream, ">") + command("EXEC")
        with raw_pipe(self._redis) as pipe:
            _, holder = pipe.ask(command("WATCH", lease) + command("GET", lease), 2)
            if holder != me.encode() or not self._is_clean:
                pipe.ask(command("UNWATCH"), 1)
                self._may_open()
                return None
            self._is_clean = False
            answer = pipe.ask(asked, 4)[-1]
            self._is_clean = True
        if answer is None:  # the lease ended in between
            return None
        if isinstance(answer[1], ResponseError):
            raise answer[1]
        return answer[1] or []

    def _may_open(self) -> None:
        """The next read may be an open one; or it is asked for again later."""
        names = [self._keys.open_reads, self._keys.open_read]
        args: list[str | int] = [self._consumer, self._lease_ms, int(self._is_clean)]
        if self._open(keys=names, args=args):
            self._is_clean = True
        else:
            self._ask_at = time.monotonic() + AGAIN_S

    def found(self, stream: str, ids: Sequence[bytes]) -> None:
        """These were read so."""
        self.of, self.held = stream, frozenset(ids)

    def enlist(self) -> None:
        """What is held is listed, where it is ours still."""
        if self.held:
            names = [self.of, self._keys.open_read]
            self._enlist(keys=names, args=[self._group, self._consumer, *self.held])
            self.held = frozenset()

    def sweep(self, streams: Sequence[str], idle_ms: int) -> None:
        """Lists what silent readers left; the first call looks although none is known."""
        keys = self._keys
        if self._has_looked and not self._redis.exists(keys.open_reads):
            return
        for stream in streams:
            at = ""
            names = [stream, keys.open_reads, keys.open_read, keys.takeovers]
            flags = int(not self._has_looked), int(stream == streams[-1])
            while at != "-":
                args: list[str | int] = [self._group, idle_ms, at or "-", *flags]
                at = self._sweep(keys=names, args=args).decode()
        self._has_looked = True
