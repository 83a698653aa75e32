"""The master behind sentinels dies while events travel and a group is read: each event has one
outcome, the group is read whole.
"""

import contextlib
import dataclasses
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from common.config import Settings
from common.storage.failover import ReplicaStanding, ask_standing, standing
from common.storage.members import Members
from common.storage.redis import connect
from tests.conftest import open_folder
from tests.integration.cluster.behind import Behind
from tests.integration.cluster.load import RECOVERY_S_MAX, Load, read_whole
from tests.integration.conftest import opened
from tests.waiting import wait_for
from workers.cli.up import free_ports
from workers.embedded import find_home, valkey_binary
from workers.processes import end, spawn
from workers.runtime import Runtime


@dataclasses.dataclass
class Pair:
    """A master, its replica and one sentinel."""

    url: str
    master: subprocess.Popen[bytes]
    replica: subprocess.Popen[bytes]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with open_folder() as folder:
        (folder / "home").mkdir()
        binary, password = str(valkey_binary(find_home(folder / "home"))), secrets.token_hex(8)
        first, second, sentinel = (free_ports(1) for _ in range(3))
        shared = [
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            password,
            "--primaryauth",
            password,
        ]
        shared += ["--repl-diskless-sync-delay", "0", "--dir", str(folder)]
        config = folder / "sentinel.conf"
        monitor = f"sentinel monitor m 127.0.0.1 {first} 1"
        lines = [f"port {sentinel}", monitor, f"sentinel auth-pass m {password}"]
        lines += ["sentinel down-after-milliseconds m 1000", "sentinel failover-timeout m 3000"]
        config.write_text("\n".join([*lines, ""]))
        master = spawn([binary, "--port", str(first), *shared], cwd=folder)
        argv = [binary, "--port", str(second), *shared, "--replicaof", "127.0.0.1", str(first)]
        others = [spawn(argv, cwd=folder)]
        others.append(spawn([binary, str(config), "--sentinel"], cwd=folder))
        try:
            wait_for(
                lambda: _follows(f"redis://:{password}@127.0.0.1:{second}"), "the replica follows"
            )
            url = f"sentinel://:{password}@127.0.0.1:{sentinel}/0?master=m"
            wait_for(
                lambda: _knows(f"redis://127.0.0.1:{sentinel}"), "the sentinel knows the replica"
            )
            yield Pair(url, master, others[0])
        finally:
            for process in (master, *others):
                end(process, (9, 5))


def _follows(url: str) -> bool:
    with contextlib.suppress(RedisError, OSError), contextlib.closing(connect(url)) as client:
        told: Any = client.info("replication")
        return bool(told.get("master_link_status") == "up")
    return False


def _knows(url: str) -> bool:
    with contextlib.suppress(RedisError, OSError), contextlib.closing(connect(url)) as client:
        masters: Any = client.sentinel_masters()
        return bool(masters["m"]["num-slaves"] == 1)
    return False


@pytest.fixture
def runtime(keyed: Settings, pair: Pair) -> Iterator[Runtime]:
    with opened(dataclasses.replace(keyed, redis_url=pair.url, core_url=pair.url)) as found:
        yield found


def test_the_master_dies_under_load(runtime: Runtime, pair: Pair) -> None:
    load = Load(runtime)
    try:
        load.goes_on()
        names = [f"u{number}" for number in range(20_000)]
        runtime.core.sadd(f"{load.core.prefix}members:{{a:g}}", *names)
        runtime.core.execute_command("WAIT", 1, 2_000)
        found, pages = read_whole(Members(runtime.core, load.core.prefix), "g", pair.master.kill)
        assert found == set(names)
        assert pages > 20, "it began anew"
        assert load.goes_on() < RECOVERY_S_MAX
    finally:
        load.end()
    load.all_accounted_for()


def test_with_the_core_elsewhere_an_entry_stays_there_while_the_replica_is_behind(
    runtime: Runtime, pair: Pair, redis_url: str
) -> None:
    parted = Runtime(dataclasses.replace(runtime.settings, core_url=redis_url), role="test")
    Behind(parted, pair.replica.send_signal).stays_with_the_core()
    parted.close()


def test_a_server_is_known_by_its_run_id_whatever_address_others_have_found(pair: Pair) -> None:
    """All connections share the pool's address; the one that was asked may be of an earlier server,
    which stood still while another took its place. Here it is the replica, which has none itself.
    """
    with contextlib.closing(connect(pair.url)) as client:
        pool: Any = client.connection_pool
        host, port = pool.sentinel_manager.discover_slaves("m")[0]
        password = pool.connection_kwargs["password"]
        with contextlib.closing(Redis(host=host, port=port, password=password)) as other:
            assert standing(client, ask_standing(client, other)) is ReplicaStanding.REPLACED
        assert standing(client, ask_standing(client, client)) is ReplicaStanding.FOLLOWED
        pair.replica.kill()
        wait_for(
            lambda: standing(client, ask_standing(client, client)) is ReplicaStanding.ALONE,
            "nobody follows",
        )
