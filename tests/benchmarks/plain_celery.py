"""The way most people would write it: one Celery task per push, stock Redis transport, aioapns. The
peer of `c2c_over_plain_celery`.

Environment: BENCH_REDIS_URL, BENCH_APNS (host:port), BENCH_CA (file), BENCH_P8 (file). `plain:done`
in Redis counts finished pushes.
"""

import asyncio
import os
import ssl
import threading
import uuid
from pathlib import Path
from typing import Any

import redis
from aioapns import APNs, NotificationRequest
from aioapns.connection import APNsProductionClientProtocol
from celery import Celery

app = Celery("plain", broker=os.environ.get("BENCH_REDIS_URL", "memory://"))
app.conf.update(
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
_state: dict[str, Any] = {}


def _client() -> tuple[asyncio.AbstractEventLoop, APNs, redis.Redis]:
    """One client a process, made after the fork, as the library wants it."""
    if not _state:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        host, port = os.environ["BENCH_APNS"].split(":")
        APNsProductionClientProtocol.APNS_SERVER = host
        APNsProductionClientProtocol.APNS_PORT = int(port)
        context = ssl.create_default_context(cafile=os.environ["BENCH_CA"])
        key = Path(os.environ["BENCH_P8"]).read_text()

        async def make() -> APNs:
            return APNs(
                key=key,
                key_id="BENCHKEY01",
                team_id="BENCHTEAM1",
                topic="com.example.chat",
                use_sandbox=False,
                ssl_context=context,
            )

        client = asyncio.run_coroutine_threadsafe(make(), loop).result(10)
        _state["all"] = (loop, client, redis.Redis.from_url(os.environ["BENCH_REDIS_URL"]))
    found: tuple[asyncio.AbstractEventLoop, APNs, redis.Redis] = _state["all"]
    return found


@app.task
def push(token: str, body: str) -> None:
    loop, client, counter = _client()
    message = {"aps": {"alert": {"body": body}, "badge": 1, "sound": "default"}}
    request = NotificationRequest(
        device_token=token, message=message, notification_id=str(uuid.uuid4())
    )
    asyncio.run_coroutine_threadsafe(client.send_notification(request), loop).result(30)
    counter.incr("plain:done")
