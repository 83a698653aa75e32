"""Which tokens the mass guard gives up, over rates, shares, ages and builds: never good ones for a
wrong credential or a wrong build.
"""

import time
import uuid
from collections import Counter
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.storage import guard as guard_store
from common.storage import raw_pipe
from common.storage.guard import COHORT_H, HOLD_MS, MANY, Guard, Held, cohort_of
from common.storage.keys import Keys

LANE, VERSION = "a:apns:ios", 7
NOW = 1_763_787_600_000
DAY = 86_400_000


class Lane:
    """A lane's guard, and a clock that the test turns."""

    def __init__(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guard, self.now = Guard(client, Keys("push" + uuid.uuid4().hex)), NOW
        monkeypatch.setattr("common.storage.guard.time.time", lambda: self.now / 1000)
        self.retired: list[str] = []
        self.number = 0

    def answers(
        self,
        accepted: int,
        foreign: int,
        *,
        days: float = 30.0,
        build: str = "1.0",
        version: int = VERSION,
    ) -> list[Held]:
        """One round's: so many accepted and so many foreign, of devices that registered so long
        ago.
        """
        cohort = cohort_of(version, build, self.now - int(days * DAY), self.now)
        self.guard.count(
            LANE, accepted + foreign, foreign, 0, {cohort: accepted} if accepted else None
        )
        self.number += foreign
        held = [
            Held(cohort, f"u{self.number - index}", "d", "x", self.now, "BadDeviceToken")
            for index in range(foreign)
        ]
        self.guard.hold(LANE, held, self.now)
        return held

    def turn(self, seconds: float, version: int = VERSION) -> int:
        """Time goes on; how many were given up."""
        self.now += int(seconds * 1000)
        decided = self.guard.decide(LANE, version, self.now)
        self.guard.release(LANE, [*decided.forget, *decided.retire])
        self.retired += [one.user for one in decided.retire]
        return len(decided.retire)


@pytest.fixture
def lane(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Lane:
    return Lane(redis_client, monkeypatch)


@pytest.mark.parametrize("a_minute", [1 / 60, 1, 9, 49])
@pytest.mark.parametrize("days", [0, 30])
def test_a_small_tenant_with_the_wrong_environment_loses_no_token(
    lane: Lane, a_minute: float, days: float
) -> None:
    """Nine foreign answers a minute wiped all of them, 540 in an hour."""
    minutes = 240 if a_minute < 9 else 60
    for minute in range(minutes):
        foreign = int((minute + 1) * a_minute) - int(minute * a_minute)
        lane.answers(0, foreign, days=days)
        lane.turn(60)
    assert lane.retired == []
    assert lane.guard.stopped(LANE) is (minutes * a_minute >= MANY)


@pytest.mark.parametrize("same_build", [True, False])
def test_a_build_whose_tokens_die_at_once_beside_good_traffic_loses_none(
    lane: Lane, same_build: bool
) -> None:
    """300 fresh foreign tokens beside 2,400 accepted pushes of five minutes."""
    for _ in range(300):
        lane.answers(8, 0)
        lane.answers(0, 1, days=0, build="1.0" if same_build else "2.0-debug")
        lane.turn(1)
    lane.turn(600)
    assert lane.retired == []


def test_the_same_all_of_them_registered_a_moment_ago(lane: Lane) -> None:
    for _ in range(300):
        lane.answers(8, 1, days=0)
        lane.turn(1)
    lane.turn(600)
    assert lane.retired == []


def test_the_odd_one_among_working_ones_is_given_up_after_a_moment(lane: Lane) -> None:
    lane.answers(40, 0)
    held = lane.answers(0, 2)
    assert lane.turn(HOLD_MS / 1000 - 1) == 0
    assert lane.turn(1) == 2
    assert sorted(lane.retired) == sorted(one.user for one in held)
    assert lane.guard.lanes_with_held() == [LANE]
    assert lane.turn(1) == 0
    assert lane.guard.lanes_with_held() == []


@pytest.mark.parametrize("days", [0, 30])
def test_on_hold_until_the_cohort_has_an_accepted_push(lane: Lane, days: float) -> None:
    lane.answers(0, 1, days=days)
    assert lane.turn(3_600) == 0
    lane.answers(100, 0, days=30 - days)
    assert lane.turn(1) == 0, "those of another age say nothing of it"
    lane.answers(1, 0, days=days)
    assert lane.turn(1) == 1


def test_what_an_older_credential_was_told_is_forgotten(lane: Lane) -> None:
    lane.answers(100, 30)
    lane.answers(100, 0, version=8)
    assert lane.turn(60, version=8) == 0
    assert lane.guard.lanes_with_held() == [LANE]
    assert lane.turn(60, version=8) == 0
    assert not lane.guard.stopped(LANE)
    assert lane.guard.lanes_with_held() == []


def test_what_is_on_hold_for_a_day_is_forgotten(lane: Lane) -> None:
    lane.answers(0, 5)
    lane.turn(COHORT_H * 3_600 + 1)
    lane.answers(1000, 0)
    assert lane.turn(10) == 0


def test_one_token_that_is_named_again_and_again_is_one(lane: Lane) -> None:
    (held,) = lane.answers(0, 1)
    for _ in range(50):
        lane.guard.hold(LANE, [held], lane.now)
    lane.answers(1, 0)
    assert lane.turn(60) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rounds=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.integers(0, 6),
            st.sampled_from((0, 30)),
            st.sampled_from(("1.0", "2.0")),
            st.integers(0, 900),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_never_more_than_one_in_twenty_of_what_a_cohort_accepted(
    redis_client: redis.Redis, rounds: list[tuple[int, int, int, str, int]]
) -> None:
    """Whatever the rate, the share, the age and the build: of each cohort one token, and further
    ones by the twenty accepted pushes.
    """
    with pytest.MonkeyPatch.context() as patch:
        lane = Lane(redis_client, patch)
        accepted: Counter[str] = Counter()
        cohorts: dict[str, str] = {}
        for good, foreign, days, build, seconds in rounds:
            for one in lane.answers(good, foreign, days=days, build=build):
                cohorts[one.user] = one.cohort
            accepted[cohort_of(VERSION, build, lane.now - days * DAY, lane.now)] += good
            before = len(lane.retired)
            lane.turn(seconds)
            for cohort, count in Counter(cohorts[user] for user in lane.retired[before:]).items():
                assert accepted[cohort] >= max(1, 20 * (count - 1))


def test_dead_tokens_are_retired_at_once_unless_half_of_many_are(lane: Lane) -> None:
    assert lane.guard.count(LANE, 3, 0, 3)["dead"]
    assert lane.guard.count(LANE, 100, 0, 40)["dead"]
    assert not lane.guard.count(LANE, 500, 0, 400)["dead"]
    assert time.time() == lane.now / 1000


def test_rounds_without_a_refused_token_are_counted_and_their_counts_end(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, now = Keys("push" + uuid.uuid4().hex), [NOW / 1000]
    monkeypatch.setattr("common.storage.guard.time.time", lambda: now[0])
    guard, cohort = Guard(redis_client, keys), cohort_of(VERSION, "1.0", NOW - 30 * DAY, NOW)
    guard.count_good([(LANE, 2, {}), ("b:apns:ios", 1, {cohort: 1})])
    guard.count_good([(LANE, 3, {cohort: 3}), ("b:apns:ios", 1, {cohort: 1})])
    minute = int(now[0] // 60)
    of_lane = keys.guard_accepted(LANE, minute // 60)
    assert redis_client.hgetall(f"{keys.guard(LANE)}:{minute}") == {b"total": b"5"}
    assert redis_client.hgetall(of_lane) == {cohort.encode(): b"3"}
    assert redis_client.hget(keys.guard_accepted("b:apns:ios", minute // 60), cohort) == b"2"
    now[0] += 60
    guard.count_good([(LANE, 1, {cohort: 1})])
    assert redis_client.hgetall(of_lane) == {cohort.encode(): b"4"}
    counts = list(redis_client.scan_iter(match=f"{keys.prefix}:*"))
    assert len(counts) == 5
    assert all(redis_client.ttl(key) > 0 for key in counts)


def test_counts_end_also_where_a_minute_ends_while_they_are_written(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes are counted by several threads."""
    keys, now = Keys("push" + uuid.uuid4().hex), [NOW / 1000]
    monkeypatch.setattr("common.storage.guard.time.time", lambda: now[0])
    guard, write = Guard(redis_client, keys), raw_pipe.read_all
    cohort = cohort_of(VERSION, "1.0", NOW - 30 * DAY, NOW)

    def slow(*asked: Any) -> Any:
        monkeypatch.setattr(guard_store, "read_all", write)
        now[0] += 60
        guard.count_good([("b:apns:ios", 1, {cohort: 1})])
        return write(*asked)

    monkeypatch.setattr(guard_store, "read_all", slow)
    for _ in range(2):
        guard.count_good([(LANE, 1, {cohort: 1})])
    counts = list(redis_client.scan_iter(match=f"{keys.prefix}:*"))
    assert len(counts) == 5
    assert all(redis_client.ttl(key) > 0 for key in counts)
