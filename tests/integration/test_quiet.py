"""What has nothing to do sleeps, and is woken when there is something sooner than it sleeps for."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kombu.asynchronous import Hub

from common.config import Settings
from common.model import Urgency
from common.storage import keys
from common.storage.delayed import Later
from tests.conftest import OwnValkey
from tests.waiting import eventually
from workers import broker
from workers.app import make_app
from workers.cli import worker
from workers.cli.at_work import WorkBeat
from workers.cli.up import free_ports
from workers.maintenance.timer import EVERY_S, TICK_S, Timer
from workers.runtime import Runtime
from workers.withdraw import LOOKS_S, due_in_s


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    made = Runtime(settings)
    yield made
    made.close()


def put(runtime: Runtime, *delays_s: float) -> None:
    stream, now_ms = keys.presence(Urgency.CHAT), time.time() * 1000
    with runtime.redis.pipeline(transaction=True) as pipe:
        runtime.delayed.put(
            pipe,
            [Later(stream, b"%f" % delay_s, int(now_ms + delay_s * 1000)) for delay_s in delays_s],
        )
        pipe.execute()


def test_a_timer_with_nothing_to_do_sleeps_until_something_is_put(runtime: Runtime) -> None:
    timer = Timer(runtime)
    assert timer.turn() == EVERY_S
    other = threading.Timer(0.1, put, (runtime, 0.3))
    began = time.monotonic()
    other.start()
    timer.listen(30.0)
    assert 0.05 < time.monotonic() - began < 20
    other.join()
    pause_s = timer.turn()
    assert TICK_S <= pause_s <= 0.3 or time.monotonic() - began > 0.4, "until it is due"


def test_only_what_is_due_before_all_else_wakes_the_timer(runtime: Runtime) -> None:
    word = runtime.keys.timer_wake_up
    put(runtime, 50.0, 40.0)
    assert runtime.redis.llen(word) == 1
    runtime.redis.delete(word)
    put(runtime, 60.0)
    assert not runtime.redis.exists(word)
    put(runtime, 30.0)
    put(runtime, 20.0)
    assert runtime.redis.llen(word) == 1, "one word is enough"
    assert 0 < runtime.redis.pttl(word) <= 20_000


def test_recalls_know_when_the_next_look_is_due(runtime: Runtime) -> None:
    assert due_in_s(runtime) == LOOKS_S[0], "what is not remembered yet is due then at the soonest"
    name, now_s = runtime.keys.withdrawals, time.time()
    runtime.redis.zadd(name, {"0later": now_s + 60})
    assert due_in_s(runtime) == LOOKS_S[0]
    runtime.redis.zadd(name, {"0soon": now_s + 0.5})
    assert 0 < due_in_s(runtime) <= 0.5
    runtime.redis.zadd(name, {"0now": now_s - 1})
    assert due_in_s(runtime) == 0


def test_one_thread_says_that_a_process_lives_and_that_it_is_at_work(runtime: Runtime) -> None:
    runtime.name, runtime.role = "intake.1", "intake"
    living = runtime.living
    beat = WorkBeat(lambda: living, "intake.1", "intake", 0.02)
    beat.begin()
    assert list(living.at_work()) == ["intake.1"]
    assert not living.roles()
    beat.takes_work(cast(Any, runtime.alive))
    assert living.roles() == {"intake.1": "intake"}
    runtime.redis.delete(runtime.keys.alive("intake.1"), runtime.keys.at_work("intake.1"))
    eventually(
        lambda: (
            runtime.redis.exists(runtime.keys.alive("intake.1"), runtime.keys.at_work("intake.1"))
            == 2
        )
    )
    beat.stop.set()
    eventually(lambda: not living.roles())
    assert list(living.at_work()) == ["intake.1"]
    beat.end()
    assert not living.at_work()


def test_no_work_is_known_to_wait_while_redis_is_full_or_away(
    settings_with: Callable[..., Settings],
    restartable_valkey: OwnValkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A restart helps neither; a worker that is restarted again and again is missing afterwards."""
    monkeypatch.setattr(worker, "SILENT_S", 0.1)
    monkeypatch.setattr(worker, "tune_gc", lambda: None)
    port = free_ports(1)
    more = {"REDIS_URL": restartable_valkey.url, "SEND_TIMEOUT_S": "0.1"}
    runtime = Runtime(settings_with(METRICS_PORT=str(port), **more), "routing.1", "routing")
    beat = WorkBeat(lambda: runtime.living, "routing.1", "routing", 0.05)

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60):
                return True
        except urllib.error.HTTPError:
            return False

    beat.begin()
    worker._heartbeat(runtime, beat, lambda: 0.0, lambda: True)
    try:
        eventually(lambda: not healthy())
        runtime.redis.config_set("maxmemory", 1)
        eventually(healthy)
        runtime.redis.config_set("maxmemory", 0)
        eventually(lambda: not healthy())
        restartable_valkey.kill()
        eventually(healthy)
    finally:
        beat.end()
        runtime.close()


def test_a_worker_without_wake_ups_asks_once_in_six_seconds(runtime: Runtime) -> None:
    app: Any = make_app(runtime.settings)
    with app.connection_for_read() as connection:
        channel = connection.channel()
        assert channel.brpop_timeout == broker.WAIT_S
        hub = Hub()
        connection.transport.register_with_event_loop(SimpleNamespace(client=connection), hub)
        looks = [one for one in hub.timer.queue if not one.entry.canceled]
        assert len(looks) == 1, "for half-open connections; lost wake-ups are upkeep's"
        hub.close()
