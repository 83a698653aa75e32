"""Valkey or Redis Cluster: one client for the fleet's keys, and one for the core's.

All keys of a shard carry its hash tag, so they are on one node at a time, and a transaction or a
script never leaves it. The client of a shard is a plain one whose connections find the slot's owner
when they connect. The IM core's keys carry the tags of its people and groups: redis-py's
RedisCluster finds each.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.crc import key_slot
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from common.redis_urls import Cluster, cluster_of
from common.storage.away import SlotAwayError, SlotsAway

#: Longest wait for a node's map of slots, seconds: a node that hangs must not cost more than a
#: failover takes.
MAP_TIMEOUT_S: Final = 1.0
#: Seconds for which a slot map is reused: many connections are made at once.
MAP_KEEP_S: Final = 0.2
#: A node that has not told an owner is not asked again for so long, seconds, where others can tell.
SILENT_S: Final = 30.0
#: A command answered with one of ELSEWHERE is repeated for so long, seconds: as long as a node
#: refuses at most after it saw too few others for a moment (of its node timeout, 5 s at most), and
#: as a server that hangs may hold a caller.
NOT_NOW_S: Final = 5.0
#: Tries of one question about a key of the core whose slot is on its way to another node.
MOVES_MAX: Final = 5
#: Errors for "not here" or "not now": nothing was done, and the next attempt may find another node.
ELSEWHERE: Final = frozenset(
    {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "LOADING", "UNBLOCKED"}
)

Address = tuple[str, int]
#: (first slot, last slot, owner)
Slots = list[tuple[int, int, Address]]


class NoOwnerError(RedisConnectionError):
    """No reachable node knows the slot's owner."""


class NotNowError(RedisConnectionError):
    """A node answered with one of ELSEWHERE: the command was not done."""


Answer = TypeVar("Answer")


class SlotRetry(Retry):
    """The retries of a broken connection, begun anew for NOT_NOW_S while the cluster answers "not
    now".

    Their pauses are drawn, and may be over before any failover is.
    """

    def call_with_retry(self, do: Callable[[], Answer], *args: Any, **named: Any) -> Answer:
        until = time.monotonic() + NOT_NOW_S
        while True:
            try:
                return super().call_with_retry(do, *args, **named)
            except NotNowError:
                if time.monotonic() > until:
                    raise


class SlotMap:
    """The owners of the hash slots, as reported by the nodes. May be shared by threads."""

    def __init__(self, cluster: Cluster, options: dict[str, Any]) -> None:
        """options: of a connection to any node (user, password, TLS)."""
        quick = {
            "socket_timeout": MAP_TIMEOUT_S,
            "socket_connect_timeout": MAP_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        self._options = {**options, **quick}
        self._lock = threading.Lock()
        self._seeds = list(cluster.hosts)
        self._nodes = list(cluster.hosts)
        self._slots: Slots = []
        self._asked_at = 0.0
        self._silent: dict[Address, float] = {}

    def owner(self, slot: int) -> Address:
        """The node that serves the slot now. Raises NoOwnerError when no reachable node knows."""
        with self._lock:
            if not self._slots or time.monotonic() - self._asked_at > MAP_KEEP_S:
                self._ask()
            for first, last, owner in self._slots:
                if first <= slot <= last:
                    return owner
        raise NoOwnerError(f"no node serves hash slot {slot}")

    def failed(self, address: Address | None) -> None:
        """Discards the map: a node is unreachable or no longer serves the slot.

        Others are asked first.
        """
        with self._lock:
            self._slots = []
            if address in self._nodes:
                self._nodes.remove(address)
                self._nodes.append(address)

    def _ask(self) -> None:
        for node in [*self._nodes, *(seed for seed in self._seeds if seed not in self._nodes)]:
            try:
                self._slots, nodes = self._told_by(node)
            except (RedisError, OSError):
                continue
            if self._slots:
                self._asked_at = time.monotonic()
                self._nodes = [node, *(one for one in nodes if one != node)]
                return
        raise NoOwnerError("no node of the cluster answers")

    def owner_id(self, slot: int, node: Address) -> bytes | None:
        """The id of the slot's owner, as this node knows it; None: it knows of none."""
        try:
            rows = self._rows(node)
        except (RedisError, OSError):
            self._silent[node] = time.monotonic() + SILENT_S
            raise
        return next(
            (servers[0][2] for first, last, *servers in rows if first <= slot <= last), None
        )

    def is_silent(self, node: Address) -> bool:
        """It has not answered lately: others are asked instead."""
        return self._silent.get(node, 0.0) > time.monotonic()

    def _rows(self, node: Address) -> list[list[Any]]:
        untyped: Any = redis.Redis(host=node[0], port=node[1], **self._options)
        with contextlib.closing(untyped) as client:
            return cast(list[list[Any]], client.execute_command("CLUSTER SLOTS"))

    def _told_by(self, node: Address) -> tuple[Slots, list[Address]]:
        slots: Slots = []
        nodes: dict[Address, None] = {}
        for first, last, *servers in self._rows(node):
            found = [(host_of(host, node[0]), int(port)) for host, port, *_ in servers]
            slots.append((int(first), int(last), found[0]))
            nodes.update(dict.fromkeys(found))
        return slots, list(nodes)


def host_of(reply: bytes | str | None, asked: str) -> str:
    """An empty host is the one that was asked."""
    name = reply.decode() if isinstance(reply, bytes) else reply
    return name if name and name != "?" else asked


class SlotConnection(Connection):
    """A connection to the owner of a slot at connection time.

    An answer "not here" ends it like a broken connection.
    """

    def __init__(self, *, slot_map: SlotMap, slot: int, **options: Any) -> None:
        self._slot_map = slot_map
        self._slot = slot
        super().__init__(**options)  # type: ignore[no-untyped-call]

    #: Monotonic time at which a SlotPool began to hand it out.
    taken_at: float | None = None

    def _connect(self) -> Any:
        try:
            self.host, self.port = self._slot_map.owner(self._slot)
            return super()._connect()  # type: ignore[no-untyped-call]
        except (RedisConnectionError, OSError):
            self._slot_map.failed((self.host, self.port))
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            self.raise_elsewhere(error)
            raise
        except (RedisError, OSError):
            self.failed()
            raise

    def raise_elsewhere(self, error: ResponseError) -> None:
        """Raises NotNowError for "not here" or "not now".

        The next connection finds the slot's owner.
        """
        if (error.status_code or str(error).partition(" ")[0]) in ELSEWHERE:
            self.failed()
            self.disconnect()  # type: ignore[no-untyped-call]
            raise NotNowError(f"the slot's node has changed: {type(error).__name__}") from error

    def failed(self) -> None:
        """The node could not be reached."""
        self._slot_map.failed((self.host, self.port))


class SlotTlsConnection(SlotConnection, SSLConnection):
    """The same over TLS."""


class WatchedPool(ConnectionPool):
    """Connections of a WatchedSlot of `away`: it is told what becomes of each use."""

    number: int
    node: Address | None = None

    def __init__(self, *, away: SlotsAway, **options: Any) -> None:
        super().__init__(**options)
        self.done_at = 0.0
        self._away = away
        away.join(self)

    def owner(self) -> Address:
        raise NotImplementedError

    def ask(self, seconds: float) -> bool:
        raise NotImplementedError

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Raises SlotAwayError at once while the slot is away."""
        self._away.check(self)
        began = time.monotonic()
        try:
            connection: Any = super().get_connection(*args, **options)
        except (RedisConnectionError, RedisTimeoutError, OSError):
            self._away.failed(self, began)
            raise
        connection.taken_at = began
        return connection

    def release(self, connection: Any) -> None:
        """One that was closed meanwhile has failed: whoever used it has given up."""
        began, connection.taken_at = getattr(connection, "taken_at", None), None
        if connection._sock is not None:  # noqa: SLF001 - redis-py tells it by a property from version 8 on
            self.node = connection.host, connection.port
            self._away.answered(self)
        elif began is not None:  # else it was not handed out: get_connection tells
            self._away.failed(self, began)
        super().release(connection)

    def asked(self, key: str, seconds: float) -> bool:
        """A key is asked for: a node answers PING also while it serves no slot. A refusal is an
        answer, too: a user of the ACL may not ask.
        """
        quick = {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": Retry(NoBackoff(), 0),
        }
        connection: Any = self.connection_class(**{**self.connection_kwargs, **quick})
        try:
            connection.connect()
            self.node = connection.host, connection.port
            connection.send_command("EXISTS", key, check_health=False)
            connection.read_response()
        except (NotNowError, ClusterDownError, MovedError):
            return False
        except ResponseError:
            return True
        finally:
            connection.disconnect()
        return True

    def let_go(self) -> None:
        self.disconnect(inuse_connections=False)


class SlotPool(WatchedPool):
    """The connections of one slot."""

    def __init__(self, *, key: str, **options: Any) -> None:
        self.number = options["slot"]
        self._key = key
        super().__init__(**options)

    def owner(self) -> Address:
        return cast(SlotMap, self.connection_kwargs["slot_map"]).owner(self.number)

    def ask(self, seconds: float) -> bool:
        return self.asked(self._key, seconds)


def slot_client(
    url: str, key: str, options: dict[str, Any], away: SlotsAway | None = None
) -> redis.Redis:
    """A plain client for the keys that share the slot of `key`, wherever it is. options: of its
    connections. away: where a process with clients of several slots knows which are.
    """
    cluster = cluster_of(url)
    login = _login(cluster)
    tls = login.pop("connection_class", None) is not None

    def slot_map() -> SlotMap:
        return SlotMap(cluster, {**login, "ssl": True} if tls else login)

    shared = {
        "connection_class": SlotTlsConnection if tls else SlotConnection,
        "slot_map": slot_map() if away is None else away.in_common(slot_map),
        "slot": key_slot(key.encode()),
        **options,
        **login,
    }
    pool = ConnectionPool(**shared) if away is None else SlotPool(away=away, key=key, **shared)
    return redis.Redis.from_pool(pool)


def is_slot_client(client: redis.Redis) -> bool:
    """True for a client of a cluster's slot, where a replica may replace the server at any time."""
    return issubclass(client.connection_pool.connection_class, SlotConnection)


def slot_of(client: redis.Redis) -> int | None:
    """The number of the hash slot that the client is of; None of a plain client."""
    return cast("int | None", client.connection_pool.connection_kwargs.get("slot"))


def node_of(client: redis.Redis) -> Address | None:
    """The node of the last connection of a process that serves several slots; asks nobody."""
    pool = client.connection_pool
    return pool.node if isinstance(pool, SlotPool) else None


def owner_of(client: redis.Redis) -> Address | None:
    """The node that serves the slot of a cluster now; None of a plain client."""
    options = client.connection_pool.connection_kwargs
    return (
        cast(SlotMap, options["slot_map"]).owner(options["slot"])
        if is_slot_client(client)
        else None
    )


def _login(cluster: Cluster) -> dict[str, Any]:
    """The connection options for any node, beside its address."""
    host, port = cluster.hosts[0]
    found: dict[str, Any] = dict(parse_url(cluster.node_url(host, port)))  # type: ignore[no-untyped-call]
    for name in ("host", "port", "db"):
        found.pop(name, None)
    return found


class NodePool(WatchedPool):
    """The connections of one node that the core's client asks, a WatchedSlot of the first slot that
    it serves.
    """

    def __init__(self, *, core: ClusterCore, **options: Any) -> None:
        self._core = core
        self._address: Address = options["host"], options["port"]
        self.node = self._address
        super().__init__(away=core.slots_away, **options)

    @property
    def number(self) -> int:  # type: ignore[override]
        """-1 while it serves none."""
        return self._core.first_slot_of(self._address)

    def owner(self) -> Address:
        """Where another one serves its slots now, the core's client is told."""
        found = self._core.slot_map.owner(self.number)
        if found != self._address:
            with away():
                cast(Any, self._core).nodes_manager.initialize()
        return found

    def ask(self, seconds: float) -> bool:
        return self.asked(key_of(self.number), seconds)


class ClusterCore(RedisCluster):
    """The core's keys on a cluster, each under its own slot. `of`: a client of one key's slot, for
    streams with groups.

    What is asked of a node that is away fails at once. slots_away: which are, of a process whose
    own keys are on the same cluster.
    """

    def __init__(
        self, url: str, options: dict[str, Any], slots_away: SlotsAway | None = None
    ) -> None:
        cluster = cluster_of(url)
        login = _login(cluster)
        tls = login.pop("connection_class", None) is not None
        self._url, self._slot_options = url, options
        self._of: dict[int, redis.Redis] = {}
        self.slots_away = slots_away or SlotsAway()
        self._firsts_of: Any = None
        self._firsts: dict[Address, int] = {}
        self.slot_map = self.slots_away.in_common(
            lambda: SlotMap(cluster, {**login, "ssl": True} if tls else login)
        )
        nodes = [_node(host, port) for host, port in cluster.hosts]
        pool = functools.partial(NodePool, core=self)
        # only with an address redis-py makes its nodes' pools of a given class
        url = cluster.node_url(*cluster.hosts[0])
        with away():
            super().__init__(
                url=url,
                startup_nodes=nodes,
                connection_pool_class=pool,
                **{**options, **login},
            )

    def of(self, key: str) -> redis.Redis:
        """The client of the key's slot; the same for two keys of one slot."""
        slot = key_slot(key.encode())
        if slot not in self._of:
            self._of[slot] = slot_client(self._url, key, self._slot_options, self.slots_away)
        return self._of[slot]

    def is_away(self, key: str) -> bool:
        """True while the key's node is known as away: whoever asks for it would be refused."""
        if not self.slots_away.any:
            return False
        nodes = cast(Any, self).nodes_manager.slots_cache.get(key_slot(key.encode()))
        return bool(nodes) and self.is_node_away(nodes[0])

    def is_node_away(self, node: Any) -> bool:
        client = node.redis_connection
        return client is not None and self.slots_away.is_away(client.connection_pool)

    def first_slot_of(self, node: Address) -> int:
        """-1: it serves none."""
        served = getattr(self, "nodes_manager", None)  # none yet while it is made
        slots = served.slots_cache if served is not None else {}
        if slots is not self._firsts_of:  # redis-py makes another one when it asks anew
            firsts: dict[Address, int] = {}
            for slot, nodes in list(slots.items()):
                firsts.setdefault((nodes[0].host, nodes[0].port), slot)
            self._firsts_of, self._firsts = slots, firsts
        return self._firsts.get(node, -1)

    def now_ms(self) -> int:
        """The time of a node that answers."""
        primaries = list(cast(Any, self).get_primaries())
        random.shuffle(primaries)
        error: Exception = NoOwnerError("no node of the cluster answers")
        for node in primaries:
            try:
                seconds, micros = cast(Any, self).time(target_nodes=node)
            except (SlotAwayError, RedisConnectionError, RedisTimeoutError, OSError) as failed:
                error = failed
                continue
            return int(seconds) * 1000 + int(micros) // 1000
        raise error

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with away():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        pipe: Any = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        execute = pipe.execute

        def bounded(*args: Any, **options: Any) -> Any:
            with away():
                return execute(*args, **options)

        pipe.execute = bounded
        return pipe

    def close(self) -> None:
        for client in self._of.values():
            client.close()
        super().close()


def _node(host: str, port: int) -> ClusterNode:
    make: Any = ClusterNode  # untyped in redis-py
    return cast(ClusterNode, make(host, port))


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Converts errors of redis-py's cluster client that are no RedisError, and that of a cluster
    that is down, which is a refusal there.

    They become a RedisConnectionError: an unavailable store.
    """
    try:
        yield
    except (RedisClusterException, ClusterDownError) as error:
        raise RedisConnectionError(
            f"the cluster does not serve this now: {type(error).__name__}"
        ) from error


def client_for(core: Any, key: str) -> redis.Redis:
    """The client to use for one key of the core, where several commands about it go together."""
    return core.of(key) if isinstance(core, ClusterCore) else cast(redis.Redis, core)


def at_node_of(core: Any, key: str, fill: Callable[[Any], object]) -> list[Any]:
    """The answers of one pipeline (no transaction) from the one process that has the key.

    Errors are among the answers. fill: puts the commands into the pipeline; one of them may have no
    key.
    """
    if not isinstance(core, ClusterCore):
        return _answers(core, fill)
    for _ in range(MOVES_MAX):
        with away():
            node = cast(Any, core).get_node_from_key(key)
            if node is None:
                raise NoOwnerError("no node serves the key's slot")
            try:
                answers = _answers(core.get_redis_connection(node), fill)
            except (RedisConnectionError, OSError):
                core.nodes_manager.initialize()
                raise
            if not any(isinstance(one, MovedError) for one in answers):
                return answers
            core.nodes_manager.initialize()
    raise NoOwnerError("the key's slot is on its way to another node")


def _answers(client: redis.Redis, fill: Callable[[Any], object]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        fill(pipe)
        return pipe.execute(raise_on_error=False)


def each(core: redis.Redis, fill: Callable[[Any], object]) -> list[Any]:
    """The answers, errors included, of commands with one key of the core each, in order."""
    with away():
        return _answers(core, fill)


def as_redis(core: ClusterCore) -> redis.Redis:
    """The core's client under the name that its users know: they use commands that both have."""
    return cast(redis.Redis, cast(Any, core))


def is_core(core: Any) -> bool:
    """True when the core's keys are spread over a cluster."""
    return isinstance(core, ClusterCore)


#: In the place of what a node has that is away.
AWAY: Final = object()


def by_node(core: redis.Redis, keys: Sequence[str]) -> list[tuple[redis.Redis, list[int]]]:
    """The clients of the nodes that serve the keys, as far as is known, with their keys' places."""
    owners, places = cast(Any, core).nodes_manager.slots_cache, dict[str, list[int]]()
    nodes: dict[str, Any] = {}
    for place, key in enumerate(keys):
        served = owners.get(key_slot(key.encode()))
        if not served:
            raise NoOwnerError("no node serves the key's slot")
        nodes[served[0].name] = served[0]
        places.setdefault(served[0].name, []).append(place)
    with away():
        return [
            (cast(Any, core).get_redis_connection(nodes[name]), places[name]) for name in places
        ]


def is_away(core: Any, key: str) -> bool:
    """True while the node of a key of the core is known as away."""
    return isinstance(core, ClusterCore) and core.is_away(key)


def hashes(core: redis.Redis, keys: Sequence[str]) -> tuple[int, list[Any]]:
    """A node's time in ms, and each key's fields and values as one flat list, on a cluster.

    None where a key is no hash, AWAY where its node is away.
    """
    found: list[Any] = [AWAY] * len(keys)
    with away():
        now_ms = cast(ClusterCore, cast(Any, core)).now_ms()
        places = [place for place, key in enumerate(keys) if not is_away(core, key)]
        with core.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.hgetall(keys[place])
            answers = pipe.execute(raise_on_error=False)
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
            found[place] = None
        elif isinstance(answer, SlotAwayError):  # since it was asked
            continue
        elif isinstance(answer, Exception):
            raise answer
        else:
            found[place] = [part for pair in answer.items() for part in pair]
    return now_ms, found


@functools.cache
def key_of(slot: int) -> str:
    """A short name of that hash slot."""
    return next(name for name in map(str, itertools.count()) if key_slot(name.encode()) == slot)
