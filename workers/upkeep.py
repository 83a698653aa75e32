"""The maintenance process: its roles, each in a thread of its own under a lease of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common.storage.leases import JointLease, Lease
from common.storage.living import ROLES
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.recalls import Recalls, ShardRecalls
from workers.maintenance.reporter import Reporter
from workers.maintenance.role import Role, RoleThread, run_roles
from workers.maintenance.timer import ShardTimers, Timer
from workers.runtime import Runtime

_MADE: Final[Mapping[str, Callable[[Runtime], Role]]] = dict(
    zip(ROLES, (Timer, LedgerWriter, Recalls, Reporter), strict=True)
)
#: Roles that each shard has for itself, and those of them that are one for all shards of one
#: server.
_OF_SHARD: Final = frozenset({"timer", "ledger", "recalls"})
_JOINT: Final[Mapping[str, Callable[[Runtime], Role]]] = {
    "timer": ShardTimers,
    "ledger": lambda runtime: LedgerWriter(runtime, shards=runtime.shards),
    "recalls": ShardRecalls,
}


class Upkeep:
    """roles: of living.ROLES. A role that another process holds is waited for."""

    def __init__(
        self, runtime: Runtime, stop: threading.Event, roles: Sequence[str] = ROLES
    ) -> None:
        self._runtime = runtime if "timer" in roles else None
        self._stop = stop
        self._threads = [one for name in roles for one in _threads(runtime, name, stop)]

    @property
    def progress_at(self) -> float:
        """Monotonic time of the least recent progress of a role."""
        return min(each.progress_at for each in self._threads)

    def run(self) -> None:
        """Runs until stopped."""
        if self._runtime is not None:  # 0.15 s of Celery's, which the first burst would wait for
            _ = self._runtime.app.amqp
        run_roles(self._threads, self._stop)


def _threads(runtime: Runtime, name: str, stop: threading.Event) -> list[RoleThread]:
    """The threads of one role: one for all shards, or one for each."""
    shards = runtime.shards if name in _OF_SHARD else [runtime]
    if name in _JOINT and len(shards) > 1 and runtime.together:
        lease = JointLease(runtime.redis, [one.keys for one in shards], name)
        return [RoleThread(_JOINT[name](runtime), lease, stop)]
    return [RoleThread(_MADE[name](one), Lease(one.redis, one.keys, name), stop) for one in shards]
