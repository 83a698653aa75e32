"""A wake-up that rings while its drain is at work in another thread is heard when that one ends."""

import threading
import time
import types
from collections.abc import Sequence
from typing import Any

import pytest

from common.clock import now_ms
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.streams import Entry
from tests.integration.delivery.conftest import World, chat
from tests.waiting import eventually
from workers.app import DELIVERY, queue_of
from workers.gate import terms_of
from workers.pipeline import stores_of
from workers.queues.consumer import Policy, StreamConsumer


@pytest.fixture(autouse=True)
def brief_slices() -> None:
    """How long a slice listens is what these are about."""


def test_a_wake_up_that_no_thread_had_time_for_silences_nobody(world: World) -> None:
    """Else the wake-up counts as ringing for two more seconds, nobody rings again, and what comes
    meanwhile lies there.
    """
    streams = world.runtime.streams
    queue = queue_of(DELIVERY, Vendor.MEIZU)
    stream = keys.send(Vendor.MEIZU, Urgency.CHAT)
    finished: list[Entry] = []

    def handle(entries: Sequence[Entry]) -> None:
        finished.extend(entries)
        streams.hand_on(entries)
        if len(finished) == 1:
            assert streams.wake_up_is_ours(queue), "somebody puts something on the stream and rings"
            second = threading.Thread(target=drain, args=(lambda: False,))
            second.start()
            second.join(30)
            assert not second.is_alive(), "no vendor takes two threads"

    handler = types.SimpleNamespace(handle=handle)
    policy = Policy(DELIVERY, {stream: 1}, Vendor.MEIZU)
    drain = StreamConsumer(handler, policy, stores_of(world.runtime, DELIVERY, Vendor.MEIZU))
    world.runtime.redis.xadd(world.runtime.keys.stream(stream), {"b": b"x"})
    drain(lambda: False)
    assert len(finished) == 1
    assert streams.wake_up_is_ours(queue), "whoever comes next may ring"


def test_a_sender_that_waits_for_a_lanes_time_hears_who_comes_meanwhile(world: World) -> None:
    queue = queue_of(DELIVERY, Vendor.MEIZU)
    world.runtime.admission.slow_down(terms_of(world.lane, now_ms()), throttled=False, hold_s=30)
    world.put([chat(1, urgency=Urgency.CHAT)])
    slice_ = threading.Thread(target=world.drain, args=(lambda: False,))
    slice_.start()
    ready = world.runtime.keys.ready(Vendor.MEIZU, Urgency.CHAT)
    # it has looked, the lane's time is set, and it sleeps: whoever comes next may ring
    eventually(lambda: (world.runtime.redis.zscore(ready, world.lane.id) or 0) > now_ms() + 5_000)
    eventually(lambda: world.runtime.streams.wake_up_is_ours(queue))
    world.runtime.redis.delete(world.runtime.keys.rate(world.lane.id))
    world.put([chat(2, urgency=Urgency.CALL)])
    began = time.monotonic()
    world.drain(lambda: False)  # the wake-up, in the second slot
    assert time.monotonic() - began < 15
    slice_.join(15)
    # the chat goes at the time that was set for it
    assert [one["token"] for one in world.accepted()] == ["token-0002"]


def test_what_comes_while_a_round_ends_is_not_left_until_somebody_rings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look for work passes over the lane of a round that is at work; when that ends right
    after, the lane is looked at once more.
    """
    queues, looks = world.runtime.lane_queues, list[bool]()
    pop = queues.pop

    def round_ends_after(*asked: Any) -> Any:
        looks.append(bool(world.drain.running.own()))  # type: ignore[union-attr]
        last = sum(looks) == 2  # of the two before it sleeps
        if last and looks[-1]:
            world.put([chat(2, urgency=Urgency.CHAT)])
        told = pop(*asked)
        end = time.monotonic() + 60
        while last and world.drain.running.own() and time.monotonic() < end:  # type: ignore[union-attr]
            time.sleep(0.005)
        return told

    monkeypatch.setattr(queues, "pop", round_ends_after)
    world.meizu.door("faults", delay_ms=200)
    world.put([chat(1, urgency=Urgency.CHAT)])
    world.drain(lambda: False)
    assert sum(looks) >= 2
    assert len(world.accepted()) == 2, "in one slice"


def test_a_sender_that_has_just_worked_is_told_without_a_wake_up(world: World) -> None:
    streams, queue = world.runtime.streams, queue_of(DELIVERY, Vendor.MEIZU)
    assert streams.wake_up_is_ours(queue), "nobody listens: the broker wakes somebody"
    assert not streams.wake_up_is_ours(queue), "one is on its way"
    streams.listen(queue)
    assert not streams.wake_up_is_ours(queue), "it is told"
    assert streams.hear(queue, 1), "and hears it"
    assert not streams.hear(queue, 0.01), "once"
    assert not streams.wake_up_is_ours(queue), "it is at work"
    streams.clear_wake_up(queue)
    assert streams.wake_up_is_ours(queue), "it sleeps by now"


def test_a_slice_sends_what_comes_right_after_its_round_and_lets_others_ring_when_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.handlers.delivery.LINGER_S", 20.0)
    streams, queue = world.runtime.streams, queue_of(DELIVERY, Vendor.MEIZU)
    world.put([chat(1, urgency=Urgency.CHAT)])
    slice_ = threading.Thread(target=world.drain, args=(lambda: False,))
    slice_.start()
    key = world.runtime.keys.wake_up(queue)
    eventually(lambda: world.runtime.redis.get(key) == b"l", 60, lambda: time.sleep(0.002))
    monkeypatch.setattr("workers.handlers.delivery.LINGER_S", 0.5)
    world.put([chat(2, urgency=Urgency.CHAT)])
    assert not streams.wake_up_is_ours(queue)
    slice_.join(60)
    assert len(world.accepted()) == 2, "in the same slice"
    assert streams.wake_up_is_ours(queue), "whoever comes next may ring"


@pytest.mark.parametrize("full", [True, False])
def test_who_ends_while_it_listens_leaves_the_word_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Else whoever brings work tells one that has gone, and idle workers hear
    nothing for seconds.
    """
    monkeypatch.setattr("workers.handlers.delivery.LINGER_S", 20.0)
    streams, queue = world.runtime.streams, queue_of(DELIVERY, Vendor.MEIZU)
    rung: list[str] = []
    monkeypatch.setattr(world.runtime, "send_wake_up", lambda stage, _vendor: rung.append(stage))
    stops = threading.Event()
    world.put([chat(1, urgency=Urgency.CHAT)])
    slice_ = threading.Thread(target=world.drain, args=(stops.is_set,))
    slice_.start()
    key = world.runtime.keys.wake_up(queue)
    eventually(lambda: world.runtime.redis.get(key) == b"l", 60, lambda: time.sleep(0.002))
    if full:
        monkeypatch.setattr(world.drain, "_ledger_full", lambda: True)
    else:
        stops.set()
    assert not streams.wake_up_is_ours(queue), "work comes: the one that listens is told"
    slice_.join(60)
    assert streams.wake_up_is_ours(queue), "whoever comes next may ring"
    assert rung == [DELIVERY], "and somebody is woken for what came"


def test_between_the_rounds_of_a_lane_with_more_nobody_is_asked_to_ring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look finds what is left: to be told of work is worth a command only when there is
    none.
    """
    world.drain.running.in_flight_max = 2  # type: ignore[union-attr]
    wakes, waiting = world.runtime.wakes, list[int]()
    listen = wakes.listen

    def noted(queue: str, seconds: float) -> None:
        waiting.append(world.waiting())
        listen(queue, seconds)

    monkeypatch.setattr(wakes, "listen", noted)
    for number in range(4):
        world.put([chat(number, urgency=Urgency.CHAT)])
    world.drain(lambda: False)
    assert len(world.accepted()) == 4
    assert waiting, "it listens at the end"
    assert not any(waiting)


def test_after_a_look_that_found_all_the_next_one_waits_for_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues, looks = world.runtime.lane_queues, list[bool]()
    pop = queues.pop

    def noted(*asked: Any) -> Any:
        looks.append(bool(world.drain.running.own()))  # type: ignore[union-attr]
        return pop(*asked)

    monkeypatch.setattr(queues, "pop", noted)
    monkeypatch.setattr("workers.handlers.delivery.LOOK_S", 60.0)
    world.meizu.door("faults", delay_ms=100)
    world.put([chat(1, urgency=Urgency.CHAT)])
    world.drain(lambda: False)
    assert len(world.accepted()) == 1, "in one slice: the end of its round ended the wait"
    assert True not in looks
