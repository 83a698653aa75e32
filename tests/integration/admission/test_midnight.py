"""Two tenths of a second around the vendor's midnight, through the gate, from several replicas at
once: each day's count is right.
"""

import threading
from collections import Counter
from collections.abc import Callable

import pytest
import redis

from common.model import Bucket, Decision, Vendor
from common.storage.admission import Admission, Usage
from common.storage.keys import Keys
from tests.integration.admission.conftest import Clock, work
from workers.delivery.lane import Lane
from workers.gate import FleetGate, terms_of
from workers.runtime import Runtime
from workers.vendors.types import PushItem

#: 2026-01-01 00:00 in Shanghai.
MIDNIGHT = 1_767_196_800.0
REPLICAS, STEPS, EACH = 4, 20, 7
QUOTA = 60

LIMITS = {"quota": {"public": QUOTA}, "device_cap": {"public": 10_000}, "rate": 100_000}


def used(store: Admission, lane: Lane, clock: Clock) -> Usage:
    usages = store.usage(terms_of(lane, int(clock.now * 1000)))
    [public] = [one for one in usages if one.bucket == Bucket.PUBLIC]
    return public


def test_from_a_tenth_before_midnight_to_a_tenth_after(
    runtime: Runtime, lane: Callable[..., Lane], redis_client: redis.Redis, space: str
) -> None:
    clock = Clock(MIDNIGHT - 0.1)
    store = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    meizu = lane(Vendor.MEIZU, LIMITS)
    gates = [
        FleetGate(store, runtime.ledger, lambda: int(clock.now * 1000)) for _ in range(REPLICAS)
    ]
    together = threading.Barrier(
        REPLICAS, action=lambda: setattr(clock, "now", clock.now + 0.2 / STEPS)
    )
    given: Counter[tuple[bool, Decision | None]] = Counter()
    after_midnight: list[bool] = []

    def replica(index: int) -> None:
        for step in range(STEPS):
            together.wait(30)
            works = [work(index * 10_000 + step * 100 + i) for i in range(EACH)]
            leaves = gates[index].admit(
                meizu, [(PushItem(one.note, one.target, None, 60), 0) for one in works]
            )
            given.update((clock.now >= MIDNIGHT, leave.decision) for leave in leaves)
            together.wait(30)
            if index == 0:
                after_midnight.append(clock.now >= MIDNIGHT)

    threads = [threading.Thread(target=replica, args=(index,)) for index in range(REPLICAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(after_midnight) == {True, False}
    assert given[False, None] == given[True, None] == QUOTA, "each day gave what it has"
    found = set(given)
    assert found == {(day, what) for day in (False, True) for what in (None, Decision.QUOTA_SPENT)}
    assert (used(store, meizu, clock).used, used(store, meizu, clock).limit) == (QUOTA, QUOTA)
    clock.now = MIDNIGHT - 0.05
    assert used(store, meizu, clock).used == QUOTA


def test_what_was_taken_before_midnight_and_not_accepted_goes_back_to_that_day(
    runtime: Runtime, lane: Callable[..., Lane], redis_client: redis.Redis, space: str
) -> None:
    clock = Clock(MIDNIGHT - 0.1)
    store = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    meizu = lane(Vendor.MEIZU, LIMITS)
    gate = FleetGate(store, runtime.ledger, lambda: int(clock.now * 1000))
    works = [work(i) for i in range(20)]
    asks = [(PushItem(one.note, one.target, None, 60), 0) for one in works]
    assert [leave.decision for leave in gate.admit(meizu, asks)] == [None] * 20
    clock.now = MIDNIGHT + 0.1
    gate.refund(meizu, works[:12])
    today = used(store, meizu, clock).used
    clock.now = MIDNIGHT - 0.05
    assert (used(store, meizu, clock).used, today) == (8, 0)


@pytest.mark.parametrize(
    ("seconds", "today"), [(0.5, [None]), (59.0, [None]), (60.0, [Decision.QUOTA_SPENT])]
)
@pytest.mark.parametrize("word", ["spent", "numbers", "device"])
def test_a_vendors_word_in_the_first_minute_is_about_the_day_before(
    runtime: Runtime,
    lane: Callable[..., Lane],
    redis_client: redis.Redis,
    space: str,
    seconds: float,
    today: list[Decision | None],
    word: str,
) -> None:
    """Its answer was on its way at midnight, or its clock is behind ours: one such word must not
    shut the lane for a whole day.
    """
    clock = Clock(MIDNIGHT + seconds)
    store = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    xiaomi = lane(
        Vendor.XIAOMI, {"quota": {"public": QUOTA}, "device_cap": {"public": 3}, "rate": 100_000}
    )
    gate, one = FleetGate(store, runtime.ledger, lambda: int(clock.now * 1000)), work(1)
    said = {
        "spent": lambda: gate.report_quota_spent(xiaomi, Bucket.PUBLIC),
        "numbers": lambda: gate.report_quota(xiaomi, Bucket.PUBLIC, QUOTA, QUOTA),
        "device": lambda: gate.report_capped(xiaomi, [one]),
    }
    said[word]()
    clock.now += 120
    expected = [Decision.DEVICE_CAP] if word == "device" and today != [None] else today
    works = [(PushItem(one.note, one.target, None, 60), 0)]
    assert [leave.decision for leave in gate.admit(xiaomi, works)] == expected
