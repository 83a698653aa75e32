"""Primaries die and slots move while events travel: each event has one outcome, and a group is read whole."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import RedisError

from common.ledger_records import RowRecord, decode_records
from common.storage import keys
from common.storage.members import Members
from common.storage.redis import connect
from tests.cluster import ValkeyCluster, published, wait_until
from tests.integration.test_core_elsewhere import Core
from workers.cli.worker import doors_of
from workers.handlers.intake import IntakeLoop
from workers.runtime import Runtime

#: From a primary's death, or a slot's move, until work goes on.
RECOVERY_S_MAX = 15.0


class Load:
    """Publishes messages to people who are online, and takes them in, side by side."""

    def __init__(self, runtime: Runtime) -> None:
        self.core = Core(runtime)
        self.runtime = runtime
        self.sent: list[str] = []
        self._stop = threading.Event()
        runtime.core.hset(f"{self.core.prefix}presence:{{{self.core.app}:bob}}", "d", f"foreground|ios|{int(time.time() * 1000) + 600_000}")
        self._consumer = IntakeLoop(runtime.settings.event_streams, doors_of(runtime))
        self._threads = [threading.Thread(target=run) for run in (self._publish, lambda: self._consumer.run(self._stop.is_set))]
        for thread in self._threads:
            thread.start()

    def _publish(self) -> None:
        while not self._stop.is_set():
            identity = uuid.uuid4().hex
            data = {"message_id": identity, "conversation": {"type": "c2c", "id": "ann"}, "sender": {"id": "ann"}, "recipients": ["bob"]}
            data |= {"elements": [{"type": "text", "text": "hi"}]}
            event = {"v": 1, "id": identity, "type": "message.stored", "app": self.core.app, "ts": int(time.time() * 1000), "data": data}
            while not self._stop.is_set():
                try:
                    published(self.runtime.core, self.core.stream, {"e": json.dumps(event)})
                    self.sent.append(identity)
                    break
                except RedisError:
                    time.sleep(0.05)
            time.sleep(0.005)

    def goes_on(self, count: int = 20) -> float:
        """Seconds until so many more events were published and taken in."""
        began, wanted = time.monotonic(), len(self.sent) + count
        wait_until(lambda: len(self.sent) >= wanted and self._last() in self.rows(), "work goes on", RECOVERY_S_MAX)
        return time.monotonic() - began

    def _last(self) -> str:
        return self.sent[-20]

    def rows(self) -> Counter[str]:
        """Outcomes by event."""
        try:
            entries = self.runtime.redis.xrange(self.runtime.keys.belt(keys.LEDGER))
        except RedisError:
            return Counter()
        records = [record for _, fields in entries for record in decode_records(fields[b"b"])]
        return Counter(record.event_id for record in records if isinstance(record, RowRecord))

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def all_accounted_for(self) -> None:
        """Every event that was published has exactly one row."""
        while self._consumer.once(block_ms=10):
            pass
        rows = self.rows()
        assert not [one for one in self.sent if rows[one] != 1], Counter(rows[one] for one in self.sent)


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
    wait_until(cluster.healthy, "the cluster is whole")


def test_slots_move_key_by_key_under_load(load: Load, cluster: ValkeyCluster) -> None:
    for key in ("{s0}", load.core.stream):
        before = cluster.owner(key)
        assert cluster.move_slot(key, pause_s=0.05, keys_at_once=3).port != before.port
        assert load.goes_on() < RECOVERY_S_MAX
    load.end()
    load.all_accounted_for()


def test_the_cores_primary_dies_while_a_group_is_read(load: Load, cluster: ValkeyCluster) -> None:
    """Cursors of the dead server mean nothing to the one that took over: the group begins anew, and nobody is left out."""
    core, prefix = load.runtime.core, load.core.prefix
    victim = cluster.owner(load.core.stream)
    group = next(name for name in map(str, range(100)) if cluster.owner(f"{prefix}members:{{a:{name}}}") is victim)
    names = [f"u{number}" for number in range(20_000)]
    core.sadd(f"{prefix}members:{{a:{group}}}", *names)
    members = Members(core, prefix)
    cursor, server, found, pages = 0, None, set[str](), 0
    while pages == 0 or cursor:
        if pages == 5:
            victim.kill()
        page = again(lambda at=cursor, of=server: members.page("a", group, at, of, 1_000))
        cursor, server, pages = page.cursor, page.server, pages + 1
        found |= set(page.users)
    assert found == set(names)
    assert pages > 20, "it began anew"
    assert load.goes_on() < RECOVERY_S_MAX
    victim.start()
    load.end()
    load.all_accounted_for()
    wait_until(cluster.healthy, "the cluster is whole")


def again(do: Callable[[], Any]) -> Any:
    """As the stages do: a store that is away is waited for."""
    until = time.monotonic() + RECOVERY_S_MAX
    while True:
        try:
            return do()
        except RedisError:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.skipif("PUSHFLEET_TEST_CHAOS_LONG" not in os.environ, reason="a hanging server costs its deadlines; `make cluster`")
def test_a_server_that_hangs_is_left_for_its_replica(runtime: Runtime, cluster: ValkeyCluster) -> None:
    """A frozen primary takes connections and answers nothing."""

    client = connect(cluster.url())
    victim = cluster.owner("{s0}")
    victim.send(signal.SIGSTOP)
    began = time.monotonic()
    again(lambda: client.set(runtime.keys.bell("x"), b"1"))
    assert time.monotonic() - began < RECOVERY_S_MAX
    assert cluster.owner("{s0}").port != victim.port
    victim.send(signal.SIGCONT)
    wait_until(cluster.healthy, "the cluster is whole")
    client.close()
