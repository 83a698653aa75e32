"""A worker's looks of its own: what a wake-up does not tell of is served, each queue by itself."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.model import Vendor
from tests.waiting import eventually
from workers.app import DELIVERY
from workers.queues import own_looks
from workers.queues.consumer import Wake
from workers.queues.own_looks import OwnLooks

APNS, FCM = (DELIVERY, Vendor.APNS), (DELIVERY, Vendor.FCM)


class Consumer:
    """Notes its slices, each of which ends when it may."""

    def __init__(self) -> None:
        self.progress_at = -100.0
        self.slices = self.breaks = self.ended = 0
        self.ends_when_told = True
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, stopping: Callable[[], bool]) -> None:
        self.slices += 1
        if self.slices <= self.breaks:
            raise ValueError
        while not self.may_end.wait(0.01) and not (self.ends_when_told and stopping()):
            pass
        self.ended += 1


class Worker:
    def __init__(self) -> None:
        self.consumers = {APNS: Consumer(), FCM: Consumer()}
        self.due: Sequence[Wake] = ()
        self.asked = 0
        self.stop = threading.Event()
        self.begun = 0
        self.away = False
        self.error: Exception | None = None
        self.begins_with: Exception | None = None
        self.broken: Sequence[Wake] = ()
        self.made_late = False
        self.looks = OwnLooks(self._due, self._consumer, self.stop)

    def _due(self) -> Sequence[Wake]:
        self.asked += 1
        if self.away:
            raise RedisConnectionError("away")
        if self.error:
            raise self.error
        return self.due

    def _consumer(self, *wake: Any) -> Consumer:
        if wake in self.broken:
            raise RedisConnectionError("away")
        if self.made_late:
            self.made_late, self.consumers[wake].progress_at = False, time.monotonic()
        return self.consumers[wake]

    def begin(self) -> None:
        self.begun += 1
        if self.begins_with:
            raise self.begins_with
        self.looks.begun()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A running one. Its looks are ten times as quick."""
    monkeypatch.setattr(own_looks, "LOOK_S", 0.1)
    monkeypatch.setattr(own_looks, "START_S", 0.2)
    made = Worker()
    thread = threading.Thread(target=made.looks.run, args=(made.begin,))
    thread.start()
    yield made
    made.looks.end()
    thread.join()


def test_a_worker_that_hears_wake_ups_asks_nothing_of_its_own(worker: Worker) -> None:
    worker.looks.begun()
    worker.looks.is_deaf(False)
    assert not worker.stop.wait(0.5)
    assert (worker.asked, worker.begun) == (0, 0)


def test_a_worker_without_its_broker_begins_and_looks(worker: Worker) -> None:
    eventually(lambda: worker.begun == 1)
    worker.due = [APNS]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[APNS].slices)
    assert not worker.consumers[FCM].slices


def test_what_a_heartbeat_finds_is_served_and_looked_after(worker: Worker) -> None:
    worker.looks.begun()
    worker.due = [APNS]
    assert worker.looks.look() == [APNS]
    eventually(lambda: worker.consumers[APNS].slices >= 3, what="looks follow by themselves")
    worker.due = ()
    assert worker.consumers[FCM].slices == 0


def test_a_queue_that_a_wake_up_has_served_lately_is_left_to_wake_ups(worker: Worker) -> None:
    worker.looks.begun()
    worker.due = [APNS, FCM]
    worker.consumers[APNS].progress_at = time.monotonic()
    worker.looks.look()
    eventually(lambda: worker.consumers[FCM].slices)
    assert not worker.consumers[APNS].slices


def test_a_queue_that_nobody_serves_after_all_waits_no_longer(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came between the end of a slice and the heartbeat that found it."""
    monkeypatch.setattr(own_looks, "POLL_S", 0.8)
    worker.looks.begun()
    worker.due = [APNS, FCM]
    for one in worker.consumers.values():
        one.progress_at = time.monotonic()
    worker.looks.look()
    worker.due = ()
    assert not worker.stop.wait(0.1)
    worker.consumers[FCM].progress_at = time.monotonic()  # as a wake-up's slice
    eventually(lambda: worker.consumers[APNS].slices, 3)
    assert not worker.stop.wait(0.5)
    assert not worker.consumers[FCM].slices


def test_a_queue_that_was_never_served_does_not_wait_for_the_next_heartbeat(
    worker: Worker,
) -> None:
    """Its consumer is made when work is found, and that is no progress."""
    worker.looks.begun()
    worker.made_late = True
    worker.due = [APNS]
    worker.looks.look()
    eventually(lambda: worker.consumers[APNS].slices, 1)


def test_a_queue_whose_slice_hangs_holds_up_no_other(worker: Worker) -> None:
    worker.looks.begun()
    worker.consumers[APNS].may_end.clear()
    worker.due = [APNS, FCM]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[FCM].slices >= 3)
    assert worker.consumers[APNS].slices == 1


def test_a_slice_that_ended_with_its_time_is_followed_at_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_looks, "SLICE_S", 0.0)
    worker.looks.begun()
    worker.due = [APNS]
    worker.looks.look()
    worker.due = ()
    eventually(lambda: worker.consumers[APNS].slices >= 3)


def test_a_slice_that_breaks_is_followed_by_the_next(worker: Worker) -> None:
    worker.looks.begun()
    worker.consumers[APNS].breaks = 1
    worker.due = [APNS]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[APNS].slices >= 2)


def test_looks_go_on_at_their_pace_while_redis_is_away(worker: Worker) -> None:
    worker.looks.begun()
    worker.away = True
    worker.looks.is_deaf(True)
    eventually(lambda: worker.asked >= 3)
    before = worker.asked
    assert not worker.stop.wait(1.0)
    assert worker.asked - before <= 11
    worker.away, worker.due = False, [FCM]
    eventually(lambda: worker.consumers[FCM].slices)


def test_a_queue_whose_consumer_cannot_be_made_yet_holds_up_no_other(worker: Worker) -> None:
    worker.looks.begun()
    worker.broken = [APNS]
    worker.due = [APNS, FCM]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[FCM].slices)
    worker.broken = ()
    eventually(lambda: worker.consumers[APNS].slices)


def test_looks_go_on_after_one_that_broke(worker: Worker) -> None:
    worker.looks.begun()
    worker.error, worker.due = KeyError("a look"), [FCM]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.asked >= 2)
    worker.error = None
    eventually(lambda: worker.consumers[FCM].slices)


def test_looks_go_on_where_the_worker_could_not_begin(worker: Worker) -> None:
    worker.begins_with = OSError("no thread is left")
    eventually(lambda: worker.begun == 1)
    worker.due = [FCM]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[FCM].slices)


def test_an_ending_process_waits_for_the_slices_that_it_began(worker: Worker) -> None:
    """Its pools take no further part of a round once the main thread has ended."""
    worker.looks.begun()
    worker.consumers[APNS].ends_when_told = False
    worker.consumers[APNS].may_end.clear()
    worker.due = [APNS]
    worker.looks.is_deaf(True)
    eventually(lambda: worker.consumers[APNS].slices)
    worker.looks.end()
    waiting = threading.Thread(target=worker.looks.wait)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    worker.consumers[APNS].may_end.set()
    waiting.join()
    assert worker.consumers[APNS].ended == 1
