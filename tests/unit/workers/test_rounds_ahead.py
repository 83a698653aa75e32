"""A round follows the one of its lane that was at work when it was taken, whatever became of that
one meanwhile; a probe follows none.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from common.model import Urgency, Vendor
from common.storage.lane_entries import LaneEntry, Taken
from tests.builders import present
from workers.handlers.running_rounds import RunningRound, RunningRounds


class Kept:
    """A store in which every entry is still its sender's."""

    def renew(self, *_: Any) -> tuple[str, ...]:
        return ()


def taken(word: str, what: str = "go") -> Taken:
    made = Taken("a:fcm:b", Urgency.CHAT, word, what, 0, tokens=9, burst=9)
    made.entries, made.left = [LaneEntry("o;1;1;1;1;1;1", b"")], 5
    return made


@pytest.fixture
def rounds() -> Iterator[RunningRounds]:
    made = RunningRounds(cast(Any, Kept()), Vendor.FCM, 10)
    yield made
    made.forget([one.taken.word for one in made.own()])


@pytest.fixture
def first(rounds: RunningRounds) -> RunningRound:
    """It is on the wire, and a look for ready lanes has begun."""
    one = present(rounds.begin(taken("first"), 3))
    assert rounds.reached(one, whole=True)
    rounds.look()
    assert not rounds.occupied()
    return one


@pytest.mark.parametrize("clean", [True, False])
def test_what_a_round_left_that_ended_during_the_look_goes_first(
    rounds: RunningRounds, first: RunningRound, clean: bool
) -> None:
    first.clean = clean
    rounds.forget([first.taken.word])
    second = present(rounds.begin(taken("second"), 3))
    assert second.on_wire == second.most
    assert rounds.reached(second, whole=True) is clean


def test_a_probe_is_put_off_while_a_round_is_at_work(
    rounds: RunningRounds, first: RunningRound
) -> None:
    assert rounds.begin(taken("probe", "probe"), 1) is None
    first.clean = True
    rounds.forget([first.taken.word])
    assert rounds.begin(taken("again", "probe"), 1) is not None


def test_the_next_look_finds_another_one(rounds: RunningRounds, first: RunningRound) -> None:
    second = present(rounds.begin(taken("second"), 3))
    assert second.leader is first
    rounds.look()
    assert rounds.occupied() == [("a:fcm:b", Urgency.CHAT)]
    first.clean = True
    rounds.forget([first.taken.word])
    assert rounds.reached(second, whole=True)
    rounds.look()
    assert present(rounds.begin(taken("third"), 3)).leader is second
