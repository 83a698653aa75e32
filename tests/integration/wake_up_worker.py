"""A worker with one wake-up that counts itself."""

import contextlib
import os
import time
from pathlib import Path

import redis

from tests.conftest import data_settings
from workers.app import PRESENCE, make_app, queue_of, task_of
from workers.broker import RedisTransport

#: Seconds of one wait without wake-ups: 6 in life.
WAIT_S = 1


def main(url: str, prefix: str, seconds: float, slots: int, log: Path) -> None:
    """Works until it is told to end. seconds: what a wake-up takes; it ends in time although Redis
    is away, as a drain does.
    """
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    RedisTransport.brpop_timeout = WAIT_S
    app = make_app(data_settings(log.parent, REDIS_URL=url, PREFIX=prefix))

    @app.task(name=task_of(PRESENCE))
    def drain() -> None:
        time.sleep(seconds)
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url, retry=None) as client:
            client.incr(f"{prefix}:rung")

    options = [
        "--pool=threads",
        f"--concurrency={slots}",
        "--without-mingle",
        "--without-gossip",
        "--without-heartbeat",
        "--loglevel=warning",
    ]
    app.worker_main(["worker", f"--queues={queue_of(PRESENCE)}", *options])
