"""A Valkey Cluster of real `valkey-server` processes from the wheel, on this machine: three
primaries, each with a replica.
"""

import contextlib
import functools
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from common.storage.cluster import client_for, is_core
from common.storage.failover import ReplicaStanding, ask_standing, standing
from tests.conftest import open_folder
from tests.waiting import wait_for
from workers.cli.up import free_ports
from workers.embedded import find_home, valkey_binary
from workers.processes import end, spawn

SLOTS = 16_384
#: A node that is silent for so long is taken over by its replica.
NODE_TIMEOUT_MS = 1_000
#: Of a node that lives, on a machine that is busy.
ANSWER_S_MAX = 5.0
#: A slot that can't be moved for so long is a fault.
NEW_OWNER_S_MAX = 30.0
#: A core waits for so long for a replica that follows and is behind.
REPLICA_S_MAX = 10.0


@dataclass(slots=True)
class Node:
    """One server process. options: of its clients."""

    port: int
    argv: list[str]
    folder: Path
    options: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(self.argv, cwd=self.folder)

    @property
    def client(self) -> redis.Redis:
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=ANSWER_S_MAX,
            retry=retry,
            **self.options,
        )

    def say(self, *words: Any) -> Any:
        with contextlib.closing(self.client) as client:
            return client.execute_command(*words)

    def answers(self) -> bool:
        try:
            return bool(self.say("PING"))
        except (RedisError, OSError):
            return False

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process
        self.process.wait()

    def info(self) -> str:
        """CLUSTER INFO."""
        return str(self.say("CLUSTER", "INFO").decode())

    @property
    def id(self) -> str:
        return str(self.say("CLUSTER", "MYID").decode())


class ValkeyCluster:
    """Its nodes, and what an operator or a fault does to them."""

    def __init__(self, nodes: Sequence[Node], password: str, replicas: int) -> None:
        self.nodes = list(nodes)
        self._replicas = replicas
        self._password = password

    def url(self, login: str | None = None) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://{login or ':' + self._password}@{hosts}"

    def owner(self, key: str) -> Node:
        """The primary that serves the key's slot, as the nodes that live see it."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            try:
                told = node.say("CLUSTER", "SLOTS")
            except (RedisError, OSError):
                continue
            for first, last, (_, port, *_rest), *_ in told:
                if first <= slot <= last:
                    return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"nobody serves {key}")

    def replica_of(self, primary: Node) -> Node:
        """The server that follows this one, by its own word: its primary may hear of it later."""
        each = [(node, _replication(node)) for node in self.nodes if node is not primary]
        return next(node for node, told in each if told.get("master_port") == primary.port)

    def healthy(self) -> bool:
        """Whether every node that lives serves and sees all slots served, and each primary that
        is to have a replica has one that follows it. One that stood still takes itself for a
        primary until it has heard of its successor.
        """
        try:
            serving = all(_serves(node.info()) for node in self.nodes)
            nodes = self.nodes[0].say("CLUSTER", "NODES").decode()
            told = [_replication(node) for node in self.nodes]
        except (RedisError, OSError):
            return False
        links = sum(
            "slave" in line and "fail" not in line and "connected" in line
            for line in nodes.splitlines()
        )
        following = [one for one in told if one["role"] != "master"]
        up = all(one.get("master_link_status") == "up" for one in following)
        return serving and up and links == len(following) == self._replicas

    def move_slot(self, key: str, *, pause_s: float = 0.0, keys_at_once: int = 100) -> Node:
        """The slot of the key goes to another primary, key by key as `valkey-cli --cluster reshard`
        does it; the new owner. Begun anew where a busy machine made a replica take over meanwhile.
        """
        deadline, target = time.monotonic() + NEW_OWNER_S_MAX, None
        while True:
            source = self.owner(key)
            if source is target:
                return source
            target = self._another_primary(source)
            try:
                self._move_slot(key, source, target, pause_s, keys_at_once)
                return target
            except RedisError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(NODE_TIMEOUT_MS / 2_000)

    def _another_primary(self, source: Node) -> Node:
        primaries = {one.port for one in map(self.owner, ("a", "b", "c", "d", "e", "f", "g"))}
        return next(
            node for node in self.nodes if node.port in primaries and node.port != source.port
        )

    def _move_slot(
        self, key: str, source: Node, target: Node, pause_s: float, keys_at_once: int
    ) -> None:
        slot = key_slot(key.encode())
        target.say("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.say("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        auth = ["AUTH", self._password]
        while names := source.say("CLUSTER", "GETKEYSINSLOT", slot, keys_at_once):
            source.say(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", *auth, "KEYS", *names
            )
            time.sleep(pause_s)
        for node in (target, source):
            node.say("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def move_slot_whole(self, key: str, seconds: float = 30.0) -> Node:
        """The slot of the key goes to another primary in one step (Valkey 9), at its source's own
        pace; the new owner.
        """
        slot, source = key_slot(key.encode()), self.owner(key)
        target = self._another_primary(source)
        source.say("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        wait_for(lambda: self.owner(key) is target, f"the slot of {key} has moved", seconds)
        return target

    def replicated(self, key: str) -> bool:
        """Whether the replica of the key's primary has all that this one has now."""
        beside = f"{key if '{' in key else f'{{{key}}}'}:replicated"
        with (
            contextlib.suppress(RedisError, OSError),
            contextlib.closing(self.owner(key).client) as client,
        ):
            pipe: Any = client.pipeline(transaction=False)
            pipe.set(beside, b"1", px=60_000)
            pipe.wait(1, 1_000)
            return bool(pipe.execute()[1])
        return False

    def revive(self) -> None:
        """Starts what was killed."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    node.send(signal.SIGCONT)
                end(node.process, (signal.SIGKILL, 5))


@contextlib.contextmanager
def valkey_cluster(
    primaries: int = 3, *, replicas: bool = True, announced: Sequence[int] = ()
) -> Iterator[ValkeyCluster]:
    """Runs until the end of the block. announced: ports that the servers tell in the place of their
    own.
    """
    with open_folder() as folder:
        cluster = start(folder, primaries, replicas=replicas, announced=announced)
        try:
            yield cluster
        finally:
            cluster.stop()


def start(
    folder: Path, primaries: int = 3, *, replicas: bool = True, announced: Sequence[int] = ()
) -> ValkeyCluster:
    """Starts the servers and makes one cluster of them; returns when it is whole."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    binary, password = str(valkey_binary(find_home(folder / "home"))), secrets.token_hex(8)
    nodes = []
    for number in range(primaries * (1 + replicas)):
        place = folder / f"node-{number}"
        place.mkdir(parents=True, exist_ok=True)
        port = free_ports(1)
        argv = [binary, "--port", str(port), *_options(place, password)]
        argv += ["--cluster-announce-port", str(announced[number])] if announced else []
        nodes.append(Node(port, argv, place, {"password": password}))
    cluster = ValkeyCluster(nodes, password, primaries * replicas)
    try:
        for node in nodes:
            node.start()
        wait_for(lambda: all(node.answers() for node in nodes), "the servers answer")
        _join(nodes, primaries)
        wait_for(cluster.healthy, "the cluster is whole")
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _options(place: Path, password: str) -> list[str]:
    told = {
        "cluster-port": free_ports(1),
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": NODE_TIMEOUT_MS,
        "cluster-replica-validity-factor": 0,
        "bind": "127.0.0.1",
        "dir": place,
        "requirepass": password,
        "primaryauth": password,
        "appendonly": "yes",
        "save": "",
        "repl-diskless-sync-delay": 0,
        "maxmemory-policy": "noeviction",
        "logfile": place / "log",
    }
    return [part for name, value in told.items() for part in (f"--{name}", str(value))]


def _join(nodes: Sequence[Node], primaries: int) -> None:
    first = nodes[0]
    bus = _bus_port(first)
    for number, node in enumerate(nodes):
        node.say("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if node is not first:
            node.say("CLUSTER", "MEET", "127.0.0.1", first.port, bus)
    for number, node in enumerate(nodes[:primaries]):
        begin, until = SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1
        node.say("CLUSTER", "ADDSLOTSRANGE", begin, until)
    wait_for(
        lambda: all(f"cluster_known_nodes:{len(nodes)}" in node.info() for node in nodes),
        "all have met",
    )
    for replica, primary in zip(nodes[primaries:], nodes, strict=False):
        wait_for(functools.partial(_replicate, replica, primary), "a replica follows")


def _replicate(replica: Node, primary: Node) -> bool:
    try:
        replica.say("CLUSTER", "REPLICATE", primary.id)
    except RedisError:  # it has not heard of that one yet
        return False
    return True


def _bus_port(node: Node) -> int:
    return int(node.argv[node.argv.index("--cluster-port") + 1])


def _replication(node: Node) -> dict[str, Any]:
    with contextlib.closing(node.client) as client:
        told: dict[str, Any] = client.info("replication")
        return told


def _serves(info: str) -> bool:
    """Whether the node takes commands: it refuses them for some time after it has heard of all
    slots, or has been out of touch.
    """
    return "cluster_state:ok" in info and f"cluster_slots_ok:{SLOTS}" in info


def published(core: Any, stream: str, fields: dict[str, Any], *, replicated: bool = False) -> bytes:
    """As XADD; on a cluster, or where there is a replica, that has the entry, too: a primary that
    dies takes nothing with it that a core counts on. RedisError where it still has not.
    """
    if not replicated and not is_core(core):
        return cast(bytes, core.xadd(stream, cast(Any, fields)))
    client = client_for(core, stream)
    with cast(Any, client).client() as own:  # WAIT is about its own connection's writes
        entry = cast(bytes, own.xadd(stream, cast(Any, fields)))
        until = time.monotonic() + REPLICA_S_MAX
        while not own.wait(1, 100):
            place = standing(client, ask_standing(client, own))
            if place is ReplicaStanding.ALONE:
                break
            if place is ReplicaStanding.REPLACED or time.monotonic() > until:
                raise RedisTimeoutError(f"no replica has the entry: {place}")
    return entry


def main() -> None:
    """`python -m tests.cluster [COMMAND …]`: runs the command with PUSHFLEET_REDIS_URL of a cluster
    of its own; none: until Ctrl-C.
    """
    import os
    import sys

    with valkey_cluster() as cluster:
        if len(sys.argv) == 1:
            print(f"PUSHFLEET_REDIS_URL={cluster.url()}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return
        done = subprocess.run(
            sys.argv[1:], env={**os.environ, "PUSHFLEET_REDIS_URL": cluster.url()}, check=False
        )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
