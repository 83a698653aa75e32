"""Leases of the maintenance roles (Redis, 5 s): one holder per role; each change has a number."""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError

from common.storage.keys import Keys
from common.storage.scripts import Call, run_all, script

#: A killed process loses its roles after this.
LEASE_MS = 5_000


class Lease:
    """One role's lease, as one process sees it."""

    def __init__(self, redis: Redis, keys: Keys, role: str, lease_ms: int = LEASE_MS) -> None:
        self.redis = redis
        self._keys = [keys.lease(role), keys.lease_epoch(role)]
        self._lease_ms = lease_ms
        self._word = uuid.uuid4().hex
        self._take = script(redis, "lease")
        self._give = script(redis, "unlease")
        self._asked_at = 0.0
        self.epoch = 0
        #: Monotonic time at which a long turn went on last: it is not stuck.
        self.busy_at = 0.0

    @property
    def held(self) -> bool:
        """By the last look; a process that stood still does not know better, the epoch does."""
        return self.epoch > 0

    @property
    def left_s(self) -> float:
        """Seconds until another process can take the role, at least; longer after a renewal."""
        return self._asked_at + self._lease_ms / 1000 - time.monotonic() if self.held else 0.0

    @property
    def epoch_key(self) -> str:
        """The key of the role's epoch, which a script that writes for this role compares."""
        return self._keys[1]

    @property
    def number(self) -> int:
        """The role as a number of 31 bits, the same in each process: of its lock in PostgreSQL."""
        return zlib.crc32(self._keys[0].encode()) >> 1

    def hold(self) -> bool:
        """Takes or renews it, at most twice a lease. redis.exceptions.RedisError: unknown, the
        lease ends by itself.
        """
        now = time.monotonic()
        if self.due(now):
            _ask([self], now)
        return self.held

    @property
    def parts(self) -> Sequence[Lease]:
        """The leases of which it consists."""
        return [self]

    def joined(self) -> None:
        """Follows its parts, after they were answered."""

    def due(self, now: float) -> bool:
        """It is to be taken, or renewed."""
        return not self.held or now - self._asked_at >= self._lease_ms / 2_000

    @property
    def call(self) -> Call:
        """The script that takes or renews it; it takes the keys and words of several."""
        return self._take, self._keys, [self._word, self._lease_ms]

    def answered(self, epoch: int, asked_at: float) -> None:
        """The script's answer. asked_at: monotonic time before it was asked."""
        self.epoch, self._asked_at = epoch, asked_at

    def give_back(self) -> None:
        if self.held:
            self.epoch = 0
            self._give(keys=self._keys[:1], args=[self._word])


class JointLease(Lease):
    """A role's leases in all shards of one server, held together.

    A process that serves each shard by itself (releases before) and one that serves all of them
    never work on the same shard at once. They are taken in the order of the shards.
    """

    def __init__(
        self, redis: Redis, keys: Sequence[Keys], role: str, lease_ms: int = LEASE_MS
    ) -> None:
        super().__init__(redis, keys[0], role, lease_ms)
        self._parts = [Lease(redis, one, role, lease_ms) for one in keys]

    @property
    def left_s(self) -> float:
        """As in Lease, of the one that ends first."""
        return min(one.left_s for one in self._parts) if self.held else 0.0

    def hold(self) -> bool:
        """Takes or renews all of them; where one is not to be had, none is kept: its holder may
        serve each shard by itself.
        """
        now = time.monotonic()
        due = [one for one in self._parts if one.due(now)]
        if self.held and due:
            _ask(due, now)
        else:
            for one in due:
                if not one.hold():
                    break
        self.joined()
        if not self.held:
            self.give_back()
        return self.held

    @property
    def parts(self) -> Sequence[Lease]:
        return self._parts

    def joined(self) -> None:
        self.epoch = self._parts[0].epoch if all(one.held for one in self._parts) else 0

    def give_back(self) -> None:
        self.epoch = 0
        for one in self._parts:
            one.give_back()


def _ask(leases: Sequence[Lease], now: float) -> None:
    """Takes or renews leases of one server, in one script call; now: monotonic time."""
    calls = [one.call for one in leases]
    names = [name for _, keys, _ in calls for name in keys]
    args = [part for *_, parts in calls for part in parts]
    (epochs,) = run_all(leases[0].redis, [(calls[0][0], names, args)])
    for one, epoch in zip(leases, epochs, strict=True):
        one.answered(int(epoch), now)


def renew_all(leases: Sequence[Lease]) -> None:
    """Renews held leases, whether due or not: one round trip a server. redis.exceptions.RedisError:
    unknown, as in Lease.hold, of one server's; those of the others are renewed all the same.
    """
    failed = list[Exception]()
    by_server: dict[Redis, list[Lease]] = {}
    for one in leases:
        by_server.setdefault(one.redis, []).append(one)
    for those in by_server.values():
        parts, now = [part for one in those for part in one.parts], time.monotonic()
        try:
            _ask(parts, now)
        except (RedisError, OSError) as error:
            failed.append(error)
            continue
        for one in those:
            one.joined()
    if failed:
        raise failed[0]
