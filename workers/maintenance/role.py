"""The common part of the roles: a thread each, a lease each, and a pace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from redis.exceptions import RedisError

from common.storage.leases import LEASE_MS, Lease
from common.storage.unavailable import store_unavailable

log = logging.getLogger(__name__)

#: After a store was away.
AGAIN_S = 1.0
#: Between two looks at a lease that another process holds.
TAKE_S = 1.0
#: Seconds without progress after which a turn loses the lease to another process.
TURN_MAX_S = 60.0
#: Seconds that a stopping process waits for the current turn of its threads.
STOP_S = 20.0


class Role(Protocol):
    name: str

    def turn(self, lease: Lease) -> float:
        """Does what is due; returns the seconds until the next turn."""

    def rest(self) -> None:
        """Another process has the lease."""


@runtime_checkable
class Listener(Protocol):
    """A role that may be woken before its next turn."""

    def listen(self, seconds: float) -> None:
        """Waits for `seconds` at most, or until there is work. Raises a store's errors.

        seconds: less than Redis may take to answer.
        """


class RoleThread:
    """Runs one role while its lease is ours. A turn that fails is logged and comes again."""

    def __init__(self, role: Role, lease: Lease, stopping: Callable[[], bool]) -> None:
        self._role = role
        self._lease = lease
        self._stopping = stopping
        self._turn_began: float | None = None
        self.progress_at = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=role.name, daemon=True)

    def keep(self) -> None:
        """Renews the lease during a long turn. Called from another thread."""
        began = self._turn_began
        if began is None or not self._lease.held:
            return
        if time.monotonic() - max(began, self._lease.busy_at) < TURN_MAX_S:
            self._lease.hold()

    def _run(self) -> None:
        while not self._stopping():
            try:
                pause_s = self._once()
            except store_unavailable() as error:
                log.warning(
                    "a store is away, waiting",
                    extra={"stage": self._role.name, "reason": type(error).__name__},
                )
                pause_s = AGAIN_S
            except (
                Exception
            ) as error:  # without this thread the role would be nobody's, and its lease renewed
                log.exception(
                    "a turn broke", extra={"stage": self._role.name, "reason": type(error).__name__}
                )
                pause_s = AGAIN_S
            self.progress_at = time.monotonic()
            self._sleep(pause_s)
        try:
            self._lease.give_back()
        except (RedisError, OSError):
            log.info("the lease ends by itself", extra={"stage": self._role.name})

    def _once(self) -> float:
        if not self._lease.hold():
            self._role.rest()
            return TAKE_S
        self._turn_began = time.monotonic()
        try:
            return self._role.turn(self._lease)
        finally:
            self._turn_began = None

    def _sleep(self, seconds: float) -> None:
        if self._lease.held and isinstance(self._role, Listener):
            try:
                self._role.listen(seconds)
                seconds = 0.0
            except store_unavailable():
                log.info("nobody can wake this role", extra={"stage": self._role.name})
        until = time.monotonic() + seconds
        while not self._stopping() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))


def run_roles(threads: Sequence[RoleThread], stopping: Callable[[], bool]) -> None:
    """Starts the threads, renews the leases of long turns, and ends with `stopping`."""
    for each in threads:
        each.thread.start()
    while not stopping():
        time.sleep(LEASE_MS / 4_000)
        for each in threads:
            try:
                each.keep()
            except (RedisError, OSError) as error:
                log.warning("a lease could not be renewed", extra={"reason": type(error).__name__})
    until = time.monotonic() + STOP_S
    for each in threads:
        each.thread.join(max(until - time.monotonic(), 0.1))
