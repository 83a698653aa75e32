"""Messages that travel while servers die: each must have exactly one outcome."""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from common.ledger_records import RowRecord, decode_records
from common.storage import keys
from common.storage.cluster import client_for
from common.storage.members import Members
from common.storage.streams import GROUP
from tests.cluster import published
from tests.integration.test_core_elsewhere import Core
from tests.waiting import wait_for
from workers.cli.worker import intake_loop
from workers.runtime import Runtime

#: From a primary's death, or a slot's move, until work goes on.
RECOVERY_S_MAX = 30.0
#: Of each of three shards one at least.
PEOPLE = ("bob", "carol", "dave", "erin", "fred")


class Load:
    """Publishes messages to people who are online, and takes them in, side by side."""

    def __init__(self, runtime: Runtime) -> None:
        self.core = Core(runtime)
        self.runtime = runtime
        self.sent: list[str] = []
        self._stop = threading.Event()
        until = int(time.time() * 1000) + 600_000
        for user in PEOPLE:
            key = f"{self.core.prefix}presence:{{{self.core.app}:{user}}}"
            runtime.core.hset(key, "d", f"foreground|ios|{until}")
        self._consumer = intake_loop(runtime)
        runs = (self._publish, lambda: self._consumer.run(self._stop.is_set))
        self._threads = [threading.Thread(target=run) for run in runs]
        for thread in self._threads:
            thread.start()

    def _publish(self) -> None:
        while not self._stop.is_set():
            identity = uuid.uuid4().hex
            data = {
                "message_id": identity,
                "conversation": {"type": "c2c", "id": "ann"},
                "sender": {"id": "ann"},
                "recipients": [PEOPLE[len(self.sent) % len(PEOPLE)]],
            }
            data |= {"elements": [{"type": "text", "text": "hi"}]}
            event = {
                "v": 1,
                "id": identity,
                "type": "message.stored",
                "app": self.core.app,
                "ts": int(time.time() * 1000),
                "data": data,
            }
            while not self._stop.is_set():
                try:
                    written = json.dumps(event)
                    published(self.runtime.core, self.core.stream, {"e": written}, replicated=True)
                    self.sent.append(identity)
                    break
                except RedisError:
                    time.sleep(0.05)
            time.sleep(0.005)

    def goes_on(self, count: int = 20) -> float:
        """Seconds until so many more events were published and taken in."""
        began, wanted = time.monotonic(), len(self.sent) + count
        wait_for(
            lambda: len(self.sent) >= wanted and self._last() in self.rows(),
            "work goes on",
            RECOVERY_S_MAX,
        )
        return time.monotonic() - began

    def _last(self) -> str:
        return self.sent[-20]

    def rows(self) -> Counter[str]:
        """Outcomes by event."""
        try:
            entries = [
                entry
                for one in self.runtime.shards
                for entry in one.redis.xrange(one.keys.stream(keys.LEDGER))
            ]
        except RedisError:
            return Counter()
        records = [record for _, fields in entries for record in decode_records(fields[b"b"])]
        return Counter(record.event_id for record in records if isinstance(record, RowRecord))

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def all_accounted_for(self) -> None:
        """Every event that was published has exactly one row."""
        rest = intake_loop(self.runtime)
        while rest.once(block_ms=10):
            pass
        rows = self.rows()
        wrong = {one: rows[one] for one in self.sent if rows[one] != 1}
        assert not wrong, (f"{len(wrong)} of {len(self.sent)}", *map(self._told, wrong.items()))

    def _told(self, event: tuple[str, int]) -> str:
        """Where an event stands that has not one row: with the core, or gone."""
        (name, rows), entries = event, client_for(self.runtime.core, self.core.stream)
        left = [entry for entry, told in entries.xrange(self.core.stream) if name in str(told)]
        place = self.sent.index(name)
        ids = [one["message_id"] for one in self._pending(entries)]
        return (
            f"{name}, number {place} to {PEOPLE[place % len(PEOPLE)]}: {rows} rows; with the core"
            f" as {left}, of which are being worked on {[one for one in left if one in ids]}"
        )

    def _pending(self, core: Any) -> list[dict[str, Any]]:
        return list(core.xpending_range(self.core.stream, GROUP, "-", "+", 100))


def again(do: Callable[[], Any]) -> Any:
    """As the stages do: a store that is away is waited for."""
    until = time.monotonic() + RECOVERY_S_MAX
    while True:
        try:
            return do()
        except RedisError:
            assert time.monotonic() < until
            time.sleep(0.1)


def read_whole(members: Members, group: str, kill: Callable[[], object]) -> tuple[set[str], int]:
    """The members of a group, read page by page, and the number of pages; after the fifth the
    server is killed.
    """
    cursor, server, found, pages = 0, None, set[str](), 0
    while pages == 0 or cursor:
        if pages == 5:
            kill()
        page = again(lambda at=cursor, of=server: members.page("a", group, at, of, 1_000))
        cursor, server, pages = page.cursor, page.server, pages + 1
        found |= set(page.users)
    return found, pages
