"""The common part of the roles: a thread each, a lease each, and a pace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from redis.exceptions import RedisError

from common.storage.leases import LEASE_MS, Lease, renew_all
from common.storage.unavailable import store_unavailable

log = logging.getLogger(__name__)

#: After a store was away.
AGAIN_S = 1.0
#: Between two looks at a lease that another process holds.
TAKE_S = 1.0
#: Seconds without progress after which a turn loses the lease to another process.
TURN_MAX_S = 60.0
#: Between two renewals of all leases: sooner than a role would renew its own.
RENEW_EVERY_S = LEASE_MS / 2_500
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

    def __init__(self, role: Role, lease: Lease, stop: threading.Event) -> None:
        self._role = role
        self.lease = lease
        self._stop = stop
        self._listen = role.listen if isinstance(role, Listener) else None
        self._turn_began: float | None = None
        self.is_over = False
        self.progress_at = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=role.name, daemon=True)

    @property
    def keeps(self) -> bool:
        """The lease is ours, and the thread goes on. One that ended between two turns, as where its
        server hangs, is the thread's to take again: nobody else's waits for that server.
        """
        at = max(self._turn_began or self.progress_at, self.lease.busy_at)
        ours = self.lease.held and (self._turn_began is not None or self.lease.left_s > 0)
        return ours and time.monotonic() - at < TURN_MAX_S

    def _run(self) -> None:
        while not self._stop.is_set():
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
        self.is_over = True
        self.give_back()

    def give_back(self) -> None:
        try:
            self.lease.give_back()
        except (RedisError, OSError):
            log.info("the lease ends by itself", extra={"stage": self._role.name})

    def _once(self) -> float:
        if not self.lease.hold():
            self._role.rest()
            return TAKE_S
        self._turn_began = time.monotonic()
        try:
            return self._role.turn(self.lease)
        finally:
            self._turn_began = None

    def _sleep(self, seconds: float) -> None:
        if self.lease.held and self._listen is not None:
            try:
                self._listen(seconds)
                return
            except store_unavailable():
                log.info("nobody can wake this role", extra={"stage": self._role.name})
        self._stop.wait(seconds)


def run_roles(threads: Sequence[RoleThread], stop: threading.Event) -> None:
    """Starts the threads, renews their leases, and ends with `stop`."""
    for each in threads:
        each.thread.start()
    while not stop.wait(RENEW_EVERY_S):
        try:
            renew_all([each.lease for each in threads if each.keeps])
        except (RedisError, OSError) as error:
            log.warning("a lease could not be renewed", extra={"reason": type(error).__name__})
        for each in threads:
            if each.is_over:  # it gave the lease back meanwhile
                each.give_back()
    until = time.monotonic() + STOP_S
    for each in threads:
        each.thread.join(max(until - time.monotonic(), 0.1))
