"""Primaries die and slots move while events travel: each event has one outcome, and a group is read
whole.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis
from redis.crc import key_slot

from common.storage.members import Members
from common.storage.presence import Presence
from common.storage.raw_pipe import command, execute_watched, raw_pipe
from common.storage.redis import connect
from common.storage.scripts import script
from tests.cluster import ValkeyCluster
from tests.integration.cluster.load import RECOVERY_S_MAX, Load, again, read_whole
from tests.waiting import wait_for
from workers.runtime import Runtime


@pytest.fixture
def load(runtime: Runtime) -> Iterator[Load]:
    found = Load(runtime)
    try:
        found.goes_on()
        yield found
    finally:
        found.end()


def test_the_fleets_primary_dies_under_load(load: Load, cluster: ValkeyCluster) -> None:
    victim = cluster.owner("{s0}")
    victim.kill()
    assert load.goes_on() < RECOVERY_S_MAX
    victim.start()
    load.end()
    load.all_accounted_for()
    wait_for(cluster.healthy, "the cluster is whole")


def test_slots_move_key_by_key_under_load(load: Load, cluster: ValkeyCluster) -> None:
    for key in ("{s0}", load.core.stream):
        before = cluster.owner(key)
        held = int(before.say("CLUSTER", "COUNTKEYSINSLOT", key_slot(key.encode())))
        moved = cluster.move_slot(key, pause_s=0.05, keys_at_once=1 + held // 40)
        assert moved.port != before.port
        assert load.goes_on() < RECOVERY_S_MAX
    load.end()
    load.all_accounted_for()


def test_presence_is_found_wherever_its_slot_is(runtime: Runtime, cluster: ValkeyCluster) -> None:
    """In one exchange a node, by a map of the slots that may be old."""
    presence = Presence(runtime.core, "im:")
    people = [("chat", f"here{number}") for number in range(60)]
    keys = [f"im:presence:{{{app}:{user}}}" for app, user in people]
    until = int(time.time() * 1000) + 600_000
    for key in keys[::2]:
        runtime.core.hset(key, "d", f"foreground|ios|{until}")
    runtime.core.set(keys[1], "no hash")

    def online() -> list[int]:
        found, malformed = presence.sessions(people)
        assert malformed == 1
        return [number for number, sessions in enumerate(found) if sessions]

    assert online() == [*range(0, 60, 2)]
    before = dict(cast(Any, runtime.core).nodes_manager.slots_cache)
    for key in keys[:3]:
        cluster.move_slot(key)
    cast(Any, runtime.core).nodes_manager.slots_cache = before
    assert online() == [*range(0, 60, 2)], "the map of before"
    assert online() == [*range(0, 60, 2)]
    for key in keys[:2]:
        runtime.core.delete(key)
    assert presence.sessions(people[:1]) == ([[]], 0)


def test_what_is_written_behind_a_script_survives_a_move_in_one_step(
    runtime: Runtime, cluster: ValkeyCluster
) -> None:
    names, filled = (f"{runtime.keys.prefix}:{name}" for name in ("names", "filled"))
    fillers = [f"{filled}:{number}" for number in range(20_000)]  # the move lasts for a while
    lease, written, moved = script(runtime.redis, "lease"), set[bytes](), threading.Event()
    with runtime.redis.pipeline(transaction=False) as many:
        for one in fillers:
            many.set(one, b"x" * 500)
        many.execute()

    def write() -> None:
        while not moved.is_set():
            name = b"%d" % len(written)
            with (
                contextlib.suppress(redis.RedisError),
                runtime.redis.pipeline(transaction=True) as pipe,
            ):
                pipe.watch(names)  # type: ignore[no-untyped-call]
                pipe.multi()
                lease(keys=[f"{filled}:l", f"{filled}:e"], args=[name, 1_000], client=pipe)
                pipe.sadd(names, name)
                execute_watched(pipe)
                written.add(name)

    with ThreadPoolExecutor(1) as writer:
        done = writer.submit(write)
        try:
            wait_for(lambda: written, "something is written")
            cluster.move_slot_whole("{s0}")
        finally:
            moved.set()
        done.result()
    assert not written - cast(set[bytes], runtime.redis.smembers(names))
    runtime.redis.unlink(*fillers)  # whoever moves this slot next would take a minute


def test_raw_commands_follow_a_slot_that_has_moved(
    runtime: Runtime, cluster: ValkeyCluster
) -> None:
    """The answer "not here" is a connection that broke, which everybody waits for; the next one
    finds the owner.
    """
    asked = command("GET", runtime.keys.stream("nothing")), 1
    with raw_pipe(runtime.redis) as pipe:
        assert pipe.ask(*asked) == [None]
    before = cluster.owner("{s0}")
    assert cluster.move_slot("{s0}").port != before.port
    with pytest.raises(redis.ConnectionError, match="changed"), raw_pipe(runtime.redis) as pipe:
        pipe.ask(*asked)
    with raw_pipe(runtime.redis) as pipe:
        assert pipe.ask(*asked) == [None]


def test_the_cores_primary_dies_while_a_group_is_read(load: Load, cluster: ValkeyCluster) -> None:
    """Cursors of the dead server mean nothing to the one that took over: the group begins anew, and
    nobody is left out.
    """
    core, prefix = load.runtime.core, load.core.prefix
    victim = cluster.owner(load.core.stream)
    numbers = map(str, range(100))
    group = next(
        name for name in numbers if cluster.owner(f"{prefix}members:{{a:{name}}}") is victim
    )
    names = [f"u{number}" for number in range(20_000)]
    core.sadd(f"{prefix}members:{{a:{group}}}", *names)
    found, pages = read_whole(Members(core, prefix), group, victim.kill)
    assert found == set(names)
    assert pages > 20, "it began anew"
    assert load.goes_on() < RECOVERY_S_MAX
    victim.start()
    load.end()
    load.all_accounted_for()
    wait_for(cluster.healthy, "the cluster is whole")


@pytest.mark.skipif(
    "PUSHFLEET_TEST_CHAOS_LONG" not in os.environ,
    reason="a hanging server costs its deadlines; `make cluster`",
)
def test_a_server_that_hangs_is_left_for_its_replica(
    runtime: Runtime, cluster: ValkeyCluster
) -> None:
    """A frozen primary takes connections and answers nothing."""

    client = connect(cluster.url())
    victim = cluster.owner("{s0}")
    victim.send(signal.SIGSTOP)
    began = time.monotonic()
    again(lambda: client.set(runtime.keys.wake_up("x"), b"1"))
    assert time.monotonic() - began < RECOVERY_S_MAX
    assert cluster.owner("{s0}").port != victim.port
    victim.send(signal.SIGCONT)
    wait_for(cluster.healthy, "the cluster is whole")
    client.close()
