"""What is too old ends where it is found, and is told what held it; what goes out carries the time
that is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import parse_qs

import pytest

from common.contracts import Conversation, Device, Message, OfflineRecipients, Recipient, Sender
from common.model import Decision, Vendor
from common.ports import Session
from tests.unit.delivery.builders import NOW_MS, lane, work
from workers.delivery.deliver import (
    BreakerOpen,
    BreakerProbe,
    ClaimAnswer,
    Delivered,
    DeliveryPorts,
    LaneTurn,
    Permit,
    deliver,
)
from workers.delivery.lane import Lane
from workers.delivery.late import Screen, Standing
from workers.delivery.pacing import Unpaced
from workers.delivery.settle import settle
from workers.delivery.work import PendingPush
from workers.handlers.lane_rounds import _news
from workers.presence import offline_recipients as presence
from workers.routing import fan_out as routing
from workers.wire import HttpResponse, Request

PHONE = Device("phone", "ios", Vendor.APNS, "ios", "t", None, None, None, None, 1)


def stored(expires_at_ms: int) -> Message:
    return Message(
        app="demo",
        event_id="e",
        type="message.stored",
        message_id="m",
        ts_ms=NOW_MS - 5_000,
        received_ms=NOW_MS - 5_000,
        expires_at_ms=expires_at_ms,
        conversation=Conversation(type="c2c", id="ann"),
        sender=Sender(id="ann"),
        recipients=("bob", "carl", "dora"),
    )


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
    town = Town()
    seen = presence.look([stored(NOW_MS)], town, town, town, NOW_MS)
    assert not seen.offline
    assert {(row.user, row.decision) for row in seen.rows} == {
        ("bob", Decision.EXPIRED),
        ("carl", Decision.ONLINE),
    }
    assert [message.recipients for message in seen.later] == [("dora",)]
    in_time = presence.look([stored(NOW_MS + 1)], town, town, town, NOW_MS)
    assert [[who.user for who in one.recipients] for one in in_time.offline] == [["bob"]]


class Registry:
    """A tenant with an account for Apple; muted people are muted however old the message is."""

    name, lang, tz, options = "Demo", "en", "Asia/Shanghai", {}

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str]
    ) -> dict[tuple[str, str], Any]:
        return {
            (app, user): {"mute:c2c:ann": {"mode": "all"}} for app, user in people if user == "carl"
        }

    def tenant(self, app: str) -> Registry:
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
    routed = routing.route([one], routing.RoutingPorts(registry, registry, registry), NOW_MS)
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

    def world(self) -> DeliveryPorts:
        return DeliveryPorts(
            claims=self,
            backlog=self,
            summary_text=lambda note, count: f"{count} new messages",
            gate=self,
            breaker=self,
            access=self,
            transport=self,
            now_ms=lambda: self.now_ms,
            deadline_s=1.0,
            callback_url=lambda _lane: None,
            observe=lambda _lane, _answer: None,
            images=self,
            addresses=self,
            consent=self,
            screens=self,
        )

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

    def report(self, *_args: Any, **_more: Any) -> None:
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
    return "nowhere"


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
    late, fit, street = (
        work(expires_at_ms=NOW_MS + 300),
        work(expires_at_ms=NOW_MS + 60_000, user="carl"),
        Street(gate_takes_ms=500),
    )
    done = deliver([late, fit], lane(), street.world())
    assert (placed(done, late), placed(done, fit)) == ("expired", "outcomes")
    assert street.refunded == [late], "its leave was given back"
    assert len(street.sent) == 1


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
    late, fit, street = (
        work(expires_at_ms=NOW_MS + 300),
        work(expires_at_ms=NOW_MS + 60_000, user="carl"),
        Street(),
    )
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


def test_the_vendor_is_told_the_time_that_is_left() -> None:
    street = Street()
    deliver(
        [work(expires_at_ms=NOW_MS + 3 * 3_600_000 + 1_500, conversation_id="x")],
        lane(),
        street.world(),
    )
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
    assert _news(wait), "it has no row yet"
