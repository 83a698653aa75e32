"""Recalls and cancels of shown pushes (workers/withdraw.py); foreign tokens on hold.

The latter are in workers/held_tokens.py.
"""

from __future__ import annotations

import time
from typing import Any

from common.redis_urls import is_cluster
from common.storage.leases import Lease
from common.storage.old_marks import OldMarks
from workers.held_tokens import decide_held
from workers.runtime import Runtime
from workers.withdraw import due_in_s, withdraw_due

#: Seconds between two looks at due recalls while there are some.
EVERY_S = 0.5
#: Between two looks at foreign tokens that are on hold.
HELD_EVERY_S = 5.0
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

    def _take_over_old(self) -> None:
        """Takes over the recalls of an earlier version."""
        redis, keys = self._runtime.redis, self._runtime.keys
        old: Any = redis.zrange(keys.old_withdrawals, 0, -1, withscores=True)
        if old:
            redis.zadd(keys.withdrawals, dict(old), nx=True)
            redis.zrem(keys.old_withdrawals, *(member for member, _ in old))
        self._old_at = time.monotonic() + OLD_EVERY_S

    def turn(self, lease: Lease | None = None) -> float:
        if time.monotonic() >= self._old_at:
            self._take_over_old()
        wait_s = due_in_s(self._runtime)
        if not wait_s:
            withdraw_due(self._runtime, (lease.epoch_key, lease.epoch) if lease else None)
        if self._old_marks is not None:
            self._old_marks.take_over()
            wait_s = min(wait_s, EVERY_S) if self._old_marks.busy else wait_s
        # tokens on hold are the whole fleet's
        if self._runtime.number == 0 and time.monotonic() >= self._held_at:
            self._held_at = time.monotonic() + HELD_EVERY_S
            decide_held(self._runtime)
        return wait_s or EVERY_S

    def rest(self) -> None:
        """Nothing is kept."""
