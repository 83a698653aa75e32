"""Admission's promises, one by one: midnight, reserves, flow control, silence, and what a lost
server may cost.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.model import Bucket, MessageClass, Urgency
from common.storage.admission import (
    Admission,
    AdmissionAnswer,
    AdmissionRequest,
    AdmissionResult,
    LaneLimits,
    QuotaCount,
)
from common.storage.keys import Keys
from tests.integration.admission.conftest import Clock

PUBLIC, PRIVATE = Bucket.PUBLIC, Bucket.PRIVATE
FAST: dict[str, Any] = {"rate_per_s": 1e6, "burst": 1e6}
_ids = itertools.count()


def asks(
    count: int,
    message_class: MessageClass = MessageClass.MARKETING,
    token: str | None = None,
    bucket: Bucket = PUBLIC,
) -> list[AdmissionRequest]:
    """So many new pushes."""
    return [
        AdmissionRequest(f"{number:032x}", bucket, message_class, token or f"t{number}")
        for number in itertools.islice(_ids, count)
    ]


def told(given: Sequence[AdmissionResult] | None) -> list[AdmissionAnswer]:
    assert given is not None
    return [one.answer for one in given]


def granted(store: Admission, terms: LaneLimits, count: int, **more: object) -> int:
    return told(store.admit(terms, asks(count, **more))).count(AdmissionAnswer.GRANTED)  # type: ignore[arg-type]


def vouched(store: Admission, terms: LaneLimits, *counts: QuotaCount) -> LaneLimits:
    store.rebuild(terms, store.day(terms), counts)
    return terms


def at(hour: int, minute: int = 0, second: float = 0, *, day: int = 0) -> float:
    """Epoch seconds of a time of day in Shanghai, from 2026-01-01 on."""
    return 1_767_196_800.0 + day * 86_400 + hour * 3600 + minute * 60 + second


def test_summer_time_keeps_to_the_wall_clock(store: Admission, clock: Clock) -> None:
    """The caller passes the zone's offset of the moment; the day is the one on the wall on both
    sides of the change.
    """
    clock.now = 1_772_963_999.0  # 2026-03-08 01:59:59 in Los Angeles, the second before the change
    winter = vouched(store, LaneLimits("a:fcm:b", **FAST, quotas={PRIVATE: 3}, offset_s=-28_800))
    assert granted(store, winter, 2, bucket=PRIVATE) == 2
    clock.now += 1
    summer = LaneLimits("a:fcm:b", **FAST, quotas={PRIVATE: 3}, offset_s=-25_200)
    assert granted(store, summer, 2, bucket=PRIVATE) == 1


def test_an_empty_day_grants_nothing(store: Admission) -> None:
    terms = vouched(store, LaneLimits("a:vivo:b", **FAST, quotas={PUBLIC: 0}))
    assert told(store.admit(terms, asks(2))) == [AdmissionAnswer.QUOTA_SPENT] * 2


def test_the_vendors_word_ends_the_day_whatever_is_refunded(store: Admission, clock: Clock) -> None:
    terms = vouched(store, LaneLimits("a:xiaomi:b", **FAST, quotas={PUBLIC: 100}))
    first = asks(10)
    store.admit(terms, first)
    store.report_quota_spent(terms, PUBLIC)
    store.refund(terms, first)
    assert granted(store, terms, 1) == 0
    usage = store.usage(terms)[1]
    assert (usage.used, usage.limit) == (100, 100)
    clock.now += 86_400
    assert granted(store, terms, 1) == 1
    unlimited = LaneLimits("a:oppo:b", **FAST)
    store.report_quota_spent(unlimited, PRIVATE)
    assert granted(store, unlimited, 1, bucket=PRIVATE) == 0
    store.report_open(unlimited, PRIVATE)
    assert granted(store, unlimited, 1, bucket=PRIVATE) == 1


@pytest.mark.parametrize(
    ("open_", "grants"),
    [(True, 40), (False, 10)],
    ids=["over our default", "not over an operator's wish"],
)
def test_the_vendors_larger_limit_wins(store: Admission, open_: bool, grants: int) -> None:
    open_limits = frozenset({PUBLIC}) if open_ else frozenset()
    terms = vouched(
        store, LaneLimits("a:xiaomi:b", **FAST, quotas={PUBLIC: 20}, open_limits=open_limits)
    )
    store.report_quota(terms, PUBLIC, used=10, limit=50)
    assert granted(store, terms, 100) == grants


def test_where_nothing_is_limited_nothing_is_kept_but_a_count(
    store: Admission, redis_client: redis.Redis
) -> None:
    terms = LaneLimits("a:apns:b", **FAST)
    first = asks(50, bucket=PRIVATE)
    assert told(store.admit(terms, first)) == [AdmissionAnswer.GRANTED] * 50
    assert not list(redis_client.scan_iter("*:held:*"))
    store.refund(terms, first[:10])
    usage = store.usage(terms)[0]
    assert (usage.used, usage.limit, usage.runs_out_ms) == (40, None, None)


def test_a_quota_runs_out_at_todays_pace(store: Admission, clock: Clock) -> None:
    clock.now = at(6)
    limits = LaneLimits("a:vivo:b", **FAST, quotas={PUBLIC: 100})
    terms = vouched(store, limits, QuotaCount(PUBLIC, MessageClass.MARKETING, 50))
    assert store.usage(terms)[1].runs_out_ms == at(12) * 1000
    limits = LaneLimits("a:vivo:c", **FAST, quotas={PUBLIC: 100})
    slower = vouched(store, limits, QuotaCount(PUBLIC, MessageClass.MARKETING, 10))
    assert store.usage(slower)[1].runs_out_ms is None


def test_lost_counts_grant_nothing_until_they_are_rebuilt(
    store: Admission, redis_client: redis.Redis, space: str
) -> None:
    terms = vouched(store, LaneLimits("a:vivo:b", **FAST, quotas={PUBLIC: 10}, caps={PUBLIC: 4}))
    assert granted(store, terms, 4) == 4
    for key in redis_client.scan_iter(f"*{space}*"):
        redis_client.delete(key)
    assert store.admit(terms, asks(1)) is None
    counts = [
        QuotaCount(PUBLIC, MessageClass.MARKETING, 3),
        QuotaCount(PUBLIC, MessageClass.CHAT, 1),
        QuotaCount(PUBLIC, MessageClass.MARKETING, 4, "busy"),
    ]
    store.rebuild(terms, store.day(terms), counts)
    assert granted(store, terms, 1, token="busy") == 0
    assert granted(store, terms, 10) == 6


def test_a_bucket_that_gets_a_quota_later_is_counted_from_the_ledger(store: Admission) -> None:
    before = vouched(store, LaneLimits("a:vivo:b", **FAST, quotas={PUBLIC: 5}))
    assert granted(store, before, 3) == 3
    now = LaneLimits("a:vivo:b", **FAST, quotas={PUBLIC: 5, PRIVATE: 9})
    assert store.admit(now, asks(1)) is None
    store.rebuild(
        now,
        store.day(now),
        [QuotaCount(PRIVATE, MessageClass.CHAT, 8), QuotaCount(PUBLIC, MessageClass.MARKETING, 1)],
    )
    assert granted(store, now, 4, bucket=PRIVATE) == 1
    assert granted(store, now, 4) == 2, "what was counted already is never lowered"


def test_a_cost_beyond_the_bounds_is_an_error(store: Admission) -> None:
    limits = LaneLimits("a:apns:b", **FAST)
    with pytest.raises(ValueError, match="0 to 1"):
        store.admit(limits, [AdmissionRequest("00", PRIVATE, MessageClass.CHAT, "t", cost=2)])


# ---------------------------------------------------------------- rate


def test_waiting_pushes_are_told_different_times(store: Admission) -> None:
    given = store.admit(LaneLimits("a:vivo:b", rate_per_s=8, burst=1), asks(4))
    assert given is not None
    assert [one.wait_ms for one in given] == [0, 125, 250, 375]


# ---------------------------------------------------------------- who is first at the rate

LANE = LaneLimits("a:vivo:b", rate_per_s=100, burst=20)
CHATS, GROUPS, CAMPAIGN = Urgency.CHAT, Urgency.GROUP, Urgency.BULK


def wanted(store: Admission, count: int, urgency: Urgency, terms: LaneLimits = LANE) -> int:
    """How many of so many new pushes get leave now."""
    return told(
        store.admit(terms, [msgspec.structs.replace(ask, urgency=urgency) for ask in asks(count)])
    ).count(AdmissionAnswer.GRANTED)


@pytest.mark.parametrize(("rate", "burst"), [(100.0, 20.0), (5.0, 1.0)])
def test_endless_chats_do_not_starve_a_campaign(
    store: Admission, clock: Clock, rate: float, burst: float
) -> None:
    """It asks first each time, as it does in a process that the chats don't go through; they want
    twice the rate.
    """
    terms = LaneLimits("a:vivo:c", rate_per_s=rate, burst=burst)
    seconds, bulk, chats = 60, 0, 0
    for _ in range(seconds * 10):
        bulk += wanted(store, 50, CAMPAIGN, terms)
        chats += wanted(store, max(1, int(rate / 5)), CHATS, terms)
        clock.now += 0.1
    assert bulk >= 10
    assert chats > 2 * bulk
    assert bulk + chats >= 0.9 * rate * seconds, "the lane is as fast as ever"


STEP = st.tuples(st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]), st.integers(1, 30), st.booleans())


@given(
    steps=st.lists(STEP, min_size=5, max_size=30),
    rate=st.sampled_from([5.0, 20.0]),
    burst=st.sampled_from([1.0, 10.0]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_second_holds_more_than_burst_and_rate(
    redis_client: redis.Redis,
    space: str,
    steps: Sequence[tuple[float, int, bool]],
    rate: float,
    burst: float,
) -> None:
    clock = Clock(1_767_000_000.0)
    store = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    terms = LaneLimits(f"a:vivo:{next(_ids)}", rate_per_s=rate, burst=burst)
    grants: list[tuple[float, int]] = []
    for pause, count, throttled in steps:
        clock.now += pause
        if throttled:
            store.slow_down(terms, throttled=True)
        grants.append((clock.now, granted(store, terms, count)))
    for begin, _ in grants:
        assert sum(count for when, count in grants if begin <= when <= begin + 1) <= burst + rate


def test_flow_control_halves_the_rate_for_every_replica(
    store: Admission, clock: Clock, redis_client: redis.Redis, space: str
) -> None:
    terms = LaneLimits("a:vivo:b", rate_per_s=100, burst=100)
    other = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    assert store.slow_down(terms, throttled=True) == 50
    found = other.slow_down(terms, throttled=True)
    assert found == 50, "the replicas' answers of one second are one piece of news"
    assert other.rate_now(terms) == 50
    assert granted(other, terms, 100) == 50, "the burst shrinks with it"
    rates = []
    for _ in range(7):
        rates.append(store.rate_now(terms))
        clock.now += 10
    assert rates == [50, 60, 70, 80, 90, 100, 100]


def test_the_rate_never_falls_below_one_a_second(store: Admission, clock: Clock) -> None:
    terms = LaneLimits("a:vivo:b", rate_per_s=20, burst=20)
    for _ in range(9):
        store.slow_down(terms, throttled=True)
        clock.now += 1
    assert store.rate_now(terms) == 1
    slow = LaneLimits("a:vivo:slow", rate_per_s=0.5, burst=1)
    assert store.slow_down(slow, throttled=True) == 0.5


def test_no_replica_sends_before_retry_after(
    store: Admission, clock: Clock, redis_client: redis.Redis, space: str
) -> None:
    terms = LaneLimits("a:fcm:b", rate_per_s=100, burst=100)
    other = Admission(redis_client, Keys(f"push{space}"), clock=clock)
    store.slow_down(terms, throttled=True, hold_s=30)
    store.slow_down(terms, throttled=True, hold_s=5)  # a shorter wish does not shorten it
    given = other.admit(terms, asks(3))
    assert given is not None
    assert all(one.answer == AdmissionAnswer.WAIT and one.wait_ms >= 30_000 for one in given)
    assert other.rate_now(terms) == 0
    clock.now += 29.9
    assert granted(other, terms, 1) == 0
    clock.now += 0.1
    assert granted(other, terms, 1) == 1


@pytest.mark.parametrize("step_s", [60.0, 86_400.0 * 30])
def test_a_clock_that_steps_back_stops_nobody_for_long(
    store: Admission, clock: Clock, step_s: float
) -> None:
    terms = LaneLimits("a:fcm:b", rate_per_s=10, burst=10, ramp_s=0)
    store.slow_down(terms, throttled=True, hold_s=2)
    clock.now += 2
    assert granted(store, terms, 10) == 5
    clock.now -= step_s
    store.admit(terms, asks(1))
    clock.now += 4.1  # at most the rest of the hold, and the time that a full burst takes
    assert granted(store, terms, 1) == 1
    clock.now += 50
    assert store.rate_now(terms) == 10, "and the climb goes on"


def test_after_a_silence_the_rate_rises_over_a_minute(store: Admission, clock: Clock) -> None:
    terms = LaneLimits("a:fcm:b", rate_per_s=600, burst=600, ramp_s=60)
    assert granted(store, terms, 600) == 10
    seen = []
    for _ in range(61):
        clock.now += 1
        seen.append(granted(store, terms, 1000))
    assert seen[28] == pytest.approx(300, abs=15)
    assert seen[59:] == [600, 600]
    assert all(later >= sooner for sooner, later in itertools.pairwise(seen))
    clock.now += 59
    assert granted(store, terms, 1000) == 600, "short of a minute is no silence"
    clock.now += 60
    assert granted(store, terms, 600) == 10


def test_a_round_is_in_flight_until_it_ends_or_its_process_is_dead(
    store: Admission, clock: Clock
) -> None:
    terms = LaneLimits("a:apns:b", **FAST)
    store.admit(terms, asks(30), "one")
    store.admit(terms, asks(12), "two")
    assert store.in_flight(terms.lane) == 42
    store.refund(terms, [], "one")
    assert store.in_flight(terms.lane) == 12
    clock.now += 16
    assert store.in_flight(terms.lane) == 0
