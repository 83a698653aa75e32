"""A worker with one bell that counts itself, as a process: `python -m tests.integration.bell_worker REDIS_URL PREFIX SECONDS` each bell."""

from __future__ import annotations

import sys
import time

from common.config import Settings
from common.storage.redis import connect
from workers.app import PRESENCE, make_app, queue_of, task_of


def main() -> None:
    url, prefix, seconds = sys.argv[1:]
    app = make_app(Settings.load({"PUSHFLEET_REDIS_URL": url, "PUSHFLEET_PREFIX": prefix}))

    @app.task(name=task_of(PRESENCE))
    def drain() -> None:
        time.sleep(float(seconds))
        client = connect(url)
        client.incr(f"{prefix}:rung")
        client.close()

    options = ["--pool=threads", "--concurrency=2", "--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel=warning"]
    app.worker_main(["worker", f"--queues={queue_of(PRESENCE)}", *options])


if __name__ == "__main__":
    main()
