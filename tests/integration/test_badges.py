"""The badge of a device, counted by the claim script: each number used once however many processes
push at the same time.
"""

import itertools
import uuid
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.storage.badges import BASE_MAX, Badges
from common.storage.claims import ClaimRequest, Claims, ClaimState, day_of
from common.storage.counting import bucket_of, hashes_of
from common.storage.keys import Keys
from tests.lane_marks import write_marks

NOW_MS = 1_763_787_600_000


class Desk:
    """Badges and claims under this test's own prefix."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client, self.keys = client, Keys(prefix)
        self.badges, self.claims = Badges(client, self.keys), Claims(client, self.keys)
        self._number = 0

    def push(
        self,
        device: str = "phone",
        step: int = 1,
        push_id: str | None = None,
        entry: str = "e1",
        user: str = "bob",
    ) -> Any:
        self._number += 1
        identity = push_id or f"{self._number:032x}"
        return self.claims.lease(
            [ClaimRequest("demo", identity, user, device, identity, NOW_MS, entry, step)]
        )[0]

    def release(self, push_id: str, entry: str = "e1", *, seen: bool = False) -> None:
        names = [
            self.keys.claims(day_of(NOW_MS), push_id),
            self.keys.badges("demo", "bob"),
        ]
        counts = hashes_of(self.keys, bucket_of("demo", "bob"))
        marks = ("free", names, (push_id, entry, "phone", seen))
        write_marks(self.client, self.keys, marks, counts=counts)

    def numbers(self, *steps: int, device: str = "phone") -> list[int | None]:
        return [self.push(device, step).badge for step in steps]

    def report(self, base: int | None, ts_ms: int = NOW_MS, device: str | None = "phone") -> None:
        self.badges.report("demo", "bob", device, ts_ms, base)


@pytest.fixture
def desk(redis_client: redis.Redis, space: str) -> Desk:
    return Desk(redis_client, f"push{space}")


STEPS: dict[str, tuple[int | None, tuple[int, ...], list[int | None]]] = {
    "one each": (5, (1, 1, 1), [6, 7, 8]),
    "several at once": (5, (3, 1, 10), [8, 9, 19]),
    "by nothing: the number as it stands": (5, (0, 1, 0), [5, 6, 6]),
    "left alone in between": (5, (1, -1, 1), [6, None, 7]),
    "nothing was ever reported": (None, (1, 1), [1, 2]),
    "from zero": (0, (1, 1), [1, 2]),
}


@pytest.mark.parametrize(("base", "steps", "shown"), STEPS.values(), ids=STEPS)
def test_a_badge_is_the_base_and_what_was_pushed_since(
    desk: Desk, base: int | None, steps: tuple[int, ...], shown: list[int | None]
) -> None:
    if base is not None:
        desk.report(base)
    assert desk.numbers(*steps) == shown


@pytest.mark.parametrize("base", [2**53 + 1, 2**63, 2**64, 10**25])
def test_a_base_that_is_no_number_of_messages_stops_nobodys_push(desk: Desk, base: int) -> None:
    desk.report(base)
    assert desk.numbers(1, 1) == [BASE_MAX + 1, BASE_MAX + 2]


@pytest.mark.parametrize(("seen", "other"), [(True, 7), (False, 6)])
def test_a_push_that_is_tried_again_stands_once_in_the_count_and_shows_the_number_of_now(
    desk: Desk, seen: bool, other: int
) -> None:
    """seen: a first try may be on the screen, with the 6; else nobody counted it, and the newer one
    has the 6.
    """
    desk.report(5)
    first = desk.push(push_id="a" * 32)
    assert (first.state, first.badge) == (ClaimState.OURS, 6)
    assert desk.push(push_id="a" * 32).badge == 6  # the same entry, read again
    desk.release("a" * 32, seen=seen)
    assert desk.push(push_id="b" * 32).badge == other
    assert desk.push(push_id="a" * 32, entry="e2").badge == 7
    assert desk.push().badge == 8


def test_what_waits_while_the_app_is_opened_is_the_first_of_the_new_count(desk: Desk) -> None:
    desk.report(0)
    assert desk.numbers(1, 1, 1, 1) == [1, 2, 3, 4]
    assert desk.push(push_id="a" * 32).badge == 5
    desk.release("a" * 32)
    desk.report(None, NOW_MS + 1_000)
    desk.report(0, NOW_MS + 1_001, device=None)
    assert desk.push(push_id="a" * 32, entry="e2").badge == 1
    desk.report(None, NOW_MS + 2_000)  # while it is on the wire
    desk.release("a" * 32, "e2")
    assert desk.push().badge == 1, "what was counted before is not taken off the new count"


def test_a_push_that_nobody_saw_leaves_its_number_to_the_next(desk: Desk) -> None:
    assert desk.push(push_id="a" * 32).badge == 1
    for _ in range(2):  # what is written twice changes nothing
        desk.release("a" * 32)
    assert desk.push().badge == 1
    assert desk.push(step=3).badge == 4


#: What may happen to each of several pushes, in any order: it is sent and shown, refused and waits,
#: gets no answer and waits, ends unseen.
FATES = ("shown", "waits", "uncertain", "unseen")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from((*FATES, "opened"))), max_size=30))
def test_the_icon_is_the_base_and_the_pushes_since_whatever_becomes_of_them(
    redis_client: redis.Redis, steps: list[tuple[int, str]]
) -> None:
    """One push on the wire at a time: each shows one more than those that may be seen since the app
    was open.
    """
    desk = Desk(redis_client, f"push{uuid.uuid4().hex}")
    desk.report(3, NOW_MS)
    since: set[int] = set()
    over: set[int] = set()
    for tick, (number, fate) in enumerate(steps):
        if fate == "opened":
            desk.report(None, NOW_MS + tick + 1)
            since.clear()
        elif number not in over:
            told = desk.push(push_id=f"{number:032x}", entry=f"e{tick}")
            assert told.badge == 3 + len(since | {number})
            if fate in ("shown", "uncertain"):
                since.add(number)
            desk.release(f"{number:032x}", f"e{tick}", seen=number in since)
            if fate in ("shown", "unseen"):
                over.add(number)


def test_coming_back_to_the_app_starts_the_count_again_and_leaves_the_base(desk: Desk) -> None:
    desk.report(5)
    assert desk.numbers(1, 1) == [6, 7]
    desk.report(None, NOW_MS + 1)
    assert desk.numbers(1) == [6]
    desk.report(2, NOW_MS + 2)
    assert desk.numbers(1) == [3]


def test_an_older_word_that_comes_late_changes_nothing(desk: Desk) -> None:
    desk.report(5, NOW_MS + 10)
    desk.numbers(1)
    desk.report(90, NOW_MS)
    desk.report(None, NOW_MS + 9)
    assert desk.numbers(1) == [7]


def test_the_words_on_a_badge_end_the_same_in_every_order(desk: Desk) -> None:
    words: list[tuple[int | None, int, str | None]] = [
        (5, 1, "d"),
        (None, 2, "d"),
        (9, 3, "d"),
        (None, 4, "d"),
        (20, 2, None),
    ]
    for number, order in enumerate(itertools.permutations(words)):
        for base, ts_ms, whose in order:
            desk.report(base, NOW_MS + ts_ms, device=None if whose is None else f"{whose}{number}")
        assert desk.numbers(1, device=f"d{number}") == [10], order


def test_devices_count_for_themselves(desk: Desk) -> None:
    desk.report(5)
    desk.report(50, device="pad")
    assert desk.numbers(1, device="pad") == [51]
    assert desk.numbers(1) == [6]


def test_a_word_on_the_person_is_for_every_device_also_for_one_that_was_never_heard_of(
    desk: Desk,
) -> None:
    desk.report(5)
    desk.numbers(1, 1)
    desk.report(30, NOW_MS + 5, device=None)
    assert desk.numbers(1) == [31]
    assert desk.numbers(1, 1, device="new") == [31, 32]
    desk.report(80, NOW_MS + 4, device="newer")  # older than the word on all
    assert desk.numbers(1, device="newer") == [31]
    desk.report(2, NOW_MS + 6, device="new")
    assert desk.numbers(1, device="new") == [3]


def test_what_is_counted_is_forgotten_in_the_end(desk: Desk) -> None:
    desk.push()
    for key in desk.client.scan_iter(match=f"{desk.keys.prefix}:*"):
        assert 0 < desk.client.ttl(key) <= 90 * 86_400
