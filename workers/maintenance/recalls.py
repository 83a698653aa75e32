"""Recalls and cancels of shown pushes (workers/withdraw.py); foreign tokens on hold.

The latter are in workers/held_tokens.py.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from redis.exceptions import ResponseError

from common.redis_urls import is_cluster
from common.storage.leases import Lease
from common.storage.old_marks import OldMarks
from workers.held_tokens import decide_held
from workers.runtime import Runtime
from workers.withdraw import all_due_in_s, due_in_s, withdraw_due

#: Seconds between two looks at due recalls while there are some.
EVERY_S = 0.5
#: Between two looks at foreign tokens that are on hold.
HELD_EVERY_S = 5.0
#: Seconds of one turn for the shards of one server together, a little more with the last one.
SHARDS_S = 2.0
#: During an upgrade, processes of the version before go on remembering wishes under the old name.
OLD_EVERY_S = 15.0


class Recalls:
    name = "recalls"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._old_at = 0.0
        self._held_at = 0.0
        # no release before served a cluster, or several shards
        alone = not is_cluster(runtime.settings.redis_url) and len(runtime.shards) == 1
        self._old_marks = (
            None
            if not alone
            else OldMarks(runtime.redis, runtime.keys, runtime.engine, runtime.marks)
        )

    def take_over_old(self) -> None:
        """Takes over the recalls of an earlier version."""
        redis, keys = self._runtime.redis, self._runtime.keys
        old: Any = redis.zrange(keys.old_withdrawals, 0, -1, withscores=True)
        if old:
            redis.zadd(keys.withdrawals, dict(old), nx=True)
            redis.zrem(keys.old_withdrawals, *(member for member, _ in old))
        self._old_at = time.monotonic() + OLD_EVERY_S

    def turn(self, lease: Lease | None = None) -> float:
        if time.monotonic() >= self._old_at:
            self.take_over_old()
        wait_s = due_in_s(self._runtime)
        if not wait_s:
            self.withdraw(lease)
        if self._old_marks is not None:
            self._old_marks.take_over()
            wait_s = min(wait_s, EVERY_S) if self._old_marks.busy else wait_s
        self.decide()
        return wait_s or EVERY_S

    def withdraw(self, lease: Lease | None) -> None:
        """What is due; lease: that of its shard."""
        withdraw_due(self._runtime, (lease.epoch_key, lease.epoch) if lease else None)

    def decide(self) -> None:
        """Tokens on hold are the whole fleet's."""
        if self._runtime.number == 0 and time.monotonic() >= self._held_at:
            self._held_at = time.monotonic() + HELD_EVERY_S
            decide_held(self._runtime)

    def rest(self) -> None:
        """Nothing is kept."""


class ShardRecalls:
    """The recalls of all shards of one server, with one common question whether any is due."""

    name = "recalls"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._each = [Recalls(one) for one in runtime.shards]
        self._first = 0  # whose recalls are next
        self._old_at = 0.0

    def turn(self, lease: Lease | None = None) -> float:
        """Serves what is due in each shard, SHARDS_S long at most; the next turn continues where
        this one ended.
        """
        failed = list[Exception]()
        if time.monotonic() >= self._old_at:
            self._take_over_old(failed)
        waits = self._waits(failed)
        parts = lease.parts if lease is not None else [None] * len(waits)
        count, until = len(waits), time.monotonic() + SHARDS_S
        for number in [(self._first + more) % count for more in range(count)]:
            if waits[number]:
                continue
            self._first = (number + 1) % count
            try:
                self._each[number].withdraw(parts[number])
            except Exception as error:  # noqa: BLE001 - of this shard: the others go on
                failed.append(error)
            if time.monotonic() >= until:
                break
        self._each[0].decide()
        if failed:
            raise failed[0]
        return min(wait_s or EVERY_S for wait_s in waits)

    def _waits(self, failed: list[Exception]) -> list[float]:
        """As all_due_in_s; where that fails each shard is asked alone, as it may be of one."""
        with contextlib.suppress(ResponseError):
            return all_due_in_s(self._runtime.shards)
        waits = list[float]()
        for one in self._runtime.shards:
            try:
                waits.append(due_in_s(one))
            except ResponseError as error:
                failed.append(error)
                waits.append(EVERY_S)
        return waits

    def _take_over_old(self, failed: list[Exception]) -> None:
        """Of a fleet that had one shard; one command where it has left none."""
        shards = self._runtime.shards
        if self._runtime.redis.exists(*[one.keys.old_withdrawals for one in shards]):
            for one in self._each:
                try:
                    one.take_over_old()
                except ResponseError as error:
                    failed.append(error)
        self._old_at = time.monotonic() + OLD_EVERY_S

    def rest(self) -> None:
        """Nothing is kept."""
