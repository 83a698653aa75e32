"""Heartbeats (Redis, 15 s), and metrics addresses (Redis, 10 minutes, or until an orderly end)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

from redis import Redis

from common.model import Vendor
from common.storage.keys import Keys
from common.storage.raw_pipe import command, read_all

ALIVE_S: Final = 15
#: A target outlives its process: a scraper without the target could not report that it is down.
TARGET_S: Final = 600
#: Seconds between two entries of a live process into the set of names.
NAMED_EVERY_S: Final = 15.0
#: Names of ended processes that are kept before they are looked through.
NAMES_MAX: Final = 64
#: How many there are of each stage is asked for again after so long: three stages ask at once.
COUNTED_S: Final = 1.0
DELIVERY: Final = "delivery"
#: Without these nothing is pushed.
STAGES: Final = ("intake", "presence", "routing", "upkeep")
UPKEEP: Final = "upkeep"
#: Processes of doors that a tenant has opened; the second serves XMPP.
GATEWAY: Final = "gateway"
GATEWAY_XMPP: Final = "gateway-xmpp"
#: Roles of the maintenance process (workers/maintenance): together in one process, or spread over
#: several.
ROLES: Final = ("timer", "ledger", "recalls", "reporter")


def role_of(stage: str, vendors: Sequence[Vendor] = (), roles: Sequence[str] = ()) -> str:
    """The role of a process: `intake`, `delivery:apns,fcm`, `upkeep`, `upkeep:timer,ledger`."""
    parts = vendors if stage == DELIVERY else roles if stage == UPKEEP else ()
    return f"{stage}:{','.join(parts)}" if parts else stage


#: The phase of `pushfleet reshard`, None while it does not run, and the fleet's number of shards,
#: None where no process has fixed it.
ShardCount = tuple[bytes | None, bytes | None]


class Heartbeats:
    """name: of one process of the whole fleet; two of the same name would hide each other."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._database = ""
        self._told: dict[str, tuple[str, str | None, float]] = {}
        self._counted: tuple[float, Sequence[str]] = (0.0, ())

    def works_with(self, identity: str, address: str) -> None:
        """Told with each heartbeat: the database of this process. identity: of sql.identity_of."""
        self._database = f"{identity}\0{address}" if identity else ""

    def beat(self, name: str, role: str, target: str | None) -> ShardCount:
        """Records a heartbeat, every few seconds. target: host:port of its metrics.

        The answer comes in the same round trip: an idle process wakes Redis as rarely as it can.
        What lasts is told anew when it changes, every NAMED_EVERY_S, and when the last heartbeat is
        not there any more.
        """
        keys, told = self._keys, self._told.pop(name, None)
        known = told is not None and told[:2] == (role, target) and time.monotonic() < told[2]
        until = told[2] if told is not None and known else time.monotonic() + NAMED_EVERY_S
        life = ("EX", str(ALIVE_S))
        commands = [
            ("SET", keys.alive(name), role, *life, "GET"),
            ("SET", keys.at_work(name), role, *life),
        ]
        if self._database:
            commands.append(("SET", keys.database_of(name), self._database, *life))
        if not known:
            commands.append(("SADD", keys.process_names, name))
            if target:
                commands.append(("SET", keys.metrics_at(name), target, "EX", str(TARGET_S)))
        commands += [("HGET", keys.resharding, "phase"), ("GET", keys.shards)]
        before, *_, phase, number = read_all(
            self._redis, "".join(command(*one) for one in commands), len(commands)
        )
        if known and before is None:
            return self.beat(name, role, target)
        self._told[name] = role, target, until
        return phase, number

    def work(self, name: str, role: str) -> None:
        """Called every few seconds from before a process does anything until it has ended."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.at_work(name), role, ex=ALIVE_S)
            pipe.sadd(self._keys.process_names, name)
            pipe.execute()

    def rest(self, name: str) -> None:
        """This one has ended."""
        self._redis.delete(self._keys.at_work(name))

    def at_work(self) -> dict[str, str]:
        """name -> role of all that take work, begin or finish."""
        return self._all(self._keys.at_work) | self.roles()

    def replicas(self, stage: str) -> int:
        """The number of live processes of a stage, as they were COUNTED_S ago at most."""
        until, roles = self._counted
        if time.monotonic() >= until:
            roles = list(self.roles().values())
            self._counted = (time.monotonic() + COUNTED_S, roles)
        return sum(role.partition(":")[0] == stage for role in roles)

    def leave(self, names: Iterable[str]) -> None:
        """Removes processes that ended in order, or that are about to start under this name."""
        kinds = (self._keys.alive, self._keys.metrics_at, self._keys.database_of)
        keys = [kind(name) for name in names for kind in kinds]
        if keys:
            self._redis.delete(*keys)

    def roles(self) -> dict[str, str]:
        """name -> role of all that live, in order of their names."""
        found = self._all(self._keys.alive)
        return {
            name: role if role.partition(":")[0].replace("-", "").isalpha() else _stem(name)
            for name, role in found.items()
        }

    def databases(self) -> list[str]:
        """An address of each that processes which live work with: one, or two fleets share a
        prefix. One database may have several addresses (a pooler's, another spelling), and one
        address several identities: of a server that was replaced while processes lived.
        """
        found = {tuple(line.split("\0", 1)) for line in self._all(self._keys.database_of).values()}
        addresses = []
        while found:
            same = {found.pop()}
            while more := {one for one in found if any(_alike(one, of) for of in same)}:
                same |= more
                found -= more
            addresses.append(min(address for _, address in same))
        return sorted(addresses)

    def targets(self) -> dict[str, str]:
        """name -> host:port, also of processes that died within TARGET_S."""
        return self._all(self._keys.metrics_at)

    def _all(self, key: Callable[[str], str]) -> dict[str, str]:
        """Values by the set of names, which has the fleet's size; silent names leave it."""
        names = sorted(cast(Any, self._redis.smembers(self._keys.process_names)))
        if not names:
            return {}
        values = cast(Any, self._redis.mget([key(name.decode()) for name in names]))
        dead = [name for name, value in zip(names, values, strict=True) if value is None]
        if len(dead) > NAMES_MAX:
            self._forget(dead)
        return {
            name.decode(): value.decode()
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    def _forget(self, names: Sequence[bytes]) -> None:
        """Removes names that are neither alive nor a target.

        Pods have a new name with each start; a live process adds itself again in seconds.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                keys_of = (self._keys.alive, self._keys.at_work, self._keys.metrics_at)
                pipe.exists(*(key(name.decode()) for key in keys_of))
            silent = [name for name, there in zip(names, pipe.execute(), strict=True) if not there]
        if silent:
            self._redis.srem(self._keys.process_names, *silent)


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return one[0] == other[0] or one[1] == other[1]


def _stem(name: str) -> str:
    """The role of a process of an earlier version: its line of the Procfile."""
    return name.rpartition(".")[0] or name


def command_of(line: str) -> str:
    """The command of a Procfile line."""
    stage, _, part = (line, "", "") if line == GATEWAY_XMPP else line.partition("-")
    option = "--roles" if stage == UPKEEP else "--vendors"
    return f"pushfleet worker {stage} {option} {part}" if part else f"pushfleet worker {stage}"


def missing(
    roles: Iterable[str], vendors: Iterable[Vendor], *, receipts: bool, doors: Sequence[str] = ()
) -> list[str]:
    """Lines of the Procfile without a process. vendors: those with a credential.

    receipts: True when callbacks are requested. doors: those that a tenant has opened.
    """
    served = set[str]()
    for role in roles:
        stage, _, those = role.partition(":")
        served |= {f"{stage}-{part}" for part in those.split(",")} if those else {stage}
    wanted = [*STAGES, *(["receipts"] if receipts else []), *doors]
    lines = {role: f"{UPKEEP}-{role}" for role in ROLES}
    # the roles are spread over processes
    if UPKEEP not in served and not served.isdisjoint(lines.values()):
        wanted[wanted.index(UPKEEP) : wanted.index(UPKEEP) + 1] = lines.values()
    wanted += (
        [] if DELIVERY in served else [f"{DELIVERY}-{vendor}" for vendor in sorted(set(vendors))]
    )
    return [stage for stage in wanted if stage not in served]
