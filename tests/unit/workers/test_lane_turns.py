"""Whose turn it is in one lane: the most urgent first, each with a start over the next, nobody for
ever; and a process that stands still takes nobody's turn.
"""

from collections.abc import Sequence

import pytest

from common.model import Urgency
from common.storage.lane_entries import RANK
from workers.handlers.lane_turns import LOOK_COUNTS_S, TURN_MS, TURN_S, LaneTurns

CALL, CHAT, GROUP, BULK = Urgency.CALL, Urgency.CHAT, Urgency.GROUP, Urgency.BULK
LANE = "app:honor:main"


class Looks:
    """A sender's looks at one lane, one every TURN_MS unless it stands still."""

    def __init__(self) -> None:
        self.turns, self.now_s = LaneTurns(), 1_000.0
        self.running: set[int] = set()
        self.waiting: list[Urgency] = []

    def look(self, after_s: float = TURN_MS / 1000) -> list[Urgency]:
        self.now_s += after_s
        found = [(LANE, one) for one in self.waiting if RANK[one] not in self.running]
        chosen = self.turns.chosen(found, {LANE: set(self.running)}, self.now_s)
        for _, one in chosen:
            self.waiting.remove(one)
            self.running.add(RANK[one])
        return [one for _, one in chosen]

    def until(self, wanted: Urgency, most_s: float = 10.0) -> float:
        """Seconds until this one goes."""
        began = self.now_s
        while wanted not in self.look():
            assert self.now_s - began < most_s, f"{wanted} waits for ever"
        return self.now_s - began


@pytest.fixture
def looks() -> Looks:
    return Looks()


def waits(looks: Looks, urgencies: Sequence[Urgency]) -> None:
    looks.waiting = list(urgencies)


def test_each_urgency_goes_once_those_before_it_are_over(looks: Looks) -> None:
    waits(looks, [CALL, CHAT, GROUP, BULK])
    for wanted in (CALL, CHAT, GROUP, BULK):
        assert looks.look() == [wanted]
        assert looks.look() == []
        looks.running.clear()


def test_who_waited_for_the_same_chats_does_not_leave_together(looks: Looks) -> None:
    """A round of chats that takes long lets the group by, and then the group's own round is ahead
    of the adverts.
    """
    waits(looks, [CHAT, GROUP, BULK])
    assert looks.look() == [CHAT]
    looks.until(GROUP)
    assert looks.waiting == [BULK]
    looks.running.remove(RANK[CHAT])
    for _ in range(int(TURN_S * 1000 / TURN_MS) - 2):
        assert looks.look() == [], "the group's round has a start over the adverts"
    looks.running.clear()
    assert looks.look() == [BULK]


def test_nobody_waits_for_ever_behind_a_round_that_hangs(looks: Looks) -> None:
    waits(looks, [CALL, CHAT, GROUP, BULK])
    looks.look()
    times = [looks.until(one) for one in (CHAT, GROUP, BULK)]
    assert times == pytest.approx([TURN_S] * 3, abs=0.05)


def test_a_steady_stream_of_short_rounds_starves_nobody(looks: Looks) -> None:
    """Every look finds a call, a chat and a group that have just come, whose rounds are short."""
    gone = 0
    for turn in range(1_000):
        looks.running = set() if turn % 2 else looks.running
        waits(looks, [CALL, CHAT, GROUP, BULK])
        gone += BULK in looks.look()
    assert gone >= 12, "in twenty seconds in which everybody more urgent had rounds all the while"


def test_nobody_passes_who_waits_himself(looks: Looks) -> None:
    """The adverts have waited for the chats longer than the group that has just come."""
    waits(looks, [CHAT, BULK])
    looks.look()
    for _ in range(int(TURN_S * 1000 / TURN_MS) - 2):
        looks.look()
    waits(looks, [GROUP, BULK])
    assert looks.until(GROUP) >= TURN_S
    assert looks.waiting == [BULK]


@pytest.mark.parametrize("stands_s", [0.4, 2.0, 60.0])
def test_a_process_that_stood_still_takes_nobodys_turn(looks: Looks, stands_s: float) -> None:
    """No answer could come in meanwhile: the round ahead is not late."""
    waits(looks, [GROUP, BULK])
    assert looks.look() == [GROUP]
    looks.look()
    assert looks.look(stands_s) == []
    for _ in range(int((TURN_S - LOOK_COUNTS_S) * 1000 / TURN_MS) - 2):
        assert looks.look() == []


def test_another_lanes_rounds_are_nobodys_concern(looks: Looks) -> None:
    other = ("app:honor:other", BULK)
    assert looks.turns.chosen([other], {LANE: {RANK[CALL]}}, looks.now_s) == [other]
