"""A round of the short ways waits a moment for its lane's rate, and no longer."""

from collections.abc import Sequence

import pytest

from workers.delivery.pacing import WHOLE_WAIT_S, Pacer, Unpaced, goes_whole

RATE, LIM_S = 1_000.0, 0.1


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 100.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


#: (tokens leased, seconds until the first of them, pushes) -> whether it goes, after how long
ROUNDS = {
    "at once": (40, 0.0, 40, True, 0.0),
    "a moment later": (40, LIM_S - 0.01, 40, True, 0.03),
    "a moment that is too long": (40, LIM_S + WHOLE_WAIT_S, 40, False, 0.0),
    "in parts": (500, 0.0, 500, False, 0.0),
    "more than was leased": (39, 0.0, 40, False, 0.0),
    "nothing leased": (0, 0.0, 1, False, 0.0),
}


@pytest.mark.parametrize(
    ("tokens", "first_s", "pushes", "goes", "after_s"), ROUNDS.values(), ids=ROUNDS
)
def test_a_round_goes_whole_or_is_left_to_the_general_way(
    tokens: int, first_s: float, pushes: int, goes: bool, after_s: float
) -> None:
    clock = Clock()
    pacer = Pacer(tokens, first_s, RATE, LIM_S, clock, clock.sleep, clock.now)
    assert goes_whole(pacer, pushes) is goes
    assert clock.slept == pytest.approx(after_s, abs=1e-6)
    assert clock.slept <= WHOLE_WAIT_S


def test_who_sleeps_too_long_again_and_again_waits_no_longer_in_all() -> None:
    class Late(Unpaced):
        waited_s = 0.0

        def part(self, costs: Sequence[int]) -> tuple[int, float]:
            return len(costs), WHOLE_WAIT_S / 3

        def wait(self, seconds: float) -> None:
            self.waited_s += seconds

    pace = Late()
    assert not goes_whole(pace, 1)
    assert pace.waited_s <= WHOLE_WAIT_S + 1e-9


def test_an_unlimited_lane_waits_for_nothing() -> None:
    assert goes_whole(Unpaced(), 500)
