"""Writes the commit of stream entries while they are still this reader's.

Of two readers of one entry only one writes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.exceptions import WatchError

from common.storage.entry_marks import PASSED_S, passed_digest
from common.storage.failover import ReplicaStanding, ask_standing, fails_over, standing
from common.storage.keys import Keys
from common.storage.raw_pipe import ask_watched, execute_watched
from common.storage.scripts import script
from common.storage.streams import GROUP, Entry, StreamStore

#: Most entries that leave by a script.
LEAVE_MAX: Final = 500
#: Longest wait before two writers that met on these marks retry.
MET_S: Final = 0.005
#: One wait for a replica of the primary, and their number: one that follows may be behind.
REPLICA_MS: Final = 200
REPLICA_WAITS: Final = 50
#: For so long nobody asks again, where no replica follows.
ALONE_S: Final = 2.0


class LostError(Exception):
    """Nothing was written: some of the entries are not this reader's any more. mine: those that
    are.
    """

    def __init__(self, mine: Sequence[Entry], count: int) -> None:
        super().__init__(f"{count} entries were taken over")
        self.mine = mine
        self.count = count


class Commits:
    """The commits of one reader. streams: where it writes; source: where its entries come from.

    A claim of another reader's entries is counted in `Keys.takeovers`. A reader that finds the
    count unchanged since its read still owns what it read; else it checks. The count is watched
    until the write: a claim in between makes the MULTI fail.

    An entry out of its turn may be read in its turn meanwhile, which is no claim. So who writes
    such ones says so before it checks (`Keys.out_of_turn`), and whoever writes then checks, too;
    each counts a claim behind its read. Of their checks one comes behind the other's write, or both
    are behind both reads.
    """

    def __init__(
        self, streams: StreamStore, source: StreamStore, others: Sequence[Keys] = ()
    ) -> None:
        """others: where a process of the release before notes entries of another server, too."""
        self._streams = streams
        self._source = source
        self._others = others
        self._known: object = None  # the count before the next read
        self._since: object = None  # the count before the entries at work were read
        self._fails_over = fails_over(streams.redis)
        self._leaves = script(streams.redis, "leave")
        self._alone_until, self._was_alone = 0.0, False
        self._is_early = False  # some of the entries at work are out of their turn
        self._has_told = False  # since these were read

    def begin(self) -> None:
        """Starts a commit of entries read after the last write, or confirmed since."""
        self._since = self._known

    def write(
        self,
        entries: Sequence[Entry],
        fill: Callable[[Pipeline], None],
        leave: Callable[[Pipeline], None],
    ) -> None:
        """In one MULTI what `fill` adds, and `leave`, which acknowledges. LostError.

        Entries of another server leave in a second step, and are known by a mark until then.
        """
        write = self._write if self._source.redis is self._streams.redis else self._write_elsewhere
        self._is_early, self._has_told = any(entry.reclaimed for entry in entries), False
        while not write(entries, fill, leave):
            pass

    def leave(self, entries: Sequence[Entry]) -> None:
        """As `write` of their acknowledgement alone; of few in one round trip. LostError."""
        names, since = {entry.stream for entry in entries}, self._since
        if (
            isinstance(since, bytes)
            and self._source.redis is self._streams.redis
            and len(names) == 1
            and len(entries) <= LEAVE_MAX
        ):
            key, ids = self._source.keys.takeovers, [entry.id for entry in entries]
            if self._leaves(keys=[key, self._source.name_of(*names)], args=[GROUP, since, *ids]):
                self._known = since
                return
        self.write(entries, lambda _: None, lambda pipe: self._source.acknowledge(pipe, entries))

    def _write(
        self,
        entries: Sequence[Entry],
        fill: Callable[[Pipeline], None],
        leave: Callable[[Pipeline], None],
    ) -> bool:
        key, flag = self._source.keys.takeovers, self._source.keys.out_of_turn
        with self._streams.redis.pipeline(transaction=True) as pipe:
            cast(Any, pipe).watch(key, *([flag] if self._is_early else []))  # untyped in redis-py
            now, met = cast(Any, pipe.mget(key, flag))
            if (self._is_early and not met) or (met and not self._has_told):
                self._tell()
                return False
            now = now or b"0"
            if now != self._since:
                mine = self._source.renew(entries)
                if len(mine) < len(entries):
                    raise LostError(mine, len(entries) - len(mine))
            pipe.multi()
            fill(pipe)
            leave(pipe)
            if self._is_early:
                pipe.delete(flag)
            try:
                execute_watched(pipe)
            except (
                WatchError
            ):  # or the connection broke, and it may be written: then nothing is ours any more
                self._since = None
                return False
        self._known = now
        return True

    def _tell(self) -> None:
        """Entries are written out of their turn, or while others' are."""
        with self._streams.redis.pipeline(transaction=True) as pipe:
            if self._is_early:
                lasts_ms = self._source.takeover_idle_ms
                pipe.set(self._source.keys.out_of_turn, b"1", px=lasts_ms)
            pipe.incr(self._source.keys.takeovers)
            pipe.execute()
        self._has_told = True

    def _write_elsewhere(
        self,
        entries: Sequence[Entry],
        fill: Callable[[Pipeline], None],
        leave: Callable[[Pipeline], None],
    ) -> bool:
        names = [self._digest(entry) for entry in entries]
        half_day = int(time.time()) // PASSED_S
        keys = [self._streams.keys.passed(half_day - back) for back in (0, 1, 2)]
        others = [one.passed(half_day - back) for back in (0, 1, 2) for one in self._others]
        with self._streams.redis.pipeline(transaction=True) as pipe:
            cast(Any, pipe).watch(*keys, *others)
            if others and not pipe.exists(*others):  # as a rule
                others = []
            others = [key for key in others if pipe.exists(key)]
            keys += others
            reply = ask_watched(pipe, [("SMISMEMBER", key, *names) for key in keys])
            passed = [entry for entry, *marks in zip(entries, *reply, strict=True) if any(marks)]
            if passed:
                if not self._is_safe(keys, [self._digest(entry) for entry in passed]):
                    return False
                self._leave(lambda own: self._source.acknowledge(own, passed))
                raise LostError([entry for entry in entries if entry not in passed], len(passed))
            pipe.multi()
            fill(pipe)
            today = {one.passed(half_day) for one in self._others}.intersection(others)
            for key in (keys[0], *today):
                pipe.sadd(key, *names)
                pipe.expire(key, 3 * PASSED_S)
            try:
                execute_watched(pipe)
            except WatchError:
                time.sleep(random.uniform(0.0, MET_S))
                return False
        if not self._is_safe(keys, names):
            return False
        self._leave(leave)
        return True

    def _is_safe(self, keys: Sequence[str], names: Sequence[bytes]) -> bool:
        """True when the write may be acknowledged on the other server.

        False: it was lost with a primary, and is written again. A primary answers before its
        replica has a write; this waits for both while a replica follows. RedisError: the replica
        still has not got the write, or has taken the primary's place.
        """
        if not self._fails_over or time.monotonic() < self._alone_until:
            return True
        for turn in range(REPLICA_WAITS):
            if turn or not self._was_alone:  # else it is asked first whether a replica has come
                stands, replicas = self._replicated(keys, names)
                if replicas or not stands:
                    return stands
            stands, place = self._standing(keys, names)
            self._was_alone = place is ReplicaStanding.ALONE
            if not stands:
                return False
            if place is ReplicaStanding.REPLACED:
                self._streams.redis.connection_pool.disconnect(inuse_connections=False)
                raise RedisConnectionError("another server has taken this one's place")
            if place in (ReplicaStanding.ALONE, ReplicaStanding.UNTOLD):
                self._alone_until = time.monotonic() + ALONE_S
                return True
        raise RedisTimeoutError("the replica is too far behind to take over")

    def _replicated(self, keys: Sequence[str], names: Sequence[bytes]) -> tuple[bool, int]:
        """(True when the write stands, how many replicas have it)."""
        with self._streams.redis.pipeline(transaction=False) as pipe:
            # WAIT is about the writes of its own connection, which may be a new one
            pipe.set(self._streams.keys.synced, b"1")
            for key in keys:
                pipe.smismember(key, list(names))
            cast(Any, pipe).wait(1, REPLICA_MS)
            _, *marks, replicas = cast(Any, pipe.execute())
        return _all_marked(marks), replicas

    def _standing(
        self, keys: Sequence[str], names: Sequence[bytes]
    ) -> tuple[bool, ReplicaStanding]:
        """(True when the write stands, the server's place), both of one server, which may be
        another one than a moment ago.
        """
        client = self._streams.redis
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.smismember(key, list(names))
            ask_standing(client, pipe)
            answers = pipe.execute(raise_on_error=False)
        marks, told = answers[: len(keys)], answers[len(keys) :]
        for one in marks:
            if isinstance(one, Exception):
                raise one
        return _all_marked(marks), standing(client, told)

    def _leave(self, leave: Callable[[Pipeline], None]) -> None:
        with self._source.redis.pipeline(transaction=True) as pipe:
            leave(pipe)
            pipe.execute()

    def _digest(self, entry: Entry) -> bytes:
        return passed_digest(self._source.name_of(entry.stream), entry.id)


def _all_marked(marks: Sequence[Sequence[int]]) -> bool:
    return all(any(found) for found in zip(*marks, strict=True))
