"""An access token that the vendor will not take is fetched anew once; who hears the same again has
an account that is refused.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from common.contracts import Attempt
from common.model import Decision, Vendor
from tests.unit.delivery.builders import NOW_MS, lane, work
from tests.unit.delivery.test_too_late import Street
from workers.delivery.deliver import deliver
from workers.delivery.lane import Lane
from workers.delivery.ports import RoundReport
from workers.delivery.settle import settle
from workers.delivery.work import PendingPush
from workers.vendors.types import AccessToken
from workers.wire import HttpResponse, Request

TOKEN = AccessToken("t", NOW_MS + 1, NOW_MS + 1)
REFUSALS = {
    Vendor.VIVO: HttpResponse(200, {}, b'{"result":10000,"desc":"no"}'),
    Vendor.FCM: HttpResponse(401, {}, b"<html>"),
    Vendor.APNS: HttpResponse(403, {}, b'{"reason":"ExpiredProviderToken"}'),
    Vendor.OPPO: HttpResponse(200, {}, b'{"code":11,"message":"no"}'),
}


class Door(Street):
    """A vendor that gives one answer to everything; remembers what was done about access tokens and
    what the breaker was told.
    """

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__()
        self.answer = answer
        self.taken_out: list[AccessToken] = []
        self.lane_refused: list[bool] = []

    def get(self, _lane: Lane, _now_ms: int) -> AccessToken:  # type: ignore[override]
        return TOKEN

    def refused(self, _lane: Lane, token: AccessToken, _now_ms: int) -> None:
        self.taken_out.append(token)

    def renew(self, _pool: str) -> None:
        return None

    def report(self, _lane: Lane, found: RoundReport) -> None:
        self.lane_refused.append(found.refused)

    def send_many(
        self, _route: Any, requests: Sequence[Request], _deadline_s: float
    ) -> list[HttpResponse]:
        return [self.answer] * len(requests)


def push(vendor: Vendor, *attempts: tuple[str, str]) -> PendingPush:
    """tried before: (status, code) each."""
    one = work()
    tries = tuple(Attempt(NOW_MS, status, code, "", None) for status, code in attempts)
    token = {Vendor.APNS: "a1" * 32, Vendor.OPPO: "CN_" + "a1" * 16}.get(vendor, "r" * 32)
    one.target = msgspec.structs.replace(one.target, attempts=tries, token=token, registered_ms=0)
    return one


@pytest.mark.parametrize("vendor", REFUSALS)
def test_the_second_refusal_in_a_row_stops_the_lane_and_the_push_waits_behind_it(
    vendor: Vendor,
) -> None:
    door, here = Door(REFUSALS[vendor]), lane(vendor)
    first = push(vendor)
    (wait,) = settle(deliver([first], here, door.world()), here, NOW_MS, None, lambda: 0.5).waits
    assert (wait.delay_s, door.lane_refused) == (0.0, [False]), "fetched anew, tried at once"
    first.target = wait.target
    (wait,) = settle(deliver([first], here, door.world()), here, NOW_MS, None, lambda: 0.5).waits
    found = (wait.delay_s, wait.target.held_by, len(wait.target.attempts))
    assert found == (None, Decision.CREDENTIAL_REFUSED, 2)
    assert door.lane_refused == [False, True]
    seen = door.taken_out
    assert seen == [TOKEN, TOKEN], "the push that tries the lane later comes with another token"


@pytest.mark.parametrize("vendor", REFUSALS)
def test_a_token_that_expires_while_a_push_is_tried_again_for_another_reason_is_no_fault_of_the_account(  # noqa: E501
    vendor: Vendor,
) -> None:
    door, here = Door(REFUSALS[vendor]), lane(vendor)
    done = deliver([push(vendor, ("503", ""), ("503", ""))], here, door.world())
    (wait,) = settle(done, here, NOW_MS, None, lambda: 0.5).waits
    assert wait.delay_s == 0.0
    assert not any(door.lane_refused)
