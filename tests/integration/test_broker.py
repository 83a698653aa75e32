"""The Celery worker and Redis: wake-ups arrive, and a worker outlives the death of its server."""

import contextlib
import functools
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import RedisError

from common.storage.redis import connect
from tests.conftest import data_settings
from tests.integration import wake_up_worker
from tests.waiting import wait_for
from workers.app import PRESENCE, make_app, queue_of, task_of

#: A process that has loaded Celery forks for each worker.
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(
    ["celery.bin.worker", "celery.apps.worker", "tests.integration.wake_up_worker"]
)


@pytest.fixture
def work(restartable_valkey, tmp_path):
    """Starts a worker whose every wake-up takes so many seconds."""
    started: list[Worker] = []

    def start(seconds: float, slots: int = 2) -> Worker:
        log = tmp_path / f"worker-{len(started)}.log"
        named = (restartable_valkey.url, "push", seconds, slots, log)
        started.append(Worker(WARM.Process(target=wake_up_worker.main, args=named), log))
        started[-1].process.start()
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()


@dataclass
class Worker:
    process: BaseProcess
    log: Path

    def says(self, words: str) -> bool:
        return self.log.exists() and words in self.log.read_text().lower()


@pytest.fixture
def send_wake_up(restartable_valkey, tmp_path):
    app = make_app(data_settings(tmp_path, REDIS_URL=restartable_valkey.url))
    yield lambda: app.send_task(task_of(PRESENCE), retry=False)
    app.close()


def rung(url: str, at_least: int) -> None:
    """Waits until so many wake-ups have been worked on."""

    def look() -> bool:
        with contextlib.suppress(RedisError), contextlib.closing(connect(url)) as client:
            return int(cast(bytes, client.get("push:rung") or 0)) >= at_least
        return False

    wait_for(look, f"{at_least} wake-ups")


def times(client: Any, command: str) -> int:
    """How many times the server got this command, of whoever: taken or refused."""
    told = client.info("commandstats")[f"cmdstat_{command}"]
    return int(told["calls"]) + int(told["rejected_calls"])


def goes_on(client: Any, command: str, at_least: int) -> bool:
    return times(client, command) >= at_least


#: (seconds a wake-up takes, slots, wake-ups): with more wake-ups than slots the worker holds some
#: that are not acknowledged.
LOADS = {
    "idle": (0.0, 2, 0),
    "busy, with wake-ups in hand": (0.7, 2, 30),
    "a wake-up's turn comes while Redis is away": (0.7, 1, 30),
}


@pytest.mark.parametrize(("seconds", "slots", "wake_ups"), LOADS.values(), ids=LOADS)
def test_a_worker_outlives_the_restart_of_redis(
    work, restartable_valkey, send_wake_up, seconds, slots, wake_ups
):
    # what the server has counted is on disk
    connect(restartable_valkey.url).config_set("appendfsync", "always")
    worker = work(seconds, slots)
    send_wake_up()
    rung(restartable_valkey.url, 1)
    for _ in range(wake_ups):
        send_wake_up()
    if wake_ups:  # some are in hand
        rung(restartable_valkey.url, 2)
    restartable_valkey.kill()
    time.sleep(1.0)
    restartable_valkey.restart()
    client = connect(restartable_valkey.url)
    before = int(client.get("push:rung") or 0)
    send_wake_up()
    # those in hand end without Redis; the worker goes on when it takes one more than it held, of
    # those that waited over the restart
    rung(restartable_valkey.url, before + min(wake_ups, slots + 1) + 1)
    assert worker.process.is_alive()


def test_a_worker_outlives_a_server_without_free_memory(work, restartable_valkey, send_wake_up):
    """It takes the wake-ups that are there, waits for more, and another worker starts."""
    client = connect(restartable_valkey.url)
    workers = [work(0.2, 1)]
    send_wake_up()
    rung(restartable_valkey.url, 1)
    for _ in range(4):
        send_wake_up()
    client.config_set("maxmemory", 1)
    workers.append(work(0.2, 1))
    wait_for(lambda: not client.llen("push:celery:presence"), "what waited is taken")
    wait_for(lambda: all(one.says("[queues]") for one in workers), "both begin")
    before = times(client, "brpop")  # they wait on
    wait_for(functools.partial(goes_on, client, "brpop", before + 4), "four times brpop")
    assert [one.process.is_alive() for one in workers] == [True, True]
    client.config_set("maxmemory", 0)
    before = int(client.get("push:rung") or 0)
    for _ in range(4):
        send_wake_up()
    rung(restartable_valkey.url, before + 4)
    assert [one.process.is_alive() for one in workers] == [True, True]


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
    workers = [work(0.0, 1)]
    send_wake_up()
    rung(restartable_valkey.url, 1)
    client.execute_command(*refuses.split(" "))
    workers.append(work(0.0, 1))
    for one in workers:
        wait_for(functools.partial(one.says, "connect"), "it is refused")
    time.sleep(1.5)  # and again
    assert [one.process.is_alive() for one in workers] == [True, True]
    client.execute_command(*takes.split(" "))
    send_wake_up()
    rung(restartable_valkey.url, 2)
    assert [one.process.is_alive() for one in workers] == [True, True]


def test_a_worker_ends_at_sigterm(work, restartable_valkey, send_wake_up):
    worker = work(0).process
    send_wake_up()
    rung(restartable_valkey.url, 1)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_wake_ups_in_hand_are_let_go_where_redis_is_away(
    restartable_valkey, send_wake_up, tmp_path, monkeypatch
):
    """kombu would write them into a temporary file, once a worker and outage."""
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    app = make_app(data_settings(tmp_path, REDIS_URL=restartable_valkey.url))
    send_wake_up()
    connection = app.connection_for_read()
    channel = connection.channel()
    assert app.amqp.queues[queue_of(PRESENCE)](channel).get() is not None
    restartable_valkey.kill()
    channel.close()
    connection.collect()
    app.close()
    assert not list(files.iterdir())


def test_a_wake_up_costs_no_more_than_its_way(work, restartable_valkey, send_wake_up):
    """It is a hint: no record of it is written and deleted, which were eight commands each."""
    client = connect(restartable_valkey.url)
    work(0)
    for number in range(3):
        send_wake_up()
        rung(restartable_valkey.url, number + 1)
    told = client.info("commandstats")
    assert not {"cmdstat_zadd", "cmdstat_hset", "cmdstat_zrem", "cmdstat_hdel"} & set(told)


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
