"""What is too old ends where it is found, and is told what held it; what goes out carries the time
that is left.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast
from urllib.parse import parse_qs

import pytest

from common.contracts import Device, Message, OfflineRecipients, Recipient
from common.model import Decision, Vendor
from common.ports import Session
from tests.builders import stored_message
from tests.unit.delivery.builders import NOW_MS, lane, work
from workers.delivery.deliver import deliver
from workers.delivery.lane import Lane
from workers.delivery.late import Screen, Standing
from workers.delivery.pacing import Unpaced
from workers.delivery.ports import (
    BreakerOpen,
    BreakerProbe,
    ClaimAnswer,
    DeliveryPorts,
    LaneTurn,
    Permit,
)
from workers.delivery.results import Delivered
from workers.delivery.settle import settle
from workers.delivery.work import PendingPush
from workers.handlers.round_writes import is_news
from workers.presence import offline_recipients as presence
from workers.routing import fan_out as routing
from workers.vendors.types import RequestBatch
from workers.wire import HttpResponse, Request

PHONE = Device("phone", "ios", Vendor.APNS, "ios", "t", None, None, None, None, 1)


def stored(expires_at_ms: int) -> Message:
    people = ("bob", "carl", "dora")
    return stored_message(at_ms=NOW_MS - 5_000, expires_at_ms=expires_at_ms, recipients=people)


class Town:
    """bob has a phone in his pocket, carl looks at his, dora has none."""

    def sessions(self, people: Sequence[tuple[str, str]]) -> tuple[list[list[Session]], int]:
        return [
            [Session("phone", True, "ios", None)] if user == "carl" else [] for _, user in people
        ], 0

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str] = ()
    ) -> dict[tuple[str, str], Any]:
        return (
            {}
            if conversations
            else {(app, user): [PHONE] for app, user in people if user != "dora"}
        )

    def page(self, *_: Any) -> Any:
        raise AssertionError("a chat of two has no members")


def test_presence_ends_what_is_too_old_for_those_who_would_have_heard_of_it() -> None:
    town: Any = Town()
    seen = presence.look([stored(NOW_MS)], town, town, town, NOW_MS)
    assert not seen.offline
    found = {(row.user, row.decision) for row in seen.rows}
    assert found == {("bob", Decision.EXPIRED), ("carl", Decision.ONLINE)}
    assert [message.recipients for message in seen.later] == [("dora",)]
    in_time = presence.look([stored(NOW_MS + 1)], town, town, town, NOW_MS)
    assert [[who.user for who in one.recipients] for one in in_time.offline] == [["bob"]]


class Registry:
    """A tenant with an account for Apple; muted people are muted however old the message is."""

    name, lang, tz = "Demo", "en", "Asia/Shanghai"
    options: ClassVar[dict[str, Any]] = {}

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str]
    ) -> dict[tuple[str, str], Any]:
        return {
            (app, user): {"mute:c2c:ann": {"mode": "all"}} for app, user in people if user == "carl"
        }

    def tenant(self, app: str) -> "Registry":
        return self

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Any:
        return lane(Vendor.APNS).credential

    def strategy(self, app: str, strategy_id: str) -> None:
        return None


@pytest.mark.parametrize(("left_ms", "bob"), [(0, [Decision.EXPIRED]), (1, [])])
def test_routing_ends_what_is_too_old_and_nothing_else(left_ms: int, bob: list[Decision]) -> None:
    registry = Registry()
    people = tuple(Recipient(user, (PHONE,), False) for user in ("bob", "carl"))
    one = OfflineRecipients(message=stored(NOW_MS + left_ms), recipients=people, presence_ms=NOW_MS)
    routed = routing.route([one], routing.RoutingPorts(*[cast(Any, registry)] * 3), NOW_MS)
    assert [row.decision for row in routed.rows if row.user == "bob"] == bob
    assert [row.decision for row in routed.rows if row.user == "carl"] == [Decision.MUTED]
    assert len(routed.batches) == (0 if bob else 1)


OURS = ClaimAnswer("ours", None, "")


class Street:
    """The ports of a delivery round. Its clock is moved by whoever takes time."""

    def __init__(
        self,
        *,
        gate_takes_ms: int = 0,
        lane: BreakerProbe | BreakerOpen | None = None,
        claim: ClaimAnswer = OURS,
    ) -> None:
        self.now_ms, self.gate_takes_ms, self.lane, self.claim = NOW_MS, gate_takes_ms, lane, claim
        self.sent: list[Request] = []
        self.refunded: list[PendingPush] = []
        self.taken_over: Sequence[str] | None = ()
        self.renewals = self.renewal_takes_ms = 0

    def world(self) -> DeliveryPorts:
        anything = cast(Any, self)
        return DeliveryPorts(
            claims=self,
            backlog=self,
            summary_text=lambda note, count: f"{count} new messages",
            gate=anything,
            breaker=self,
            access=anything,
            transport=anything,
            now_ms=lambda: self.now_ms,
            deadline_s=1.0,
            callback_url=lambda _lane: None,
            observe=lambda _lane, _answer: None,
            images=anything,
            addresses=anything,
            consent=self,
            screens=self,
            leases=self,
        )

    def renewed(self, _works: Sequence[PendingPush]) -> Sequence[str] | None:
        self.renewals += 1
        assert self.renewals < 9, "it looks and looks, and nothing goes"
        self.now_ms += self.renewal_takes_ms
        return self.taken_over

    def where(self, _lane: Lane, works: Sequence[PendingPush]) -> list[Standing]:
        return [Standing.KEPT] * len(works)

    def now(self, works: Sequence[PendingPush]) -> list[Standing]:
        return [Standing.KEPT] * len(works)

    def take(self, works: Sequence[PendingPush]) -> list[Screen]:
        return [Screen.FREE] * len(works)

    def lease(self, works: Sequence[PendingPush], steps: Sequence[int]) -> list[ClaimAnswer]:
        return [self.claim for _ in works]

    def look(self, asks: Sequence[Any]) -> list[None]:
        return [None] * len(asks)

    def admit(self, _lane: Lane, asks: Sequence[Any]) -> list[Permit]:
        self.now_ms += self.gate_takes_ms
        return [Permit(None) for _ in asks]

    def refund(self, _lane: Lane, works: Sequence[PendingPush]) -> None:
        self.refunded += works

    def open_for(self, _lane: Lane) -> BreakerProbe | BreakerOpen | None:
        return self.lane

    def report(self, _lane: Lane, _found: Any) -> None:
        return None

    def get(self, _lane: Lane, _now_ms: int) -> None:
        return None

    def send_many(
        self, _route: Any, requests: Sequence[Request], _deadline_s: float
    ) -> list[HttpResponse]:
        self.sent += requests
        return [HttpResponse(200, {}, b'{"code":"200","value":{}}') for _ in requests]


def placed(done: Delivered, one: PendingPush) -> str:
    """Where a work ended: its decision, or the list it stands in."""
    for work_, decision, _ in done.decided:
        if work_ is one:
            return str(decision)
    for name in ("outcomes", "waiting", "on_hold"):
        if any(entry[0] is one for entry in getattr(done, name)):
            return name
    return "dropped" if one in done.dropped else "nowhere"


PLACES: dict[str, tuple[Callable[[], PendingPush], str]] = {
    "too old before any lane was asked": (lambda: work(expires_at_ms=NOW_MS), "expired"),
    "held by a paused lane": (
        lambda: work(Decision.LANE_PAUSED, expires_at_ms=NOW_MS),
        "lane_paused",
    ),
    "held by a refused credential": (
        lambda: work(Decision.CREDENTIAL_REFUSED, expires_at_ms=NOW_MS),
        "credential_refused",
    ),
    "held while the vendor was away": (
        lambda: work(Decision.UNAVAILABLE, expires_at_ms=NOW_MS),
        "unavailable",
    ),
    "held by the rate": (lambda: work(Decision.THROTTLED, expires_at_ms=NOW_MS), "throttled"),
    "perhaps on the screen": (lambda: work(Decision.UNCERTAIN, expires_at_ms=NOW_MS), "uncertain"),
    "a millisecond left": (lambda: work(expires_at_ms=NOW_MS + 1), "outcomes"),
}


@pytest.mark.parametrize(("make", "expected"), PLACES.values(), ids=PLACES)
def test_delivery_says_what_held_it(make: Callable[[], PendingPush], expected: str) -> None:
    one, street = make(), Street()
    assert placed(deliver([one], lane(), street.world()), one) == expected
    assert len(street.sent) == (expected == "outcomes")


def test_time_that_ran_out_while_leave_was_asked_for_is_seen_before_the_send() -> None:
    late = work(expires_at_ms=NOW_MS + 300)
    fit = work(expires_at_ms=NOW_MS + 60_000, user="carl")
    street = Street(gate_takes_ms=500)
    done = deliver([late, fit], lane(), street.world())
    assert (placed(done, late), placed(done, fit)) == ("expired", "outcomes")
    assert street.refunded == [late], "its leave was given back"
    assert len(street.sent) == 1


class Parts(Unpaced):
    """The lane's rate allows one request at a time."""

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        return (1, 0.0) if costs else None


class RateAway(Parts):
    """The store of the lane's rate goes away after the first part."""

    def __init__(self) -> None:
        self._left = 2  # it is asked once for the whole round

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        self._left -= 1
        if self._left < 0:
            raise OSError("away")
        return super().part(costs)


class NoRate(Unpaced):
    """Nothing of the lane's rate is left."""

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        return None


class SlowPace(Unpaced):
    """The lane's rate allows all at once, and is asked for so long."""

    def __init__(self, street: Street, takes_ms: int) -> None:
        self._street, self._takes_ms, self.spent = street, takes_ms, 0

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        self._street.now_ms += self._takes_ms
        return len(costs), 0.0

    def spend(self, cost: int) -> None:
        self.spent += cost


@pytest.mark.parametrize("takes_ms", [500, 5_000])
def test_so_is_time_that_ran_out_while_the_rate_was_asked(takes_ms: int) -> None:
    """Its server may be away for seconds."""
    late = work(expires_at_ms=NOW_MS + 300)
    fit = work(expires_at_ms=NOW_MS + 60_000, user="carl")
    street = Street()
    pace = SlowPace(street, takes_ms)
    done = deliver([late, fit], lane(), street.world(), LaneTurn(None, pace))
    assert (placed(done, late), placed(done, fit)) == ("expired", "outcomes")
    assert street.refunded == [late]
    assert (len(street.sent), pace.spent) == (1, 1)


def test_nothing_is_sent_when_the_time_of_all_ran_out_while_the_rate_was_asked() -> None:
    one, street = work(expires_at_ms=NOW_MS + 300), Street()
    done = deliver([one], lane(), street.world(), LaneTurn(None, SlowPace(street, 500)))
    assert placed(done, one) == "expired"
    assert not street.sent


@pytest.mark.parametrize("away", [False, True], ids=["answered", "away"])
def test_so_is_time_that_ran_out_while_whose_the_entries_are_was_asked(away: bool) -> None:
    late = work(expires_at_ms=NOW_MS + 7_000)
    fit = work(expires_at_ms=NOW_MS + 60_000, user="carl")
    street = Street()
    street.renewal_takes_ms, street.taken_over = 3_000, None if away else ()
    done = deliver([late, fit], lane(), street.world(), LaneTurn(None, SlowPace(street, 5_000)))
    assert (placed(done, late), placed(done, fit)) == ("expired", "waiting" if away else "outcomes")
    assert len(street.sent) == (not away)


@pytest.mark.parametrize(("takes_ms", "asked"), [(1_000, 0), (1_001, 1)])
def test_whose_the_entries_are_is_asked_once_more_only_after_a_wait(
    takes_ms: int, asked: int
) -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street(gate_takes_ms=takes_ms)
    done = deliver([one], lane(), street.world())
    assert (placed(done, one), street.renewals) == ("outcomes", asked)


def test_what_another_sender_took_over_during_the_wait_is_not_sent() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    street.taken_over, pace = [one.entry], SlowPace(street, 5_000)
    done = deliver([one], lane(), street.world(), LaneTurn(None, pace))
    assert placed(done, one) == "dropped"
    assert (street.sent, street.refunded, pace.spent) == ([], [], 0), "its leave is the other's"


def test_what_it_stood_for_stays_where_its_own_entry_is_still_ours() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    mine, theirs = (PendingPush(name, one.note, work().target) for name in ("belt/2-0", one.entry))
    street.taken_over, one.coalesced = [one.entry], (mine, theirs)
    done = deliver([one], lane(), street.world(), LaneTurn(None, SlowPace(street, 5_000)))
    assert (done.dropped, done.left) == ([one], [mine])


def test_who_is_left_without_the_rate_keeps_what_it_stood_for() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    older = PendingPush("belt/2-0", one.note, work().target)
    one.coalesced = (older,)
    done = deliver([one], lane(), street.world(), LaneTurn(None, NoRate()))
    assert (done.everyone_left(), street.refunded) == ([one, older], [one])


def two_paced() -> tuple[PendingPush, PendingPush]:
    one, two = (
        work(expires_at_ms=NOW_MS + 60_000, user=user, body=user) for user in ("bob", "carl")
    )
    return one, two


def test_a_paced_round_whose_rate_goes_away_keeps_what_it_has_sent() -> None:
    (one, two), street = two_paced(), Street()
    done = deliver([one, two], lane(), street.world(), LaneTurn(None, RateAway()))
    assert (placed(done, one), done.left, street.refunded) == ("outcomes", [two], [two])
    assert len(street.sent) == 1, "given back as a whole, it would go twice"


@pytest.mark.parametrize("broken", [0, 1])
def test_a_paced_round_breaks_as_a_whole_only_where_nothing_was_sent(broken: int) -> None:
    works, street, here = two_paced(), Street(), lane()

    def build(batch: RequestBatch, *more: Any) -> Request:
        if batch.items[0].target is works[broken].target:
            raise KeyError("no such field")
        return lane().spec.build(batch, *more)

    here = replace(here, spec=replace(here.spec, build=build))
    turn = LaneTurn(None, Parts())
    if broken == 0:
        with pytest.raises(KeyError):
            deliver(works, here, street.world(), turn)
        assert not street.sent
        return
    done = deliver(works, here, street.world(), turn)
    assert (placed(done, works[0]), done.left) == ("outcomes", [works[1]])
    assert len(street.sent) == 1


def test_a_clock_that_went_back_is_a_wait_as_well() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street(gate_takes_ms=-20_000)
    street.taken_over = [one.entry]
    assert placed(deliver([one], lane(), street.world()), one) == "dropped"


def test_a_slow_store_holds_up_no_part_of_a_paced_round_for_ever() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    two, street.renewal_takes_ms = work(expires_at_ms=NOW_MS + 60_000, user="carl"), 1_500
    turn = LaneTurn(None, Parts(), leased_ms=NOW_MS - 1_001)
    done = deliver([one, two], lane(), street.world(), turn)
    assert (placed(done, one), placed(done, two)) == ("outcomes", "outcomes")


def test_a_wait_counts_from_when_the_claims_were_asked_for() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    street.taken_over = [one.entry]
    turn = LaneTurn(None, Unpaced(), leased_ms=NOW_MS - 1_001)
    assert placed(deliver([one], lane(), street.world(), turn), one) == "dropped"


def test_it_waits_while_the_store_is_away_that_knows_whose_it_is() -> None:
    one, street = work(expires_at_ms=NOW_MS + 60_000), Street()
    street.taken_over = None
    done = deliver([one], lane(), street.world(), LaneTurn(None, SlowPace(street, 5_000)))
    assert placed(done, one) == "waiting"
    assert (street.sent, street.refunded) == ([], []), "another may have sent it"


def test_the_vendor_is_told_the_time_that_is_left() -> None:
    street = Street()
    expires_at_ms = NOW_MS + 3 * 3_600_000 + 1_500
    deliver([work(expires_at_ms=expires_at_ms, conversation_id="x")], lane(), street.world())
    form = parse_qs(street.sent[0].body.decode())
    assert json.loads(form["messageJson"][0])["pushTimeInfo"]["validTime"] in (3, 4)


def test_a_shut_lane_parks_what_is_in_time_and_ends_what_is_not() -> None:
    late, fit = work(expires_at_ms=NOW_MS), work(expires_at_ms=NOW_MS + 60_000)
    done = deliver([late, fit], lane(), Street(lane=BreakerOpen(Decision.UNAVAILABLE)).world())
    assert (placed(done, late), placed(done, fit)) == ("expired", "on_hold")


@pytest.mark.parametrize("why", [Decision.CREDENTIAL_REFUSED, Decision.UNAVAILABLE])
@pytest.mark.parametrize("held", [None, Decision.LANE_PAUSED, Decision.THROTTLED])
def test_who_comes_with_the_push_that_tries_a_stopped_lane_is_told_what_stopped_it(
    why: Decision, held: Decision | None
) -> None:
    works = [work(held, user=f"u{number}") for number in range(3)]
    done = deliver(works, lane(), Street(lane=BreakerProbe(why)).world())
    assert [one for one, _ in done.outcomes] == works[:1]
    assert done.on_hold == [(works[1], why), (works[2], why)]


def test_what_a_dead_reader_may_have_sent_stays_uncertain_behind_a_stopped_lane() -> None:
    one = work()
    street = Street(
        lane=BreakerOpen(Decision.LANE_PAUSED), claim=ClaimAnswer("ours", None, "uncertain")
    )
    (wait,) = settle(
        deliver([one], lane(), street.world()), lane(), NOW_MS, None, lambda: 0.5
    ).waits
    assert (wait.delay_s, wait.target.held_by) == (None, Decision.UNCERTAIN)
    assert is_news(wait), "it has no row yet"
