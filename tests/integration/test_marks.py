"""Words that stop a push (recalled, read, answered) against the lease of its push id, on a real
Redis, in both orders.
"""

import itertools
import time
from typing import Any, cast

import pytest
import redis

from common.storage.claims import ClaimRequest, Claims, ClaimState, day_of
from common.storage.counting import bucket_of, hashes_of
from common.storage.keys import CALL, Keys
from common.storage.marks import EventMarks
from common.storage.silences import SilentPushLimiter
from tests.lane_marks import write_marks

TS = 1_763_787_600_000
APP, USER, MESSAGE, CHAT = "a", "u", "m1", "c2c:u1"


def push_id_of(message: str = MESSAGE, user: str = USER) -> str:
    return f"{hash((message, user)) & (1 << 128) - 1:032x}"


class Store:
    def __init__(self, client: redis.Redis, space: str) -> None:
        self.client, self.keys = client, Keys(f"push{space}")
        self.marks, self.claims = EventMarks(client, self.keys), Claims(client, self.keys)

    def lease(
        self,
        entry: str = "e1",
        *,
        ts: int = TS,
        message: str = MESSAGE,
        conversation: str = CHAT,
        user: str = USER,
    ) -> tuple[Any, str]:
        push_id = push_id_of(message, user)
        (claim,) = self.claims.lease(
            [ClaimRequest(APP, message, user, "d", push_id, ts, entry, -1, conversation)]
        )
        return claim.state, claim.why


@pytest.fixture
def store(redis_client: redis.Redis, space: str) -> Store:
    return Store(redis_client, space)


STOPS = {
    "recalled": (lambda marks: marks.recall(APP, CHAT, MESSAGE), "recalled"),
    "answered": (lambda marks: marks.end_call_of(APP, USER, MESSAGE, TS), "call_ended"),
    "read": (lambda marks: marks.read_message(APP, USER, CHAT, MESSAGE, TS), "read_elsewhere"),
    "read up to it": (lambda marks: marks.read_up_to(APP, USER, CHAT, TS), "read_elsewhere"),
}


@pytest.mark.parametrize(("stop", "why"), STOPS.values(), ids=STOPS)
def test_a_word_that_came_first_stops_the_push_and_nobody_elses(
    store: Store, stop: Any, why: str
) -> None:
    stop(store.marks)
    assert store.lease() == (ClaimState.REVOKED, why)
    assert store.lease(message="m2", ts=TS + 60_000) == (ClaimState.OURS, "")


@pytest.mark.parametrize(("stop", "_why"), STOPS.values(), ids=STOPS)
def test_what_its_dead_reader_may_have_sent_is_uncertain_when_the_word_comes_after(
    store: Store, stop: Any, _why: str
) -> None:
    assert store.lease("e1") == (ClaimState.OURS, "")
    stop(store.marks)
    assert store.lease("e2") == (ClaimState.ELSEWHERE, "")
    assert store.lease("e1") == (ClaimState.REVOKED, "uncertain")


def test_who_takes_over_from_a_dead_reader_is_told_that_it_may_have_sent(store: Store) -> None:
    assert store.lease("e1") == (ClaimState.OURS, "")
    assert store.lease("e1") == (ClaimState.OURS, "uncertain")


def test_what_waited_in_between_was_not_sent(store: Store) -> None:
    store.lease("e1")
    names = [store.keys.claims(day_of(TS), push_id_of()), store.keys.badges(APP, USER)]
    counts = hashes_of(store.keys, bucket_of(APP, USER))
    marks = ("free", names, (push_id_of(), "e1", "d", False))
    write_marks(store.client, store.keys, marks, counts=counts)
    store.marks.recall(APP, CHAT, MESSAGE)
    assert store.lease("e2") == (ClaimState.REVOKED, "recalled")


def test_reads_end_the_same_in_every_order(store: Store) -> None:
    for number, order in enumerate(itertools.permutations([TS + 10, TS + 20, TS + 30])):
        user = f"u{number}"
        for up_to in order:
            store.marks.read_up_to(APP, user, CHAT, up_to)
        assert store.lease(user=user, ts=TS + 30)[0] == ClaimState.REVOKED
        assert store.lease(user=user, ts=TS + 31, message="m2")[0] == ClaimState.OURS


def test_a_later_invitation_into_the_same_call_rings_again(store: Store) -> None:
    store.marks.end_call_of(APP, USER, MESSAGE, TS)
    assert store.lease(ts=TS) == (ClaimState.REVOKED, "call_ended")
    assert store.lease(ts=TS + 1) == (ClaimState.OURS, "")


def test_a_call_that_ended_rings_again_whatever_order_its_ends_come_in(store: Store) -> None:
    for end in (TS + 60_000, TS):
        store.marks.end_call(APP, MESSAGE, end)
    assert store.lease(conversation=CALL, ts=TS + 60_000) == (ClaimState.REVOKED, "call_ended")
    assert store.lease(conversation=CALL, ts=TS + 60_001) == (ClaimState.OURS, "")
    assert store.lease(conversation="c2c:call", message="m3") == (ClaimState.OURS, "")


@pytest.mark.parametrize(
    "other", [{"conversation": "c2c:u2"}, {"conversation": "group:u1"}, {"conversation": CALL}]
)
def test_a_word_on_a_message_is_for_that_of_its_conversation(
    store: Store, other: dict[str, str]
) -> None:
    store.marks.recall(APP, CHAT, MESSAGE)
    store.marks.read_message(APP, USER, CHAT, MESSAGE, TS)
    assert store.lease(**cast(Any, other)) == (ClaimState.OURS, "")


def test_the_words_about_one_person_are_bounded_and_the_newest_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.storage.marks.SINGLES_MAX", 20)
    store.marks.read_up_to(APP, USER, CHAT, TS - 1)
    for number in range(100):
        store.marks.read_message(APP, USER, CHAT, f"m{number}", TS + number)
    assert store.client.hlen(store.keys.read(APP, USER)) <= 21
    assert store.lease(message="m99")[0] == ClaimState.REVOKED
    assert store.lease(message="old", ts=TS - 5)[0] == ClaimState.REVOKED


def test_one_silent_push_takes_a_devices_gap_and_may_be_tried_again(store: Store) -> None:
    silences = SilentPushLimiter(store.client, store.keys)
    first, second, other = (APP, USER, "d1", "p1"), (APP, USER, "d1", "p2"), (APP, USER, "d2", "p3")
    assert silences.may_wake([first, second, other]) == [True, False, True]
    assert silences.may_wake([first]) == [True]
    left_ms = int(store.client.pttl(store.keys.silent(APP, USER, "d1")))
    assert 1_190_000 < left_ms <= 1_200_000


def test_a_full_server_fails_no_silent_push(store: Store) -> None:
    silences = SilentPushLimiter(store.client, store.keys)
    first, second, other = (APP, USER, "d1", "p1"), (APP, USER, "d1", "p2"), (APP, USER, "d2", "p3")
    assert silences.may_wake([first]) == [True]
    store.client.config_set("maxmemory", 1)
    try:
        assert silences.may_wake([first, second, other]) == [True, False, True]
    finally:
        store.client.config_set("maxmemory", 0)


def test_an_event_id_is_taken_once_and_kept_for_a_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, other = ("a", "e1", "s/1-0"), ("a", "e1", "s/2-0"), ("b", "e1", "s/3-0")
    assert store.marks.repeats([first, again, other]) == [False, True, False], (
        "in one read, and per tenant"
    )
    assert store.marks.repeats([first, again]) == [False, True], (
        "a redelivery is no repeat of itself"
    )
    began = time.time()
    for half_days in (1, 2, -1):  # the hash of its time, and a host whose clock is behind
        now = began + half_days * 43_200
        monkeypatch.setattr("common.storage.marks.time.time", lambda now=now: now)
        assert store.marks.repeats([again]) == [True]


def test_an_event_id_of_yesterday_is_free_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.marks.repeats([("a", "e1", "s/1-0")]) == [False]
    monkeypatch.setattr("common.storage.marks.EVENT_KEEP_S", 0)
    assert store.marks.repeats([("a", "e1", "s/2-0")]) == [False]


def test_a_freed_event_id_can_be_taken_again_but_not_by_a_stranger(store: Store) -> None:
    store.marks.repeats([("a", "e1", "s/1-0"), ("a", "e2", "s/2-0")])
    store.marks.free([("a", "e1", "s/1-0"), ("a", "e2", "s/9-0")])
    assert store.marks.repeats([("a", "e1", "s/3-0"), ("a", "e2", "s/3-0")]) == [False, True]


def test_many_events_of_one_read_are_told_apart(store: Store) -> None:
    events = [("a", f"e{number}", f"s/{number}-0") for number in range(2_500)]
    about = {number: ("a", "c2c:x", f"m{number}", number) for number in range(2_500)}
    assert not any(store.marks.repeats(events, about))
    asked = [("a", "c2c:x", f"m{number}") for number in (0, 999, 1_000, 2_499)]
    assert list(store.marks.times_of(asked).values()) == [0, 999, 1_000, 2_499]
    assert all(store.marks.repeats([(app, event, "s/x-0") for app, event, _ in events]))


def test_the_time_of_a_message_is_known_while_it_is_on_its_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [
        ("a", "e1", "s/1-0"),
        ("a", "e2", "s/2-0"),
        ("a", "e1", "s/3-0"),
        ("a", "e3", "s/4-0"),
    ]
    times = {0: ("a", "c2c:x", "m1", 5), 2: ("a", "c2c:z", "m1", 7), 3: ("a", "c2c:y", "m1", 6)}
    assert store.marks.repeats(events, times) == [False, False, True, False]
    asked = [("a", "c2c:x", "m1"), ("a", "c2c:y", "m1"), ("a", "c2c:z", "m1")]
    assert store.marks.times_of(asked) == {asked[0]: 5, asked[1]: 6}
    later = time.time() + 600
    monkeypatch.setattr("common.storage.marks.time.time", lambda: later)
    assert store.marks.times_of(asked) == {asked[0]: 5, asked[1]: 6}
