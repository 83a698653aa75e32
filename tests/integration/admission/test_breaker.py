"""The breaker: stops at once where it must, tries with one push for the whole fleet, and is not
fooled by late answers.
"""

import threading

import pytest
import redis

from common.storage.keys import Keys
from common.storage.lanes import FLOWING, PAUSED, PROBING, STOPPED, LaneStates
from tests.integration.admission.conftest import Clock

LANE = "a:apns:b"


@pytest.fixture
def states(redis_client: redis.Redis, space: str, clock: Clock) -> LaneStates:
    return LaneStates(redis_client, Keys(f"push{space}"), clock=clock)


def pause_s(states: LaneStates, clock: Clock) -> int:
    """Whole seconds until the lane may be tried again; takes the probe."""
    begin = clock.now
    while not states.ask(LANE, 1).probe:
        clock.now += 1
    return int(clock.now - begin)


@pytest.mark.parametrize("fraction_s", [0.0, 0.0006])  # half a millisecond is rounded up
def test_sixteen_replicas_send_one_probe(
    redis_client: redis.Redis, space: str, fraction_s: float
) -> None:
    keys = Keys(f"push{space}")
    clock = Clock(1_767_000_000.0 + fraction_s)
    LaneStates(redis_client, keys, clock=clock).tell(LANE, 1, 0, 1, refused=True)
    clock.now += 61
    together, probes = threading.Barrier(16), []

    def ask() -> None:
        states = LaneStates(redis_client, keys, clock=clock)
        together.wait()
        probes.append(sum(states.ask(LANE, 1).probe for _ in range(20)))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(probes) == [0] * 15 + [1]


def test_one_refused_credential_stops_the_lane_at_once(states: LaneStates) -> None:
    states.tell(LANE, 1, good=499, failed=0, refused=True)
    state = states.ask(LANE, 1)
    assert (state.state, state.why, state.probe) == (STOPPED, "credential_refused", False)


RATES = {
    "nineteen failures are too few": (0, 19, FLOWING),
    "twenty in a row": (0, 20, STOPPED),
    "half of forty": (20, 20, STOPPED),
    "less than half": (21, 20, FLOWING),
}


@pytest.mark.parametrize(("good", "failed", "state"), RATES.values(), ids=RATES)
def test_a_failure_rate_stops_the_lane(
    states: LaneStates, good: int, failed: int, state: str
) -> None:
    states.tell(LANE, 1, good=good, failed=min(failed, 1), refused=False)
    for _ in range(failed - 1):
        states.tell(LANE, 1, good=0, failed=1, refused=False)
    assert states.ask(LANE, 1).state == state


def test_failures_of_long_ago_do_not_count(states: LaneStates, clock: Clock) -> None:
    for _ in range(4):
        states.tell(LANE, 1, good=0, failed=15, refused=False)
        clock.now += 10
    assert states.ask(LANE, 1).state == FLOWING


def test_late_answers_do_not_open_a_stopped_lane(states: LaneStates, clock: Clock) -> None:
    states.tell(LANE, 1, good=0, failed=20, refused=False)
    states.tell(LANE, 1, good=400, failed=0, refused=False)
    assert states.ask(LANE, 1).state == STOPPED
    clock.now += 2
    assert states.ask(LANE, 1).probe
    states.tell(LANE, 1, good=1, failed=0, refused=False)
    assert states.ask(LANE, 1).state == FLOWING


def test_each_failed_probe_doubles_the_pause_up_to_a_minute(
    states: LaneStates, clock: Clock
) -> None:
    states.tell(LANE, 1, good=0, failed=20, refused=False)
    pauses = []
    for _ in range(7):
        pauses.append(pause_s(states, clock))
        states.tell(LANE, 1, good=0, failed=1, refused=False)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]


def test_a_refused_credential_is_tried_again_within_ten_minutes(
    states: LaneStates, clock: Clock
) -> None:
    pauses = []
    for _ in range(6):
        states.tell(LANE, 1, good=0, failed=0, refused=True)
        # the other replicas' answers: no strike of their own
        states.tell(LANE, 1, good=0, failed=0, refused=True)
        pauses.append(pause_s(states, clock))
    assert pauses == [60, 120, 240, 480, 600, 600]


def test_a_new_credential_is_tried_at_once(states: LaneStates) -> None:
    states.tell(LANE, 1, good=0, failed=0, refused=True)
    assert states.ask(LANE, 2).probe
    states.tell(LANE, 1, good=0, failed=0, refused=True)  # an old answer, late
    assert states.ask(LANE, 2).state == PROBING
    states.tell(LANE, 2, good=1, failed=0, refused=False)
    assert states.ask(LANE, 2).state == FLOWING


def test_a_probe_that_was_not_sent_is_given_back(states: LaneStates, clock: Clock) -> None:
    states.tell(LANE, 1, good=0, failed=20, refused=False)
    clock.now += 2
    assert states.ask(LANE, 1).probe
    assert not states.ask(LANE, 1).probe
    states.tell(LANE, 1, good=0, failed=0, refused=False)
    assert states.ask(LANE, 1).probe


@pytest.mark.parametrize("probe_s", [15.0, 65.0])
def test_a_probe_whose_process_died_is_taken_by_another_after_the_time_of_a_send(
    redis_client: redis.Redis, space: str, clock: Clock, probe_s: float
) -> None:
    states = LaneStates(redis_client, Keys(f"push{space}"), probe_s=probe_s, clock=clock)
    states.tell(LANE, 1, good=0, failed=20, refused=False)
    clock.now += 2
    assert states.ask(LANE, 1).probe
    clock.now += probe_s - 0.1
    assert not states.ask(LANE, 1).probe
    clock.now += 0.2
    assert states.ask(LANE, 1).probe


def test_a_clock_that_steps_back_does_not_lengthen_a_pause(
    states: LaneStates, clock: Clock
) -> None:
    states.tell(LANE, 1, good=0, failed=20, refused=False)
    clock.now -= 3600
    assert states.ask(LANE, 1).probe


def test_each_change_is_told_once_with_its_cause_and_stays_in_the_history(
    states: LaneStates, clock: Clock
) -> None:
    assert states.last_changes([LANE, "a:vivo:b"]) == [None, None]
    told = [states.tell(LANE, 1, 0, 10, refused=False, cause="dns") for _ in range(4)]
    assert told == [None, STOPPED, None, None]
    stopped_ms = int(clock.now * 1000)
    pause_s(states, clock)
    seen = states.tell(LANE, 1, 0, 1, refused=False, cause="dns")
    assert seen is None, "still stopped, for the same cause"
    pause_s(states, clock)
    shown = states.tell(LANE, 1, 0, 1, refused=False, cause="timeout")
    assert shown == STOPPED, "for another cause"
    pause_s(states, clock)
    assert states.tell(LANE, 1, 1, 0, refused=False) == FLOWING
    states.hold(LANE, True)
    found = states.history(LANE)
    expected = [("paused", "operator"), ("flowing", ""), ("stopped", "timeout"), ("stopped", "dns")]
    assert [(one.state, one.cause) for one in found] == expected
    assert found[-1].at_ms == stopped_ms
    assert states.last_changes([LANE])[0] == found[0]


def test_what_is_resumed_while_its_vendor_refuses_is_stopped_for_that_cause(
    states: LaneStates,
) -> None:
    states.tell(LANE, 1, 0, 1, refused=True, cause="credential")
    states.hold(LANE, True)
    states.hold(LANE, False)
    newest, resumed, *_ = states.history(LANE)
    assert (newest.state, newest.cause) == (STOPPED, "credential")
    assert (resumed.state, resumed.cause) == (FLOWING, "operator")


def test_the_history_has_a_bound(states: LaneStates) -> None:
    for number in range(81):
        states.hold(LANE, number % 2 == 0)
    assert [one.state for one in states.history(LANE)] == [PAUSED, FLOWING] * 25
