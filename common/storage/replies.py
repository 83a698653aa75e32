"""Decisions for waiting callers (Redis lists, 60 s): `<prefix>:reply:<key>`, JSON per push.

`{"event_id","message_id","user","vendor","business_id","decision","note","retired"}`; decision
null: not final when the wait ended. Best effort: a crash may lose a reply; the row has the same
data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from common.storage.keys import Keys
from common.storage.scripts import script, source

KEEP_S = 60
#: Waits that are over, looked at in one call.
DUE_MAX = 500


class Replies:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._delay = script(redis, "delay")

    def tell(self, pipe: Pipeline, decisions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Into the caller's pipeline: (key, decision) of pushes that are final."""
        by_key: dict[str, list[str]] = {}
        told = [_waiter(key, reply["event_id"], reply["user"]) for key, reply in decisions]
        for start in range(0, len(told), DUE_MAX):
            pipe.eval(
                source("reply_told"), 1, self._keys.replies_due, *told[start : start + DUE_MAX]
            )
        for key, reply in decisions:
            by_key.setdefault(key, []).append(
                json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
            )
        for key, replies in by_key.items():
            name = self._keys.reply(key)
            pipe.rpush(name, *replies)
            pipe.expire(name, KEEP_S)

    def tell_now(self, decisions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        if decisions:
            with self._redis.pipeline(transaction=False) as pipe:
                self.tell(pipe, decisions)
                pipe.execute()

    def wait(self, pipe: Pipeline, waits: Sequence[tuple[str, str, str, int]]) -> None:
        """In the caller's pipeline: adds (key, event id, user, due ms) of due replies."""
        now = int(time.time() * 1000)
        args: list[int | str] = []
        for key, event_id, user, due_ms in waits:
            args += [max(due_ms - now, 0), _waiter(key, event_id, user)]
        if args:
            self._delay(
                keys=[self._keys.replies_due, self._keys.timer_wake_up], args=args, client=pipe
            )

    def release_due(self) -> int:
        """Sends null decisions to callers whose wait is over by Redis' clock; returns how many."""
        seconds, micros = cast(Any, self._redis.time())
        now = seconds * 1000 + micros // 1000
        due = cast(
            list[bytes], self._redis.zrangebyscore(self._keys.replies_due, "-inf", now, 0, DUE_MAX)
        )
        decisions = []
        for waiter in due:
            key, event_id, user = waiter.decode().split("\0")
            decisions.append((key, {**_NOT_YET, "event_id": event_id, "user": user}))
        self.tell_now(decisions)
        return len(due)


#: What is told where a wait ended without a decision.
_NOT_YET: dict[str, Any] = {
    "event_id": "",
    "message_id": None,
    "user": "",
    "vendor": None,
    "business_id": None,
    "decision": None,
    "note": "not decided yet",
    "retired": False,
}


def _waiter(key: str, event_id: str, user: str) -> str:
    return f"{key}\0{event_id}\0{user}"
