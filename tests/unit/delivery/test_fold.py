"""A backlog after an outage becomes one push per conversation and device; fresh traffic never
folds; nothing is lost.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model import Decision, Kind, MessageClass, PushType, Verdict
from tests.unit.delivery.builders import NOW_MS, lane, note, work
from workers.delivery.coalescing import OLD_S, View, coalesce, group_of, with_summary
from workers.delivery.results import Delivered
from workers.delivery.settle import settle
from workers.delivery.work import PendingPush
from workers.vendors.types import Outcome

HELD = Decision.UNAVAILABLE


def backlog(
    works: Sequence[PendingPush],
    *,
    elsewhere: Sequence[PendingPush] = (),
    upto_ms: int = 0,
    waits_for_newest: bool = True,
    due: bool = True,
) -> dict[str, View]:
    """What the fleet would say of these works, were they (and those elsewhere) the
    whole backlog.
    """
    views = {}
    for one in works:
        if one.target.held_by is None:
            continue
        mates = [
            w
            for w in (*works, *elsewhere)
            if group_of(w) == group_of(one) and w.target.held_by and w.note.ts_ms > upto_ms
        ]
        newest = max(mates, key=lambda w: (w.note.ts_ms, w.target.push_id), default=None)
        here = newest is None or any(newest is w for w in works)
        views[one.target.push_id] = View(
            upto_ms,
            newest.target.push_id if newest else "",
            newest.note.ts_ms if newest else 0,
            len(mates),
            waits_for_newest and not here and due,
            due,
        )
    return views


def series(count: int, held_by: str | None = HELD, **of_note: Any) -> list[PendingPush]:
    return [work(held_by, ts_ms=NOW_MS + index, **of_note) for index in range(count)]


def leads(
    works: Sequence[PendingPush], views: Mapping[str, View] | None = None
) -> list[tuple[int, int]]:
    """(milliseconds of the one that goes, for how many it speaks) of each that goes."""
    folded = coalesce(works, backlog(works) if views is None else views, NOW_MS)
    return [(one.note.ts_ms - NOW_MS, one.coalesced_count) for one in folded.go]


OLD: dict[str, Any] = {"received_ms": NOW_MS - OLD_S * 1000 - 1}
CASES: dict[str, tuple[list[PendingPush], list[tuple[int, int]]]] = {
    "five of one conversation, held: the newest goes for all": (series(5), [(4, 5)]),
    "one alone goes as it is": (series(1), [(0, 1)]),
    "fresh ones are never folded": (series(5, None), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
    "old ones fold though no lane held them": (series(3, None, **OLD), [(2, 3)]),
    "an old one and a held one are one backlog": (
        [*series(2), work(None, ts_ms=NOW_MS + 7, **OLD)],
        [(7, 3)],
    ),
    "two conversations stay two": (
        [*series(2), *series(2, conversation_id="eve")],
        [(1, 2), (1, 2)],
    ),
    "a group is another conversation than the chat of the same name": (
        [*series(2), *series(2, conversation_type="group")],
        [(1, 2), (1, 2)],
    ),
    "two devices of one person stay two": (
        [work(HELD), work(HELD, device="tablet")],
        [(0, 1), (0, 1)],
    ),
    "two people stay two": ([work(HELD), work(HELD, user="carl")], [(0, 1), (0, 1)]),
    "an advert never speaks for a chat": (
        [*series(2), *series(2, message_class=MessageClass.MARKETING)],
        [(1, 2), (1, 2)],
    ),
    "calls never fold": (series(2, kind=Kind.CALL_INVITE), [(0, 1), (1, 1)]),
    "messages of class call never fold": (
        series(2, message_class=MessageClass.CALL),
        [(0, 1), (1, 1)],
    ),
    "recalls never fold": (series(2, kind=Kind.RECALL), [(0, 1), (1, 1)]),
    "silent ones never fold": (series(2, push_type=PushType.SILENT), [(0, 1), (1, 1)]),
    "what is on a screen perhaps goes alone": (
        [*series(2), work(Decision.UNCERTAIN, ts_ms=NOW_MS + 9)],
        [(1, 2), (9, 1)],
    ),
    "a new one beside a backlog goes alone": (
        [*series(2), work(None, ts_ms=NOW_MS + 9)],
        [(1, 2), (9, 1)],
    ),
}


@pytest.mark.parametrize(("works", "expected"), CASES.values(), ids=CASES)
def test_who_goes_and_for_how_many(
    works: list[PendingPush], expected: list[tuple[int, int]]
) -> None:
    found = leads(works, backlog([w for w in works if w.target.held_by != Decision.UNCERTAIN]))
    assert found == expected


def test_held_by_the_rate_only_is_no_backlog() -> None:
    assert leads(series(3, Decision.THROTTLED), {}) == [(0, 1), (1, 1), (2, 1)]


def test_while_the_newest_is_elsewhere_the_others_wait_for_it_and_then_go_without() -> None:
    works, newest = series(3), work(HELD, ts_ms=NOW_MS + 50)
    waiting = coalesce(works, backlog(works, elsewhere=[newest]), NOW_MS)
    assert (waiting.go, waiting.folded, waiting.later) == ([], [], works)
    assert leads(works, backlog(works, elsewhere=[newest], waits_for_newest=False)) == [(2, 4)]


def test_the_one_that_tries_the_lane_waits_for_no_newer_one_and_speaks_for_itself() -> None:
    works, newest = series(1), work(HELD, ts_ms=NOW_MS + 50)
    tries = coalesce(works, backlog(works, elsewhere=[newest]), NOW_MS, waits=False)
    assert [(one, one.coalesced_count, one.coalesced) for one in tries.go] == [(works[0], 1, ())]
    assert (tries.folded, tries.later) == ([], [])


def test_those_who_come_back_after_the_newest_went_are_folded_and_later_ones_go_on() -> None:
    works = series(4)
    folded = coalesce(works, backlog(works, upto_ms=NOW_MS + 1), NOW_MS)
    assert folded.folded == works[:2]
    assert [(one.note.ts_ms, one.coalesced_count) for one in folded.go] == [(NOW_MS + 3, 2)]


def test_what_waited_a_moment_goes_singly_and_in_order() -> None:
    first, second, third = series(3)
    beside = work(None, conversation_id="eve")
    works = [third, beside, first, second]
    folded = coalesce(
        works, backlog(works, elsewhere=[work(HELD, ts_ms=NOW_MS + 50)], due=False), NOW_MS
    )
    assert folded.go == [first, beside, second, third]
    assert [one.coalesced_count for one in folded.go] == [1] * 4
    assert not folded.later


def test_what_a_newer_one_spoke_for_stays_folded_however_young_the_rest_is() -> None:
    works = series(4)
    folded = coalesce(works, backlog(works, upto_ms=NOW_MS + 1, due=False), NOW_MS)
    assert (folded.folded, folded.go) == (works[:2], works[2:])


def test_messages_of_one_conversation_that_fail_together_come_back_together() -> None:
    works = [*series(3), *series(2, conversation_id="eve")]
    done = Delivered(outcomes=[(one, Outcome(Verdict.UNAVAILABLE, "503")) for one in works])
    chances = iter((0.1, 0.2, 0.3, 0.4, 0.5))
    waits = settle(done, lane(), NOW_MS, None, lambda: next(chances)).waits
    assert [wait.work for wait in waits] == works
    assert (
        len({wait.delay_s for wait in waits[:3]}) == len({wait.delay_s for wait in waits[3:]}) == 1
    )
    assert waits[0].delay_s != waits[3].delay_s


held = st.sampled_from([None, *Decision])
some_works = st.lists(
    st.builds(
        work,
        held,
        user=st.sampled_from(["bob", "carl"]),
        device=st.sampled_from(["phone", "tablet"]),
        conversation_id=st.sampled_from(["ann", "eve"]),
        ts_ms=st.integers(NOW_MS - 5, NOW_MS + 5),
        received_ms=st.sampled_from([NOW_MS, NOW_MS - OLD_S * 1000 - 1]),
        kind=st.sampled_from([Kind.MESSAGE, Kind.MESSAGE, Kind.CALL_INVITE]),
        message_class=st.sampled_from(
            [MessageClass.CHAT, MessageClass.MARKETING, MessageClass.CALL]
        ),
    ),
    max_size=12,
)


@given(some_works, st.integers(NOW_MS - 6, NOW_MS + 6), st.booleans(), st.booleans(), st.data())
def test_every_work_ends_in_exactly_one_place(
    works: list[PendingPush], upto_ms: int, waits_for_newest: bool, due: bool, data: st.DataObject
) -> None:
    known = data.draw(
        st.sets(st.sampled_from([w.target.push_id for w in works])) if works else st.just(set())
    )
    told = backlog(works, upto_ms=upto_ms, waits_for_newest=waits_for_newest, due=due)
    views = {push_id: view for push_id, view in told.items() if push_id in known}
    folded = coalesce(works, views, NOW_MS)
    places = [
        *folded.go,
        *folded.folded,
        *folded.later,
        *(one for lead in folded.go for one in lead.coalesced),
    ]
    assert sorted(id(one) for one in places) == sorted(id(one) for one in works)
    for lead in folded.go:
        assert all(
            group_of(one) == group_of(lead) and one.note.ts_ms <= lead.note.ts_ms
            for one in lead.coalesced
        )
        assert lead.coalesced_count >= 1 + len(lead.coalesced)
        assert not lead.coalesced or lead.note.kind == Kind.MESSAGE
    assert all(one.target.push_id in views for one in folded.folded)


WORDS = {
    "shown": ({"body": "Ann:hi", "text": "hi"}, ("5 new messages: Ann:hi", "5 new messages: hi")),
    "hidden details stay hidden": (
        {"body": "You have a new message", "text": "", "hidden": True},
        ("5 new messages", "5 new messages"),
    ),
}


@pytest.mark.parametrize(("words", "expected"), WORDS.values(), ids=WORDS)
def test_the_newest_says_for_how_many_it_speaks(
    words: dict[str, Any], expected: tuple[str, str]
) -> None:
    said = with_summary(note(**words), "5 new messages")
    assert (said.body, said.text) == expected


def coalesced() -> tuple[PendingPush, PendingPush, Delivered]:
    follower, head = series(2)
    head.coalesced, head.coalesced_count = (follower,), 2
    return head, follower, Delivered()


FATES: dict[str, tuple[Decision, Decision | None]] = {
    "it went out for them": (Decision.ACCEPTED, Decision.FOLDED),
    "the token is dead for all": (Decision.TOKEN_DEAD, Decision.TOKEN_DEAD),
    "the person switched us off": (Decision.SILENCED, Decision.SILENCED),
    "the day's quota is spent": (Decision.QUOTA_SPENT, Decision.QUOTA_SPENT),
    "perhaps on the screen": (Decision.UNCERTAIN, Decision.UNCERTAIN),
    "its own words were refused: they go without it": (Decision.REJECTED, None),
    "it was too old: they go without it": (Decision.EXPIRED, None),
    "recalled after all: they go without it": (Decision.RECALLED, None),
}


@pytest.mark.parametrize(("fate", "expected"), FATES.values(), ids=FATES)
def test_those_it_leads_share_its_fate_or_go_without_it(
    fate: Decision, expected: Decision | None
) -> None:
    head, follower, done = coalesced()
    done.decided.append((head, fate, ""))
    settled = settle(done, lane(), NOW_MS, None, lambda: 0.5)
    found = {id(one.work): one.decision for one in settled.ended}
    assert found == {id(head): fate} | ({id(follower): expected} if expected else {})
    assert [(wait.work, wait.delay_s, wait.target.held_by) for wait in settled.waits] == (
        [] if expected else [(follower, 0.0, HELD)]
    )


@pytest.mark.parametrize(
    ("verdict", "held_by"),
    [
        (Verdict.UNAVAILABLE, "unavailable"),
        (Verdict.THROTTLED, "throttled"),
        (Verdict.UNCERTAIN, "unavailable"),
    ],
)
def test_they_wait_with_it_as_long_as_it_waits(verdict: Verdict, held_by: str) -> None:
    head, follower, done = coalesced()
    done.outcomes.append((head, Outcome(verdict, "503")))
    own, its = settle(done, lane(), NOW_MS, None, lambda: 0.5).waits
    assert (own.work, its.work) == (head, follower)
    assert (its.delay_s, its.target.held_by, its.target.attempts) == (own.delay_s, held_by, ())


def test_they_are_parked_with_it() -> None:
    head, follower, done = coalesced()
    done.on_hold.append((head, Decision.LANE_PAUSED))
    waits = settle(done, lane(), NOW_MS, None, lambda: 0.5).waits
    found = [(wait.work, wait.delay_s, wait.target.held_by) for wait in waits]
    assert found == [(head, None, "lane_paused"), (follower, None, "lane_paused")]
