"""Behind Sentinel and on a cluster: is there a replica that may take a server's place, and has one
taken it already? A server that stood still takes writes again before it hears of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import redis
from redis.exceptions import RedisError
from redis.sentinel import SentinelConnectionPool

from common.storage.cluster import Address, SlotMap, is_slot_client

#: A replica that has said nothing for longer, seconds, is as good as none (Redis' own
#: min-replicas-max-lag).
REPLICA_SILENT_S: Final = 10
#: Nodes that are asked who owns a slot, its owner's replicas first: one of them would be the new
#: owner.
ASKED_MAX: Final = 5


class ReplicaStanding(Enum):
    """Of the server that was asked."""

    FOLLOWED = auto()  # a replica gets its writes
    ALONE = auto()
    UNTOLD = auto()  # not replaced; whether a replica follows a user of the ACL may not ask
    REPLACED = auto()  # or nobody else answers: then it may be


def fails_over(client: redis.Redis) -> bool:
    """True where a replica may take the server's place."""
    return is_slot_client(client) or isinstance(client.connection_pool, SentinelConnectionPool)


def ask_standing(client: redis.Redis, server: redis.Redis) -> Sequence[Any]:
    """The questions whose answers `standing` reads. server: one connection, or a pipeline."""
    asked: list[Any] = [server.info("replication")]
    untyped: Any = server
    slots = is_slot_client(client)
    asked.append(untyped.execute_command("CLUSTER SLOTS") if slots else server.info("server"))
    return asked


def standing(client: redis.Redis, answers: Sequence[Any]) -> ReplicaStanding:
    """By the answers of one server, and by what others say where it has no replica."""
    if has_replica(answers[0]):
        return ReplicaStanding.FOLLOWED
    pool: Any = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        replaced = _is_master_replaced(pool, answers[1])
    else:
        options = pool.connection_kwargs
        replaced = _is_owner_replaced(options["slot_map"], options["slot"], answers[1])
    if replaced:
        return ReplicaStanding.REPLACED
    return ReplicaStanding.ALONE if isinstance(answers[0], dict) else ReplicaStanding.UNTOLD


def _is_master_replaced(pool: Any, told: Any) -> bool:
    """told: INFO of the server that was asked. Its run id is compared: the address that the pool
    knows may be the next one's already, as all its connections share it.
    """
    if not isinstance(told, dict):  # a user of the ACL may not ask
        known = pool.master_address
        return bool(pool.get_master_address() != known)
    options = {
        name: value for name, value in pool.connection_kwargs.items() if name != "connection_pool"
    }
    make = partial(pool.sentinel_manager.master_for, connection_class=pool.connection_class)
    with contextlib.closing(make(pool.service_name, **options)) as master:
        return bool(master.info("server")["run_id"] != told["run_id"])


def has_replica(told: object) -> bool:
    """True when a replica follows, by INFO's section `replication`, or by the error in its place: a
    user of the ACL may not ask.
    """
    return isinstance(told, dict) and any(
        one.get("state") == "online" and int(one.get("lag", 0)) <= REPLICA_SILENT_S
        for name, one in told.items()
        if name.startswith("slave") and isinstance(one, dict)
    )


def _is_owner_replaced(slot_map: SlotMap, slot: int, rows: Any) -> bool:
    """rows: CLUSTER SLOTS of the owner, as it sees itself. Ids are compared, as each node knows its
    own address by another name.
    """
    if isinstance(rows, Exception):
        raise rows
    owner, followers = next(
        (servers[0][2], servers[1:]) for first, last, *servers in rows if first <= slot <= last
    )
    others = [one for _, _, *servers in rows for one in servers if one[2] != owner]
    first, nodes = _addresses(followers), _addresses([*followers, *others])[:ASKED_MAX]
    told = _owners(
        slot_map, slot, [node for node in nodes if node in first or not slot_map.is_silent(node)]
    )
    told = told or _owners(slot_map, slot, nodes)
    return any(one != owner for one in told) or (not told and bool(nodes))


def _addresses(servers: Sequence[Any]) -> list[Address]:
    return list(dict.fromkeys((one[0].decode(), int(one[1])) for one in servers if one[0]))


def _owners(slot_map: SlotMap, slot: int, nodes: Sequence[Address]) -> list[bytes | None]:
    """The owner's id by each of these nodes that answers."""
    found: list[bytes | None] = []
    for node in nodes:
        with contextlib.suppress(RedisError, OSError):
            found.append(slot_map.owner_id(slot, node))
    return found
