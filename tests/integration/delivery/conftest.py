"""Meizu's delivery in this process: real Redis, PostgreSQL and transport, and the vendor's
simulator behind it.
"""

import bisect
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from common.config import Settings
from common.contracts import Push
from common.model import MessageClass, Vendor
from common.storage.tenants import Tenant
from tests.integration.admission.conftest import lane, work
from tests.integration.conftest import opened
from tests.integration.simulators.running import Running
from tests.queued import packed, queue_each
from workers.app import DELIVERY
from workers.delivery.lane import Lane
from workers.delivery.work import PendingPush
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.timer import TICK_S, Timer
from workers.pipeline import Stages
from workers.routing.fan_out import parts
from workers.runtime import Runtime

__all__ = ["lane", "work"]


@pytest.fixture
def shards() -> int:
    """Of the fleet; a test may be given another number."""
    return 1


@pytest.fixture(autouse=True)
def brief_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends soon after its last round, a lane that an operator has resumed is seen soon, and
    upkeep looks each time: a test turns all of them by hand and waits for them.
    """
    monkeypatch.setattr("workers.maintenance.timer.EVERY_S", 0.1)
    monkeypatch.setattr("workers.handlers.delivery.LINGER_S", 0.05)
    monkeypatch.setattr("workers.handlers.delivery.SHUT_MOST_MS", 150)


@pytest.fixture
def meizu(tmp_path: Path) -> Iterator[Running]:
    with Running("meizu", tmp_path) as running:
        running.door("limits", per_second=0)
        yield running


def demo(settings: Settings) -> contextlib.AbstractContextManager[Runtime]:
    return opened(settings, Tenant("demo", "Demo", "en", "Asia/Shanghai"))


@pytest.fixture
def runtime(own_settings: Callable[..., Settings], meizu: Running) -> Iterator[Runtime]:
    where = {"ENDPOINT_MEIZU": meizu.base, "CA_FILE": str(meizu.ca)}
    with demo(own_settings(RETRY_FIRST_S="0.2", SEND_TIMEOUT_S="8", **where)) as made:
        yield made


class World:
    """One delivery process and upkeep, turned by hand."""

    def __init__(self, runtime: Runtime, meizu: Running, lane: Lane) -> None:
        self.runtime, self.meizu, self.lane = runtime, meizu, lane
        self.drain = Stages(runtime).consumer(DELIVERY, Vendor.MEIZU)
        self.timer = Timer(runtime)
        self.writer = LedgerWriter(runtime)

    def put(self, works: Sequence[PendingPush]) -> None:
        """In the queues of their urgencies, as routing packs them."""
        business_id, made = self.lane.credential.business_id, list[Any]()
        for urgency in {one.note.urgency for one in works}:
            pushes = [
                Push(note=one.note, targets=(one.target,))
                for one in works
                if one.note.urgency == urgency
            ]
            made += [(packed(part, business_id), urgency) for part in parts(pushes)]
        queue_each(self.runtime, made)

    def waiting(self) -> int:
        """Pushes in the lane's queues."""
        return self.runtime.lane_queues.waiting(self.lane.id)

    def turn(self, until: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Upkeep and drains in turn until `until` is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.timer.turn()
            self.drain(lambda: bool(until()))
            if found := until():
                return found
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds:g} s")

    @contextlib.contextmanager
    def running(self, *, upkept: bool = True) -> Iterator[None]:
        """Upkeep, if wanted, and the drain beside the test, each in its thread as in its process
        of the fleet.
        """
        over = threading.Event()

        def upkeep() -> None:
            while not over.wait(TICK_S):
                self.timer.turn()

        def drain() -> None:
            while not over.wait(0.005):  # the wake-up's way
                self.drain(over.is_set)

        threads = [
            threading.Thread(target=run) for run in ((upkeep, drain) if upkept else (drain,))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(30)

    def accepted(self) -> list[dict[str, Any]]:
        return self.meizu.simulator.record.lines()

    def decisions(self, works: Sequence[PendingPush]) -> list[str | None]:
        """Of each, once the ledger is written."""
        by_id = self._rows()
        return [by_id.get(one.target.push_id) for one in works]

    def all_noted(self, works: Sequence[PendingPush]) -> bool:
        """Whether each has a row, decided or not."""
        return {one.target.push_id for one in works} <= set(self._rows())

    def _rows(self) -> dict[str, str | None]:
        while self.writer.flush():
            pass
        with self.runtime.engine.connect() as connection:
            query = text("SELECT push_id, decision FROM ledger_all WHERE business_id = :b")
            found = connection.execute(query, {"b": self.lane.credential.business_id})
            return {str(push_id).replace("-", ""): decision for push_id, decision in found}

    def all_decided(self, works: Sequence[PendingPush]) -> bool:
        return None not in self.decisions(works)


def each(world: World, works: Sequence[PendingPush]) -> None:
    """Each in an entry of its own."""
    for one in works:
        world.put([one])


@pytest.fixture
def world(runtime: Runtime, meizu: Running, lane: Callable[..., Lane]) -> World:
    return World(runtime, meizu, lane(Vendor.MEIZU, {"rate": 200.0}, "meizu.private"))


def most_in_a_second(times: Sequence[int]) -> int:
    """Of sorted times in milliseconds."""
    return max(bisect.bisect_left(times, one + 1_000) - at for at, one in enumerate(times))


def chat(number: int, **note: Any) -> PendingPush:
    """A chat message to a person of its own."""
    return work(number, MessageClass.CHAT, user=f"u{number}", **note)
