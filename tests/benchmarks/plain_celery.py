"""The way most people would write it: one Celery task per push, stock Redis transport, aioapns. The peer of `c2c_over_plain_celery`."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import uuid
from typing import Any

from aioapns import APNs, NotificationRequest
from aioapns.connection import APNsBaseConnectionPool
from celery import Celery

app = Celery("plain", broker=os.environ.get("BENCH_REDIS_URL", "memory://"))
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
_state: dict[str, Any] = {}


def _client() -> tuple[asyncio.AbstractEventLoop, APNs]:
    if "client" not in _state:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        host, port = os.environ["BENCH_APNS"].split(":")
        context = ssl.create_default_context(cafile=os.environ["BENCH_CA"])

        async def make() -> APNs:
            client = APNs(
                key=os.environ["BENCH_P8"],
                key_id="BENCHKEY01",
                team_id="BENCHTEAM1",
                topic="com.example.chat",
                use_sandbox=False,
                ssl_context=context,
            )
            pool: APNsBaseConnectionPool = client.pool
            pool.use_sandbox = False
            return client

        from aioapns.connection import APNsProductionClientProtocol

        APNsProductionClientProtocol.APNS_SERVER = host
        APNsProductionClientProtocol.APNS_PORT = int(port)
        _state["client"] = (loop, asyncio.run_coroutine_threadsafe(make(), loop).result(10))
    found: tuple[asyncio.AbstractEventLoop, APNs] = _state["client"]
    return found


@app.task
def push(token: str, body: str) -> None:
    loop, client = _client()
    request = NotificationRequest(
        device_token=token, message={"aps": {"alert": {"body": body}, "badge": 1}}, notification_id=str(uuid.uuid4())
    )
    asyncio.run_coroutine_threadsafe(client.send_notification(request), loop).result(30)
    app.backend  # noqa: B018 - no result is stored; the counter below is the clock of the benchmark
    _redis().incr("plain:done")


def _redis() -> Any:
    if "redis" not in _state:
        import redis

        _state["redis"] = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])
    return _state["redis"]
