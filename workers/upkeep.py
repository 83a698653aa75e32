"""The maintenance process: its roles, together or alone, each in a thread of its own under a lease of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common.storage.leases import Lease
from common.storage.living import ROLES
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.recalls import Recalls
from workers.maintenance.reporter import Reporter
from workers.maintenance.role import Role, RoleThread, run_roles
from workers.maintenance.timer import Timer
from workers.runtime import Runtime

_MADE: Final[Mapping[str, Callable[[Runtime], Role]]] = dict(zip(ROLES, (Timer, LedgerWriter, Recalls, Reporter), strict=True))
#: Roles that each shard has for itself.
_OF_SHARD: Final = frozenset({"timer", "ledger", "recalls"})


class Upkeep:
    """roles: of living.ROLES. A role that another process holds is waited for."""

    def __init__(self, runtime: Runtime, stopping: Callable[[], bool], roles: Sequence[str] = ROLES) -> None:
        self._stopping = stopping
        parts = [(name, one) for name in roles for one in (runtime.shards if name in _OF_SHARD else [runtime])]
        self._threads = [RoleThread(_MADE[name](one), Lease(one.redis, one.keys, name), stopping) for name, one in parts]

    @property
    def progress_at(self) -> float:
        """Monotonic time of the last progress of the role that stands still longest."""
        return min(each.progress_at for each in self._threads)

    def run(self) -> None:
        """Until told to stop."""
        run_roles(self._threads, self._stopping)
