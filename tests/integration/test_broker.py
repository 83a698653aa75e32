"""The Celery worker and Redis: wake-ups arrive, and a worker outlives the death of its server."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import cast

import pytest
from redis.exceptions import RedisError

from common.storage.redis import connect
from tests.conftest import data_settings
from tests.waiting import eventually
from workers.app import PRESENCE, make_app, task_of


@pytest.fixture
def work(restartable_valkey, tmp_path):
    """Starts a worker whose every wake-up takes so many seconds."""
    started = []

    def start(seconds: float, slots: int = 2) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            argv = [
                sys.executable,
                "-m",
                "tests.integration.wake_up_worker",
                restartable_valkey.url,
                "push",
                str(seconds),
                str(slots),
            ]
            started.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def send_wake_up(restartable_valkey, tmp_path):
    app = make_app(data_settings(tmp_path, REDIS_URL=restartable_valkey.url))
    yield lambda: app.send_task(task_of(PRESENCE), retry=False)
    app.close()


def rung(url: str, at_least: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client = connect(url)
            if int(client.get("push:rung") or 0) >= at_least:
                return True
        except RedisError:
            pass
        time.sleep(0.1)
    return False


#: (seconds a wake-up takes, slots, wake-ups): with more wake-ups than slots the worker holds some
#: that are not acknowledged.
LOADS = {
    "idle": (0.0, 2, 0),
    "busy, with wake-ups in hand": (1.5, 2, 8),
    "a wake-up's turn comes while Redis is away": (1.5, 1, 8),
}


@pytest.mark.parametrize(("seconds", "slots", "wake_ups"), LOADS.values(), ids=LOADS)
def test_a_worker_outlives_the_restart_of_redis(
    work, restartable_valkey, send_wake_up, seconds, slots, wake_ups
):
    worker = work(seconds, slots)
    send_wake_up()
    assert rung(restartable_valkey.url, 1, 20)
    for _ in range(wake_ups):
        send_wake_up()
    time.sleep(1.1)  # everysec: what the server has counted is on disk
    restartable_valkey.kill()
    time.sleep(1.0)
    restartable_valkey.restart()
    client = connect(restartable_valkey.url)
    before = int(client.get("push:rung") or 0)
    send_wake_up()
    # those in hand end without Redis; the worker goes on when it takes one more than it held
    assert rung(restartable_valkey.url, before + min(wake_ups, slots + 1) + 1, 15)
    assert worker.poll() is None


def test_a_worker_outlives_a_server_without_free_memory(work, restartable_valkey, send_wake_up):
    """It takes the wake-ups that are there, looks for lost ones, and another worker starts."""
    client = connect(restartable_valkey.url)
    workers = [work(1.0, 1)]
    send_wake_up()
    assert rung(restartable_valkey.url, 1, 20)
    for _ in range(4):
        send_wake_up()
    client.config_set("maxmemory", 1)
    workers.append(work(1.0, 1))
    eventually(lambda: not client.llen("push:celery:presence"), what="what waited is taken")
    time.sleep(12.0)  # ten waits of a worker without wake-ups, of which one looks for lost ones
    assert [one.poll() for one in workers] == [None, None]
    client.config_set("maxmemory", 0)
    before = int(client.get("push:rung") or 0)
    for _ in range(4):
        send_wake_up()
    assert rung(restartable_valkey.url, before + 4, 20)
    assert [one.poll() for one in workers] == [None, None]


#: How a server comes to refuse every write, and takes them again.
REFUSALS = {
    "a replica by now": ("replicaof 127.0.0.1 1", "replicaof no one"),
    "without its replicas": (
        "config set min-replicas-to-write 1",
        "config set min-replicas-to-write 0",
    ),
}


@pytest.mark.parametrize(("refuses", "takes"), REFUSALS.values(), ids=REFUSALS)
def test_a_worker_outlives_a_server_that_refuses_to_write(
    work, restartable_valkey, send_wake_up, refuses, takes
):
    client = connect(restartable_valkey.url)
    worker = work(0.0, 1)
    send_wake_up()
    assert rung(restartable_valkey.url, 1, 20)
    client.execute_command(*refuses.split(" "))
    time.sleep(4.0)  # more than a wait without wake-ups, and a second worker begins
    other = work(0.0, 1)
    time.sleep(5.0)
    assert (worker.poll(), other.poll()) == (None, None)
    client.execute_command(*takes.split(" "))
    send_wake_up()
    assert rung(restartable_valkey.url, 2, 20)
    assert (worker.poll(), other.poll()) == (None, None)


def test_a_worker_ends_at_sigterm(work, restartable_valkey, send_wake_up):
    worker = work(0)
    send_wake_up()
    assert rung(restartable_valkey.url, 1, 20)
    worker.terminate()
    assert worker.wait(15) == 0


def test_all_keys_of_the_broker_have_the_fleets_prefix(restartable_valkey, send_wake_up):
    send_wake_up()
    keys = connect(restartable_valkey.url).keys("*")
    assert keys
    assert all(cast(bytes, key).startswith(b"push:celery:") for key in keys)


def test_a_wake_up_carries_no_data_and_is_json(restartable_valkey, send_wake_up):
    send_wake_up()
    (message,) = connect(restartable_valkey.url).lrange("push:celery:presence", 0, -1)
    assert b'"content-type": "application/json"' in message
    assert b"pickle" not in message
