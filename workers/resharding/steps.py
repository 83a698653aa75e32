"""The steps of `pushfleet reshard` (Redis, until it ends): the current one, and both numbers."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.exceptions import RedisError

from common.config import Settings
from common.storage import keys
from common.storage.leases import LEASE_MS, Lease
from common.storage.shards import DRAIN, RESHARD, STOP
from common.values import BothWords
from workers.resharding.mover import Mover, NotEmptyError, flush
from workers.runtime import Runtime
from workers.shards import backlog, due_vendors

#: Between two looks at what others do.
LOOK_S: Final = 0.2
#: Stages that must not run while keys move.
STAGES: Final = frozenset({"intake", "presence", "routing", "delivery", "upkeep"})


#: Phases that follow DRAIN and STOP, for who looks on.
FLUSH, MOVE = "flush", "move"


#: The texts of the steps, in English and Chinese.
WORDS: Final[Mapping[str, BothWords]] = {
    "already": BothWords("the fleet has {to} shards already", "集群已经是 {to} 个分片"),
    "begins": BothWords(
        "from {began} to {to} shards: intake stops",
        "从 {began} 个分片变为 {to} 个：intake 停止读取",
    ),
    "stopped": BothWords(
        "the workers have stopped; what is between the stages is finished",
        "各进程已停止；正在完成各阶段之间尚未处理的内容",
    ),
    "moved": BothWords(
        "shard {number}: {lanes} entries, {retries} retries, {withdrawals} withdrawals, "
        "{keys} keys moved",
        "分片 {number}：移动了 {lanes} 个队列条目、{retries} 个重试、{withdrawals} "
        "个撤回、{keys} 个键",
    ),
    "done": BothWords(
        "the fleet has {to} shards: start it with PUSHFLEET_SHARDS={to}",
        "集群现在是 {to} 个分片：请以 PUSHFLEET_SHARDS={to} 启动",
    ),
}


class ReshardingError(Exception):
    """The obstacle; nothing is lost, the next call continues."""


class Resharding:
    def __init__(
        self, settings: Settings, to: int, print_line: Callable[[str], None], lang: str = "en"
    ) -> None:
        """print_line: prints a line; lang: en or zh."""
        self._lang = lang
        self._settings = settings
        self._to = to
        self._print_line = print_line
        self._home = Runtime(dataclasses.replace(settings, shards=1), "reshard", RESHARD)

    def run(self, drain_s: float, stop_s: float) -> None:
        """ReshardingError."""
        home = self._home
        with self._alone():
            began = self._begun()
            if began is None:
                self._print_step("already", to=self._to)
                return
            old, new = (
                Runtime(dataclasses.replace(self._settings, shards=number), "reshard", RESHARD)
                for number in (began, self._to)
            )
            for one in (old, new):  # one connection, one door to SQL
                one.__dict__["redis"], one.__dict__["engine"] = home.redis, home.engine
            self._print_step("begins", began=began, to=self._to)
            if self._phase() == DRAIN:
                self._drain(old, drain_s)
                self._at(STOP)
            self._stop(stop_s)
            self._print_step("stopped")
            self._at(FLUSH)
            try:
                flush(old)
                self._at(MOVE)
                Mover(old, new, lambda counts: self._print_step("moved", **counts)).run()
            except NotEmptyError as error:
                raise ReshardingError(
                    f"these could not be finished: {error}; is the database there? Then call "
                    "it again"
                ) from None
            with home.redis.pipeline(transaction=True) as pipe:
                pipe.set(home.keys.shards, self._to)
                pipe.delete(home.keys.resharding)
                pipe.execute()
        self._print_step("done", to=self._to)

    def _print_step(self, what: str, **values: int) -> None:
        words = WORDS[what]
        self._print_line((words.zh if self._lang == "zh" else words.en).format(**values))

    def _begun(self) -> int | None:
        """The old number of shards; None: there is nothing to do.

        An interrupted run continues first.
        """
        redis, names = self._home.redis, self._home.keys
        has = int(cast(Any, redis.get(names.shards)) or 1)
        begun = cast(dict[bytes, bytes], redis.hgetall(names.resharding))
        if begun and int(begun[b"to"]) != self._to:
            raise ReshardingError(
                f"it was begun to {int(begun[b'to'])} shards: end that first, pushfleet "
                f"reshard {int(begun[b'to'])}"
            )
        if begun:
            return int(begun[b"from"])
        if has == self._to:
            return None
        redis.hset(names.resharding, mapping={"from": has, "to": self._to, "phase": DRAIN})
        return has

    def _at(self, phase: str) -> None:
        self._home.redis.hset(self._home.keys.resharding, "phase", phase)

    def _phase(self) -> str:
        return cast(bytes, self._home.redis.hget(self._home.keys.resharding, "phase")).decode()

    def _at_work(self) -> list[str]:
        return [
            name
            for name, role in self._home.living.at_work().items()
            if role.partition(":")[0] in STAGES
        ]

    def _drain(self, old: Runtime, seconds: float) -> None:
        """While workers live, until nothing is left that could be done now."""
        until = time.monotonic() + seconds
        names = (*keys.STREAMS, *keys.OUT, keys.LEDGER)
        while self._at_work() and time.monotonic() < until:
            left = sum(one.unread + one.pending for one in backlog(old, names).values())
            if (
                not left
                and not due_vendors(old)
                and not any("intake" in name for name in self._at_work())
            ):
                return
            time.sleep(LOOK_S)

    def _stop(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while alive := self._at_work():
            if time.monotonic() >= until:
                raise ReshardingError(
                    f"{', '.join(sorted(alive))} did not stop: end them, then call it again"
                )
            time.sleep(LOOK_S)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Under a lease, which a thread keeps."""
        lease, over = Lease(self._home.redis, self._home.keys, RESHARD), threading.Event()
        until = time.monotonic() + 2 * LEASE_MS / 1000
        while not lease.hold():  # of one that was killed it ends by itself
            if time.monotonic() >= until:
                raise ReshardingError("another call of it is at work")
            time.sleep(LOOK_S)

        def keep() -> None:
            while not over.wait(LEASE_MS / 4_000):
                try:
                    lease.hold()
                except (RedisError, OSError):
                    continue

        thread = threading.Thread(target=keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            lease.give_back()
