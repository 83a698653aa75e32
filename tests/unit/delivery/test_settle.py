"""What follows from a round of answers: cures that stay with a push, whose tokens are retired, what
counts as a vendor that is down.
"""

import msgspec
import pytest
from prometheus_client import REGISTRY

from common.contracts import Attempt
from common.ledger_records import RowRecord
from common.model import Again, Decision, Kind, Vendor, Verdict
from tests.unit.vendors.cases import NOW_MS, credential, note, target
from workers.delivery.classifying import is_down
from workers.delivery.lane import Lane
from workers.delivery.results import Delivered
from workers.delivery.settle import ATTEMPTS_KEPT, Settled, settle, without_lane
from workers.delivery.work import PendingPush
from workers.handlers.ledger_rows import pending_row
from workers.handlers.round_counts import count as _count
from workers.vendors import VENDORS
from workers.vendors.types import Outcome
from workers.wire import Route

VIVO = VENDORS[Vendor.VIVO]
LANE = Lane(VIVO, credential(Vendor.VIVO), Route("p", {}, False, None), VIVO.limits)


def settled(outcome: Outcome, again: str | None = None) -> Settled:
    """One push, tried before with this cure, and one answer."""
    work = PendingPush("belt/1-0", note(), target("live-1", again=again))
    return settle(Delivered(outcomes=[(work, outcome)]), LANE, NOW_MS, None, lambda: 0.5)


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (Again.FALLBACK_TEXT, None, Again.FALLBACK_TEXT),
        (Again.WITHOUT_IMAGE, None, Again.WITHOUT_IMAGE),
        (Again.SINGLY, None, Again.SINGLY),
        (Again.SINGLY, Again.FALLBACK_TEXT, Again.FALLBACK_TEXT),
        (Again.NEW_CONNECTION, None, None),
        (Again.SAVE_AGAIN, None, None),
        (None, Again.SINGLY, Again.SINGLY),
        (None, None, None),
    ],
)
def test_a_cure_stays_with_its_push_unless_it_was_for_one_attempt(
    before: str | None, told: Again | None, after: str | None
) -> None:
    (wait,) = settled(Outcome(Verdict.UNAVAILABLE, "500", again=told), before).waits
    assert wait.target.again == after


@pytest.mark.parametrize(
    ("outcome", "attempts", "cap_s", "delay_s"),
    [
        (Outcome(Verdict.UNAVAILABLE, "500"), 0, None, 1.0),
        (Outcome(Verdict.UNAVAILABLE, "500"), 2, None, 4.0),
        (Outcome(Verdict.UNAVAILABLE, "200", first_s=5.0), 0, None, 5.0),
        (Outcome(Verdict.UNAVAILABLE, "200", first_s=5.0), 1, None, 10.0),
        (Outcome(Verdict.UNAVAILABLE, "200", first_s=5.0), 1, 0.2, 0.4),
        (Outcome(Verdict.UNAVAILABLE, "503", retry_after_s=10.0, first_s=5.0), 1, 0.2, 10.0),
    ],
)
def test_the_delay_doubles_from_the_codes_own_or_the_vendors_first_within_the_operators_cap(
    outcome: Outcome, attempts: int, cap_s: float | None, delay_s: float
) -> None:
    before = tuple(Attempt(NOW_MS, "500", "", "", None) for _ in range(attempts))
    work = PendingPush("belt/1-0", note(), target("live-1", attempts=before))
    (wait,) = settle(Delivered(outcomes=[(work, outcome)]), LANE, NOW_MS, cap_s, lambda: 0.0).waits
    assert wait.delay_s == pytest.approx(delay_s)


SILENCE = Outcome(Verdict.UNCERTAIN, "timeout")
BROKEN = Outcome(Verdict.UNAVAILABLE, "500")
TRIES: dict[str, tuple[list[str], Outcome, str | None]] = {
    "silence after a long throttle": ([Verdict.THROTTLED] * 9, SILENCE, None),
    "the third silence": (
        [Verdict.UNCERTAIN, Verdict.THROTTLED, Verdict.UNCERTAIN],
        SILENCE,
        "uncertain",
    ),
    "a 500 after a long throttle": ([Verdict.THROTTLED] * 19, BROKEN, None),
    "the eighth 500": ([Verdict.UNAVAILABLE] * 7, BROKEN, "unavailable"),
    "an older fleet's tries count as the same": ([""] * 7, BROKEN, "unavailable"),
}


@pytest.mark.parametrize(("before", "outcome", "decision"), TRIES.values(), ids=TRIES)
def test_tries_are_counted_by_what_they_met(
    before: list[str], outcome: Outcome, decision: str | None
) -> None:
    attempts = tuple(Attempt(NOW_MS, "500", "", "", None, verdict) for verdict in before)
    work = PendingPush("belt/1-0", note(), target("live-1", attempts=attempts))
    done = settle(Delivered(outcomes=[(work, outcome)]), LANE, NOW_MS, None, lambda: 0.5)
    assert [ended.decision for ended in done.ended] == ([decision] if decision else [])
    assert len(done.waits) == (not decision)


@pytest.mark.parametrize(
    ("verdict", "guarded", "foreign", "state"),
    [
        (Verdict.TOKEN_DEAD, True, False, "retired"),
        (Verdict.TOKEN_FOREIGN, True, True, "retired"),
        (Verdict.SILENCED, False, False, "silenced"),
    ],
)
def test_each_kind_of_dead_token_has_a_guard_of_its_own(
    verdict: Verdict, guarded: bool, foreign: bool, state: str
) -> None:
    done = settled(Outcome(verdict, "200", "10302"))
    (one,) = done.retires
    assert (one.guarded, one.foreign, one.state) == (guarded, foreign, state)
    assert done.ended[0].decision == Decision(verdict)


@pytest.mark.parametrize(
    "verdict", sorted({*Verdict} - {Verdict.TOKEN_DEAD, Verdict.TOKEN_FOREIGN, Verdict.SILENCED})
)
def test_no_other_word_of_a_vendor_retires_a_token(verdict: Verdict) -> None:
    assert not settled(Outcome(verdict, "200")).retires


def test_attempts_are_counted_beyond_those_that_travel_with_the_push() -> None:
    """With PUSHFLEET_RETRY_FIRST_S=0 nothing else would end the tries before the push's day is
    over.
    """
    one, tries = target("live-1"), 0
    while True:
        tries += 1
        work = PendingPush("belt/1-0", note(), one)
        outcomes = [(work, Outcome(Verdict.THROTTLED, "429"))]
        done = settle(Delivered(outcomes=outcomes), LANE, NOW_MS, 0.0, lambda: 0.5)
        if done.ended:
            break
        one = done.waits[0].target
        assert (one.tried, len(one.attempts)) == (tries, min(tries, ATTEMPTS_KEPT))
    found = (tries, done.ended[0].decision)
    assert found == (VIVO.retry.attempts_max[Verdict.THROTTLED], Decision.THROTTLED)


#: what the lane says of a push whose first request was never answered -> its decision, None: it
#: waits
AFTER_SILENCE = {
    "the vendor is down, and attempts ran out": (
        Outcome(Verdict.UNAVAILABLE, "503", attempts_max=1),
        Decision.UNCERTAIN,
    ),
    "flow control, and attempts ran out": (
        Outcome(Verdict.THROTTLED, "429", attempts_max=1),
        Decision.UNCERTAIN,
    ),
    "the day's quota is spent": (Outcome(Verdict.QUOTA_SPENT, "200"), Decision.UNCERTAIN),
    "the account is refused": (Outcome(Verdict.CREDENTIAL_REFUSED, "403"), None),
    "down for a while": (Outcome(Verdict.UNAVAILABLE, "503"), None),
    "too fast for a while": (Outcome(Verdict.THROTTLED, "429"), None),
    "accepted": (Outcome(Verdict.ACCEPTED, "200"), Decision.ACCEPTED),
    "the token is dead": (Outcome(Verdict.TOKEN_DEAD, "200"), Decision.TOKEN_DEAD),
    "the vendor won't have these words": (Outcome(Verdict.REJECTED, "400"), Decision.REJECTED),
}


@pytest.mark.parametrize(("outcome", "decision"), AFTER_SILENCE.values(), ids=AFTER_SILENCE)
def test_what_was_never_answered_stays_uncertain_whatever_stopped_the_lane_later(
    outcome: Outcome, decision: Decision | None
) -> None:
    work = PendingPush(
        "belt/1-0", note(), msgspec.structs.replace(target("live-1"), held_by=Decision.UNCERTAIN)
    )
    done = settle(Delivered(outcomes=[(work, outcome)]), LANE, NOW_MS, None, lambda: 0.5)
    assert [one.decision for one in done.ended] == ([] if decision is None else [decision])
    assert [wait.target.held_by for wait in done.waits] == (
        [Decision.UNCERTAIN] if decision is None else []
    )


def test_its_row_goes_on_saying_that_it_may_be_on_a_screen() -> None:
    """A recall looks for these words (common/storage/ledger.py)."""
    work = PendingPush(
        "belt/1-0", note(), msgspec.structs.replace(target("live-1"), held_by=Decision.UNCERTAIN)
    )
    outcomes = [(work, Outcome(Verdict.UNAVAILABLE, "503"))]
    (wait,) = settle(Delivered(outcomes=outcomes), LANE, NOW_MS, None, lambda: 0.5).waits
    row = pending_row(wait, Vendor.VIVO, "b", NOW_MS)
    assert isinstance(row, RowRecord)
    assert row.note.startswith("waits: uncertain, then unavailable, again in ")


@pytest.mark.parametrize("decision", [Decision.QUOTA_SPENT, Decision.DEVICE_CAP])
def test_nor_does_our_own_count_change_that(decision: Decision) -> None:
    work = PendingPush(
        "belt/1-0", note(), msgspec.structs.replace(target("live-1"), held_by=Decision.UNCERTAIN)
    )
    decided = [(work, decision, "held back by our own count")]
    done = settle(Delivered(decided=decided), LANE, NOW_MS, None, lambda: 0.5)
    assert [one.decision for one in done.ended] == [Decision.UNCERTAIN]


def test_of_an_account_that_was_removed_only_what_was_never_answered_is_uncertain() -> None:
    held = (None, "unavailable", "uncertain")
    works = [
        PendingPush("belt/1-0", note(), msgspec.structs.replace(target("live-1"), held_by=one))
        for one in held
    ]
    found = [one.decision for one in without_lane(works)]
    assert found == [Decision.NO_CREDENTIAL, Decision.NO_CREDENTIAL, Decision.UNCERTAIN]


@pytest.mark.parametrize(
    ("outcome", "down"),
    [
        (Outcome(Verdict.UNAVAILABLE, "503"), True),
        (Outcome(Verdict.UNCERTAIN, "timeout"), True),
        (Outcome(Verdict.UNAVAILABLE, "503", "Shutdown", again=Again.NEW_CONNECTION), True),
        (Outcome(Verdict.UNAVAILABLE, "200", "10085", again=Again.FALLBACK_TEXT), False),
        (Outcome(Verdict.UNAVAILABLE, "200", "80300002", again=Again.SINGLY), False),
        (Outcome(Verdict.THROTTLED, "429"), False),
        (Outcome(Verdict.ACCEPTED, "200"), False),
    ],
)
def test_a_vendor_that_wants_another_form_was_there(outcome: Outcome, down: bool) -> None:
    assert is_down(outcome) is down


def test_those_who_shared_a_request_come_back_together() -> None:
    chances = iter([0.1, 0.9, 0.5, 0.3])
    shared = note()
    works = [
        PendingPush("belt/1-0", shared, target(f"live-{n}", device=f"d{n}", user=f"u{n}"))
        for n in range(3)
    ]
    other = PendingPush("belt/1-0", note(conversation_id="c2c_9"), target("live-9"))
    told = [(work, Outcome(Verdict.UNAVAILABLE, "500")) for work in (*works, other)]
    settled = settle(Delivered(outcomes=told), LANE, NOW_MS, None, lambda: next(chances))
    delays = [wait.delay_s for wait in settled.waits]
    assert len({*delays[:3]}) == 1
    assert delays[3] != delays[0]


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [(Kind.MESSAGE, 5.0), (Kind.CALL_INVITE, 5.0), (Kind.RECALL, 0.0), (Kind.CALL_CANCEL, 0.0)],
)
def test_only_what_has_a_row_is_counted_and_from_its_events_own_time(
    kind: Kind, seconds: float
) -> None:
    def total() -> tuple[float, float]:
        labels = {"vendor": "vivo", "class": "chat"}
        decided = REGISTRY.get_sample_value(
            "pushfleet_decisions_total", {**labels, "decision": "accepted"}
        )
        return REGISTRY.get_sample_value(
            "pushfleet_stored_to_accepted_seconds_sum", labels
        ) or 0.0, decided or 0.0

    its = note(kind=kind, ts_ms=NOW_MS - 5_000, received_ms=NOW_MS - 1_000)
    outcomes = [(PendingPush("belt/1-0", its, target("live-1")), Outcome(Verdict.ACCEPTED, "200"))]
    done = Delivered(outcomes=outcomes)
    before = total()
    _count(LANE, done, settle(done, LANE, NOW_MS, None, lambda: 0.5), NOW_MS)
    assert total()[0] - before[0] == pytest.approx(seconds)
    assert total()[1] - before[1] == (seconds > 0), (
        "a recall is no decision on a recipient: it has no row"
    )
