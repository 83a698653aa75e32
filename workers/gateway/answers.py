"""Decisions that callers wait for: one Redis list a process, one thread that reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from common.storage.keys import Keys

log = logging.getLogger(__name__)

READ_MAX: Final = 500
BLOCK_S: Final = 3
AWAY_S: Final = 0.5


class DecisionReader:
    """key: what events name as `reply.key` so that their decisions come here."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self.key = "gateway-" + uuid.uuid4().hex
        self._name = keys.reply(self.key)
        self._waiting: dict[
            str, tuple[asyncio.AbstractEventLoop, asyncio.Future[dict[str, Any]]]
        ] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def expect(self, event_ids: Sequence[str]) -> dict[str, asyncio.Future[dict[str, Any]]]:
        """Before the events are put on the stream. An event that another caller waits for already
        keeps its first.
        """
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[dict[str, Any]]] = {}
        for event_id in event_ids:
            futures[event_id] = loop.create_future()
            self._waiting.setdefault(event_id, (loop, futures[event_id]))
        return futures

    async def gather(
        self, futures: dict[str, asyncio.Future[dict[str, Any]]], seconds: float
    ) -> dict[str, dict[str, Any]]:
        """The decisions, by event id, that come in time."""
        try:
            await asyncio.wait(futures.values(), timeout=seconds)
            return {
                event_id: future.result() for event_id, future in futures.items() if future.done()
            }
        finally:
            self.forget(futures)

    def forget(self, futures: dict[str, asyncio.Future[dict[str, Any]]]) -> None:
        for event_id, future in futures.items():
            if (has := self._waiting.get(event_id)) is not None and has[1] is future:
                del self._waiting[event_id]

    def close(self) -> None:
        self._stop.set()
        with (
            contextlib.suppress(RedisError, OSError),
            self._redis.pipeline(transaction=False) as pipe,
        ):
            pipe.rpush(self._name, b"")  # a word of no meaning ends its wait
            pipe.expire(self._name, BLOCK_S)
            pipe.execute()
        self._thread.join(BLOCK_S + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                first: Any = self._redis.blpop([self._name], timeout=BLOCK_S)
                if first is None:
                    continue
                more: Any = self._redis.lpop(self._name, READ_MAX)
            except (RedisError, OSError) as error:
                log.warning(
                    "Redis is away: decisions are not heard", extra={"reason": type(error).__name__}
                )
                time.sleep(AWAY_S)
                continue
            for raw in [first[1], *(more or ())]:
                self._hand(raw)

    def _hand(self, raw: bytes) -> None:
        try:
            reply = json.loads(raw)
        except ValueError:
            return
        waiting = self._waiting.get(str(reply.get("event_id")))
        if waiting is not None:
            loop, future = waiting
            loop.call_soon_threadsafe(_settle, future, reply)


def _settle(future: asyncio.Future[dict[str, Any]], reply: dict[str, Any]) -> None:
    if not future.done():
        future.set_result(reply)
