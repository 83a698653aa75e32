"""A worker with one wake-up that counts itself, as a process:
`python -m tests.integration.wake_up_worker REDIS_URL PREFIX SECONDS SLOTS`.

SECONDS: what a wake-up takes; it ends in time although Redis is away, as a drain does.
"""

from __future__ import annotations

import contextlib
import sys
import time

import redis

from common.config import Settings
from workers.app import PRESENCE, make_app, queue_of, task_of


def main() -> None:
    url, prefix, seconds, slots = sys.argv[1:]
    app = make_app(Settings.load({"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_PREFIX": prefix}))

    @app.task(name=task_of(PRESENCE))
    def drain() -> None:
        time.sleep(float(seconds))
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


if __name__ == "__main__":
    main()
