"""The Celery worker and Redis: bells arrive, and a worker outlives the death of its server."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from redis.exceptions import RedisError

from common.storage.redis import connect
from tests.conftest import data_settings
from workers.app import PRESENCE, make_app, task_of


@pytest.fixture
def worker(restartable_valkey, tmp_path):
    log = (tmp_path / "worker.log").open("wb")
    argv = [sys.executable, "-m", "tests.integration.bell_worker", restartable_valkey.url, "push"]
    process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
    yield process
    process.kill()
    process.wait()
    log.close()


@pytest.fixture
def ring(restartable_valkey, tmp_path):
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


def test_a_worker_outlives_the_restart_of_redis(worker, restartable_valkey, ring):
    ring()
    assert rung(restartable_valkey.url, 1, 20)
    for bells in (2, 3):
        time.sleep(1.1)  # everysec: what the server has counted is on disk
        restartable_valkey.kill()
        time.sleep(1.0)
        restartable_valkey.restart()
        ring()
        assert rung(restartable_valkey.url, bells, 10)
        assert worker.poll() is None


def test_a_worker_ends_at_sigterm(worker, restartable_valkey, ring):
    ring()
    assert rung(restartable_valkey.url, 1, 20)
    worker.terminate()
    assert worker.wait(15) == 0


def test_all_keys_of_the_broker_have_the_fleets_prefix(restartable_valkey, ring):
    ring()
    keys = connect(restartable_valkey.url).keys("*")
    assert keys
    assert all(key.startswith(b"push:celery:") for key in keys)


def test_a_bell_carries_no_data_and_is_json(restartable_valkey, ring):
    ring()
    (message,) = connect(restartable_valkey.url).lrange("push:celery:presence", 0, -1)
    assert b'"content-type": "application/json"' in message
    assert b"pickle" not in message
