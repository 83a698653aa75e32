"""A lane at its rate reaches it, is never over it, and costs Redis little a push."""

import collections
import queue
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from common.clock import now_ms
from common.model import MessageClass, Urgency, Vendor
from common.storage.lane_entries import RateLease
from common.storage.lane_queues import BURST_SHARE
from tests.e2e.conftest import wait_for
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World, most_in_a_second
from tests.integration.simulators.running import Running
from workers.app import DELIVERY, queue_of
from workers.delivery.lane import Lane
from workers.delivery.pacing import Pacer
from workers.maintenance.timer import TICK_S
from workers.runtime import Runtime

RATE = 100
#: What a lane may send at once.
BURST = 1 + RATE * BURST_SHARE
SECONDS = 4
#: Calls beside a busy lane, and before it is; the seconds between two of them; what their median
#: may take in any case: a wait that nobody ends takes twice as long.
CALLS, CALLS_ALONE, CALLS_APART_S, CALL_MS = 11, 5, 0.23, 120


@pytest.fixture(autouse=True)
def brief_slices() -> None:
    """What a lane at its rate costs depends on how long a slice listens."""


@pytest.fixture
def world(runtime: Runtime, meizu: Running, lane: Callable[..., Lane]) -> World:
    limits = {"rate": float(RATE), "device_cap": {"public": 0}}
    return World(runtime, meizu, lane(Vendor.MEIZU, limits, "meizu.private"))


def commands(world: World) -> int:
    told: Any = world.runtime.redis.info("stats")
    return int(told["total_commands_processed"])


def asked_of(world: World, monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often the lanes' queues are looked at and taken from, counted from now on."""
    queues, asked = world.runtime.lane_queues, collections.Counter[str]()
    for name in ("pop", "take"):
        real = getattr(queues, name)

        def counted(*args: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            asked[name] += 1
            return real(*args)

        monkeypatch.setattr(queues, name, counted)
    return asked


def test_a_campaign_goes_at_its_lanes_rate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of(world, monkeypatch)
    works = [
        work(number, MessageClass.CHAT, user=f"u{number}", urgency=Urgency.BULK, badge_mode="keep")
        for number in range(RATE * SECONDS * 2)
    ]
    put_ms = now_ms()
    world.put(works)
    with world.running():
        wait_for(lambda: len(world.accepted()) >= RATE, "it flows")
        before, began = commands(world), time.monotonic()
        asked.clear()
        first = len(world.accepted())
        wait_for(lambda: len(world.accepted()) >= RATE * SECONDS, "it goes on", 5 * SECONDS)
        commanded = commands(world) - before
        cost = commanded / (RATE * (time.monotonic() - began))
        cost_of_one = commanded / (len(world.accepted()) - first)
    times = sorted(line["at_ms"] for line in world.accepted())
    best = most_in_a_second(times)
    print(f"{best} in the best second, {cost:.1f} commands a token, {asked}")
    # What arrives is late and never early, so that no machine that stands still makes these more.
    over = [
        (number, at_ms - put_ms)
        for number, at_ms in enumerate(times, 1)
        if number > BURST + RATE * (at_ms - put_ms + 1) / 1000
    ]
    assert not over, "more than the rate allows from the first moment on"
    assert best >= 0.75 * RATE, (
        "a busy machine loses tokens; tests/integration/lanes/test_leases.py has the exact figure"
    )
    assert cost <= 6.5, "nothing is looked for dozens of times a second"
    assert cost_of_one <= 13, "twice that, for a busy machine loses tokens"
    assert asked["pop"] <= 4.5 * asked["take"], "a look when the lane is due, few beside"


def punctual(lease: RateLease, _asked_at: float) -> Pacer:
    """A pacer that is never late: its clock goes on by its own waits, which are real, and loses no
    token on a machine that stands still.
    """
    passed = 0.0

    def wait(seconds: float) -> None:
        nonlocal passed
        time.sleep(seconds)
        passed += seconds + 1e-6  # what is left of a wait may be too small to be added

    terms = lease.tokens, lease.first_s, lease.rate_per_s, lease.lim_s
    return Pacer(*terms, lambda: passed, wait, 0.0)


def test_a_push_of_a_campaign_costs_a_share_of_its_rounds_commands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each to a phone that was never pushed to, with its badge number: what a round does, its
    pushes share, and a round that lasts is not looked after dozens of times a second.

    Entries of 60 on a wire that has no room for a second one: a round is at its lane's rate, and
    not taken as such. Counted is what a busy machine does not make more: without upkeep, which
    goes by the clock, and without lost tokens, whose pushes go back one by one.
    """
    monkeypatch.setattr("workers.handlers.lane_rounds.pacer_of", punctual)
    asked = asked_of(world, monkeypatch)
    world.drain.running.in_flight_max = 160  # type: ignore[union-attr]
    group: dict[str, Any] = {
        "urgency": Urgency.BULK,
        "conversation_type": "group",
        "badge_increment": 1,
    }
    works = [work(number, MessageClass.CHAT, user=f"u{number}", **group) for number in range(600)]
    for start in range(0, len(works), 60):
        world.put(works[start : start + 60])
    with world.running(upkept=False):
        wait_for(lambda: len(world.accepted()) >= RATE, "it flows")
        before, first, looked = commands(world), len(world.accepted()), asked.copy()
        wait_for(lambda: len(world.accepted()) >= 5 * RATE, "it goes on")
        cost = (commands(world) - before) / (len(world.accepted()) - first)
        asked -= looked
    print(f"{cost:.2f} commands a push, {asked}")
    assert cost <= 2.2
    assert asked["pop"] <= 6 * asked["take"]


def test_a_breaker_hears_of_good_answers_only_while_it_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a lane without a failure lately they change nothing, and were four commands a round.

    A part of an entry at a time, which goes the general way.
    """
    world.drain.running.in_flight_max = 2  # type: ignore[union-attr]
    states, told = world.runtime.lane_states, list[tuple[int, int]]()
    tell = states.tell

    def noted(lane_id: str, version: int, good: int, failed: int, *more: Any, **named: Any) -> Any:
        told.append((good, failed))
        return tell(lane_id, version, good, failed, *more, **named)

    monkeypatch.setattr(states, "tell", noted)

    def sends(first: int) -> None:
        numbers = range(first, first + 4)
        world.put([work(n, MessageClass.CHAT, user=f"u{n}", urgency=Urgency.BULK) for n in numbers])
        world.drain(lambda: False)

    sends(1)
    assert len(world.accepted()) == 4
    assert not told
    world.meizu.door("faults", status=503, status_share=1.0)
    sends(5)
    assert sum(failed for _, failed in told)
    told.clear()
    world.meizu.door("faults", status_share=0.0)
    sends(9)
    assert sum(good for good, _ in told) == len(world.accepted()) - 4 > 0


class Broker:
    """Wake-ups as the fleet sends them: only who is to ring rings, and two slots hear it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rung: queue.Queue[str] = queue.Queue()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._slot) for _ in range(2)]

    def ring(self, *_: Any) -> None:
        if self._world.runtime.wakes.wake_up_is_ours(queue_of(DELIVERY, Vendor.MEIZU)):
            self._rung.put("work")

    def beside(self, every_s: float, run: Callable[[], Any]) -> None:
        def turns() -> None:
            while not self._over.wait(every_s):
                run()

        self._threads.append(threading.Thread(target=turns))

    def _slot(self) -> None:
        while not self._over.is_set():
            try:
                self._rung.get(timeout=0.05)
            except queue.Empty:
                continue
            self._world.drain(self._over.is_set)

    def __enter__(self) -> "Broker":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


def test_a_call_does_not_wait_behind_another_lane_at_its_rate(
    world: World,
    runtime: Runtime,
    meizu: Running,
    lane: Callable[..., Lane],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The busy lane's own wake-ups, which start nothing, must not silence whoever rings next."""
    other = World(runtime, meizu, lane(Vendor.MEIZU, {"rate": 200.0}, "meizu.private", beside="b"))
    broker, fed, busy = Broker(world), iter(range(1_000, 9_000)), threading.Event()
    monkeypatch.setattr(runtime, "send_wake_up", broker.ring)

    def feed() -> None:
        if not busy.is_set():
            return
        numbers = [next(fed) for _ in range(12)]
        about: dict[str, Any] = {"urgency": Urgency.BULK, "badge_mode": "keep"}
        world.put([work(one, MessageClass.CHAT, user=f"u{one}", **about) for one in numbers])
        broker.ring()

    def sent_ms(token: str) -> Any:
        def look() -> int | None:
            return next((one["at_ms"] for one in world.accepted() if one["token"] == token), None)

        return wait_for(look, "the call is sent")

    broker.beside(TICK_S, world.timer.turn)
    broker.beside(0.1, feed)

    def took_ms(number: int) -> int:
        call = work(number, MessageClass.CHAT, user=f"call{number}", urgency=Urgency.CALL)
        began_ms = now_ms()
        other.put([call])
        broker.ring()
        took = sent_ms(call.target.token) - began_ms
        time.sleep(CALLS_APART_S)
        return int(took)

    with broker:
        alone = [took_ms(CALLS + number) for number in range(CALLS_ALONE)]
        busy.set()
        wait_for(lambda: len(world.accepted()) >= RATE, "the busy lane is at its rate")
        took = [took_ms(number) for number in range(CALLS)]
    print(f"calls took {sorted(took)} ms, {sorted(alone)} alone")
    assert statistics.median(took) < max(CALL_MS, 3 * statistics.median(alone))
