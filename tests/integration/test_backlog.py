"""What outages hold back, as the whole fleet knows it: who is in a group, when it is old enough to
fold, who waits for whom.
"""

import pytest
import redis

from common.storage.backlog import COALESCE_AFTER_MS, PATIENCE_MS, HeldPushes
from common.storage.keys import Keys
from tests.lane_marks import write_marks

NOW_MS = 1_700_000_000_000
ANN = ("demo", "c2c", "ann", "bob", "phone", "chat")
EVE = ("demo", "c2c", "eve", "bob", "phone", "chat")
OLD = NOW_MS - COALESCE_AFTER_MS


class Fleet:
    """Two processes' stores over one server; a take joins in its MULTI, a round's commit ends."""

    def __init__(self, client: redis.Redis, space: str) -> None:
        self.client, self.keys = client, Keys(f"push{space}")
        self.one, self.two = HeldPushes(client, self.keys), HeldPushes(client, self.keys)

    def join(self, *held: tuple[str, int, int], group: tuple[str, ...] = ANN) -> None:
        """held: (push id, event ts, received) each."""
        names, keep_s = self.one.names(group), self.one.keep_s
        write_marks(self.client, self.keys, *(("join", names, (*one, keep_s)) for one in held))

    def leave(self, *push_ids: str) -> None:
        names = self.two.names(ANN)
        write_marks(self.client, self.keys, *(("leave", names, (one,)) for one in push_ids))

    def mark_coalesced(self, ts_ms: int) -> None:
        marks = ("spoken", self.two.names(ANN), (ts_ms, self.two.marks_s))
        write_marks(self.client, self.keys, marks)

    def ripe(self, push_id: str, received_ms: int, now_ms: int = NOW_MS) -> bool:
        (seen,) = self.two.look([(ANN, push_id, received_ms, None)], now_ms)
        assert seen.member
        return seen.due


@pytest.fixture
def fleet(redis_client: redis.Redis, space: str) -> Fleet:
    return Fleet(redis_client, space)


@pytest.mark.parametrize(
    ("waited_ms", "ripe"), [(0, False), (COALESCE_AFTER_MS - 1, False), (COALESCE_AFTER_MS, True)]
)
def test_a_backlog_folds_once_its_first_push_was_received_long_ago(
    fleet: Fleet, waited_ms: int, ripe: bool
) -> None:
    fleet.join(("a", 1, NOW_MS - waited_ms), ("b", 2, NOW_MS))
    assert fleet.ripe("b", NOW_MS) == ripe


def test_a_push_that_joins_late_is_part_of_the_backlog_and_counted(fleet: Fleet) -> None:
    fleet.join(("a", 1, OLD))
    fleet.join(("b", 2, NOW_MS - 50))
    fleet.join(("other", 9, NOW_MS), group=EVE)
    (seen,) = fleet.two.look([(ANN, "b", NOW_MS - 50, None)], NOW_MS)
    assert (seen.due, seen.waiting, seen.newest) == (True, 2, "b")


def test_the_age_begins_anew_when_everybody_has_left(fleet: Fleet) -> None:
    fleet.join(("a", 1, OLD), ("b", 2, OLD))
    fleet.leave("a")
    fleet.join(("c", 3, NOW_MS))
    assert fleet.ripe("c", NOW_MS), "b still waits"
    fleet.leave("b", "c")
    fleet.join(("d", 4, NOW_MS))
    assert not fleet.ripe("d", NOW_MS)


def test_who_comes_after_the_newest_has_spoken_is_a_backlog_of_its_own(fleet: Fleet) -> None:
    fleet.join(("a", 1, OLD), ("b", 2, OLD), ("late", 7, NOW_MS - 50), ("old", 6, OLD))
    fleet.mark_coalesced(2)
    fleet.leave("b")
    assert not fleet.ripe("late", NOW_MS - 50)
    assert fleet.ripe("old", OLD), "it has waited itself"
    (seen,) = fleet.one.look([(ANN, "a", OLD, None)], NOW_MS)
    assert (seen.upto_ms, seen.waiting) == (2, 2)


def test_nobody_waits_for_the_newest_of_a_young_backlog_and_of_an_old_one_not_for_ever(
    fleet: Fleet,
) -> None:
    fleet.join(("a", 1, NOW_MS), ("b", 2, NOW_MS))
    assert not fleet.one.look([(ANN, "a", NOW_MS, None)], NOW_MS)[0].waits_for_newest
    ripe_ms = NOW_MS + COALESCE_AFTER_MS
    waits = (0, PATIENCE_MS - 1, PATIENCE_MS)
    ann = (ANN, "a", NOW_MS, None)
    told = [fleet.one.look([ann], ripe_ms + ms)[0].waits_for_newest for ms in waits]
    assert told == [True, True, False]
    both = fleet.one.look([ann, (ANN, "b", NOW_MS, None)], ripe_ms)
    assert not any(one.waits_for_newest for one in both), "it is here"


def test_what_left_leaves_no_trace(fleet: Fleet) -> None:
    fleet.join(("a", 1, OLD))
    fleet.one.look([(ANN, "a", OLD, None)], NOW_MS)
    fleet.leave("a")
    assert not list(fleet.client.scan_iter(f"{fleet.keys.backlog('')}*"))
